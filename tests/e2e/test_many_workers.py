"""Gradient shards and parts of a pool on one, two and three workers, one of them killed: the same bits every time.

The gradients lie on S3 and each worker has a folder of its own for copies; everything else is in the shared folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import torch
from sqlalchemy import select, update

import spice_select as ss
from app.persistence.repositories import GradientSets, Units
from app.persistence.session import Database
from app.persistence.tables import Unit, UnitCommit
from app.persistence.types import clock
from app.status import GradientSetStatus, UnitKind
from spice_select.ingest import SHARD_ROWS
from spice_select.pipeline.run import run
from tests.e2e.conftest import ENDED, Deployment
from tests.fixtures.service import jsonl, sums

SHARDS, PARTS, COUNT = 2, 4, 30
DATA = jsonl(sums((SHARDS - 1) * SHARD_ROWS + 60))
GRADIENTS = {"sketch_dim": 4, "max_length": 64, "warmup_steps": 2, "tuning": {"step_tokens": 64}}
SELECTION = {"scope": {"kind": "partitioned", "parts": PARTS}}
COMPARED = ("selected.jsonl", "ranking.parquet", "trace.parquet")


def forget_gradients(database: Database, gradient_set_id: str) -> None:
    """Let every shard be made again, the last one first."""
    with database.write() as session:
        GradientSets(session).lock(gradient_set_id)
        shards = Units(session).shards(gradient_set_id)
        Units(session).reopen([shard.id for shard in shards])
        GradientSets(session).set_status(gradient_set_id, GradientSetStatus.COMPUTING)
        for shard in shards[:-1]:
            session.execute(update(Unit).where(Unit.id == shard.id).values(not_before=clock(1.0)))


def made(database: Database, kind: UnitKind) -> list[tuple[int | None, int, str | None, str, dict[str, Any]]]:
    """Shard or part, generation, digest, maker and result of everything that was made."""
    with database.read() as session:
        columns = (Unit.shard, UnitCommit.generation, UnitCommit.artifact_sha256, UnitCommit.owner, UnitCommit.result)
        query = select(*columns).join(Unit, Unit.id == UnitCommit.unit_id).where(Unit.kind == kind)
        return [tuple(row) for row in session.execute(query)]


def busy(found: dict[str, Any]) -> bool:
    counted = (found["progress"] or {}).get("completed", 0)
    return (found["phase"] == "computing_gradients" and counted > 0) or found["status"] in ENDED


def at_s3(endpoint: str) -> dict[str, str]:
    """What workers are told, and nobody else."""
    assert httpx.put(f"{endpoint}/gradients", trust_env=False).status_code == 200
    return {
        "SPICE_GRADIENT_STORE": "s3://gradients/team",
        "SPICE_S3_ENDPOINT": endpoint,
        "SPICE_S3_REGION": "us-east-1",
        "SPICE_S3_KEY_ID": "k",
        "SPICE_S3_SECRET": "s",
    }


def test_any_number_of_workers_any_order_and_a_kill_give_the_same_bits(
    deployment: Deployment, s3: str, tmp_path: Path
) -> None:
    database = Database(deployment.env["SPICE_DATABASE_URL"])
    deployment.env |= at_s3(s3)
    dataset_id, results = "", []
    for workers in (1, 2, 3):
        deployment.env["SPICE_GRADIENT_COPIES_DIR"] = str(tmp_path / f"copies-{workers}")
        deployment.add_worker()
        if not dataset_id:
            dataset_id = deployment.push(DATA)["id"]
        else:
            forget_gradients(database, results[0][0])
        job = deployment.submit(
            dataset_id, budget={"count": COUNT}, gradients=GRADIENTS, selection=SELECTION, name=f"on {workers}"
        )
        if workers == 3:
            deployment.settle(f"/v1/jobs/{job['id']}", busy)
            deployment.workers[0].kill()
        ended = deployment.wait(job["id"])
        assert ended["status"] == "succeeded", ended
        files = {name: deployment.http.get(f"/v1/jobs/{job['id']}/files/{name}").content for name in COMPARED}
        results.append((job["gradient_set_id"], files, ended["result"]))
    shards, parts = made(database, UnitKind.GRADIENTS), made(database, UnitKind.SELECT_PART)
    warmups = made(database, UnitKind.WARMUP)
    database.dispose()
    assert {(number, generation) for number, generation, *_ in shards} == {
        (number, generation) for number in range(SHARDS) for generation in (1, 2, 3)
    }
    assert len({(number, digest) for number, _, digest, *_ in shards}) == SHARDS, "a shard has the same bytes each time"
    assert len({owner for *_, owner, _ in shards}) > 1, "several workers took shards"
    assert len({result["object"] for *_, result in shards}) == 3 * SHARDS, "each write to S3 has a name of its own"
    in_folder = {path.name for path in (Path(deployment.env["SPICE_DATA_DIR"]) / "objects").rglob("*")}
    assert {digest for _, _, digest, *_ in warmups} <= in_folder, "what all workers share"
    assert not in_folder & {digest for _, _, digest, *_ in shards}
    assert len(parts) == 3 * PARTS
    assert len({(number, digest) for number, _, digest, *_ in parts}) == PARTS, "so has what a part chose"
    assert results[1][1] == results[0][1]
    assert results[2][1] == results[0][1]
    for number in ("utility", "certificate", "scope", "random_control"):
        assert results[0][2][number] == results[1][2][number] == results[2][2][number], number

    (tmp_path / "pool.jsonl").write_bytes(DATA)
    config = ss.RunConfig(
        gradients=ss.GradientConfig.model_validate(GRADIENTS),
        selection=ss.SelectionConfig.model_validate({"budget": {"count": COUNT}, **SELECTION}),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers of these tests: sums in another order have other last bits
    try:
        run(tmp_path / "pool.jsonl", config, tmp_path / "alone")
    finally:
        torch.set_num_threads(threads)
    assert {name: (tmp_path / "alone" / name).read_bytes() for name in COMPARED} == results[0][1]
