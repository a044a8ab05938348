"""Progress of a run: its bar, TensorBoard's curves, and the check for a step that is not finite."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from tensorboardX import SummaryWriter
from tqdm import tqdm

from reimagen_generator.parallel.hosts import is_primary
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.optimizer import learning_rate

_QUARTERS = 4
_LISTED_LOCATIONS = 8


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepReport:
    """The report of a step: the loss and the time of each row, with an image's draws adjacent, and the gradient's norm.

    The norm is that before clipping.
    """

    losses: Float[Array, " rows"]
    times: Float[Array, " rows"]
    gradient_norm: Float[Array, ""]


class Progress:
    """The reports of the steps. They stay on the device until they are used, so that no step waits for them."""

    def __init__(self, config: TrainingConfig, first: int) -> None:
        """Open the bar and TensorBoard's file.

        Args:
            config: The configuration of the run.
            first: The step from which the run starts.
        """
        self._config = config
        self._rate = learning_rate(config)
        self._steps: list[tuple[StepReport, Sequence[str]]] = []
        self._begun = monotonic()
        self.step = first
        self.bar: tqdm[NoReturn] = tqdm(total=config.steps, initial=first, unit="step", smoothing=0.05)
        # Values that a killed run wrote for later steps are purged, since the steps are run again.
        self._writer = SummaryWriter(str(config.output), purge_step=first + 1) if is_primary() else None

    def add(self, report: StepReport, locations: Sequence[str]) -> None:
        """Add a step's report, and the locations of the images in its batch."""
        self._steps.append((report, locations))
        self.step += 1
        self.bar.update()

    def not_finite(self) -> str | None:
        """Describe the first unreported step whose loss or gradient is not finite; return None if all are finite."""
        reports = jax.device_get([report for report, _ in self._steps])
        for number, (report, (_, locations)) in enumerate(zip(reports, self._steps, strict=True)):
            step = self.step - len(reports) + number + 1
            failed = ~np.isfinite(report.losses.reshape(len(locations), -1)).all(axis=1)
            if failed.any():
                return f"step {step}: the loss is not finite, that of {_list(np.array(locations)[failed])}"
            if not np.isfinite(report.gradient_norm):
                return f"step {step}: the gradient is not finite, though the loss is, with {_list(locations)}"
        return None

    def report(self, bad_records: int) -> None:
        """Report the steps since the last report, which must be finite, in the bar and to TensorBoard."""
        reports: list[StepReport] = jax.device_get([report for report, _ in self._steps])
        losses = np.concatenate([report.losses for report in reports])
        quarters = (np.concatenate([report.times for report in reports]) * _QUARTERS).astype(int).clip(0, _QUARTERS - 1)
        now = monotonic()
        rows_per_second = losses.size / (now - self._begun)
        self.bar.set_postfix(loss=f"{losses.mean():.4f}", rows_per_second=f"{rows_per_second:.1f}")
        scalars = {
            "loss/all": losses.mean(),
            "gradient_norm": np.mean([report.gradient_norm for report in reports]),
            "learning_rate": self._rate(self.step - 1),
            "rows_per_second": rows_per_second,
            "bad_records": bad_records,
        }
        for quarter in np.unique(quarters):
            name = f"loss/time_{quarter / _QUARTERS:.2f}_to_{(quarter + 1) / _QUARTERS:.2f}"
            scalars[name] = losses[quarters == quarter].mean()
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, float(value), self.step)
            self._writer.flush()
        self._steps.clear()
        self._begun = now

    def add_sheet(self, sheet: UInt8[np.ndarray, "height width 3"]) -> None:
        """Add a sheet of samples to TensorBoard."""
        if self._writer is not None:
            self._writer.add_image("samples", sheet, self.step, dataformats="HWC")
            self._writer.flush()

    def close(self) -> None:
        """Close the bar and the file."""
        self.bar.close()
        if self._writer is not None:
            self._writer.close()


def _list(locations: Sequence[str] | np.ndarray) -> str:
    listed = "; ".join(locations[:_LISTED_LOCATIONS])
    return listed if len(locations) <= _LISTED_LOCATIONS else f"{listed}; and {len(locations) - _LISTED_LOCATIONS} more"
