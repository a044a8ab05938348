"""The paper's own protocols, as sweeps."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from reimagen_evaluation.setting import Setting
from reimagen_evaluation.sweep import Axis, Sweep
from reimagen_generator.config.cascade import Strategy

WEIGHTS_64 = (1.0, 1.25, 1.5, 1.75, 2.0)
WEIGHTS_256 = (1.0, 5.0, 8.0, 10.0)
_FID_STEPS = 1000


def fid(weights: Path, neighbors: str) -> Sweep:
    """Return FID-30K (section 4.1): joint guidance, 1000 steps, a grid of both stages' weights; the best FID counts."""

    def stages(small: float, large: float) -> Mapping[str, Any]:
        shared = {"steps": _FID_STEPS, "strategy": Strategy.JOINT.value}
        return {"stages": {"64": shared | {"text_weight": small}, "256": shared | {"text_weight": large}}}

    grid = {f"{small} × {large}": stages(small, large) for small in WEIGHTS_64 for large in WEIGHTS_256}
    over_k = {str(k): {"k": k, **stages(1.5, 5.0)} for k in (1, 2, 4)}
    return Sweep(
        title="FID-30K",
        base=Setting(weights=weights, size=256, neighbors=neighbors),
        axes={
            "grid": Axis(
                title="Guidance weights of the 64 and 256 stages",
                paper_says="The best FID of the grid is reported: on COCO 5.25 with its train set as knowledge base, "
                "6.88 zero-shot, and 7.27 zero-shot for Imagen.",
                values=grid,
            ),
            "k": Axis(
                title="Number of neighbors",
                paper_says="From 1 to 4 neighbors the FID on COCO and WikiImages hardly changes.",
                values=over_k,
            ),
        },
    )


def entity_draw_bench(weights: Path, neighbors: str) -> Sweep:
    """Return EntityDrawBench (section 4.2): interleaved guidance of weight 30, the best of four 1024 × 1024 images."""
    stages = {
        64: {"steps": 256, "strategy": "interleaved", "text_weight": 30.0, "neighbor_weight": 30.0},
        256: {"steps": 128, "text_weight": 5.0, "neighbor_weight": 5.0},
        1024: {"steps": 32, "text_weight": 3.0},
    }
    base = Setting.model_validate({"weights": weights, "size": 1024, "neighbors": neighbors, "stages": stages})
    return Sweep(
        title="EntityDrawBench",
        samples=4,
        base=base,
        axes={
            "retrieval": Axis(
                title="With retrieval and without",
                paper_says="Over 80 % of prompts faithful, about 40 points above Imagen; hardly less for infrequent "
                "entities.",
                by_group=True,
                values={"with retrieval": {}, "without": {"neighbors": "none"}},
            )
        },
    )


def dream_bench(weights: Path, neighbors: str) -> Sweep:
    """Return DreamBench: the subjects' own photographs as neighbors, four images per prompt."""
    return Sweep(
        title="DreamBench",
        samples=4,
        base=Setting(weights=weights, size=1024, neighbors=neighbors),
        axes={
            "subjects": Axis(
                title="Subjects",
                by_group=True,
                values={"with references": {}},
                paper={"with references": "DINO .600, CLIP-I .740, CLIP-T .270 (Re-Imagen's, measured by others)"},
            )
        },
    )


PRESETS: Final[Mapping[str, Callable[[Path, str], Sweep]]] = {
    "fid": fid,
    "entity-draw-bench": entity_draw_bench,
    "dream-bench": dream_bench,
}
