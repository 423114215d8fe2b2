"""The folded fields of a new job: one for every plain setting of a request, found in its schema.

So a setting that the API learns is in the form as well. An empty field leaves its setting to the preset.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from textwrap import dedent
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from app.api.schemas.jobs import JobCreate
from app.ui.form_fields import FormFields
from app.ui.labels import METHODS
from app.ui.setting import NONE, Setting
from spice_select.presets import PRESETS

ELSEWHERE = {"dataset_id", "budget", "preset", "targets", "protect", "name", "parent", "method"}
"""Parts of a request that have fields of their own, or are short for another."""
SHORT_FOR = {("selection", "seed"), ("gradients", "seed"), ("gradients", "measure"), ("proxy", "model")}
GROUPS = {"selection": "Selection", "gradients": "Gradients", "prefilter": "Prefilter", "screens": "Screens"}
REST = "Rows, order and tags"
HINTS = {
    "rows": "Row numbers from 0, such as 3, 5, 10-20.",
    "words": "Several are separated by commas.",
    "pairs": "One a line, such as team = search.",
    "counts": "One a line, such as math = 10.",
}


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
