"""Generates the stubs of `reimagen/v1/*.proto` beside them whenever the package is built or installed."""

import os
import sysconfig
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build

ROOT = Path(__file__).parent.resolve()


class BuildStubs(Command):
    """Runs protoc for the messages, the gRPC stubs and the types of both."""

    description = "generate Python modules and types from the .proto files"

    def initialize_options(self) -> None:
        """Take no options."""

    def finalize_options(self) -> None:
        """Take no options."""

    def run(self) -> None:
        """Generate the stubs in place, for `build_py` to collect."""
        from grpc_tools import protoc

        # protoc looks for its mypy plugins on the path, where those of an environment that is not active are missing.
        os.environ["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"]))
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={ROOT}",
                f"--proto_path={files('grpc_tools') / '_proto'}",
                f"--python_out={ROOT}",
                f"--grpc_python_out={ROOT}",
                f"--mypy_out=quiet:{ROOT}",
                f"--mypy_grpc_out=quiet:{ROOT}",
                *(str(path) for path in sorted((ROOT / "reimagen" / "v1").glob("*.proto"))),
            ]
        )
        if status != 0:
            raise SystemExit(f"protoc failed with status {status}")


class Build(build):
    """The usual build, with the stubs first so that it collects them."""

    sub_commands: ClassVar = [("build_stubs", None), *build.sub_commands]


setup(cmdclass={"build": Build, "build_stubs": BuildStubs})
