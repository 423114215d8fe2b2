"""The gradient shards of a pool in a cache, and the warm-up that they were taken after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from spice_select.config import ProxyConfig, RunConfig, digest_of
from spice_select.errors import EmptyPoolError, StoreError
from spice_select.fingerprint import (
    conversations_sha256,
    embedding_settings,
    gradient_fingerprint,
    pool_sha256,
    prefilter_fingerprint,
    shard_fingerprints,
    warmup_fingerprint,
)
from spice_select.ingest import DatasetManifest
from spice_select.models.model_files import BUILTIN, folder_digest
from spice_select.models.proxy import Proxy, load_proxy
from spice_select.pipeline.constraints import read_source_rows
from spice_select.pipeline.measure import measure_shard
from spice_select.pipeline.periodic import load_tunable
from spice_select.pipeline.pool import Pool, load_pool
from spice_select.pipeline.prefilter import Prefiltered, prefilter, read_prefiltered, write_prefiltered
from spice_select.pipeline.progress import Clock
from spice_select.pipeline.read_files import ReadFile
from spice_select.pipeline.targets import TargetSet
from spice_select.pipeline.warmup import Warmup, make_warmup, put_on_proxy, read_warmup
from spice_select.results.run_metadata import (
    DatasetFacts,
    PrefilterFacts,
    ProxyFacts,
    TargetFacts,
    WarmupFacts,
    is_commit,
)
from spice_select.storage.cache import Cache
from spice_select.storage.shards import read_shard, write_shard


class LocalGradients:
    """The gradient shards of one pool, made where they are not there yet.

    Args:
        config: Settings of the run.
        manifest: The pool.
        cache: Where the files are kept.
        device: torch device of the proxy model.
        clock: Told about every step.
        should_stop: Asked often.

    Attributes:
        pool_sha256: What a warm-up can see: this pool, or that for which these gradients are targets.
        prints: What each shard was made from; empty before ``fill``.
        reused: Whether all of them were there.
        warmup: The warm-up they were taken after; None without one, or before ``fill``.
        prefilter: Which rows get gradients; None for all of them.
    """

    def __init__(
        self,
        config: RunConfig,
        manifest: DatasetManifest,
        cache: Cache,
        device: str,
        clock: Clock,
        should_stop: Callable[[], bool],
    ) -> None:
        self._config, self._manifest, self._cache = config, manifest, cache
        self._device, self._clock, self._should_stop = device, clock, should_stop
        self._proxy: Proxy | None = None
        self._warmed: Warmup | None = None
        self._prefiltered: Prefiltered | None = None
        self._tokens = 0
        self._infos = [info.model_dump() for info in manifest.shards]
        self.pool_sha256 = pool_sha256(manifest.rows_sha256, self._infos)
        self.prints: list[str] = []
        self.reused = True
        self.warmup: WarmupFacts | None = None
        self.prefilter: PrefilterFacts | None = None

    @property
    def revision(self) -> str:
        """Revision of the proxy model, which is loaded where it cannot be told otherwise."""
        return known_revision(self._config.proxy) or self._load().revision

    def fingerprint(self, revision: str) -> str:
        """Name of the gradients under a revision of the proxy model."""
        return gradient_fingerprint(
            rows_sha256=conversations_sha256(self._manifest.rows_sha256, self._infos),
            proxy_revision=revision,
            config=self._config.gradients,
            pool=self.pool_sha256,
        )

    def fill(self, shards: list[Path]) -> tuple[list[Path], ProxyFacts]:
        """Make what is missing; returns the shards and what is known about the proxy model."""
        revision = self.revision
        if self._warmed is None:
            self._warm_up(shards, revision)
        self.prints = shard_fingerprints(
            self._infos,
            proxy_revision=revision,
            config=self._config.gradients,
            pool=self.pool_sha256,
            prefilter=None if self.prefilter is None else self.prefilter.fingerprint,
        )
        facts: ProxyFacts | None = None
        paths, first = [], 0
        for number, (rows, fingerprint) in enumerate(zip(shards, self.prints, strict=True)):
            name = f"gradients/{fingerprint}.safetensors"
            path = self._cache.local(name)
            found = _stored_facts(path, fingerprint, number, self._warmed)
            if found is None:
                self.reused = False
                found = ProxyFacts.of(self._load())
                self._measure(rows, path, number, first, fingerprint, found)
                self._cache.keep(name)
            facts = facts or found
            paths.append(path)
            first += self._manifest.shards[number].rows
        assert facts is not None, "the intake refuses a data set without a usable row"
        return paths, facts

    def keep_best(
        self,
        shards: list[Path],
        targets: Sequence[ReadFile],
        protect: Sequence[ReadFile],
        base_rows: Sequence[int],
    ) -> None:
        """Let only the rows that the prefilter keeps be measured, where there is one.

        Args:
            shards: The ``rows-*.parquet`` of the ingest, in order.
            targets: What the pool is ranked for.
            protect: The protected sets.
            base_rows: Rows of the source in the base selection.
        """
        beside = [*targets, *protect]
        fingerprint = prefilter_fingerprint(
            pool=self.pool_sha256,
            targets=digest_of([_conversations_of(read.manifest) for read in beside]),
            owned=base_rows,
            proxy_revision=self.revision if _embeds(self._config) else "",
            config=self._config,
            weights=[(read.given.name, read.given.weight) for read in targets],
        )
        if fingerprint is None:
            return
        name = f"prefilters/{fingerprint}.safetensors"
        path = self._cache.local(name)
        try:
            found = read_prefiltered(path, fingerprint)
        except StoreError:
            self._clock.phase("prefiltering")
            manifests = {shards[0]: self._manifest, **{read.rows_shards[0]: read.manifest for read in targets}}
            found = prefilter(
                self._config,
                shards,
                [read.rows_of_target() for read in targets],
                [read.rows_of_target() for read in protect],
                base_rows,
                lambda paths: self._embeddings(list(paths), manifests[paths[0]]),
            )
            found = replace(found, sha256=write_prefiltered(path, found, fingerprint))
            self._cache.keep(name)
        self._prefiltered = found
        self.prefilter = PrefilterFacts(fingerprint, found.sha256, **found.result)

    def _embeddings(self, shards: list[Path], manifest: DatasetManifest) -> Pool:
        """Embeddings of a pool by the proxy model as it is."""
        config = self._config.model_copy(update={"gradients": embedding_settings(self._config.gradients)})
        other = LocalGradients(config, manifest, self._cache, self._device, self._clock, self._should_stop)
        paths, _ = other.fill(shards)
        return load_pool([(path, None) for path in paths], other.prints)

    def tunable(self, shards: list[Path]) -> Proxy:
        """The proxy model after its warm-up, in the type it is tuned in, for a schedule that goes on tuning it.

        Args:
            shards: The ``rows-*.parquet`` of the ingest, in order.
        """
        self._warm_up(shards, self.revision)
        return self._load()

    def beside(self, read: ReadFile) -> TargetSet:
        """A target, or a protected set, with the gradients of its rows by the same proxy.

        Args:
            read: Its rows.

        Raises:
            EmptyPoolError: None of its rows has a gradient.
        """
        given, manifest, rows_shards = read.given, read.manifest, read.rows_shards
        other = LocalGradients(self._config, manifest, self._cache, self._device, self._clock, self._should_stop)
        other._proxy, other._warmed, other.pool_sha256 = self._proxy, self._warmed, self.pool_sha256
        paths, proxy = other.fill(rows_shards)
        try:
            pool = load_pool([(path, None) for path in paths], other.prints)
        except EmptyPoolError as error:
            detail = f"target {given.name!r} ({given.file}): {error.detail}"
            raise EmptyPoolError(detail, pointer=read.pointer, reasons=error.reasons) from error
        return target_set(read, pool, other.fingerprint(proxy.revision))

    def _measure(self, rows: Path, path: Path, number: int, first: int, fingerprint: str, facts: ProxyFacts) -> None:
        self._clock.phase("computing_gradients", measure="samples")
        total = self._manifest.num_usable
        self._clock.advance(first, total, self._tokens)
        shard = measure_shard(
            rows,
            first,
            self._load(),
            self._config.gradients,
            header={
                "fingerprint": fingerprint,
                "shard": number,
                "proxy": asdict(facts),
                **({} if self._warmed is None else {"warmup": self._warmed.sha256}),
            },
            prefiltered=self._prefiltered,
            on_progress=lambda completed, _n, tokens: self._clock.advance(
                first + completed, total, self._tokens + tokens
            ),
            should_stop=self._should_stop,
        )
        self._tokens += int(shard.tokens.sum())
        write_shard(path, shard)

    def _warm_up(self, shards: list[Path], revision: str) -> None:
        """Find the weights that the warm-up leaves, or make them."""
        config = self._config.gradients
        fingerprint = warmup_fingerprint(pool=self.pool_sha256, proxy_revision=revision, config=config)
        if fingerprint is None:
            return
        name = f"warmups/{fingerprint}.safetensors"
        path = self._cache.local(name)
        try:
            warmup = read_warmup(path, fingerprint)
        except StoreError:
            # Half precision would lose what the file of the model says: tuning starts from all of it.
            half = self._config.gradients.dtype == "bfloat16"
            proxy = load_tunable(self._config.proxy, self._config, device=self._device) if half else self._load()
            self._clock.phase("warming_up")
            warmup = make_warmup(
                path,
                shards,
                proxy,
                config,
                fingerprint,
                on_progress=self._clock.advance,
                should_stop=self._should_stop,
            )
            self._cache.keep(name)
        self._warmed = warmup
        self.warmup = WarmupFacts.of(fingerprint, warmup.sha256, warmup.result)
        if self._proxy is not None:
            put_on_proxy(self._proxy, warmup, config)

    def _load(self) -> Proxy:
        """The proxy model, with what the warm-up left on it once that is known."""
        if self._proxy is None:
            self._clock.phase("loading_model")
            periodic = self._config.schedule.kind == "periodic"
            self._proxy = (
                load_tunable(self._config.proxy, self._config, device=self._device)
                if periodic
                else load_proxy(self._config.proxy, self._config.gradients, device=self._device)
            )
            if self._warmed is not None:
                put_on_proxy(self._proxy, self._warmed, self._config.gradients)
        return self._proxy


def target_set(read: ReadFile, pool: Pool, fingerprint: str) -> TargetSet:
    """A file beside a pool as a target or a protected set.

    Args:
        read: Its rows.
        pool: Their gradients.
        fingerprint: Name of the gradients.
    """
    given, rows_shards = read.given, read.rows_shards
    facts = DatasetFacts.from_manifest(read.manifest, name=given.file.name, reference=given.file.name)
    count = len(pool.positions)
    described = TargetFacts(given.name, given.weight, count, facts.uri, facts.sha256, facts.rows_sha256, fingerprint)
    source_rows = read_source_rows(rows_shards)[pool.positions].tolist()
    return TargetSet(described, pool.features, rows_shards, pool.positions.tolist(), source_rows)


def _embeds(config: RunConfig) -> bool:
    asked = config.conditions.prefilter
    return asked is not None and asked.method == "embedding"


def _conversations_of(manifest: DatasetManifest) -> str:
    return conversations_sha256(manifest.rows_sha256, [info.model_dump() for info in manifest.shards])


def _stored_facts(path: Path, fingerprint: str, number: int, warmup: Warmup | None) -> ProxyFacts | None:
    """What a stored shard says about its proxy model; None when it is not there or cannot be trusted."""
    if not path.exists():
        return None
    try:
        header = read_shard(path, fingerprint=fingerprint).header
        warmed = None if warmup is None else warmup.sha256
        fits = header.get("shard") == number and header.get("warmup") == warmed
        return ProxyFacts(**header["proxy"]) if fits else None
    except (StoreError, KeyError, TypeError):
        return None


def known_revision(proxy: ProxyConfig) -> str | None:
    """Revision of a proxy model that can be told without loading it; None for the others.

    Args:
        proxy: Which model.
    """
    if proxy.model in BUILTIN and proxy.revision is None:
        return BUILTIN[proxy.model]
    folder = Path(proxy.model).expanduser()
    if proxy.revision is None and folder.is_dir():
        return folder_digest(folder)
    return proxy.revision if proxy.revision is not None and is_commit(proxy.revision) else None
