"""What a run tells while it goes on: its bar, TensorBoard's curves, and the first step that is not finite."""

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
_PLACES_TOLD = 8


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepReport:
    """What a step tells: the loss and the time of each row, an image's draws in succession, and the gradient's norm.

    The norm is taken before the gradient is clipped.
    """

    losses: Float[Array, " rows"]
    times: Float[Array, " rows"]
    gradient_norm: Float[Array, ""]


class Progress:
    """Collects the steps' reports, which stay on the device until they are looked at: no step waits for them."""

    def __init__(self, config: TrainingConfig, first: int) -> None:
        """Opens the bar and TensorBoard's file.

        Args:
            config: of the run.
            first: the step that it begins from.
        """
        self._config = config
        self._rate = learning_rate(config)
        self._steps: list[tuple[StepReport, Sequence[str]]] = []
        self._begun = monotonic()
        self.step = first
        self.bar: tqdm[NoReturn] = tqdm(total=config.steps, initial=first, unit="step", smoothing=0.05)
        # What a run that was killed told of later steps is not shown beside what is told of them now.
        self._writer = SummaryWriter(str(config.output), purge_step=first + 1) if is_primary() else None

    def add(self, report: StepReport, places: Sequence[str]) -> None:
        """Takes a step's report, and where the images of its batch came from."""
        self._steps.append((report, places))
        self.step += 1
        self.bar.update()

    def not_finite(self) -> str | None:
        """Of the steps not yet told of, the first with a loss or gradient that is not finite, and its samples."""
        reports = jax.device_get([report for report, _ in self._steps])
        for number, (report, (_, places)) in enumerate(zip(reports, self._steps, strict=True)):
            step = self.step - len(reports) + number + 1
            spoilt = ~np.isfinite(report.losses.reshape(len(places), -1)).all(axis=1)
            if spoilt.any():
                return f"step {step}: the loss is not finite, that of {_list(np.array(places)[spoilt])}"
            if not np.isfinite(report.gradient_norm):
                return f"step {step}: the gradient is not finite, though the loss is, with {_list(places)}"
        return None

    def tell(self, bad_records: int) -> None:
        """Tells of the steps since the last time, which must be finite: in the bar, and to TensorBoard."""
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

    def show(self, sheet: UInt8[np.ndarray, "height width 3"]) -> None:
        """Gives TensorBoard a sheet of samples."""
        if self._writer is not None:
            self._writer.add_image("samples", sheet, self.step, dataformats="HWC")
            self._writer.flush()

    def close(self) -> None:
        """Closes the bar and the file."""
        self.bar.close()
        if self._writer is not None:
            self._writer.close()


def _list(places: Sequence[str] | np.ndarray) -> str:
    told = "; ".join(places[:_PLACES_TOLD])
    return told if len(places) <= _PLACES_TOLD else f"{told}; and {len(places) - _PLACES_TOLD} more"
