"""Which proxy model a job gets: on the allow-list, pinned to a revision, safe to load. No torch needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ServiceError
from app.settings import Settings
from spice_select.config import ProxyConfig
from spice_select.errors import SpiceError
from spice_select.models.architecture import TINY
from spice_select.models.model_files import (
    BUILTIN,
    adapted_revision,
    check_adapter,
    check_config,
    check_local,
    local_digest,
    read_config,
    sizes_of,
)

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_TIMEOUT_SECONDS = 5.0
POINTER = "#/proxy/model"
MOST_NAMED = 20
"""Allowed models that a refusal names."""
FOLDERS = ("/", "./", "../", "~")
LOCAL = ("builtin:", *FOLDERS)


@dataclass(frozen=True)
class ResolvedProxy:
    """A proxy model that cannot change under a job.

    Attributes:
        config: What the worker loads; a hub id carries its commit.
        revision: Commit of the hub id, content hash of the folder, or revision of the built-in model.
        sizes: Content of its ``config.json``; None where that cannot be had from here.
    """

    config: ProxyConfig
    revision: str
    sizes: Mapping[str, Any] | None = None


class Proxies:
    """Resolves and checks proxy models.

    Args:
        settings: For the allow-list, the folder root and the default.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._known_sizes: dict[tuple[str, str], Mapping[str, Any] | None] = {}

    def _sizes(self, model: str, commit: str) -> Mapping[str, Any] | None:
        """``config.json`` at a commit, asked for once; a hub that cannot be reached costs the estimate, not the job.

        Raises:
            SpiceError: What it says is no model that can be used.
        """
        if (model, commit) not in self._known_sizes:
            from huggingface_hub import hf_hub_download

            try:
                path = hf_hub_download(model, "config.json", revision=commit, etag_timeout=HUB_TIMEOUT_SECONDS)
                self._known_sizes[model, commit] = read_config(Path(path).parent)
            except SpiceError:
                raise
            except Exception:  # HTTP, network, disk and the offline switch share no narrower base
                self._known_sizes[model, commit] = None
        sizes = self._known_sizes[model, commit]
        if sizes is not None:
            check_config(dict(sizes))
        return sizes

    def asks_hub(self, proxy: ProxyConfig | None) -> bool:
        """Whether the model can only be resolved with the hub's help, which may not be there."""
        model = self.settings.default_proxy if proxy is None else proxy.model
        return not model.startswith(LOCAL)

    def resolve(self, proxy: ProxyConfig | None) -> ResolvedProxy:
        """Pin the model to a revision.

        Raises:
            ServiceError: ``unknown-proxy``, ``proxy-not-allowed`` or ``hub-unreachable``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the three below
        proxy = proxy or ProxyConfig(model=self.settings.default_proxy)
        if proxy.adapter is None:
            return self._resolve(proxy)
        adapter = self._below_root(proxy.adapter, "#/proxy/adapter")
        check_adapter(adapter)
        found = self._resolve(proxy.model_copy(update={"adapter": None}))
        config = found.config.model_copy(update={"adapter": str(adapter)})
        return ResolvedProxy(config, adapted_revision(found.revision, adapter), found.sizes)

    def _resolve(self, proxy: ProxyConfig) -> ResolvedProxy:
        if proxy.model.startswith("builtin:"):
            return self._builtin(proxy)
        if proxy.model.startswith(FOLDERS):
            return self._folder(proxy)
        return self._hub(proxy)

    def _builtin(self, proxy: ProxyConfig) -> ResolvedProxy:
        if proxy.model not in BUILTIN:
            known = ", ".join(sorted(BUILTIN))
            raise ServiceError("unknown-proxy", f"no built-in model {proxy.model}; there is {known}", pointer=POINTER)
        self._refuse_revision(proxy)
        return ResolvedProxy(proxy, BUILTIN[proxy.model], TINY)

    def _folder(self, proxy: ProxyConfig) -> ResolvedProxy:
        path = self._below_root(proxy.model, POINTER)
        self._refuse_revision(proxy)
        check_local(path)
        return ResolvedProxy(ProxyConfig(model=str(path)), local_digest(path), sizes_of(path))

    def _below_root(self, name: str, pointer: str) -> Path:
        """A folder or file that this service takes.

        Raises:
            ServiceError: ``proxy-not-allowed``.
        """  # ruff: ignore[docstring-extraneous-exception] - made by _not_allowed()
        root = self.settings.proxy_root
        if root is None:
            raise self._not_allowed("this service takes no model folders", pointer)
        path = Path(name).resolve()
        if not path.is_relative_to(root.resolve()):
            raise self._not_allowed("the folder is not below the one that models are in", pointer)
        return path

    def _allowed(self) -> set[str]:
        return {*self.settings.allowed_proxies, self.settings.default_proxy}

    def _not_allowed(self, why: str, pointer: str) -> ServiceError:
        """What may be named instead, and which settings of the service say so; never where its folders are."""
        names = sorted(self._allowed() - {"*"})
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        any_id = ", every hub id" if "*" in self._allowed() else ""
        folders = "" if self.settings.proxy_root is None else ", folders below SPICE_PROXY_ROOT"
        return ServiceError(
            "proxy-not-allowed",
            f"{why}: allowed are {', '.join(names[:MOST_NAMED])}{more}{any_id}{folders}; its operator sets "
            "SPICE_ALLOWED_PROXIES (hub ids) and SPICE_PROXY_ROOT (model folders)",
            pointer=pointer,
        )

    def _hub(self, proxy: ProxyConfig) -> ResolvedProxy:
        if not HUB_ID.fullmatch(proxy.model):
            raise ServiceError(
                "unknown-proxy", "not a built-in model, a hub id (org/name) or an absolute folder", pointer=POINTER
            )
        allowed = self._allowed()
        if "*" not in allowed and proxy.model not in allowed:
            pinned = [name.partition("@")[2] for name in allowed if name.startswith(f"{proxy.model}@")]
            if not pinned:
                raise self._not_allowed(f"{proxy.model} is not among the models this service allows", POINTER)
            if proxy.revision not in (None, *pinned):
                raise self._not_allowed(f"{proxy.model} is not allowed at another commit", "#/proxy/revision")
            proxy = proxy.model_copy(update={"revision": proxy.revision or min(pinned)})
        if proxy.revision is not None and COMMIT.fullmatch(proxy.revision):
            return ResolvedProxy(proxy, proxy.revision, self._sizes(proxy.model, proxy.revision))
        commit = _hub_commit(proxy.model, proxy.revision)
        return ResolvedProxy(ProxyConfig(model=proxy.model, revision=commit), commit, self._sizes(proxy.model, commit))

    @staticmethod
    def _refuse_revision(proxy: ProxyConfig) -> None:
        if proxy.revision is not None:
            raise ServiceError("config-invalid", "revision goes with a hub id only", pointer="#/proxy/revision")


def _hub_commit(model: str, revision: str | None) -> str:
    """Ask the hub which commit a branch or tag is at.

    Raises:
        ServiceError: ``unknown-proxy`` or ``hub-unreachable``.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().model_info(model, revision=revision, timeout=HUB_TIMEOUT_SECONDS)
    except RevisionNotFoundError as error:
        raise ServiceError(
            "unknown-proxy", f"{model} has no revision {revision}", pointer="#/proxy/revision"
        ) from error
    except RepositoryNotFoundError as error:
        raise ServiceError("unknown-proxy", f"the hub has no model {model}", pointer=POINTER) from error
    except Exception as error:  # HTTP, network and the offline switch share no narrower base
        raise ServiceError(
            "hub-unreachable",
            "the hub cannot be asked from here; give a 40-digit commit as revision to do without it",
            headers={"Retry-After": "30"},
        ) from error
    if not info.sha:
        raise ServiceError("unknown-proxy", f"the hub names no commit for {model}", pointer=POINTER)
    return str(info.sha)
