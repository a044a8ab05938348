"""The entities of a prompt, and the pairs found for it among captions in usual wordings."""

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_retriever.index.analysis import Analyzer
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.entities import EntityReader
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.analysis import Analysis, Language
from tests.retriever.index.stored import stored

CAPTIONS = (
    "Santa Claus.",
    "A black cat.",
    "A castle.",
    "A steam locomotive / Steam train.",
    "A snow plough clears a road on a hill at sunset.",
    "Roof tiles, red. Photo of a roof in the snow under an old tree.",
    "An antique grandfather clock with a brass pendulum and a walnut case, made in Vienna, for sale, free delivery",
    "🐝",
)


@cache
def reader(language: Language) -> EntityReader:
    analysis = Analysis(language=language)
    return EntityReader(analysis, Analyzer(analysis))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BM25Index]:
    folder = tmp_path_factory.mktemp("index")
    with IndexWriter(folder) as writer:
        for number, caption in enumerate(CAPTIONS):
            writer.add(stored(str(number), caption))
        writer.commit({})
    index = BM25Index(folder)
    yield index
    index.close()


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("santa in the snow", "Santa Claus."),
        ("a cat on a roof", "A black cat."),
        ("a castle on a hill", "A castle."),
        ("an old steam train at sunset", "A steam locomotive / Steam train."),
        ("three clocks on a snowy roof", CAPTIONS[6]),
        ("a 🐝 on a roof", "🐝"),
    ],
)
def test_a_prompt_finds_its_entity_and_not_its_scene(index: BM25Index, prompt: str, caption: str) -> None:
    assert [hit.pair.caption for hit in index.search(prompt, 8, 0, "entity")] == [caption]


@pytest.mark.parametrize("prompt", ["a dragon on a hill at sunset", "a snow globe", "an old walrus", "a cat scarer"])
def test_a_prompt_whose_entity_no_caption_names_finds_nothing(index: BM25Index, prompt: str) -> None:
    assert index.search(prompt, 8, 0, "entity") == []
    assert prompt == "an old walrus" or index.search(prompt, 8, 0, "any")


@pytest.mark.parametrize(
    ("prompt", "named", "others"),
    [
        ("by a river, two otters", ["otters"], ["river"]),
        ("above a lake flies a heron", ["heron"], ["lake"]),
        ("at noon a zebra", ["zebra"], ["noon"]),
        ("a shiny, round pebble in a brook", ["shiny round pebble"], ["brook"]),
        ("a yellow and green parakeet", ["yellow green parakeet"], []),
        ("pebble, shiny, 8k", ["pebble"], ["shiny 8k"]),
        ("figs, dates and olives in a bowl", ["figs", "dates", "olives"], ["bowl"]),
        ("a close-up photo of an iguana", ["iguana"], []),
        ("a flock of starlings over a field", ["starlings"], ["field"]),
        ("a mug of cocoa", ["mug", "cocoa"], []),
        ("a hedgehog illustration", ["hedgehog illustration"], []),
        ("a mole digging in a garden", ["mole"], ["garden"]),
        ("a tractor parked beside a barn", ["tractor"], ["barn"]),
        ("a goat eats a thistle", ["goat"], ["thistle"]),
        ("a nurse pushing wheelchairs", ["nurse"], ["wheelchairs"]),
        ("a large old building near a canal", ["large old building"], ["canal"]),
        ("a jug full of milk on top of a shelf", ["jug"], ["milk", "shelf"]),
        ("an otter -1", ["otter"], []),
        ("otter #3 on a 16:9 screen", ["otter"], ["screen"]),
        ("under water", ["water"], []),
        ("the of and !", [], []),
    ],
)
def test_the_entity_is_before_the_first_preposition(prompt: str, named: list[str], others: list[str]) -> None:
    entities = reader("en").entities(prompt)
    assert [entity.text for entity in entities.named] == named
    assert [entity.text for entity in entities.others] == others


@pytest.mark.parametrize(
    ("language", "prompt", "caption"),
    [
        ("de", "ein kleiner Igel unter einem Baum", "Igel"),
        ("de", "ein Foto von einem Igel im Garten", "Igel"),
        ("fr", "une photo d'un hérisson dans le jardin", "hérissons"),
        ("es", "un erizo pequeño en el jardín", "erizo"),
        ("nl", "een egel in de tuin", "egel"),
        ("tr", "bahçede bir kirpi", "kirpi"),
        ("hi", "बगीचे में एक कछुआ", "कछुआ"),
        ("ja", "庭の中の亀", "亀"),
        ("zh", "花园里的乌龟", "一只乌龟"),
        ("ko", "정원 속의 거북", "거북"),
        ("th", "เต่าในสวน", "เต่า"),
        ("id", "seekor landak di kebun", "landak"),
        ("ru", "ёж в саду", "ёж"),
    ],
)
def test_other_languages_have_their_own_word_order(language: Language, prompt: str, caption: str) -> None:
    analyzer = Analyzer(Analysis(language=language))
    (entity,) = reader(language).entities(prompt).named
    assert entity.is_named_by(analyzer.terms(caption))
    place = {"tr": "bahçede", "hi": "बगीचे", "ja": "庭", "zh": "花园", "ko": "정원", "th": "สวน"}
    assert not entity.is_named_by(analyzer.terms(place.get(language, prompt.split()[-1])))


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(["en", "fr", "ja", "th", "ko", "zh", "tr"]), st.text(max_size=60))
def test_every_prompt_with_a_term_has_an_entity(language: Language, prompt: str) -> None:
    entities = reader(language).entities(prompt)
    assert all(entity.heads and entity.main_words for entity in (*entities.named, *entities.others))
