"""What every settings model is: frozen, strict, and named by a digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Base of every settings model: frozen, strict, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def digest(self) -> str:
        """Sha256 (hex) of the canonical JSON of the resolved settings."""
        return digest_of(self.model_dump(mode="json"))


def digest_of(value: Any) -> str:
    """Sha256 (hex) of the canonical JSON (sorted keys, no spaces, UTF-8) of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
