"""Asks the hub which files a split is, and fetches them; a process of its own, told everything by its parent.

The libraries read the hub's address and token from the environment once, keep caches, and follow what a stranger's card
says; here they have an environment and a folder of their own, and nothing of the service's. It says one line of JSON at
a time: the commit, then the files, then that it is done, or what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spice_select.ingest import numbered

FORMATS = frozenset({"parquet", "json", "csv"})
SECONDS = 20.0
MOST_FILES = 10_000


class RefusalError(Exception):
    """The data set cannot be fetched.

    Args:
        code: Slug in the catalogue of the service.
        detail: One sentence for a person.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


def say(**word: Any) -> None:
    """Tell the parent, one line of JSON."""
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


def commit_of(api: Any, repo: str, revision: str) -> tuple[str, Mapping[str, Any]]:
    """The commit that a revision stands for, and the head of its card.

    Raises:
        RefusalError: There is no such data set or revision, or nobody answers.
    """  # ruff: ignore[docstring-missing-exception] - what _answered() makes is one
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = api.dataset_info(repo, revision=revision, timeout=SECONDS)
    except RevisionNotFoundError as error:
        raise RefusalError("source-not-found", f"{repo} has no revision {revision}") from error
    except RepositoryNotFoundError as error:
        raise RefusalError("source-not-found", f"the hub has no data set {repo}, or does not show it to us") from error
    except HfHubHTTPError as error:
        raise _answered(error) from error
    if not info.sha:
        raise RefusalError("hub-unreachable", "the hub names no commit")
    return str(info.sha), dict(info.card_data.to_dict()) if info.card_data is not None else {}


def _answered(error: Any) -> RefusalError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in {401, 403, 404}:
        return RefusalError("source-not-found", f"the hub answers {status}: it has no such thing, or not for us")
    return RefusalError("hub-unreachable", f"the hub answers {status}" if status else "the hub does not answer")


def refuse_card(card: Mapping[str, Any]) -> None:
    """Refuse a card that points out of its own repository, before a library follows it.

    Raises:
        RefusalError: It does.
    """

    def texts(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        return [text for entry in inner for text in texts(entry)]

    configs = card.get("configs")
    for entry in configs if isinstance(configs, list) else []:
        named = (
            [text for key in ("data_files", "data_dir") for text in texts(entry.get(key))]
            if isinstance(entry, Mapping)
            else []
        )
        if any(":" in text or "|" in text or text.startswith(("/", "~")) or ".." in text.split("/") for text in named):
            raise RefusalError("source-not-allowed", "the card of the data set names files outside of its repository")


def paths_of(repo: str, commit: str, config: str | None, split: str) -> list[str]:
    """Files of a split, by their paths in the repository.

    Raises:
        RefusalError: No such configuration or split, files in a format that is not read, or files from elsewhere.
    """  # ruff: ignore[docstring-missing-exception] - what _answered() makes is one
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise RefusalError(
            "source-not-allowed", "this worker cannot read from the hub: pip install 'spice-select[hub]'"
        ) from error
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        builder = datasets.load_dataset_builder(repo, name=config, revision=commit)
    except DatasetNotFoundError as error:
        raise RefusalError("source-not-found", f"{repo} holds no data files that can be read") from error
    except HfHubHTTPError as error:
        raise _answered(error) from error
    except ConnectionError as error:
        raise RefusalError("hub-unreachable", "the hub does not answer") from error
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        said = " ".join(str(error).split())[:300]
        raise RefusalError("source-not-found", f"{repo} cannot be resolved: {said}") from error
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in FORMATS:
        raise RefusalError("dataset-format-unknown", f"the kind {kind} is not read; Parquet, JSON and CSV are")
    files: Mapping[Any, Sequence[str]] = builder.config.data_files or {}
    by_split = {str(name): list(found) for name, found in files.items()}
    if split not in by_split:
        known = ", ".join(sorted(by_split)) or "none"
        raise RefusalError("source-not-found", f"there is no split {split!r}; there is {known}")
    start = f"hf://datasets/{repo}@{commit}/"
    found = by_split[split]
    if not all(name.startswith(start) for name in found):
        raise RefusalError("source-not-allowed", "the data set names files outside of its repository")
    if len(found) > MOST_FILES:
        raise RefusalError("download-limit", f"the split is {len(found)} files, at most {MOST_FILES} are taken")
    return [name.removeprefix(start) for name in found]


def bring(api: Any, repo: str, commit: str, paths: Sequence[str], folder: Path, max_bytes: int) -> None:
    """Fetch files and say what came.

    Raises:
        RefusalError: More than allowed, or bytes that are not what the hub says.
    """  # ruff: ignore[docstring-missing-exception] - what _answered() makes is one
    from huggingface_hub.errors import HfHubHTTPError

    try:
        infos: dict[str, Any] = {}
        for start in range(0, len(paths), 500):
            some = list(paths[start : start + 500])
            infos |= {
                entry.path: entry for entry in api.get_paths_info(repo, some, revision=commit, repo_type="dataset")
            }
        total = sum(infos[path].size for path in paths)
        if total > max_bytes:
            raise RefusalError("download-limit", f"the split has {total} bytes, at most {max_bytes} are taken")
        say(total=total)
        for position, path in enumerate(paths):
            scratch = folder / "coming"
            came = Path(api.hf_hub_download(repo, path, revision=commit, repo_type="dataset", local_dir=scratch))
            with came.open("rb") as source:
                sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            info, size = infos[path], came.stat().st_size
            if size != info.size or (info.lfs is not None and info.lfs.sha256 != sha256):
                raise RefusalError("hub-unreachable", f"{path} did not arrive as the hub describes it")
            came.replace(folder / numbered(position, path.rpartition("/")[2]))
            shutil.rmtree(scratch)
            say(file={"name": path, "bytes": size, "sha256": sha256, "version": info.blob_id})
    except HfHubHTTPError as error:
        raise _answered(error) from error


def main() -> int:
    """Do what standard input asks for; 0, also after saying what is wrong."""
    task = json.loads(sys.stdin.read())
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        commit, card = commit_of(api, task["repo"], task["revision"])
        say(commit=commit)
        refuse_card(card)
        paths = paths_of(task["repo"], commit, task["config"], task["split"])
        bring(api, task["repo"], commit, paths, Path(task["folder"]), task["max_bytes"])
    except RefusalError as refusal:
        say(code=refusal.code, detail=refusal.detail)
    except OSError as error:
        say(code="hub-unreachable", detail=f"the hub cannot be asked ({type(error).__name__})")
    except Exception as error:
        _transport_trouble(error)
    else:
        say(done=True)
    return 0


def _transport_trouble(error: Exception) -> None:
    """Say that nobody answers, where that is what it is; anything else is raised on."""
    import httpx

    if isinstance(error, httpx.HTTPError):
        say(code="hub-unreachable", detail=f"the hub cannot be asked ({type(error).__name__})")
        return
    raise error


if __name__ == "__main__":
    sys.exit(main())
