"""Hooks of mkdocs: README is the front page, links out of `docs/` go to the repository, every page is Markdown too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?P<start>!?\[(?:[^\]\[]|\[[^\]]*\])*\]\()(?P<target>[^)\s#:]+)(?P<end>(?:#[^)]*)?\))")
_pages: dict[str, str] = {}


def on_files(files: Files, config: Any) -> Files:
    """Make README the front page.

    Args:
        files: What is built.
        config: Of the site.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=_linked(text, ROOT, config)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Point links out of `docs/` to the repository, and keep the page as Markdown.

    Args:
        markdown: The page.
        page: Where it is.
        config: Of the site.
    """
    if page.file.src_uri != "index.md":
        markdown = _linked(markdown, ROOT / "docs" / Path(page.file.src_uri).parent, config)
    _pages[page.file.src_uri] = markdown
    return markdown


def on_post_build(config: Any) -> None:
    """Write every page as Markdown, and `llms.txt`, which lists them.

    Args:
        config: Of the site.
    """
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}", ""]
    for name, markdown in sorted(_pages.items()):
        place = Path(config["site_dir"]) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(markdown, encoding="utf-8")
        title = next((line[2:] for line in markdown.splitlines() if line.startswith("# ")), name)
        lines.append(f"- [{title}]({name})")
    (Path(config["site_dir"]) / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _linked(text: str, folder: Path, config: Any) -> str:
    """The text with links to files that are no pages turned into links to the repository.

    Args:
        text: Markdown.
        folder: What its links are relative to.
        config: Of the site.
    """
    docs, repository = Path(config["docs_dir"]), str(config["repo_url"]).rstrip("/")

    def turn(match: re.Match[str]) -> str:
        target = (folder / match["target"]).resolve()
        if target.is_relative_to(docs) and target.suffix in {".md", ".png"}:
            base = docs if folder == ROOT else folder
            return f"{match['start']}{_relative(target, base)}{match['end']}"
        if not target.exists():
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"{match['start']}{repository}/{kind}/main/{target.relative_to(ROOT).as_posix()}{match['end']}"

    return LINK.sub(turn, text)


def _relative(target: Path, base: Path) -> str:
    up = 0
    while not target.is_relative_to(base):
        base, up = base.parent, up + 1
    return "../" * up + target.relative_to(base).as_posix()
