"""The grammar of each language that is needed to find the words of a prompt that name entities.

Searches work without it: unlisted words count as content words, the stop words of the language's analyzer separate
phrases, and a language without an entry uses the default, which is English word order.
"""

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Grammar:
    """The function words of a language, in lower case without accents, and its word order."""

    joins: frozenset[str] = frozenset()
    """Conjunctions, after which another requested entity follows: and, or."""
    of: frozenset[str] = frozenset()
    """Words that link an entity to its content or material: "a cup of tea"."""
    articles: frozenset[str] = frozenset()
    """Articles and numbers, which begin an entity."""
    prepositions: frozenset[str] = frozenset()
    """Prepositions, which end the requested entities. Stop words do so too and need not be listed."""
    verbs: frozenset[str] = frozenset()
    """Verbs, which after a noun end the requested entities, or precede them: "on a hill stands a castle"."""
    beside: frozenset[str] = frozenset()
    """Prepositions that precede another entity instead of a place: "a fox beside a plum"."""
    head: Literal["last", "first", "either"] = "last"
    """The position of the main word in a phrase."""
    entity_last: bool = False
    """Whether the place precedes the entity, as in "karda bir tilki" (in the snow a fox)."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENGLISH = Grammar(
    joins=_words("and or plus & +"),
    of=_words("of showing depicting featuring"),
    articles=_words(
        "a an the one two three four five six seven eight nine ten some several many few no any each every both "
        "another my your his her its our their this these those"
    ),
    prepositions=_words(
        "in on at under below beneath underneath over above by among amid amidst inside outside within without "
        "into onto from off across along around against through throughout towards toward during before after "
        "until since past beyond upon atop behind between for to as like via per up down out away which who whose "
        "that while where when is are was were be been being has have having does alone together outdoors indoors "
        "underground undersea underwater downtown uptown overhead ashore aboard"
    ),
    verbs=_words(
        "stands sits lies runs walks flies swims sleeps rides plays eats holds wears looks jumps drives climbs sings "
        "dances floats hangs grows burns shines stand sit lie sleep"
    ),
    beside=_words("with beside besides near nearby"),
)
"""The prepositions are listed because most are not stop words of Lucene's."""

ENGLISH_PHRASES = {
    "in front of": "behind", "on top of": "on", "next to": "beside", "close to": "near", "full of": "with",
    "filled with": "with", "made of": "from", "made out of": "from", "out of": "from", "as well as": "and",
    "together with": "with", "there is": "", "there are": "", "draw me": "", "show me": "", "give me": "", "i want": "",
    "please": "", "upside down": "down",
}  # fmt: skip
"""Phrases of several words and their replacement by one word. Requests such as "draw me" are removed."""

GRAMMARS = {
    "en": ENGLISH,
    "ar": Grammar(joins=_words("و أو"), head="first"),
    "bn": Grammar(joins=_words("এবং ও"), articles=_words("একটি একটা এক"), entity_last=True),
    "da": Grammar(_words("og eller"), _words("af"), _words("en et den det to tre"), beside=_words("med")),
    "de": Grammar(
        _words("und oder"),
        _words("von vom"),
        _words("ein eine einen einem einer eines der die das den dem zwei drei vier"),
        beside=_words("mit neben bei"),
    ),
    "es": Grammar(
        _words("y e o"), _words("de del"), _words("un una unos unas el la los las dos tres"), beside=_words("con"),
        head="either",
    ),
    "fi": Grammar(joins=_words("ja tai"), articles=_words("kaksi kolme"), head="either"),
    "fr": Grammar(
        _words("et ou"), _words("de du des d"), _words("un une le la les l deux trois"), beside=_words("avec"),
        head="either",
    ),
    "hi": Grammar(joins=_words("और या"), articles=_words("एक दो"), entity_last=True),
    "hu": Grammar(joins=_words("és vagy"), articles=_words("egy két"), head="either"),
    "id": Grammar(
        _words("dan atau"), frozenset(), _words("sebuah seekor seorang dua"), _words("di ke dari pada yang"),
        beside=_words("dengan"), head="first",
    ),
    "it": Grammar(
        _words("e ed o"), _words("di del dello della dei degli delle d"), _words("un uno una il lo la i gli le l due"),
        beside=_words("con"), head="either",
    ),
    "ja": Grammar(joins=_words("と や"), entity_last=True),
    "ko": Grammar(entity_last=True),
    "nl": Grammar(_words("en of"), _words("van"), _words("een de het twee drie"), beside=_words("met naast")),
    "no": Grammar(_words("og eller"), _words("av"), _words("en ei et den det to tre"), beside=_words("med")),
    "pt": Grammar(
        _words("e ou"), _words("de do da dos das"), _words("um uma uns umas o a os as dois duas"), beside=_words("com"),
        head="either",
    ),
    "ru": Grammar(joins=_words("и или"), beside=_words("с со"), head="either"),
    "te": Grammar(joins=_words("మరియు"), articles=_words("ఒక రెండు"), entity_last=True),
    "th": Grammar(head="first"),
    "tr": Grammar(joins=_words("ve veya"), articles=_words("bir iki"), entity_last=True),
    "zh": Grammar(joins=_words("和 与 跟"), entity_last=True),
}  # fmt: skip

