"""What a value of a fixed form looks like, in words: a refusal does not show a person a regular expression."""

from __future__ import annotations

import re

from app.api.pagination import ULID

FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$"
SIGNED_LINK = r"^[A-Za-z0-9_-]{1,200}\.[A-Za-z0-9_-]{1,100}$"
METADATA_PAIR = r'^[^="\x00-\x1f]{1,64}=[^\x00]{0,512}$'
IDS = {
    "ds": "data sets",
    "up": "uploads",
    "job": "jobs",
    "ev": "evaluations",
    "gs": "gradient sets",
    "whe": "webhook endpoints",
    "whd": "messages to webhook endpoints",
    "key": "API keys",
    "sch": "schedules",
    "unit": "units",
}
"""Prefix of an id -> what has it."""
FORMS = {
    FILE_NAME: "names of files have letters, digits, dots, hyphens and underscores, at most 200, and no dot in front",
    SIGNED_LINK: "this is no token of a signed link",
    METADATA_PAIR: "write KEY=VALUE, with a key of 1 to 64 characters and a value of at most 512",
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$": "write a date as YYYY-MM-DD, such as 2025-01-01",
    r"^[0-9a-f]{64}$": "write a sha256 as 64 digits, 0 to 9 and a to f",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$": "write NAME or ORGANISATION/NAME",
    r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$": "write a branch, a tag or a commit, such as main",
    r"\S": "write something that can be seen, not white space alone",
    r"^\w+(\.\w+)*$": "write the name of a split, such as train",
    r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+$": "write s3://BUCKET/KEY",
    r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$": "write a UUID, 8-4-4-4-12 hexadecimal digits",
}
"""Pattern -> what it asks for."""
_ID = re.compile(rf"\^([a-z]+)_{re.escape(ULID)}\$")


def id_pattern(prefix: str) -> str:
    """The pattern of an id.

    Args:
        prefix: One of ``IDS``: another fails here, when the routes are made, and not when a caller sends a wrong id.
    """
    assert prefix in IDS, f"say in IDS what has ids that begin with {prefix}_"
    return f"^{prefix}_{ULID}$"


def in_words(pattern: str) -> str | None:
    """What a pattern asks for; None for one that nobody has put into words."""
    match = _ID.fullmatch(pattern)
    if match is None:
        return FORMS.get(pattern)
    return f"ids of {IDS[match[1]]} begin with {match[1]}_ and go on with 26 digits and capital letters"
