"""What all tables build on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase

from app.persistence.types import Instant, SafeJSON, SafeString, SafeText

Big = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only in a column of this exact type
Id = SafeString(40)
Sha256 = SafeString(64)
Word = SafeString(40)


class Base(DeclarativeBase):
    """Base of the tables; constraints have names so that migrations can drop them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # ruff: ignore[mutable-class-default]  (SQLAlchemy reads it from the class)
        str: SafeText,
        dict[str, Any]: SafeJSON,
        list[Any]: SafeJSON,
        datetime: Instant,
        int: Integer,
        float: Float(53),
    }
