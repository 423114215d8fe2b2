"""Ends what is under way when its key is revoked or expires: event streams, long polls, downloads."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from app.services.access.keys import Caller, KeyService

CHECK_SECONDS = 2.0
"""Pause between two looks at the key of an answer that is under way. With what is remembered of a key this stays below
the five seconds that are promised."""


async def still_let_in(scope: Scope) -> bool:
    """Whether the key that a request came with is still valid; true where none was needed.

    Args:
        scope: Of the request.
    """
    caller = scope.get("spice.caller")
    if not isinstance(caller, Caller) or caller.key_id is None:
        return True
    keys: KeyService = scope["app"].state.services.keys
    known = keys.known_validity(caller.key_id)
    return await run_in_threadpool(keys.still_valid, caller.key_id) if known is None else known
