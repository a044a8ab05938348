"""The progress bar and the previews of images that are being drawn."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from reimagen_client.command.output import err
from reimagen_client.models import Done, JobImageDone, JobStatusChanged, Preview, Progress, Retrieved

_PREVIEW_CELLS = 24


class Display:
    """A display of events on standard error."""

    def __init__(self, bars: Bars, image_class: Any, n: int) -> None:
        """Create the display.

        Args:
            bars: The progress bars.
            image_class: textual-image's class of images, or None to show no previews.
            n: Number of images.
        """
        self._bars = bars
        self._image_class = image_class
        self._n = n
        self._tasks: dict[int, TaskID] = {}

    def show(self, event: object) -> None:
        """Show an event."""
        match event:
            case Retrieved():
                captions = ", ".join(dict.fromkeys(neighbor.caption for neighbor in event.neighbors))
                self._bars.console.print(f"grounded on: {captions or 'the prompt alone'}")
            case JobStatusChanged():
                self._bars.console.print(f"job {event.status}")
            case Progress():
                self._show_step(event)
            case Preview() if self._image_class is not None:
                self._bars.console.print(self._image_class(io.BytesIO(event.content), width=_PREVIEW_CELLS))
            case Done() | JobImageDone():
                if event.image.index in self._tasks:
                    self._bars.remove_task(self._tasks.pop(event.image.index))

    def _show_step(self, event: Progress) -> None:
        image = f"image {event.index + 1} of {self._n}, " if self._n > 1 else ""
        title = f"{image}{event.size} pixels"
        if event.index in self._tasks:
            self._bars.update(self._tasks[event.index], description=title, completed=event.step, total=event.steps)
        else:
            self._tasks[event.index] = self._bars.add_task(title, completed=event.step, total=event.steps)


@contextmanager
def display(*, n: int = 1, previews: bool = False) -> Iterator[Display]:
    """Yield a display. Progress bars appear only if standard error is a terminal.

    Args:
        n: Number of images.
        previews: Whether to show previews.
    """
    console = err()
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    # Before the bars start: textual-image asks the terminal what it supports.
    image_class = terminal_image() if previews else None
    with bars:
        yield Display(bars, image_class, n)


def can_preview() -> bool:
    """Return whether standard error and output are a terminal and the package that shows images is installed."""
    return sys.stderr.isatty() and sys.stdout.isatty() and terminal_image() is not None


def terminal_image() -> Any:
    """Return textual-image's class for the terminal (Kitty's protocol, Sixel, half blocks), or None without it."""
    # textual-image divides by the width, which some terminals report as 0.
    if sys.stdout.isatty() and os.get_terminal_size(sys.stdout.fileno()).columns == 0:
        return None
    try:
        from textual_image.renderable import Image
    except ImportError:
        return None
    return Image
