"""Small programming tasks in Python and SQL. Every answer is code that runs and nothing else, or what code prints."""

from __future__ import annotations

from collections.abc import Callable

from examples.bundled_tasks.draw import Draw, Maker, Task
from examples.bundled_tasks.texts import WrittenTask, read_tasks

Snippet = tuple[str, Callable[[int, int, int], object]]

SNIPPETS: tuple[Snippet, ...] = (
    ("print(sum(range({a}, {b}, {c})))", lambda a, b, c: sum(range(a, b, c))),
    ("values = [n * n for n in range({a}, {b})]\nprint(values[{c}])", lambda a, _b, c: (a + c) ** 2),
    (
        "total = 0\nfor n in range({b}):\n    if n % {c} == 0:\n        total += n\nprint(total + {a})",
        lambda a, b, c: a + sum(range(0, b, c)),
    ),
    ("text = 'ab' * {a}\nprint(text.count('a') + len(text[::{c}]))", lambda a, _b, c: a + (2 * a + c - 1) // c),
    ("numbers = {{n % {c} for n in range({a}, {b})}}\nprint(sorted(numbers))", lambda _a, _b, c: list(range(c))),
)

TABLES = (
    ("employees", "name", "city", "salary"),
    ("products", "name", "category", "price"),
    ("books", "title", "author", "pages"),
    ("orders", "customer", "item", "quantity"),
)


def prints(draw: Draw) -> Task:
    """What a snippet prints."""
    code, result = draw.pick(SNIPPETS)
    a, b, c = draw.between(2, 6), draw.between(12, 30), draw.between(2, 5)
    code, answer = code.format(a=a, b=b, c=c), str(result(a, b, c))
    asked = draw.pick(("What does this Python code print?", "Predict the output of the program:"))
    return Task("prints", f"{asked}\n\n{code}", answer, "[]" if answer.startswith("[") else str(int(answer) + 1))


def once(draw: Draw) -> list[Task]:
    """Every task without a number, in one of its wordings."""
    tasks = read_tasks("code_once.txt")
    return [Task(task.name, draw.pick(task.ask), draw.pick(task.right), task.wrong[0]) for task in tasks]


def _numbered(task: WrittenTask) -> Maker:
    def make(draw: Draw) -> Task:
        k = str(draw.between(*task.numbers))
        asked, right, wrong = (
            text.replace("{k}", k) for text in (draw.pick(task.ask), draw.pick(task.right), task.wrong[0])
        )
        return Task(task.name, asked, right, wrong)

    return make


def _queried(task: WrittenTask) -> Maker:
    def make(draw: Draw) -> Task:
        table, one, group, number = draw.pick(TABLES)
        limit = draw.between(2, 60) * 5
        words = {"table": table, "one": one, "group": group, "number": number, "low": limit, "high": limit + 50}
        asked, right, wrong = (text.format_map(words) for text in (task.ask[0], task.right[0], task.wrong[0]))
        return Task(task.name, asked, right, wrong)

    return make


MAKERS: tuple[Maker, ...] = (
    *(_numbered(task) for task in read_tasks("code_numbered.txt")),
    *(_queried(task) for task in read_tasks("code_queries.txt")),
    prints,
    prints,
)
