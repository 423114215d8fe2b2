"""The folded fields of a new job: one for every plain setting of a request, found in its schema.

So a setting that the API learns is in the form as well. An empty field leaves its setting to the preset.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from textwrap import dedent
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from app.api.schemas.jobs import JobCreate
from app.ui.form_fields import FormFields, as_number, pairs
from app.ui.labels import METHODS
from spice_select.presets import PRESETS

NONE = "none"
"""What switches a setting off that may be off: an empty field leaves it as it usually is."""
ELSEWHERE = {"dataset_id", "budget", "preset", "targets", "protect", "name", "parent", "method"}
"""Parts of a request that have fields of their own, or are short for another."""
SHORT_FOR = {("selection", "seed"), ("gradients", "seed"), ("gradients", "measure"), ("proxy", "model")}
GROUPS = {"selection": "Selection", "gradients": "Gradients", "screens": "Screens"}
REST = "Rows, order and tags"
LABELS = {
    "selection-alpha": "Fisher scale \N{GREEK SMALL LETTER ALPHA}",
    "selection-conflict_penalty": "Conflict penalty \N{GREEK SMALL LETTER LAMDA}",
    "selection-information_weight": "Information weight \N{GREEK SMALL LETTER ETA}",
    "selection-stop_ratio": "Stop ratio \N{GREEK SMALL LETTER OMEGA}",
    "gradients-sketch_dim": "Sketch, numbers per layer",
    "gradients-max_length": "Longest sequence, tokens",
    "gradients-targets": "What is measured",
    "gradients-dtype": "Arithmetic",
    "gradients-store_dtype": "Numbers are stored as",
    "selection-scope-kind": "Scope",
    "schedule-kind": "Schedule",
    "proxy-revision": "Revision of the model",
    "proxy-adapter": "Adapter of the model",
    "target_dataset_id": "Target data set",
    "deadline_seconds": "Deadline, seconds",
    "metadata": "Tags",
}
HINTS = {
    "rows": "Row numbers from 0, such as 3, 5, 10-20.",
    "words": "Several are separated by commas.",
    "pairs": "One a line, such as team = search.",
    "counts": "One a line, such as math = 10.",
}


@dataclass(frozen=True)
class Setting:
    """One setting of a request as a field.

    Attributes:
        path: Its place in the request.
        kind: ``choice``, ``flag``, ``whole``, ``number``, ``text``, ``rows``, ``words``, ``pairs`` or ``counts``.
        options: Words of a choice.
        may_be_off: Whether null is a value of it.
        usual: What it is when nothing says otherwise, as text.
        hint: What it means.
    """

    path: tuple[str, ...]
    kind: str
    options: tuple[str, ...]
    may_be_off: bool
    usual: str
    hint: str

    @property
    def name(self) -> str:
        """Name of its field."""
        return "-".join(self.path)

    @property
    def label(self) -> str:
        """What it is called."""
        said = " ".join(self.path[1:] or self.path).replace("_", " ")
        return LABELS.get(self.name, said[:1].upper() + said[1:])

    @property
    def shown_options(self) -> list[tuple[str, str]]:
        """Words of a choice as they are shown, the usual one under the empty word."""
        names = METHODS if self.path[-1] == "method" else {}
        options = ("yes", "no") if self.kind == "flag" else self.options
        return [
            ("", f"as usual: {names.get(self.usual, self.usual)}"),
            *((word, names.get(word, word)) for word in options),
        ]

    def value(self, text: str) -> Any:
        """The value that a text says.

        Raises:
            ValueError: It says none.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        if self.may_be_off and text.lower() == NONE:
            return None
        if self.kind in {"whole", "number"}:
            return as_number(text, whole=self.kind == "whole")
        if self.kind == "flag":
            return {"yes": True, "no": False}.get(text, text)
        if self.kind == "rows":
            return list(_rows(text))
        if self.kind == "words":
            return [word for word in re.split(r"[,\s]+", text) if word]
        if self.kind == "pairs":
            return pairs(text)
        if self.kind == "counts":
            return {name: as_number(count, whole=True) for name, count in _counts(text)}
        return text

    def text(self, value: Any) -> str | None:
        """The text that says a value; None where the field cannot say it."""
        if value is None:
            said = NONE if self.may_be_off else ""
        elif isinstance(value, bool):
            said = "yes" if value else "no"
        elif isinstance(value, list):
            said = _ranges(value) if self.kind == "rows" else ", ".join(map(str, value))
        elif isinstance(value, Mapping):
            said = "\n".join(f"{name} = {entry}" for name, entry in value.items())
        else:
            said = str(value)
        try:
            return said if said and self.value(said) == value else None
        except ValueError:
            return None


def _counts(text: str) -> Iterator[tuple[str, str]]:
    """Names and counts, one a line: split at the last sign, as a group may have one in its name.

    Raises:
        ValueError: A line is no pair.
    """
    for line in text.splitlines():
        name, equals, count = (part.strip() for part in line.rpartition("="))
        if line.strip() and not (equals and name):
            raise ValueError(f"\u201c{line.strip()[:40]}\u201d is not of the form name = value")
        if equals:
            yield name, count


def _rows(text: str) -> Iterator[int]:
    for part in re.split(r"[,\s]+", text):
        first, dash, last = part.partition("-")
        if part:
            start = int(as_number(first, whole=True))
            end = int(as_number(last, whole=True)) if dash else start
            if end - start > 10_000:
                raise ValueError(f"\u201c{part[:40]}\u201d is more than 10,000 rows")
            yield from range(start, end + 1)


def _ranges(rows: list[int]) -> str:
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


