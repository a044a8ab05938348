"""The image files of jobs, one folder for each job."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path


class JobFiles:
    """The folder of the image files of all jobs. What is written is on disk when the method returns."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, and create it if it is missing."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, job_id: str, name: str, content: bytes) -> None:
        """Write a file of a job, and replace an earlier one."""
        folder = self._folder / job_id
        if not folder.exists():
            folder.mkdir()
            _sync_folder(self._folder)
        unfinished = folder / f"{name}.unfinished"
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / name)
        _sync_folder(folder)

    def read(self, job_id: str, name: str) -> bytes:
        """Return a file of a job.

        Raises:
            FileNotFoundError: There is no such file.
        """
        return (self._folder / job_id / name).read_bytes()

    def delete(self, job_id: str) -> None:
        """Delete the files of a job."""
        shutil.rmtree(self._folder / job_id, ignore_errors=True)

    def keep_only(self, job_ids: Collection[str]) -> None:
        """Delete the files of all other jobs, which a crash left."""
        for folder in self._folder.iterdir():
            if folder.name not in job_ids:
                shutil.rmtree(folder, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
