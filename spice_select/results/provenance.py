"""Where a result came from, as an in-toto Statement v1 with a SLSA Provenance v1 predicate.

The fields are explained in ``docs/provenance.md``, the page of our build type. No torch, no clock: times come in.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from spice_select.results.run_metadata import (
    BaseSelectionFacts,
    PrefilterFacts,
    ResultFile,
    RunFacts,
    SourceFacts,
    TargetFacts,
    WarmupFacts,
    is_commit,
)
from spice_select.version import GRADIENT_FORMAT, __version__

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
STATEMENT_MEDIA_TYPE = "application/vnd.in-toto+json"
CROISSANT_MEDIA_TYPE = 'application/ld+json; profile="http://mlcommons.org/croissant/1.1"'
BUILD_TYPE = "https://github.com/spice-select/spice-select/buildtypes/selection/v1"
BUILDERS = {
    "service": "https://github.com/spice-select/spice-select/builders/service/v1",
    "library": "https://github.com/spice-select/spice-select/builders/library/v1",
}


def build_statement(files: Sequence[ResultFile], facts: RunFacts) -> dict[str, Any]:
    """The in-toto statement about these files, as a JSON object.

    Args:
        files: The subject. Neither the statement's own file nor ``SHA256SUMS`` can be among them.
        facts: What is stated.
    """
    dataset = facts.dataset
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": file.name, "digest": {"sha256": file.sha256}} for file in files],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "dataset": {"name": dataset.name, "uri": dataset.uri},
                    "budget": facts.config.selection.budget.model_dump(mode="json", exclude_none=True),
                    "config": facts.config.model_dump(mode="json"),
                },
                "internalParameters": {
                    "seed": facts.config.selection.seed,
                    "gradientSeed": facts.config.gradients.seed,
                    "gradientFormat": GRADIENT_FORMAT,
                    "gradientFingerprint": facts.gradient_fingerprint,
                    "gradientsReused": facts.gradients_reused,
                    "batchHalvings": facts.halvings,
                    "device": facts.device,
                    **({"excluded": dict(facts.excluded)} if facts.excluded else {}),
                    **({} if facts.decontamination is None else {"decontamination": dict(facts.decontamination)}),
                    "python": platform.python_version(),
                    "libraries": dict(facts.libraries),
                },
                "resolvedDependencies": _dependencies(facts),
            },
            "runDetails": {
                "builder": {"id": BUILDERS[facts.builder], "version": {"spice-select": __version__}},
                "metadata": {
                    "invocationId": facts.invocation_id,
                    "startedOn": rfc3339(facts.started_on),
                    "finishedOn": rfc3339(facts.finished_on),
                },
            },
        },
    }


def statement_line(statement: Mapping[str, Any]) -> str:
    """A statement as the one line of a ``.intoto.jsonl`` file, newline included."""
    return json.dumps(statement, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def invocation_uri(facts: RunFacts) -> str:
    """The run as a URI: that of the job, or the URN of a run of the library."""
    return facts.invocation_id if ":" in facts.invocation_id else f"spice:job/{quote(facts.invocation_id, safe='')}"


def rfc3339(moment: datetime) -> str:
    """A moment in UTC, to the millisecond, as in ``2026-01-31T12:00:00.000Z``.

    Raises:
        ValueError: The moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone cannot be stated")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _dependencies(facts: RunFacts) -> list[dict[str, Any]]:
    dataset, proxy = facts.dataset, facts.proxy
    from_hub = facts.config.proxy.revision is not None and is_commit(proxy.revision)
    proxy_uri = (
        f"https://huggingface.co/{proxy.model}/tree/{proxy.revision}"
        if from_hub
        else f"spice:proxy/{quote(proxy.model, safe=':')}"
    )
    code: dict[str, Any] = {"name": "code", "uri": f"pkg:pypi/spice-select@{__version__}"}
    if facts.code_commit is not None:
        code["digest"] = {"gitCommit": facts.code_commit}
    fetched = [] if dataset.source is None else [_source(dataset.source, dataset.sha256)]
    settled = [] if facts.warmup is None else [_warmed(facts.warmup)]
    settled += [] if facts.prefilter is None else [_prefilter(facts.prefilter)]
    settled += [_owned(given) for given in facts.given]
    settled += [_target(target, "target") for target in facts.targets]
    settled += [_target(target, "protected") for target in facts.protected]
    return [
        {
            "name": "dataset",
            "uri": dataset.uri,
            "digest": {"sha256": dataset.sha256},
            "annotations": {
                "name": dataset.name,
                "bytes": dataset.bytes,
                "container": dataset.container,
                "format": dataset.form,
                "columns": dict(dataset.columns),
                **dataset.reading,
                "rows_digest": {"sha256": dataset.rows_sha256},
                "num_rows": dataset.num_rows,
                "num_usable": dataset.num_usable,
            },
        },
        {
            "name": "proxy-model",
            "uri": proxy_uri,
            "digest": {
                **({"sha256": proxy.weights_sha256} if proxy.weights_sha256 is not None else {}),
                **({"gitCommit": proxy.revision} if from_hub and proxy.adapter_sha256 is None else {}),
            },
            "annotations": {"model": proxy.model, "revision": proxy.revision},
        },
        {"name": "tokenizer", "uri": f"{proxy_uri}#tokenizer", "digest": {"sha256": proxy.tokenizer_sha256}},
        *(
            [{"name": "adapter", "uri": f"{proxy_uri}#adapter", "digest": {"sha256": proxy.adapter_sha256}}]
            if proxy.adapter_sha256 is not None
            else []
        ),
        *fetched,
        *settled,
        code,
    ]


