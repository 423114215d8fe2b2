"""What is answered as it was stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Json = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class Shown:
    """Marks a stored JSON object that the contract describes by a model, and that is not held against it again.

    A newer release may have stored what this one cannot read (``app.services.compat.as_shown``).

    Args:
        model: What the contract says of it.
    """

    model: type[BaseModel]

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Takes and gives any value; described like the model."""
        return core_schema.no_info_wrap_validator_function(
            lambda value, _check: value,
            handler.generate_schema(self.model),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value),
        )
