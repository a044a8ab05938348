"""WikiImages' filter of captions (Re-Imagen, section 4.1 and appendix B), for knowledge bases and the evaluation."""

import re

MAXIMUM_TOKENS = 15
# The paper does not define dates and ids; these patterns do.
_MONTH = "january|february|march|april|may|june|july|august|september|october|november|december"
_DATE = re.compile(
    rf"""\b(?:1[0-9]|20)\d\d(?:s\b|\b)          # a year: 1987, 1920s
    |\b\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}}\b  # 12.3.98
    |\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:{_MONTH})\b
    |\b(?:{_MONTH})\s+\d{{1,2}}\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_WIKI_ID = re.compile(
    r"""\bQ\d{2,}\b                             # Wikidata
    |\b(?:DSC|IMG|P)[_ -]?\d{3,}                # a camera's number
    |\b[A-Z]{1,5}[-_ ]?\d{5,}\b                 # an archive's, a museum's
    |\b\d{5,}\b
    |\b(?:WLM|NRHP|HABS|HAER)\b
    """,
    re.VERBOSE,
)


def reason_against(caption: str) -> str:
    """Return the reason why the paper's filter leaves a caption out, or ''."""
    tokens = len(caption.split())
    if not tokens:
        return "empty caption"
    if tokens > MAXIMUM_TOKENS:
        return f"caption over {MAXIMUM_TOKENS} tokens"
    if _DATE.search(caption):
        return "date in the caption"
    return "wiki id in the caption" if _WIKI_ID.search(caption) else ""
