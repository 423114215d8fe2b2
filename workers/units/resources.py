"""What the handlers of one worker process share: the stores, the device and the loaded proxy model."""

from __future__ import annotations

import gc
import importlib
import sys
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from app.errors import ServiceError
from app.services.units.service import UnitService
from app.settings import Settings
from app.storage import ArtifactStore
from spice_select.config import GradientConfig, ProxyConfig
from spice_select.errors import ProxyError
from workers.device import describe_device, resolve_device
from workers.storage.gradient_store import GradientStore

if TYPE_CHECKING:
    from spice_select.models.proxy import Proxy
    from spice_select.pipeline.warmup import Warmup
    from workers.tokenizer_process import TokenizerProcess

MODELS = "spice_select.models.proxy"


class Resources:
    """The stores, the device and the loaded proxy model of one process. A model stays loaded between units.

    Args:
        settings: Of the service.
        store: Artifacts.
        units: The life of units.
    """

    def __init__(self, settings: Settings, store: ArtifactStore, units: UnitService) -> None:
        self.settings, self.store, self.units = settings, store, units
        self.shards = GradientStore(settings, store)
        self.keeps_libraries = False
        self._loaded: tuple[str, Proxy] | None = None
        self._tokenizer: TokenizerProcess | None = None

    @cached_property
    def device(self) -> str:
        """Where gradients are computed; the first question imports torch."""
        return resolve_device(self.settings.device)

    @cached_property
    def device_name(self) -> str:
        """Its name for the provenance."""
        return describe_device(self.device)

    def proxy(
        self, config: ProxyConfig, revision: str, gradients: GradientConfig, warmup: Warmup | None = None
    ) -> Proxy:
        """Load the proxy model, or take the one that is loaded already.

        Raises:
            ServiceError: ``proxy-changed`` when the files are no longer the ones the job was made for.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by load_alone()
        key = f"{revision}/{gradients.digest()}/{warmup.sha256 if warmup is not None else ''}"
        if self._loaded is None or self._loaded[0] != key:
            proxy = self.load_alone(config, revision, gradients)
            if warmup is not None:
                from spice_select.pipeline.warmup import put_on_proxy

                put_on_proxy(proxy, warmup, gradients)
            self._loaded = (key, proxy)
        return self._loaded[1]

    def load_alone(self, config: ProxyConfig, revision: str, gradients: GradientConfig) -> Proxy:
        """Load a proxy model that serves one unit; the one that is loaded goes first: two may not fit.

        Raises:
            ServiceError: ``proxy-changed`` when the files are no longer the ones the job was made for.
            ProxyError: Its tokenizer needs more than its files.
        """
        self._loaded = None
        self.load_models()
        from spice_select.models.proxy import load_proxy

        tokenizer = self._start_tokenizer(config)
        proxy = load_proxy(config, gradients, device=self.device)
        if proxy.revision != revision:
            raise ServiceError(
                "proxy-changed", f"{config.model} is at {proxy.revision}, the job was made for {revision}"
            )
        if tokenizer is not None:
            if tokenizer.problem is not None:
                raise ProxyError(f"the tokenizer of {config.model} cannot be loaded by itself: {tokenizer.problem}")
            tokenizer.limit(int(proxy.tokenizer.model_max_length))
            proxy = replace(proxy, tokenizer=tokenizer)
        return proxy

    def _start_tokenizer(self, config: ProxyConfig) -> TokenizerProcess | None:
        """Load the tokenizer in a child under limits, before it is loaded here; our own needs none.

        Raises:
            TemplateLimitError: It took more than it may.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by TokenizerProcess
        if self._tokenizer is not None:
            self._tokenizer.close()
            self._tokenizer = None
        if config.model.startswith("builtin:"):
            return None
        from workers.tokenizer_process import TokenizerProcess

        settings = self.settings
        self._tokenizer = TokenizerProcess(config, settings.template_memory_bytes, settings.template_seconds)
        return self._tokenizer

    def keep_libraries(self) -> None:
        """Take the libraries that are loaded by now, and those of models later on, from the garbage collector.

        For a process that does nothing else. Beside half a million objects of libraries the collector seldom thinks a
        full round worth while, and each would cost it a third of a second.
        """
        self.keeps_libraries = True
        gc.collect()
        gc.freeze()

    def load_selection(self) -> None:
        """Import what a selection needs, so that the first one need not wait for it."""
        assert self.device
        for name in ("spice_select.pipeline.select", "workers.units.select_result"):
            importlib.import_module(name)

    def load_models(self) -> None:
        """Import what a model needs; a unit that only selects does without."""
        if MODELS in sys.modules:
            return
        importlib.import_module(MODELS)
        if self.keeps_libraries:
            self.keep_libraries()


def tunable(gradients: GradientConfig) -> GradientConfig:
    """The same settings in the type that a model is tuned in."""
    from spice_select.training.warmup import tuning_type

    name: Any = str(tuning_type(gradients)).removeprefix("torch.")
    return gradients.model_copy(update={"dtype": name})
