"""The result as Croissant 1.1: JSON-LD that dataset tools load records by, with PROV-O and RAI statements in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from spice_select.results.provenance import invocation_uri, rfc3339
from spice_select.results.run_metadata import ResultFile, RunFacts
from spice_select.version import __version__

CROISSANT = "http://mlcommons.org/croissant/1.1"
RESPONSIBLE_AI = "http://mlcommons.org/croissant/RAI/1.0"
HOME = "https://github.com/spice-select/spice-select"

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification recommends, and the vocabulary of PROV-O."""

RANKING_MEANING = {
    "rank": "Place in the pick order, from 1; the row of the same place in selected.parquet.",
    "source_row": "0-based row of the source data set.",
    "row_sha256": "Digest of the row as compact JSON.",
    "gain": "Marginal gain over the picks before it, nats.",
    "base_gain": "Gain it would have had alone, nats.",
    "epsilon": "gain - base_gain, nats; never positive.",
    "conflict": "Conflict with the mean of the picks before it, 0 to 1.",
    "score": "What the rule compared.",
    "tokens": "Tokens of prompt and response.",
    "target": "Name of the target that the row was selected for.",
    "relevance": "Product of the row's gradient with the direction of that target's mean gradient; for bm25 and "
    "embedding the row's score for the target row that picked it.",
    "nearest_target": "Target of the nearest target row.",
    "nearest_target_row": "Number of that row in the target, from 0.",
    "nearest_target_cosine": "Cosine of the gradients of the two.",
    "nearest_pick": "Source row of the nearest pick before it.",
    "nearest_pick_cosine": "Cosine of the gradients of the two: how much the row repeats.",
}


def croissant(
    files: Sequence[ResultFile],
    summary: Mapping[str, Any],
    facts: RunFacts,
    *,
    rows: pa.Schema,
    ranking: pa.Schema,
) -> str:
    """``croissant.json`` for the files of a result, which lie beside it.

    Args:
        files: What is distributed.
        summary: ``spice_select.results.summarise``.
        facts: What is known about the run.
        rows: Schema of ``selected.parquet``.
        ranking: Schema of ``ranking.parquet``.
    """
    dataset, selection = facts.dataset, facts.config.selection
    agent = {"@type": "prov:SoftwareAgent", "prov:label": f"spice-select {__version__}"}
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": f"{dataset.name}, {summary['selected']} rows chosen with {selection.method}",
        "description": (
            f"{summary['selected']} of {summary['pool']} candidates of the data set {dataset.name}, in the order in "
            f"which the method {selection.method} chose them, with the evidence for each choice."
        ),
        "conformsTo": [CROISSANT, RESPONSIBLE_AI],
        "license": "The licence of the rows is that of the data set they were chosen from.",
        "url": HOME,
        "creator": {"@type": "sc:Organization", "name": f"spice-select {__version__}", "url": HOME},
        "datePublished": rfc3339(facts.finished_on),
        "version": "1.0.0",
        "isLiveDataset": False,
        "citeAs": "SPICE, arXiv 2601.23155",
        "distribution": [_file(file) for file in files],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "name": "rows",
                "description": "The chosen rows in pick order, in the source's own columns.",
                "field": list(_fields("rows", "selected.parquet", rows, {})),
            },
            {
                "@type": "cr:RecordSet",
                "@id": "ranking",
                "name": "ranking",
                "description": "One record per pick with the evidence for it.",
                "key": {"@id": "ranking/rank"},
                "field": list(_fields("ranking", "ranking.parquet", ranking, RANKING_MEANING)),
            },
        ],
        "prov:wasDerivedFrom": _sources(facts),
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "@id": invocation_uri(facts),
            "prov:label": f"Selection with {selection.method}",
            "prov:startedAtTime": rfc3339(facts.started_on),
            "prov:endedAtTime": rfc3339(facts.finished_on),
            "prov:used": [{"@id": source["@id"]} for source in _sources(facts)],
            "prov:wasAssociatedWith": agent,
        },
        "prov:wasAttributedTo": agent,
        **_responsible_ai(summary, facts),
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def _file(file: ResultFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": file.name,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": _ENCODINGS.get(file.media_type, file.media_type),
        "sha256": file.sha256,
    }


