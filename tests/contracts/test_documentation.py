"""What the documents say is what the code does."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

import spice_select.errors
from app.api.openapi import example_of
from app.api.schemas.dataset_previews import DatasetPreviewRead
from app.api.schemas.datasets import DatasetRead
from app.api.schemas.evaluations import EvaluationCreate
from app.api.schemas.fields import ProblemRead, ProgressRead
from app.api.schemas.jobs import JobCreate, JobRead
from app.errors import PROBLEMS
from app.settings import Settings
from spice_select.config import RunConfig
from tests.contracts.packages import ROOT

SETTINGS = {f"SPICE_{name.upper()}": field for name, field in Settings.model_fields.items()}
# Read by the tests and not by the service.
TEST_SETTINGS = {
    "SPICE_TEST_EXAMPLES",
    "SPICE_TEST_SEED",
    "SPICE_TEST_SERVERS",
    "SPICE_TEST_CHAOS_SECONDS",
    "SPICE_TEST_BROWSER",
    "SPICE_TEST_SCREENSHOTS",
}
SPICE_NAME = re.compile(r"\bSPICE_[A-Z][A-Z_]*[A-Z]\b")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def shown_default(name: str) -> str:
    """A default as the documents write it."""
    value = SETTINGS[name].get_default()
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, list):
        return json.dumps(value)
    if value is None or value == "":
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_documented_with_its_default(name: str) -> None:
    row = re.search(rf"^\| `{name}` \| (.*?) \| (.+?) \|$", read("docs/operations.md"), re.MULTILINE)
    assert row, f"no row for {name} in docs/operations.md"
    assert row[1].strip("` ").replace("empty", "") == shown_default(name)
    assert row[2].strip()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_in_the_example_environment_with_its_default(name: str) -> None:
    assert f"\n# {name}={shown_default(name)}\n" in read(".env.example"), f"expected # {name}={shown_default(name)}"


@pytest.mark.parametrize(
    "file", ["docs/operations.md", ".env.example", "docker-compose.yml", "Dockerfile", "README.md"]
)
def test_only_settings_that_exist_are_named(file: str) -> None:
    assert set(SPICE_NAME.findall(read(file))) - {"SPICE_"} <= set(SETTINGS) | TEST_SETTINGS


@pytest.mark.parametrize("file", ["docs/operations.md", "docs/api.md", "README.md", "docs/errors.md"])
def test_only_calls_that_exist_are_named(file: str) -> None:
    """Every ``GET /v1/...`` of the documents is an operation of the contract; names in braces may differ."""
    paths = json.loads(read("docs/openapi.json"))["paths"]
    exist = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path)) for path, operations in paths.items() for method in operations
    }
    exist |= {("GET", "/metrics"), ("GET", "/v1/openapi.json")}  # not for clients; the contract itself
    exist |= {("HEAD", path) for method, path in exist if method == "GET"}
    text = re.sub(r"\[(/?\{?[\w/{}-]*\}?)\]", r"\1", read(file))
    for method, path in re.findall(
        r"\b(GET|HEAD|POST|PUT|PATCH|DELETE) (/(?:v1|livez|readyz|metrics)[\w/{}.-]*)", text
    ):
        wanted = re.sub(r"\{\w+\}", "{}", re.sub(r"/[a-z]+_[0-9A-Z]\w*", "/{}", path)).rstrip("./")
        assert (method, wanted) in exist, f"{file}: {method} {path}"


@pytest.mark.parametrize("code", PROBLEMS)
def test_a_problem_code_is_documented(code: str) -> None:
    problem = PROBLEMS[code]
    row = f"| `{code}` | {problem.status} | {'yes' if problem.retryable else 'no'} | {problem.meaning} |"
    assert row in read("docs/errors.md").splitlines(), f"docs/errors.md needs the row\n{row}"


def test_no_problem_code_is_documented_that_does_not_exist() -> None:
    documented = re.findall(r"^\| `([a-z-]+)` \| \d", read("docs/errors.md"), re.MULTILINE)
    assert sorted(documented) == sorted(PROBLEMS)


def test_the_library_error_tree_shows_every_class_and_code() -> None:
    tree = spice_select.errors.__doc__ or ""
    classes = [value for value in vars(spice_select.errors).values() if isinstance(value, type)]
    errors = [value for value in classes if issubclass(value, spice_select.errors.SpiceError)]
    assert len(errors) > 10
    assert not [error.__name__ for error in errors if error.__name__ not in tree]


def test_what_the_api_page_shows_has_the_fields_that_are_sent_and_taken() -> None:
    found = re.findall(r"^```json\n(.*?)^```$", read("docs/api.md"), re.MULTILINE | re.DOTALL)
    shown = [json.loads(block.replace("{...}", "{}")) for block in found]
    read_by = {"dataset": DatasetRead, "dataset_preview": DatasetPreviewRead, "job": JobRead}
    for value in shown:
        if "object" in value:
            assert value.keys() == read_by.pop(value["object"]).model_fields.keys()
            if "config" in value:
                assert value["config"].keys() == RunConfig.model_fields.keys()
                assert value["progress"].keys() == ProgressRead.model_fields.keys()
        elif "title" in value:
            assert value.keys() == ProblemRead.model_fields.keys() - {"reasons"}
        elif "certificate" in value:
            example = example_of("JobRead")
            assert example is not None
            assert value.keys() == example["result"].keys()
            assert value["certificate"].keys() == example["result"]["certificate"].keys()
        else:
            (EvaluationCreate if "job_id" in value else JobCreate).model_validate_json(json.dumps(value))
    assert (len(shown), read_by) == (7, {})


def test_changelog_starts_with_what_is_unreleased() -> None:
    headings = re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    kinds = set(re.findall(r"^### (.+)$", read("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "docs/operations.md"])
def test_make_targets_that_are_named_exist(file: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|\$ |&& )make ([a-z][a-z-]*)", read(file), re.MULTILINE))
    assert named, f"{file} names no make target"
    assert named <= targets


@pytest.mark.parametrize(
    "document", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name
)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


DOCUMENTS = sorted(
    path
    for place in ("", "docs/**/", "benchmarks/**/", "examples/**/")
    for path in ROOT.glob(f"{place}*.md")
    if not path.is_symlink()
)
LONGEST_LINE = 140


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_of_documents_are_short_enough_to_read(document: Path) -> None:
    """A row of a table has to be one line and may be longer."""
    long = [
        number
        for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > LONGEST_LINE and not line.lstrip().startswith("|")
    ]
    assert not long, f"break these lines at {LONGEST_LINE} characters or before: {long}"


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.name != "CHANGELOG.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_files_that_are_named_exist(document: Path) -> None:
    named = re.findall(
        r"`((?:spice_select|app|workers|tests|benchmarks|examples|migrations|docs|deploy)/[\w./-]*)",
        document.read_text("utf-8"),
    )
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_glossary_has_twenty_words() -> None:
    words = re.findall(r"^\| (?!word|---)(.+?) \| (.+) \|$", read("docs/glossary.md"), re.MULTILINE)
    assert len(words) == 20
    assert all(meaning.endswith(".") for _, meaning in words)


def test_decisions_are_numbered_and_have_every_part() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for path in decisions:
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Status", "Context", "Decision", "Consequences", "Alternatives", "Files"], path.name


@cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, classes, their members and module-level names of a file."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(prefix + node.target.id)
            elif isinstance(node, ast.Assign):
                found.update(prefix + target.id for target in node.targets if isinstance(target, ast.Name))

    visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return frozenset(found)


def paper_map_rows() -> list[tuple[str, str, str]]:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", read("docs/paper-map.md"), re.MULTILINE)
    return [row for row in rows if not set(row[0]) <= set("-: ") and row[1] != "function"]


@pytest.mark.parametrize("row", paper_map_rows(), ids=lambda row: row[0][:50])
def test_a_row_of_the_paper_map_points_at_code_and_test(row: tuple[str, str, str]) -> None:
    _, functions, tests = row
    for cell, prefix in ((functions, ""), (tests, "test")):
        places = re.findall(r"`([\w/]+\.py)::([\w.]+)`", cell)
        assert places, f"{cell} names no place"
        for file, name in places:
            assert (ROOT / file).is_file(), f"{file} does not exist"
            assert name in names_in(ROOT / file), f"{file} has no {name}"
            assert name.startswith(prefix)


def test_the_paper_map_has_rows() -> None:
    assert len(paper_map_rows()) >= 12