TRANSPARENT = _words(
    "photo photos photograph photographs photography picture pictures image images drawing drawings painting "
    "paintings sketch sketches illustration illustrations portrait portraits watercolor watercolour render "
    "rendering shot closeup close-up view views icon clipart cartoon print poster artwork depiction scene pair "
    "pairs group groups couple bunch lot lots number herd flock pack swarm row rows stack pile heap kind type "
    "piece set collection foto fotos fotografie photographie fotografia imagen immagine imagem bild bilder "
    "zeichnung gemalde gemälde dessin peinture dibujo pintura disegno dipinto desenho tekening schilderij billede "
    "tegning maleri kuva"
)
"""Words for images and amounts. A prompt for an image of an entity, or an amount of it, asks for the entity."""

_ADJECTIVES = _words(
    "red green blue yellow purple violet pink brown black white grey gray golden silver silvery beige turquoise "
    "crimson scarlet dark light bright pale colorful colourful big small large little tiny huge giant gigantic "
    "enormous miniature tall short long wide narrow thick thin fat slim old ancient antique vintage modern new "
    "young fresh wooden metal metallic woolen furry fluffy hairy shiny glossy matte rusty dusty dirty clean wet "
    "dry hot cold warm cool icy snowy sunny rainy foggy cute pretty beautiful lovely ugly funny happy sad angry "
    "scary sleepy lazy brave wild tame free lonely proud elegant fancy simple plain rustic cozy cosy royal heavy "
    "round square flat sharp soft hard smooth rough broken open closed empty transparent translucent strange "
    "weird magical mysterious majestic fierce gentle quiet loud fast slow strong weak rich poor sweet sour bitter "
    "ripe juicy spicy deep shallow high low steep abandoned futuristic medieval cosmic tropical polar arctic "
    "alive dead very 3d 4k 8k hd"
)
_ADJECTIVE_ENDINGS = ("ed", "ous", "ful", "less")
_NOUNS_LIKE_PARTICIPLES = _words(
    "building painting earring viking string spring thing something anything nothing everything ceiling morning "
    "evening wedding clothing drawing duckling gosling starling sapling seedling pudding dumpling herring "
    "lightning awning railing sibling sling swing sting offspring crossing dressing stuffing filling frosting "
    "icing lining stocking topping carving etching engraving opening landing clearing housing bearing fitting "
    "covering coating sterling yearling darling marking parking bed seed weed reed shed sled bobsled moped steed "
    "breed hundred seabed watershed flatbed"
)
_AFTER_A_NOUN = _words(
    "cut made worn seen lit built drawn torn hung shot caught held shown known grown bent deep high low far"
)
"""Irregular participles and adverbs that are predicates before another function word."""
_SIDES = _words("left right upright horizontally vertically sideways backwards forwards")
"""Directions after a participle that describes an entity: "leaning left"."""
_WITH_OBJECTS = _words(
    "wearing holding carrying riding eating drinking playing chasing pulling pushing catching throwing watching "
    "reading driving selling feeding kicking hugging kissing"
)
_SHORTEST_PARTICIPLE = 5
_THIRD_PERSON = re.compile(r"[a-z]{2,}[^aiosu]s")
_NOUNS_LIKE_THIRD_PERSON = _words("lens glasses series species headquarters news jeans scissors trousers pants")


def is_adjective(word: str) -> bool:
    """Return whether an English word seems to be an adjective, so that its noun is still to come."""
    return word in _ADJECTIVES or (word.endswith(_ADJECTIVE_ENDINGS) and word not in _NOUNS_LIKE_PARTICIPLES)


def is_predicate(word: str, before: str, after: str, *, singular: bool, ends: bool) -> bool:
    """Return whether an English word seems to be a predicate: what the entity before it does or has undergone.

    Args:
        word: The word.
        before: The content word before it.
        after: The word after it, '' at the end.
        singular: Whether the phrase began with "a" or "an".
        ends: Whether no content word follows.
    """
    if before.endswith("ly") or is_adjective(before):
        return False
    takes_object = after in ENGLISH.articles
    if _THIRD_PERSON.fullmatch(word) and word not in _NOUNS_LIKE_THIRD_PERSON:
        return takes_object or (singular and after in ENGLISH.prepositions)
    if word in _WITH_OBJECTS:
        return True
    if word in _AFTER_A_NOUN:
        return ends and after not in ENGLISH.of
    if len(word) < _SHORTEST_PARTICIPLE or not word.endswith(("ing", "ed")):
        return False
    noun = word in _NOUNS_LIKE_PARTICIPLES and not takes_object
    return not noun and (ends or after.endswith("ly") or after in _SIDES)
