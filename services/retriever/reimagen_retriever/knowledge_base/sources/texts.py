"""Decoding of a source's text files, which must be UTF-8."""

import codecs

from reimagen_retriever.knowledge_base.pair import RejectedError

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def decoded(name: str, data: bytes) -> str:
    """Decode the content of a text file.

    Raises:
        RejectedError: The file is not UTF-8.
    """
    refuse_utf16(name, data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RejectedError("bad characters", f"{name} is not UTF-8") from error


def refuse_utf16(name: str, start: bytes) -> None:
    """Raise an error that names the encoding if a file is UTF-16 or UTF-32, which some programs call Unicode.

    Raises:
        RejectedError: The file is UTF-16 or UTF-32.
    """
    found = next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), "")
    # Without a byte order mark: in UTF-16, every other byte of Latin letters is zero.
    if not found and len(start) >= 4 and (not any(start[1:16:2]) or not any(start[:16:2])):
        found = "UTF-16"
    if found:
        raise RejectedError("bad characters", f"{name} is {found}; save it as UTF-8")
