"""Which encoding a text is in: UTF-8 unless its bytes say otherwise."""

from __future__ import annotations

import codecs
import re
from typing import Final

_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CANDIDATES: Final = [
    "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8_r",
]  # fmt: skip
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
    """UTF-16 or UTF-32 by a byte order mark, or by every other byte being null; None for anything else."""
    for mark, name in _MARKS:
        if head.startswith(mark) and not (name == "utf-32" and head[4:8] == b""):
            return name
    start = head[:256]
    if len(start) < 4 or start[:4] in BINARY or start.count(0) * 4 < len(start):
        return None
    for kept, name in ((0, "utf-32-le"), (3, "utf-32-be")):
        if len(start) % 4 == 0 and all(start[kept::4]) and not any(any(start[at::4]) for at in range(4) if at != kept):
            return name
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if not any(start[offset::2]) and all(start[1 - offset :: 2][:2]):
            return name
    return None


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
    return None if found is None else str(found.encoding)