def _warmed(warmup: WarmupFacts) -> dict[str, Any]:
    """The weights that a warm-up left on the proxy model, named by the file that holds them."""
    return {
        "name": "proxy-warmup",
        "uri": f"spice:warmup/{warmup.fingerprint}",
        "digest": {"sha256": warmup.sha256},
        "annotations": {
            "steps": warmup.steps,
            "rows": warmup.rows,
            "tokens": warmup.tokens,
            "lastLoss": warmup.last_loss,
        },
    }


def _prefilter(prefilter: PrefilterFacts) -> dict[str, Any]:
    """The ranking by which rows got no gradient, named by the file that holds it."""
    said = asdict(prefilter)
    return {
        "name": "prefilter",
        "uri": f"spice:prefilter/{said.pop('fingerprint')}",
        "digest": {"sha256": said.pop("sha256")},
        "annotations": {**said, "emptied": list(prefilter.emptied)},
    }


def _source(source: SourceFacts, sha256: str) -> dict[str, Any]:
    """Where the data set was fetched from; its digest is that of the data set's bytes."""
    commit = {"gitCommit": source.revision} if source.revision is not None and is_commit(source.revision) else {}
    return {
        "name": "dataset-source",
        "uri": source.uri,
        "digest": {"sha256": sha256, **commit},
        "annotations": {"num_files": source.num_files, **source.about},
    }


def _target(target: TargetFacts, role: Literal["target", "protected"]) -> dict[str, Any]:
    """A data set that says what the model should get better at, or must not get worse at."""
    return {
        "name": f"{role}-dataset",
        "uri": target.uri,
        "digest": {"sha256": target.sha256},
        "annotations": {
            role: target.name,
            "weight": target.weight,
            "rows": target.rows,
            "rows_digest": {"sha256": target.rows_sha256},
            "gradientFingerprint": target.gradient_fingerprint,
        },
    }


def _owned(given: BaseSelectionFacts) -> dict[str, Any]:
    """The choice that was owned already, named by the file that holds its rows."""
    return {
        "name": "given-selection",
        "uri": given.uri,
        "digest": {"sha256": given.ranking_sha256},
        "annotations": {"file": "ranking.parquet"},
    }
