"""``python -m benchmarks.toy.docstrings FILE``: a pool made in code, from the installed packages.

Every documented function asks for its documentation: ``instruction`` is the function without its docstring, ``output``
the docstring, ``package`` where it is from. Nothing is imported and nothing is fetched; the packages are those that
``constraints.txt`` pins, so that everybody gets the same rows.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("torch", "transformers", "numpy", "scipy", "sqlalchemy", "pydantic")
SHORTEST = 80
"""Characters of a docstring that is worth asking for."""
LONGEST = 2000
BODY = 400
"""Characters of a body that are shown; a longer one ends in ``...``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    rows = [row for package in PACKAGES for row in documented(package)]
    with given.file.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    counts = ", ".join(f"{name} {version(name)}: {sum(row['package'] == name for row in rows):,}" for name in PACKAGES)
    print(f"{len(rows):,} rows ({counts})")


def documented(package: str) -> Iterator[dict[str, str]]:
    """The documented functions of a package, file by file in the order of their names."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed")
    folder = Path(spec.origin).parent
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        if not {"test", "tests", "testing", "_internal"} & set(inside.parts):
            for asked, answered in functions(path.read_text(encoding="utf-8")):
                where = ".".join((package, *inside.with_suffix("").parts)).removesuffix(".__init__")
                yield {"instruction": f"Document this function of {where}.\n{asked}", "output": answered} | {
                    "package": package
                }


def functions(source: str) -> Iterator[tuple[str, str]]:
    """Functions of a file as (code without the docstring, docstring)."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        told = ast.get_docstring(node)
        if told is None or not SHORTEST <= len(told) <= LONGEST:
            continue
        node.decorator_list, node.body = [], node.body[1:] or [ast.Pass()]
        code = ast.unparse(node)
        yield (code if len(code) <= BODY else f"{code[:BODY]} ..."), told


if __name__ == "__main__":
    main()