@cache
def settings() -> Mapping[str, Setting]:
    """Every setting that has a field, by the field's name."""
    found = list(_of_model(JobCreate, ()))
    labels = {setting.path[-1]: setting.label for setting in found}
    return {setting.name: replace(setting, hint=_for_people(setting.hint, labels)) for setting in found}


def _for_people(hint: str, labels: Mapping[str, str]) -> str:
    """What stands below a field of the schema, in the words of the form: labels in place of names."""

    def named(found: re.Match[str]) -> str:
        group, _, name = (found[1] or found[0]).rpartition(".")
        if name in METHODS:
            return METHODS[name]
        where = f" ({GROUPS[group]})" if group in GROUPS else ""
        return f"\u201c{labels[name]}\u201d{where}" if name in labels else found[0]

    return re.sub(r"``([\w.]+)``|\b[a-z]+_[a-z_]+\b", named, re.sub(r"\bNone\b", f"\u201c{NONE}\u201d", hint))


@cache
def groups() -> list[tuple[str, list[Setting]]]:
    """The fields under their headings."""
    found: dict[str, list[Setting]] = {title: [] for title in (*GROUPS.values(), REST)}
    for setting in settings().values():
        found[GROUPS.get(setting.path[0], REST)].append(setting)
    return list(found.items())


def read(draft: FormFields, body: dict[str, Any]) -> None:
    """Put every setting that is typed into a request body."""
    for name, setting in settings().items():
        text = draft.text(name)
        if not text:
            continue
        place = body
        for part in setting.path[:-1]:
            place = place.setdefault(part, {})
        try:
            place[setting.path[-1]] = setting.value(text)
        except ValueError as error:
            draft.refuse(name, str(error))


def take(body: dict[str, Any]) -> dict[str, str]:
    """Take every setting that a field can say out of a request body: texts by field."""
    texts = {}
    for name, setting in settings().items():
        places = [body]
        for part in setting.path[:-1]:
            inner = places[-1].get(part)
            places.append(inner if isinstance(inner, dict) else {})
        if setting.path[-1] in places[-1] and (text := setting.text(places[-1][setting.path[-1]])) is not None:
            texts[name] = text
            del places[-1][setting.path[-1]]
            for place, part in reversed(list(zip(places, setting.path[:-1], strict=False))):
                if place.get(part) == {}:
                    del place[part]
    return texts


def field_at(parts: list[str]) -> str:
    """The field of a place in the request; of the group around it where it has none of its own; empty otherwise."""
    for length in range(len(parts), 0, -1):
        if "-".join(parts[:length]) in settings():
            return "-".join(parts[:length])
    inside = [name for name, setting in settings().items() if list(setting.path[: len(parts)]) == parts]
    is_group = len(parts) == 1 and parts[0] in GROUPS
    return inside[0] if inside and not is_group else ""


def _of_model(model: type[BaseModel], within: tuple[str, ...]) -> Iterator[Setting]:
    said = _docstrings(model)
    for name, field in model.model_fields.items():
        path = (*within, name)
        if path in SHORT_FOR or (not within and name in ELSEWHERE):
            continue
        kind, options, may_be_off, models = _kind(field.annotation)
        if models:
            yield from _of_models(models, path)
        elif kind:
            named = {(part, key) for parts in PRESETS.values() for part, given in parts.items() for key in given}
            default = field.get_default(call_default_factory=True)
            usual = "the preset" if path in named else _shown(default)
            hint = " ".join(part for part in (said.get(name, ""), HINTS.get(kind, "")) if part)
            if may_be_off and default is not None and "None" not in hint:
                hint += f" \u201c{NONE}\u201d switches it off."
            yield Setting(path, kind, options, may_be_off, usual, hint)


def _of_models(models: list[type[BaseModel]], path: tuple[str, ...]) -> Iterator[Setting]:
    """Of one of several models: their kinds as one choice, then what each has."""
    kinds = [
        word
        for model in models
        if "kind" in model.model_fields
        for word in get_args(model.model_fields["kind"].annotation)
    ]
    if len(models) > 1:
        yield Setting((*path, "kind"), "choice", tuple(kinds), False, kinds[0], "")
    for model in models:
        yield from (setting for setting in _of_model(model, path) if setting.path != (*path, "kind"))


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return ""
    if default is None or default in ({}, []):
        return NONE
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else str(default)


def _kind(annotation: Any) -> tuple[str, tuple[str, ...], bool, list[type[BaseModel]]]:
    """Kind, words of a choice, whether it may be null, and the models it may be instead; no kind for anything else."""
    arms = [_bare(arm) for arm in get_args(_bare(annotation))] if _is_union(_bare(annotation)) else [_bare(annotation)]
    may_be_off = type(None) in arms
    arms = [arm for arm in arms if arm is not type(None)]
    if all(inspect.isclass(arm) and issubclass(arm, BaseModel) for arm in arms):
        return "", (), may_be_off, arms
    if len(arms) != 1:
        return "", (), may_be_off, []
    arm, inner = arms[0], [_bare(part) for part in get_args(arms[0])]
    if get_origin(arm) is Literal:
        return "choice", get_args(arm), may_be_off, []
    kinds = {bool: "flag", int: "whole", float: "number", str: "text"}
    if get_origin(arm) is list:
        return {int: "rows", str: "words"}.get(inner[0], ""), (), may_be_off, []
    if get_origin(arm) is dict:
        return {int: "counts", str: "pairs"}.get(inner[1], ""), (), may_be_off, []
    return kinds.get(arm, ""), (), may_be_off, []


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in {Union, types.UnionType}


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each field of a model and of those that it builds on, on one line."""
    said: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if not issubclass(each, BaseModel) or each is BaseModel:
            continue
        body = ast.parse(dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for line, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
                said[line.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return said
