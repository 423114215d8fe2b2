"""Gradients kept at an address: the same run on S3 and in a folder, found again, and never trusted without a digest."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest

import spice_select as ss
from spice_select.errors import ConfigError, StoreUnreachableError
from spice_select.pipeline.run import RunResult, run
from spice_select.storage.cache import Cache
from spice_select.storage.object_store import is_address
from tests.fixtures.service import jsonl, sums

COMPARED = ("selected.jsonl", "ranking.parquet", "trace.parquet")


class Kept(NamedTuple):
    """An address, and the file system behind it."""

    address: str
    system: Any
    root: str


@pytest.fixture(params=["s3", "memory"])
def kept(request: pytest.FixtureRequest, s3: str, monkeypatch: pytest.MonkeyPatch) -> Kept:
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        address = f"s3://bucket-{uuid.uuid4().hex[:8]}/team/cache"
    else:
        address = f"memory://{uuid.uuid4().hex}"
    system, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
    return Kept(address, system, root.rstrip("/"))


def chosen(folder: Path, cache: str | Path | None, **gradients: Any) -> tuple[RunResult, list[bytes]]:
    folder.mkdir(exist_ok=True)
    source = folder / "pool.jsonl"
    source.write_bytes(jsonl(sums(12)))
    config = ss.RunConfig(
        gradients=ss.GradientConfig(sketch_dim=4, max_length=128, **gradients),
        selection=ss.SelectionConfig(budget=ss.Budget(count=4)),
    )
    result = run(source, config, folder / "out", cache=cache)
    return result, [(folder / "out" / name).read_bytes() for name in COMPARED]


def test_a_run_finds_at_an_address_what_another_left_and_makes_anew_what_changed(kept: Kept, tmp_path: Path) -> None:
    here = chosen(tmp_path / "here", tmp_path / "cache")
    first = chosen(tmp_path / "first", kept.address)
    again = chosen(tmp_path / "again", kept.address + "/")
    assert [result.gradients_reused for result, _ in (here, first, again)] == [False, False, True]
    assert here[1] == first[1] == again[1]
    (local,) = (tmp_path / "cache").rglob("*.safetensors")
    (far,) = kept.system.find(kept.root)
    assert far == f"{kept.root}/gradients/{local.name}"
    assert kept.system.cat_file(far) == local.read_bytes(), "the same bytes under the same name"
    changed = bytearray(local.read_bytes())
    changed[-3] ^= 1
    for broken in (bytes(changed), local.read_bytes()[:100]):
        kept.system.pipe_file(far, broken)
        result, files = chosen(tmp_path / "broken", kept.address)
        assert (result.gradients_reused, files) == (False, here[1])
        assert kept.system.cat_file(far) == local.read_bytes(), "put right for the next run"


def test_a_warm_up_is_kept_at_an_address_too(tmp_path: Path) -> None:
    address = f"memory://{uuid.uuid4().hex}"
    first, again = (chosen(tmp_path / name, address, warmup_steps=1) for name in ("first", "again"))
    assert (first[0].gradients_reused, again[0].gradients_reused) == (False, True)
    assert first[1] == again[1]
    system, root = fsspec.core.url_to_fs(address)
    assert sorted(path.split("/")[-2] for path in system.find(root)) == ["gradients", "warmups"]


@pytest.mark.parametrize("address", ["nowhere://a/b", "s4://bucket"])
def test_an_unknown_kind_of_address_is_refused_by_name(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=address) as caught:
        Cache(address, tmp_path)
    assert caught.value.errors[0]["pointer"] == "#/cache"


def test_an_address_that_does_not_answer_is_an_error_of_its_own(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-cache")
    cache = Cache("s3://Not_A_Bucket!/cache", tmp_path)
    with pytest.raises(StoreUnreachableError) as caught:
        cache.local("gradients/a")
    assert (caught.value.code, caught.value.retryable) == ("store-unreachable", True)
    assert "canary" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_checkpoints_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_bytes(jsonl(sums(6)))
    config = ss.RunConfig.model_validate(
        {
            "gradients": {"sketch_dim": 4, "max_length": 128},
            "selection": {"budget": {"count": 2}, "scope": {"kind": "windows", "size": 3}},
            "schedule": {"kind": "periodic", "steps_every": 1},
        }
    )
    with pytest.raises(ConfigError, match="needs a folder") as caught:
        run(tmp_path / "pool.jsonl", config, cache=f"memory://{uuid.uuid4().hex}")
    assert caught.value.errors[0]["pointer"] == "#/cache"


def test_a_path_is_no_address() -> None:
    assert [is_address(place) for place in ("cache", "/a/b", Path("s3://a"), "s3://a", "memory://x")] == [False] * 3 + [
        True
    ] * 2
