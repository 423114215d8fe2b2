"""The bundled data set is what its generator makes and what its labels say. The oracles here know only the rows."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import sqlite3
import statistics
import string
from collections import Counter
from collections.abc import Callable
from difflib import SequenceMatcher
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import factorial, gcd
from pathlib import Path
from typing import Any

import pytest

from examples.make_bundled import (
    HELD_OUT_PATH,
    PATH,
    PREFERENCE_TARGET_PATH,
    PREFERENCES_PATH,
    TARGET_PATH,
    as_bytes,
    make_held_out,
    make_preferences,
    make_rows,
    make_target,
)
from spice_select.ingest import IntakeLimits, IntakeOptions
from spice_select.ingest.parse import parse

Row = dict[str, Any]


@cache
def rows() -> list[Row]:
    return [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]


@cache
def by_id() -> dict[str, Row]:
    return {row["id"]: row for row in rows()}


def labelled(label: str) -> list[Row]:
    return [row for row in rows() if row["label"] == label]


def kind_of(row: Row) -> str:
    """The sort of question; a planted row has that of the row it belongs to."""
    return str(row["of"] or row["id"]).rpartition("-")[0]


def test_the_generator_makes_the_committed_bytes() -> None:
    assert as_bytes(make_rows()) == PATH.read_bytes()
    assert as_bytes(make_rows(seed=1)) != PATH.read_bytes()


def test_the_target_is_of_every_group_and_none_of_it_is_in_the_pool() -> None:
    assert as_bytes(make_target()) == TARGET_PATH.read_bytes()
    assert Counter(row["group"] for row in make_target()) == {"math": 10, "code": 10, "general": 10}
    texts = {text for row in rows() for text in (row["instruction"], row["output"])}
    assert not [row for row in make_target() if row["instruction"] in texts]


def test_rows_to_judge_by_are_of_every_group_and_neither_in_the_pool_nor_in_the_target() -> None:
    rows = make_held_out()
    assert as_bytes(rows) == HELD_OUT_PATH.read_bytes()
    assert Counter(row["group"] for row in rows) == {"math": 40, "code": 40, "general": 40}
    texts = {row["instruction"] for row in make_rows() + make_target()}
    assert not [row for row in rows if row["instruction"] in texts]


def test_pairs_have_two_answers_and_the_target_has_pairs_of_its_own() -> None:
    pool, target = make_preferences()
    assert (as_bytes(pool), as_bytes(target)) == (PREFERENCES_PATH.read_bytes(), PREFERENCE_TARGET_PATH.read_bytes())
    assert (len(pool), len(target)) == (36, 12)
    assert all(row["chosen"] != row["rejected"] for row in pool + target)
    assert not {row["prompt"] for row in pool} & {row["prompt"] for row in target}


def test_counts_and_columns() -> None:
    assert len(rows()) == len(by_id()) == 600
    assert Counter(row["label"] for row in rows()) == {"clean": 420, "duplicate": 72, "contradiction": 48, "junk": 60}
    assert Counter(row["group"] for row in labelled("clean")) == {"math": 150, "code": 120, "general": 150}
    for row in rows():
        assert list(row) == ["id", "instruction", "output", "group", "label", "of"]
    # Shuffled: every label is in every sixth of the file.
    for start in range(0, 600, 100):
        assert len({row["label"] for row in rows()[start : start + 100]}) == 4


def test_clean_rows_differ_from_each_other() -> None:
    clean = labelled("clean")
    assert all(row["of"] is None for row in clean)
    assert len({row["instruction"] for row in clean}) == len(clean)
    assert len({kind_of(row) for row in clean}) >= 60
    lengths = [len(row["output"]) for row in clean]
    assert min(lengths) < 10
    assert max(lengths) > 350


def test_the_intake_takes_all_but_the_two_empty_answers(tmp_path: Path) -> None:
    manifest = parse(PATH, tmp_path, IntakeOptions(), IntakeLimits())
    assert manifest.format == "alpaca"
    assert manifest.columns == {"prompt": "instruction", "response": "output"}
    assert (manifest.num_usable, manifest.rejected) == (598, {"empty-response": 2})
    rejected = [json.loads(line)["row"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [rows()[row]["label"] for row in rejected] == ["junk", "junk"]


def test_duplicates_repeat_the_row_they_name() -> None:
    exact = near = 0
    for row in labelled("duplicate"):
        original = by_id()[row["of"]]
        assert original["label"] == "clean"
        assert original["group"] == row["group"]
        if (row["instruction"], row["output"]) == (original["instruction"], original["output"]):
            exact += 1
            continue
        near += 1
        assert row["instruction"] != original["instruction"]
        assert SequenceMatcher(None, row["instruction"].lower(), original["instruction"].lower()).ratio() > 0.6
        assert original["output"] in row["output"]
    assert (exact, near) == (32, 40)


def test_contradictions_ask_the_same_and_answer_otherwise() -> None:
    found = labelled("contradiction")
    assert len({row["of"] for row in found}) == len(found)
    assert not {row["of"] for row in found} & {row["of"] for row in labelled("duplicate")}
    for row in found:
        original = by_id()[row["of"]]
        assert row["instruction"] == original["instruction"]
        assert row["output"] != original["output"]
    assert {row["group"] for row in found} == {"math", "code", "general"}


def test_junk_is_of_many_kinds() -> None:
    junk = labelled("junk")
    assert all(row["of"] is None for row in junk)
    assert sum(not row["output"].strip() for row in junk) == 2
    assert sum(" " not in row["instruction"] for row in junk) >= 10
    assert sum(len(set(row["output"].split())) <= 2 and len(row["output"].split()) >= 12 for row in junk) == 6
    assert not {row["instruction"] for row in junk} & {row["instruction"] for row in labelled("clean")}


# Arithmetic: numbers in the order of the question -> the answer, worked out anew.
def clock(hour: int, minute: int, lasts: int) -> str:
    hours, minutes = divmod(hour * 60 + minute + lasts, 60)
    return f"{hours:02d}:{minutes:02d}"


ARITHMETIC: dict[str, Callable[..., object]] = {
    "change": lambda count, price, note: note - count * price,
    "distance": lambda speed, hours: speed * hours,
    "average": lambda *values: Fraction(sum(values), 4),
    "discount": lambda price, percent: Fraction(price * (100 - percent), 100),
    "sharing": lambda total, friends: total % friends,
    "perimeter": lambda length, width: 2 * (length + width),
    "triangle": lambda base, height: Fraction(base * height, 2),
    "age": lambda now, gap, later: now + gap + later,
    "interest": lambda capital, rate, years: Fraction(capital * rate * years, 100),
    "fraction": lambda total, part, whole: Fraction(total * part, whole),
    "machines": lambda machines, made, hours: Fraction(made, machines * hours),
    "equation": lambda factor, shift, right: Fraction(right - shift, factor),
    "saving": lambda start, weekly, goal: Fraction(goal - start, weekly),
    "arrival": clock,
    "sequence": lambda first, step, place: [first + step * n for n in range(place)][-1],
    "ratio": lambda one, other, total: Fraction(one * total, one + other),
    "minutes": lambda hours, rest: hours * 60 + rest,
    "divisible": lambda number, divisor: "no" if number % divisor else "yes",
    "gauss": lambda _first, *rest: sum(range(1, rest[-1] + 1)),
    "chance": lambda red, blue: Fraction(red, red + blue),
    "divisor": gcd,
    "boxes": lambda trays, each, sold, size: Fraction(trays * each - sold, size),
}


def solve(row: Row) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", row["instruction"])]
    return str(ARITHMETIC[kind_of(row)](*numbers))


def answer_of(row: Row) -> str:
    found = re.search(r"Answer: (\S+)", row["output"])
    assert found is not None, row
    return found.group(1)


MATH = [row for row in rows() if row["group"] == "math" and row["label"] in {"clean", "duplicate"}]


def test_arithmetic_answers_are_right() -> None:
    assert len(MATH) >= 150
    assert {kind_of(row) for row in MATH} == set(ARITHMETIC)
    for row in MATH:
        assert answer_of(row) == solve(row), row


def test_every_step_on_the_way_is_right() -> None:
    steps = 0
    for row in MATH:
        for left, right in re.findall(r"((?:\d+ [-+*/] )+\d+) = (\d+)", row["output"]):
            total = ast.parse(left, mode="eval")
            assert all(
                isinstance(node, ast.Expression | ast.BinOp | ast.Constant | ast.operator) for node in ast.walk(total)
            )
            assert eval(left) == int(right), (left, row)
            steps += 1
    assert steps > 200


def test_contradicting_arithmetic_is_wrong() -> None:
    wrong = [row for row in labelled("contradiction") if row["group"] == "math"]
    assert wrong
    for row in wrong:
        assert answer_of(row) != solve(row), row


# Code: inputs -> what a right function gives, worked out anew.
WORDS = ["pear", "fig", "banana", "kiwi", "apricot", "elderberry", "fig", "boysenberries", "a"]
NUMBERS = [5, 3, 8, 21, 8, 5, 13, 1, 34, 42, 57, 60, 66, 76, 95, 5, 0]


def roman(number: int) -> str:
    units = [("I", "V", "X"), ("X", "L", "C"), ("C", "D", "M"), ("M", "", "")]
    text = ""
    for (one, five, ten), digit in zip(units, reversed(str(number)), strict=False):
        shapes = ["", one, one * 2, one * 3, one + five, five, five + one, five + one * 2, five + one * 3, one + ten]
        text = shapes[int(digit)] + text
    return text


def prime(number: int) -> bool:
    return number > 1 and all(number % low for low in range(2, number))


Cases = list[tuple[tuple[Any, ...], Any]]
ONCE: dict[str, Cases] = {
    "reverse_words": [(("one two three",), "three two one"), (("",), "")],
    "is_palindrome": [(("Never odd or even",), True), (("abca",), False), (("",), True), (("A man, a plan!",), False)],
    "factorial": [((n,), factorial(n)) for n in (0, 1, 5, 20)],
    "fibonacci": [((7,), [0, 1, 1, 2, 3, 5, 8]), ((0,), []), ((1,), [0])],
    "primes_below": [((n,), [p for p in range(n) if prime(p)]) for n in (2, 3, 10, 100)],
    "largest": [(([3, 9, -2],), 9), (([-5],), -5)],
    "word_counts": [(("The cat the hat",), {"the": 2, "cat": 1, "hat": 1})],
    "count_vowels": [(("Education",), 5), (("rhythm",), 0)],
    "are_anagrams": [(("Listen", "silent"), True), (("abc", "abd"), False)],
    "flatten": [(([1, [2, [3, []]], 4],), [1, 2, 3, 4])],
    "unique": [(([3, 1, 3, 2, 1],), [3, 1, 2])],
    "binary_search": [(([1, 3, 5, 7], target), index) for target, index in ((1, 0), (7, 3), (4, -1))] + [(([], 1), -1)],
    "greatest_common_divisor": [((48, 36), 12), ((7, 5), 1), ((9, 0), 9)],
    "second_largest": [(([5, 1, 5, 4],), 4)],
    "merge_sorted": [(([1, 4, 6], [2, 3, 9]), [1, 2, 3, 4, 6, 9]), (([], [1]), [1])],
    "transpose": [(([[1, 2, 3], [4, 5, 6]],), [[1, 4], [2, 5], [3, 6]])],
    "is_leap_year": [((year,), leap) for year, leap in ((2000, True), (1900, False), (2024, True), (2023, False))],
    "digit_sum": [((90817,), 25), ((0,), 0)],
    "median": [(([3, 1, 2],), 2), (([4, 1, 2, 30],), 3)],
    "celsius": [((212,), 100.0), ((32,), 0.0), ((100,), 37.8)],
    "group_by_length": [((["a", "bb", "c"],), {1: ["a", "c"], 2: ["bb"]})],
    "roman": [((n,), roman(n)) for n in (1, 4, 1994, 3999, 444)],
    "balanced": [(("([]{})",), True), (("(]",), False), (("((",), False), (("a)b(",), False)],
    "invert": [(({"a": 1, "b": 2},), {1: "a", 2: "b"})],
}


def caesar(text: str, k: int) -> str:
    letters = string.ascii_lowercase
    return text.translate(str.maketrans(letters, letters[k:] + letters[:k]))


NUMBERED: dict[str, Callable[[int], Cases]] = {
    "multiples": lambda k: [(([*NUMBERS, k * 7],), [n for n in [*NUMBERS, k * 7] if n // k * k == n])],
    "chunks": lambda k: [((list(range(20)),), [list(range(n, min(n + k, 20))) for n in range(0, 20, k)]), (([],), [])],
    "caesar": lambda k: [(("hello, wxyz!",), caesar("hello, wxyz!", k))],
    "rotate": lambda k: [(([1, 2, 3, 4],), [(n + k) % 4 + 1 for n in range(4)]), (([],), []), (([9],), [9])],
    "shorten": lambda k: [(("x" * k,), "x" * k), (("y" * (k + 1),), "y" * (k - 3) + "..."), (("ab",), "ab")],
    "power_sum": lambda k: [((4,), 1 + 2**k + 3**k + 4**k), ((0,), 0)],
    "longer_than": lambda k: [((WORDS,), sorted([word for word in WORDS if word[k:]]))],
    "in_base": lambda k: [((0,), "0"), ((k * k + 1,), "101"), ((k - 1,), str(k - 1))],
    "moving_average": lambda k: [(([2] * k + [2 + k],), [2.0, 3.0]), (([1] * (k - 1),), [])],
    "top": lambda k: [((NUMBERS,), [n for _, n in sorted((-NUMBERS.count(n), n) for n in set(NUMBERS))][:k])],
}


def passes(code: str, name: str, cases: Cases) -> bool:
    scope: dict[str, Any] = {}
    exec(compile(code, name, "exec"), scope)
    try:
        return all(scope[name](*json.loads(json.dumps(given))) == expected for given, expected in cases)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return False


def printed(question: str) -> str:
    code = question.partition("\n\n")[2].removesuffix("\n\nAnswer as well as you can.").removesuffix(" Thank you!")
    code = code.removesuffix(" ?")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "snippet", "exec"), {})
    return out.getvalue().strip()


TABLES = {
    "employees": ("name", "city", "salary"),
    "products": ("name", "category", "price"),
    "books": ("title", "author", "pages"),
    "orders": ("customer", "item", "quantity"),
}
DATA = [(f"n{index * 7 % 40:02d}", f"g{index % 5}", index * 9) for index in range(40)]


def queried(query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        for table, columns in TABLES.items():
            base.execute(f"CREATE TABLE {table} ({columns[0]} TEXT, {columns[1]} TEXT, {columns[2]} INTEGER)")
            base.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", DATA)
        return base.execute(query).fetchall()


def wanted(row: Row) -> list[Any]:
    low = int(re.findall(r"\d+", row["instruction"])[0])
    kind = kind_of(row)
    if kind == "sql_list":
        return [(name,) for name, _, number in sorted(DATA) if number > low]
    if kind == "sql_count":
        return [(sum(low <= number <= low + 50 for _, _, number in DATA),)]
    groups = {group: [number for _, other, number in DATA if other == group] for _, group, _ in DATA}
    means = {group: statistics.fmean(numbers) for group, numbers in groups.items()}
    return sorted((group, mean) for group, mean in means.items() if mean >= low)


def is_right(row: Row) -> bool:
    kind = kind_of(row)
    if kind == "prints":
        return bool(row["output"] == printed(row["instruction"]))
    if kind.startswith("sql_"):
        return queried(row["output"]) == wanted(row)
    if kind in ONCE:
        return passes(row["output"], kind, ONCE[kind])
    (k,) = {int(number) for number in re.findall(r"\d+", row["instruction"].replace("1**", "").replace("2**", ""))}
    return passes(row["output"], kind, NUMBERED[kind](k))


CODE = [row for row in rows() if row["group"] == "code" and row["label"] in {"clean", "duplicate"}]


def test_code_answers_run_and_are_right() -> None:
    assert len(CODE) >= 120
    kinds = {kind_of(row) for row in CODE}
    assert kinds == {*ONCE, *NUMBERED, "prints", "sql_list", "sql_average", "sql_count"}
    for row in CODE:
        assert is_right(row), row


def test_contradicting_code_runs_and_is_wrong() -> None:
    wrong = [row for row in labelled("contradiction") if row["group"] == "code"]
    assert wrong
    for row in wrong:
        assert not is_right(row), row


@pytest.mark.parametrize("group", ["math", "code"])
def test_the_oracles_can_fail(group: str) -> None:
    # Answers moved one row on are wrong nearly always; an oracle that accepts them proves nothing.
    found = [row for row in (MATH if group == "math" else CODE) if row["label"] == "clean"]
    kinds: dict[str, list[Row]] = {}
    for row in found:
        kinds.setdefault(kind_of(row), []).append(row)
    moved = refused = 0
    for same in kinds.values():
        for row, other in pairwise(same):
            if row["output"] != other["output"]:
                swapped = row | {"output": other["output"]}
                moved += 1
                refused += not (answer_of(swapped) == solve(row) if group == "math" else is_right(swapped))
    assert moved > 30
    assert refused > 0.6 * moved
