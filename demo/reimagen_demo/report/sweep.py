"""The sweep of `make results`: the demonstration's prompts under varied settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from reimagen_demo.report.prompts import (
    ATTRIBUTES,
    FAINT,
    FAINT_COUNT,
    GEOMETRY,
    GEOMETRY_PROMPTS,
    GROUPS,
    LARGE,
    MAIN,
    SEEDED,
    SEEDS,
    SEVERAL,
    THREE,
    TWO,
    UNSEEN,
    VARIED,
    VARIETY,
)
from reimagen_evaluation.copies import NEAR_COPY
from reimagen_evaluation.setting import NONE, Setting
from reimagen_evaluation.sweep import Axis, Sweep
from reimagen_generator.config.cascade import CascadeConfig, Strategy
from reimagen_generator.config.presets_reimagen import GUIDANCE_INTERVAL

IN_DOMAIN: Final = "icons"
OUT_OF_DOMAIN: Final = "sketches"
BY_MEANING: Final = "icons with vectors"
"""Names of the knowledge bases."""

SIZE: Final = 64
ETAS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS: Final = (10, 20, 40)
EVALUATIONS: Final = (24, 60, 120)
A_STEP: Final = {Strategy.INTERLEAVED: 2, Strategy.WEIGHTED: 3, Strategy.JOINT: 2}
"""Evaluations of the network in a step."""

WITH, ALONE, OFF = "with retrieval", "trained without", "retrieval switched off"
ONE_WRONG, BOTH_WRONG = "one of two unrelated", "both unrelated"
PER_ENTITY: Final = "per entity"
NOW, BEFORE = "these weights", "before"
REGISTERED_SIZE: Final = 256
"""Side in pixels of the images in which references are registered, if the cascade draws that size."""
BM25, DENSE = "BM25", "dense"


def sweep(
    weights: Path, alone: Path | None, config: CascadeConfig, most: int | None = None, before: Path | None = None
) -> Sweep:
    """Return the sweep with every table of the page.

    Args:
        weights: folder of the cascade.
        alone: folder of the cascade that was trained without neighbors; None if it does not exist.
        config: configuration of the cascade.
        most: greatest number of prompts of each row, for a trial.
        before: folder of an earlier cascade with which geometry and variety are compared.
    """
    stage, k = config.stages[0], max(1, config.default_k)
    counts = {name: min(count, most or count) for name, count in (("main", MAIN), ("varied", VARIED), ("large", LARGE))}
    judged = ("faithful", "entity", "scene")
    axes = {
        "main": Axis(
            title="With retrieval, and without",
            paper_says="over 80 % of prompts faithful, 40 points more than Imagen, trained without retrieval; "
            "hardly fewer for infrequent entities than for frequent ones.",
            count=counts["main"], groups=GROUPS, by_group=True, scores=judged,
            against=ALONE if alone else None,
            note="" if alone else f"The row *{ALONE}* is not measured yet.",
            values={WITH: {}, ALONE: {"weights": str(alone), "neighbors": NONE}} if alone else {WITH: {}},
            paper={WITH: "over 80 %"} | ({ALONE: "about 40 points less (Imagen)"} if alone else {}),
        ),
        "off": Axis(
            title="The same weights with retrieval switched off",
            note="Not the paper's comparison: this network expects references.",
            count=counts["varied"], groups=GROUPS, by_group=True, scores=judged, against=OFF,
            values={WITH: {}, OFF: {"neighbors": NONE}},
        ),
        "styles": Axis(
            title="References in other styles only",
            note="The knowledge base has each entity in four styles. `as found` uses the best pairs, `the next` those "
            "that follow them: the same entity in the other styles. A *near copy* is an image that contains the "
            "reference's drawing, at any position, in any size, mirrored or not, with a root mean square difference "
            f"below {NEAR_COPY:.0f} of 255.",
            count=counts["varied"], groups=GROUPS[-1:], scores=(*judged, "near copy", "copy distance"),
            values={"as found": {}, "the next": {"skip": k}},
        ),
        "eta": Axis(
            title="η trades the entity for the text",
            paper_says="a smaller η is more faithful to the entity and less to the text; about 0.5 is the sweet spot.",
            count=counts["varied"], groups=GROUPS[-1:], scores=judged, against="0.5",
            values={str(eta): _stage(interleave_ratio=eta) if eta != stage.guidance.interleave_ratio else {}
                    for eta in ETAS},
        ),
        "k": Axis(
            title="Number of neighbors",
            paper_says="more neighbors make images of entities much more faithful.",
            count=counts["varied"], groups=GROUPS[-1:], scores=judged,
            values={str(number): {"k": number} if number != config.default_k else {} for number in (1, 2, 4)},
        ),
        "steps": Axis(
            title="Guidance over the number of steps",
            paper_says="with few steps (about 200) weighted guidance is better than interleaved, with more steps "
            "interleaved; joint is dominated by the reference or by the text.",
            count=counts["varied"], groups=GROUPS[-1:], scores=judged,
            values={f"{strategy} @ {steps}": _strategy(config, strategy, steps)
                    for strategy in A_STEP for steps in STEPS},
        ),
        "evaluations": Axis(
            title="Guidance over the number of evaluations",
            note="The same at equal work: a step of weighted guidance evaluates the network three times, a step of the "
            "others twice.",
            count=counts["varied"], groups=GROUPS[-1:], scores=judged,
            values={f"{strategy} @ {number}": _strategy(config, strategy, number // each)
                    for strategy, each in A_STEP.items() for number in EVALUATIONS},
        ),
        "interval": Axis(
            title="Guidance within an interval of noise levels",
            note="Guided at all steps, or only within the interval of log-SNRs of the preset `re-imagen-fast`, "
            f"{GUIDANCE_INTERVAL[0]} to {GUIDANCE_INTERVAL[1]} (arXiv 2404.07724). A step outside it evaluates the "
            "network once.",
            count=counts["varied"], groups=GROUPS[-1:], scores=judged,
            values={"at all steps": {}, "within the interval": _stage(interval=GUIDANCE_INTERVAL)},
        ),
        "retriever": Axis(
            title="BM25 against dense retrieval",
            note="Dense search uses WordLlama's vectors of texts; the paper used CLIP's, of texts and images. Hybrid "
            "search fuses the ranks of both.",
            count=counts["varied"], groups=GROUPS[-1:], scores=judged,
            values={BM25: {}, DENSE: {"neighbors": BY_MEANING, "method": "dense"},
                    "hybrid": {"neighbors": BY_MEANING, "method": "hybrid"}, "none": {"neighbors": NONE}},
        ),
        "bad": Axis(
            title="Bad references",
            paper_says="as a limitation, that bad references give bad images.",
            note="Two neighbors, of which the second, or both, are replaced by those of an unrelated prompt. "
            "Neighbors that name nothing of the prompt are dropped (`relevant_only` in cascade.json), except in the "
            "last row.",
            count=counts["varied"], groups=GROUPS[-1:], scores=judged,
            values={"both right": {"k": 2} if config.default_k != 2 else {},
                    ONE_WRONG: {"k": 2, "unrelated": 1}, BOTH_WRONG: {"k": 2, "unrelated": 2},
                    f"{ONE_WRONG}, both shown": {"k": 2, "unrelated": 1, "relevant_only": False}},
        ),
        "base": Axis(
            title="Knowledge bases",
            paper_says="on COCO an in-domain base gives the better FID (5.25 against 6.88), on WikiImages the larger, "
            "out-of-domain one.",
            note="The out-of-domain base has pencil sketches of the same entities, a look that no training image has.",
            count=counts["varied"], groups=GROUPS, scores=judged,
            values={"in-domain": {}, "out-of-domain": {"neighbors": OUT_OF_DOMAIN}, "none": {"neighbors": NONE}},
            paper={"in-domain": "FID 5.25 on COCO", "out-of-domain": "FID 6.88 on COCO",
                   "none": "FID 7.27 on COCO (Imagen)"},
        ),
    }  # fmt: skip
    sizes = [stage.size for stage in config.stages]
    registered = {"size": max(size for size in sizes if size <= max(SIZE, REGISTERED_SIZE))}
    earlier = {"weights": str(before)}
    axes["geometry"] = Axis(
        title="Stated place, size, mirroring and turn",
        note="Prompts of held-out entities, each contradicted by a copy of the reference in its own place. "
        "Registration finds the pose in the image: the one in which the reference's drawing correlates best. "
        "`close-up entity`: the judge recognizes the entity in a close-up of that pose.",
        count=most or GEOMETRY_PROMPTS,
        groups=(GEOMETRY,),
        scores=("obeyed", *ATTRIBUTES, "copied in place", "match", "close-up faithful", "close-up entity", "scene"),
        values={NOW: registered} | ({BEFORE: registered | earlier} if before else {}),
    )
    axes["variety"] = Axis(
        title="Variety of eight seeds",
        note=f"Prompts of held-out entities, {SEEDS} images of each.",
        count=SEEDS * min(SEEDED, most or SEEDED),
        groups=(VARIETY,),
        scores=judged,
        values={NOW: {}} | ({BEFORE: earlier} if before else {}),
    )
    several = {"k": 2, "per_entity": True} | registered
    axes["two"] = Axis(
        title="Two entities in a prompt",
        paper_says="as a limitation, that prompts of several entities often fail: they are blended into one.",
        note="Both are held out. `close-up entity`: both are shown, at different positions. Registration finds each, "
        "and the judge recognizes it in a close-up. `entity` is an older measure: each is recognized in its half of "
        "the image.",
        count=min(SEVERAL, most or SEVERAL),
        groups=(TWO,),
        scores=("close-up entity", "some there", "arranged", "entity", "one_of_two", "blended", "scene"),
        values={PER_ENTITY: several}
        | ({BEFORE: several | earlier} if before else {})
        | {"of the whole prompt": {"k": 2} | registered, "none": {"neighbors": NONE} | registered},
    )
    axes["three"] = Axis(
        title="Three entities in a prompt",
        note="The same with three held-out entities.",
        count=min(SEVERAL, most or SEVERAL),
        groups=(THREE,),
        scores=("close-up entity", "some there", "arranged", "scene"),
        values={PER_ENTITY: several | {"k": 3}} | ({BEFORE: several | {"k": 3} | earlier} if before else {}),
    )
    axes["words"] = Axis(
        title="Scenes in words that training never used",
        note="Prompts of held-out entities; the scene is named by a wording that is kept out of training.",
        count=counts["varied"],
        groups=(UNSEEN,),
        scores=("scene", "entity", "faithful"),
        values={NOW: {}} | ({BEFORE: earlier} if before else {}),
    )
    axes["faint"] = Axis(
        title="Pale, thin and tiny things",
        note="Prompts of held-out entities: of light color, of thin shape, or stated to be tiny. `close-up entity`: "
        "the judge recognizes the entity in a close-up of the pose that registration finds.",
        count=min(FAINT_COUNT, most or FAINT_COUNT),
        groups=FAINT,
        by_group=True,
        scores=("close-up entity", "match", "scene"),
        values={NOW: registered} | ({BEFORE: registered | earlier} if before else {}),
    )
    if sizes[-1] > SIZE and len(sizes) > 1:
        axes["large"] = Axis(
            title="Detail in super-resolution",
            paper_says="as a limitation, that super-resolution loses detail of the references.",
            note="Images of all stages, with the references given to the super-resolution stages or not. Judged on "
            "the middle three quarters of the side. `drift` is the largest mean difference, of 255, between the "
            "shrunk image and a smaller stage's image.",
            count=counts["large"],
            groups=GROUPS[-1:],
            scores=("crop entity_probability", "crop entity", "drift"),
            values={
                "references in every stage": {"size": sizes[-1]},
                f"in the {sizes[0]} stage alone": {
                    "size": sizes[-1],
                    "stages": {str(size): {"grounded": False} for size in sizes[1:]},
                },
            },
        )
    base = Setting(weights=weights, size=SIZE, neighbors=IN_DOMAIN)
    return Sweep(title="Results of the demonstration", base=base, axes=axes)


def _stage(**changes: object) -> Mapping[str, Any]:
    return {"stages": {str(SIZE): changes}}


def _strategy(config: CascadeConfig, strategy: Strategy, steps: int) -> Mapping[str, Any]:
    """Return the smallest change, so that images that the base setting already draws are not drawn again."""
    stage = config.stages[0]
    target: dict[str, object] = {"strategy": strategy.value, "steps": steps}
    given = {"strategy": stage.guidance.strategy.value, "steps": stage.steps}
    changes = {name: value for name, value in target.items() if value != given[name]}
    return _stage(**changes) if changes else {}
