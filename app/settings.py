"""Settings of the service, read from the environment (prefix ``SPICE_``) where a process starts and passed down."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIN_SIGNING_KEY = 32
"""Fewest characters of a signing key: its public half lets anybody try guesses."""


class Settings(BaseSettings):
    """One value per concern, units in the names. Documented in docs/operations.md (a test compares)."""

    model_config = SettingsConfigDict(env_prefix="SPICE_", env_file=".env", extra="ignore", frozen=True)

    data_dir: Path = Path("spice-data")
    """Folder of the artifacts (and of the SQLite file when embedded); shared by API and workers."""
    data_dir_group_access: bool = False
    """Whether the group of ``data_dir`` may read and write in it, for API and workers that run as different users."""
    gradient_store: str = ""
    """Address for the gradients, such as ``s3://bucket/prefix``, of which workers alone know; empty keeps them in
    ``data_dir``."""
    gradient_copies_dir: Path | None = None
    """Folder of a worker's own machine for copies of gradients from there; None takes one for temporary files."""
    gradient_copies_bytes: int = Field(default=50 * 2**30, ge=0)
    """Above this, the copies that were not used for longest are removed; those in use stay."""
    database_url: str = Field(default="", repr=False)
    """SQLAlchemy URL; empty means SQLite in ``data_dir``."""
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Redis-protocol URL of the broker; unused when embedded."""
    database_pool_size: int = Field(default=10, ge=1, le=200)
    """Connections a process keeps to PostgreSQL."""

    auth: Literal["keys", "loopback"] = "keys"
    """``keys``: every caller shows an API key; ``loopback``: callers on this machine need none."""
    rate_limit_requests: int = Field(default=1200, ge=0)
    """Requests that one API key may make in a window, on all replicas together; 0 sets no limit."""
    rate_limit_seconds: float = Field(default=60, ge=1)
    """Length of that window."""
    public_url: str = ""
    """Base of the links in answers, such as ``https://select.example.org``; empty takes the request's own."""
    link_secret: SecretStr = SecretStr("")
    """Signs links to files; empty makes a secret of its own in ``data_dir``. Another secret ends every link."""
    link_seconds: float = Field(default=7 * 86400, ge=1)
    """Longest life of a signed link."""
    signing_key: SecretStr = SecretStr("")
    """Signs results, needed by the API alone; empty makes a key of its own in ``data_dir``. Several, separated by
    commas: the first signs, all are published. 32 random characters or more each."""
    prefix_cache_bytes: int = Field(default=10 * 2**30, ge=0)
    """Most bytes of files cut down by ``?k=`` that are kept for the next request."""
    max_upload_bytes: int = Field(default=2 * 2**30, ge=1)
    """Largest data set accepted, in bytes received."""
    quota_bytes: int = Field(default=2**40, ge=0)
    """Bytes that one project may keep in ``data_dir``; 0 sets no limit."""
    quota_datasets: int = Field(default=10_000, ge=0)
    """Data sets that one project may have; 0 sets no limit."""
    quota_queued: int = Field(default=10_000, ge=0)
    """Jobs and evaluations of one project that may wait at a time; 0 sets no limit."""
    max_open_uploads: int = Field(default=16, ge=1)
    """Files that one project may be sending in parts at a time."""
    upload_hours: float = Field(default=24, gt=0)
    """An upload in parts is given up this long after its last part."""
    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Largest JSON body accepted."""
    max_event_streams: int = Field(default=2000, ge=0)
    """Event streams that one API process keeps open at a time."""
    max_event_streams_of_project: int = Field(default=1000, ge=0)
    """Event streams of one project that one API process keeps open at a time."""
    max_rows: int = Field(default=5_000_000, ge=1)
    """Most rows of a data set."""
    max_row_bytes: int = Field(default=1_000_000, ge=1000)
    """Longest row; a longer one is rejected and listed."""
    ingest_memory_bytes: int = Field(default=4 * 2**30, ge=2**29)
    """Address space of the child that parses uploads."""
    ingest_seconds: float = Field(default=1800, gt=0)
    """Time the child that parses uploads may take."""
    preview_bytes: int = Field(default=64 * 2**20, ge=1)
    """Largest file that a preview is made of."""
    preview_seconds: float = Field(default=30, gt=0)
    """Time that a preview may take."""
    template_memory_bytes: int = Field(default=2 * 2**30, ge=2**29)
    """Address space of the child in which a proxy's chat template and tokenizer run."""
    template_seconds: float = Field(default=300, ge=1)
    """Processor time that they may take for the rows of one shard."""

    outbound_allowed_hosts: list[str] = []
    """Host names requests may go to, ``*.example.org`` for all below one; empty allows all public ones. A JSON list."""
    outbound_allowed_networks: list[str] = []
    """Addresses, networks and names that requests may go to though not public, with or without TLS. A JSON list."""
    outbound_ports: list[int] = [443]
    """Ports that requests may go to. A JSON list."""
    outbound_ca_file: Path | None = None
    """Certificates (PEM) of your own authority, trusted beside the public ones."""
    source_roots: list[Path] = []
    """Folders that data sets may be taken from by path; empty allows none. A JSON list."""
    source_hub_repos: list[str] = []
    """Hub data sets that may be fetched, such as ``["org/*"]``; ``["*"]`` allows all, empty none."""
    source_https_hosts: list[str] = []
    """Hosts that files may be fetched from, such as ``["*.example.org"]``; ``["*"]`` allows every public one."""
    source_s3_prefixes: list[str] = []
    """Buckets and prefixes that objects may be fetched from, such as ``["bucket/folder"]``; empty allows none."""
    source_seconds: float = Field(default=3600, gt=0)
    """Time that fetching a data set may take."""
    hub_endpoint: str = ""
    """Address of the hub that data sets are fetched from; empty takes the library's own (``HF_ENDPOINT``)."""
    hub_token: SecretStr = SecretStr("")
    """Sent to that hub; what it may read, every project may fetch as far as ``source_hub_repos`` goes."""
    s3_endpoint: str = ""
    """Address of the S3 service; empty takes that of AWS."""
    s3_region: str = ""
    """Region of the S3 service."""
    s3_key_id: SecretStr = SecretStr("")
    """Access key for it; empty leaves the credentials to the worker's own environment."""
    s3_secret: SecretStr = SecretStr("")
    """Secret of that key."""

    webhook_key: SecretStr = SecretStr("")
    """Encrypts the secrets of webhook endpoints; empty makes a key of its own in ``data_dir``. Several, separated by
    commas: the first encrypts, all decrypt."""
    webhook_timeout_seconds: float = Field(default=15, gt=0, le=60)
    """Longest time that a webhook endpoint may take to answer."""
    webhook_retry_seconds: list[float] = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    """Pauses before a message that did not arrive is sent again; after the last one it has failed. A JSON list."""

    default_proxy: str = "builtin:tiny"
    """Proxy model of a job that names none."""
    allowed_proxies: list[str] = ["builtin:tiny"]
    """Models that jobs may name; ``ID@COMMIT`` allows a hub id at one commit, ``*`` every hub id. A JSON list."""
    proxy_root: Path | None = None
    """Local model folders below this one may be named as proxies; None allows none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the gradients are computed."""

    executor: Literal["celery", "embedded", "kubernetes", "slurm"] = "celery"
    """Who brings workers to units: messages to workers that run, workers that look by themselves, or a scheduler that
    starts them."""
    executor_workers: int = Field(default=1, ge=1)
    """Most workers that the dispatcher has started at a time (kubernetes, slurm)."""
    executor_idle_seconds: float = Field(default=30, gt=0)
    """A worker that it started ends after this long without work (slurm)."""
    executor_options: list[str] = []
    """Further words for ``sbatch`` or ``kubectl``, such as ``["--partition=gpu", "--gpus=1"]``. A JSON list."""
    worker_memory_bytes: int = Field(default=0, ge=0)
    """Memory that jobs are held against before they are taken; 0 takes what the workers of past units had."""
    estimate_memory_seconds: float = Field(default=2, ge=0)
    """How old what past jobs took may be in an estimate; 0 looks it up for each."""
    price_per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What an hour of one worker costs, for the money in estimates; without a number they say none."""
    price_currency: str = Field(default="USD", pattern="^[A-Z]{3}$")
    """Currency of that price, as three letters."""
    lease_seconds: float = Field(default=60, gt=0)
    """How long a claimed unit belongs to its worker without a heartbeat."""
    heartbeat_seconds: float = Field(default=15, gt=0)
    """Time between two heartbeats; well under a third of the lease."""
    notify_seconds: float = Field(default=15, gt=0)
    """Workers are notified again of a runnable unit that nobody has claimed for this time."""
    priority_across_projects: bool = False
    """A job's priority goes before fairness between projects; otherwise it orders the jobs of one project only."""
    silence_seconds: float = Field(default=60, gt=0)
    """An idle Celery worker that no message has reached for this long looks at the database by itself."""
    poll_seconds: float = Field(default=0.5, gt=0)
    """Pause of the dispatcher and of the embedded worker between two looks at the database."""
    stall_seconds: float = Field(default=600, gt=0)
    """A unit whose progress has not moved for this long is given up, so that a wedged device loses its lease."""
    max_attempts: int = Field(default=5, ge=1)
    """Attempts of one unit that end in an unexpected error."""
    backoff_seconds: float = Field(default=5, ge=0)
    """Wait before the second attempt; doubled for each further one."""
    max_lost_leases: int = Field(default=3, ge=1)
    """Lost leases after which a unit counts as one that kills its workers."""

    gradient_days: float | None = Field(default=None, gt=0)
    """Gradients that no job has needed for so many days are removed, and computed again should one want them; without a
    number they are kept for ever."""
    log_days: float = Field(default=30, gt=0)
    """Days for which the lines that workers write about the units of a job are kept."""
    artifact_grace_seconds: float = Field(default=3600, ge=0)
    """A stored file that no record names is removed once it is this old: longer than it takes from writing a file to
    writing it down."""
    idempotency_hours: float = Field(default=48, gt=0)
    """How long an Idempotency-Key is remembered."""
    openlineage_namespace: str = "spice-select"
    """Namespace of jobs and data sets in OpenLineage events."""
    tracing: Literal["off", "otlp"] = "off"
    """``otlp`` sends traces as OpenTelemetry's own variables say, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    log_format: Literal["json", "console"] = "json"
    """JSON lines, or a form for people."""

    @field_validator("outbound_allowed_networks")
    @classmethod
    def _readable(cls, entries: list[str]) -> list[str]:
        for entry in entries:
            if "/" in entry:  # anything else is an address or a name
                ip_network(entry, strict=False)
        return entries

    @field_validator("signing_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        words = [word.strip() for word in value.get_secret_value().split(",")]
        if words != [""] and min(map(len, words)) < MIN_SIGNING_KEY:
            raise ValueError(f"every signing key takes {MIN_SIGNING_KEY} random characters or more")
        return value

    @field_validator("gradient_store")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and "://" not in value:
            raise ValueError("gradient_store is an address such as s3://bucket/prefix")
        return value.rstrip("/")

    @property
    def signing_keys(self) -> list[bytes]:
        """The keys in ``signing_key``; none where the data folder holds one."""
        given = self.signing_key.get_secret_value()
        return [word.strip().encode() for word in given.split(",")] if given else []

    def cost(self, seconds: float | None) -> dict[str, Any] | None:
        """What so many seconds of work cost; None where they or the price are not known."""
        if seconds is None or self.price_per_hour is None:
            return None
        amount = round(seconds / 3600 * self.price_per_hour, 6)
        return {"amount": amount, "currency": self.price_currency, "per_hour": self.price_per_hour}

    @property
    def named_proxies(self) -> list[str]:
        """Models that a person can pick from: the default first, then those that are allowed by name."""
        others = {name.partition("@")[0] for name in self.allowed_proxies} - {"*", self.default_proxy}
        return [self.default_proxy, *sorted(others)]

    @property
    def resolved_database_url(self) -> str:
        """The database URL, with the embedded default filled in."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'spice.db').absolute()}"