_ENCODINGS = {"application/vnd.apache.parquet": "application/x-parquet"}
"""Croissant's own name for a media type."""


def _fields(record_set: str, file: str, schema: pa.Schema, meaning: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A field per column; columns that Croissant has no words for are left out."""
    for column in schema:
        identity = f"{record_set}/{quote(column.name, safe='')}"
        source = {"fileObject": {"@id": file}, "extract": {"column": column.name}}
        field: dict[str, Any] = {"@type": "cr:Field", "@id": identity, "name": column.name}
        if column.name in meaning:
            field["description"] = meaning[column.name]
        kind, repeated = column.type, _is_list(column.type)
        if repeated:
            kind = kind.value_type
            field["repeated"] = True
        if pa.types.is_struct(kind):
            parts = [
                {
                    "@type": "cr:Field",
                    "@id": f"{identity}/{part.name}",
                    "name": part.name,
                    "dataType": _data_type(part.type),
                    "source": {**source, "transform": {"jsonPath": part.name}},
                }
                for part in kind
                if _data_type(part.type) is not None and re.fullmatch(r"[A-Za-z_]\w*", part.name, re.ASCII)
            ]
            if parts:
                yield {**field, "subField": parts}
        elif (data_type := _data_type(kind)) is not None:
            yield {**field, "dataType": data_type, "source": source}


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _data_type(kind: pa.DataType) -> str | None:
    """Croissant's name of a plain type; None where there is none."""
    if pa.types.is_dictionary(kind):
        return _data_type(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "sc:Text"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "sc:Date"
    return None


def _sources(facts: RunFacts) -> list[dict[str, Any]]:
    """What the choice was made from: the data, the proxy model, and what else decided it."""
    dataset, proxy = facts.dataset, facts.proxy
    sources = [
        {"@id": dataset.uri, "@type": "prov:Entity", "prov:label": dataset.name, "sha256": dataset.sha256},
        {
            "@id": f"spice:proxy/{quote(proxy.model, safe=':/')}@{quote(proxy.revision, safe='')}",
            "@type": "prov:Entity",
            "prov:label": f"proxy model {proxy.model}",
            **({"sha256": proxy.weights_sha256} if proxy.weights_sha256 is not None else {}),
        },
    ]
    sources += [{"@id": one.uri, "@type": "prov:Entity", "sha256": one.ranking_sha256} for one in facts.given]
    sources += [
        {"@id": target.uri, "@type": "prov:Entity", "sha256": target.sha256}
        for target in (*facts.targets, *facts.protected)
    ]
    return sources


def _responsible_ai(summary: Mapping[str, Any], facts: RunFacts) -> dict[str, Any]:
    dataset, proxy, config = facts.dataset, facts.proxy, facts.config
    budget = ", ".join(
        f"{name} {value}" for name, value in config.selection.budget.model_dump(exclude_none=True).items()
    )
    limitations = [
        f"Rows were measured with the proxy model {proxy.model}; another model may find other rows informative.",
        "Much information is not the same as better training: whether this choice trains better than as many random "
        "rows has to be measured on the target model.",
    ]
    if summary["stop_reason"] in {"cancelled", "deadline"}:
        limitations.append("The selection was stopped early; the rows are what a smaller budget would have given.")
    return {
        "rai:dataManipulationProtocol": (
            f"Rows were chosen, never changed: method {config.selection.method}, budget {budget}, seed "
            f"{config.selection.seed}; every setting is in provenance.intoto.jsonl."
        ),
        "rai:dataPreprocessingProtocol": [
            f"{dataset.num_usable} of {dataset.num_rows} rows of the source could be read as {dataset.form} records.",
            f"{summary['excluded']} of them were left out while they were measured, {summary['truncated']} were "
            f"measured on their first {config.gradients.max_length} tokens.",
        ],
        "rai:dataLimitations": limitations,
        "rai:dataBiases": [
            f"The choice has {summary['tokens_selected']} tokens in {summary['selected']} rows, the pool "
            f"{summary['tokens_pool']} in {summary['pool']}; ranking.parquet has the length of every row. "
            "Biases of the source are not removed, and rare kinds of rows may be over-represented.",
        ],
        "rai:dataUseCases": ["Supervised fine-tuning of language models."],
    }
