"""Which encoding a text is in: UTF-8 unless its bytes say otherwise."""

from __future__ import annotations

import codecs
import re
from typing import Final

from spice_select.ingest.alphabets import by_alphabet

_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE_CHARACTERS: Final = {
    "gb18030": "gb18030", "big5": "cp950", "shift_jis": "cp932", "euc_jp": "euc_jp", "euc_kr": "cp949",
}  # fmt: skip
"""Encodings of several bytes a character that are looked for, and the wider ones of the same that they are read as."""
_CANDIDATES: Final = [*_WIDE_CHARACTERS, "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8_r"]
ENCODINGS: Final = (
    "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "ascii",
    "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "iso8859-1", "iso8859-2",
    "iso8859-3", "iso8859-4", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9", "iso8859-10",
    "iso8859-13", "iso8859-15", "iso8859-16", "koi8-r", "koi8-u", "cp437", "cp850", "cp852", "cp866", "cp874",
    "mac-roman", "mac-latin2", "mac-cyrillic", "gb2312", "gbk", "gb18030", "hz", "big5", "big5hkscs", "cp950",
    "shift_jis", "cp932", "euc_jp", "iso2022_jp", "euc_kr", "cp949", "johab", "iso2022_kr",
)  # fmt: skip
"""Encodings that the owner of a text may name, in Python's words; the usual other names are known too."""
_SURROGATE: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_CUT: Final = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")
_AROUND: Final = 2**16
BINARY: Final = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"PK\x03\x04", b"PK\x05\x06")
"""How files begin that are no text."""


class Utf8Check:
    """Looks for the first byte that is not UTF-8, as the bytes go by.

    Attributes:
        around: Bytes around that byte; empty while there is none.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._before = b""
        self.around = b""

    def see(self, piece: bytes, *, last: bool = False) -> None:
        """Look at the next bytes."""
        if self.around:
            if len(self.around) < 2 * _AROUND:
                self.around += piece[:_AROUND]
            return
        try:
            self._decoder.decode(piece, final=last)
        except UnicodeDecodeError as error:
            held = self._before + piece
            at = len(self._before) + error.start
            self.around = held[max(0, at - _AROUND) : at + _AROUND]
        self._before = piece[-_AROUND:]


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 by a byte order mark, or by where null bytes stand; ISO 2022; None for anything else."""
    if b"\x1b$B" in head or b"\x1b$@" in head:
        return "iso2022_jp"
    for mark, name in _MARKS:
        if head.startswith(mark) and not (name == "utf-32" and head[4:8] == b""):
            return name
    start = head[: min(len(head), 4096) // 4 * 4]
    if len(start) < 8 or start[:4] in BINARY or start.count(0) * 20 < len(start):
        return None
    for name, high, plane in (("utf-32-le", 3, 2), ("utf-32-be", 0, 1)):
        if not any(start[high::4]) and max(start[plane::4]) <= 0x10 and _is_plain(start, name):
            return name
    for name, at in (("utf-16-le", 1), ("utf-16-be", 0)):
        nulls, others = start[at::2].count(0), start[1 - at :: 2].count(0)
        if nulls > 4 * others and nulls * 20 >= len(start) and _is_plain(start, name):
            return name
    return None


def _is_plain(start: bytes, name: str) -> bool:
    """Whether bytes are text in an encoding, but for a character that is cut at the end."""
    try:
        text = codecs.getincrementaldecoder(name)().decode(start)
    except UnicodeDecodeError:
        return False
    return not any((sign < " " and sign not in "\t\r\n") or "\ue000" <= sign <= "\uf8ff" for sign in text)


def known_encoding(name: str) -> str | None:
    """Python's name of an encoding that may be asked for; None for any other."""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return found if found in {codecs.lookup(known).name for known in ENCODINGS} else None


def guessed_encoding(sample: bytes) -> str | None:
    """Another encoding than UTF-8 that a text is likely to be in; None where it looks like broken UTF-8.

    Args:
        sample: Bytes around the first that is not UTF-8.
    """
    if _SURROGATE.search(sample) or _CUT.search(sample):
        return None
    text = sample.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    whole = sum(ord(sign) > 0x7F for sign in text) - broken
    if whole * 2 >= broken:
        return None  # most of it is UTF-8
    from charset_normalizer import from_bytes

    found = from_bytes(sample, cp_isolation=_CANDIDATES, threshold=0.3).best()
    if found is not None and found.encoding in _WIDE_CHARACTERS:
        return _WIDE_CHARACTERS[found.encoding]
    # Those of one byte a character differ in a few letters only: the alphabet of a language tells them apart.
    return by_alphabet(sample) or (None if found is None else str(found.encoding))
