"""Where a worker keeps gradient shards at an address: in order, from whichever place their record names."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest

from app.services.units.inputs import UnitArtifact
from app.settings import Settings
from app.storage import ArtifactStore
from spice_select.errors import Stopped, StoreUnreachableError
from workers.storage.gradient_store import GradientStore


def kept_in_memory(tmp_path: Path, count: int) -> tuple[GradientStore, list[UnitArtifact]]:
    settings = Settings(
        data_dir=tmp_path / "data", gradient_store=f"memory://{uuid.uuid4().hex}", gradient_copies_dir=tmp_path / "c"
    )
    store, shards = GradientStore(settings, ArtifactStore(settings.data_dir)), []
    for number in range(count):
        payload = f"shard {number}".encode()
        sha256 = hashlib.sha256(payload).hexdigest()
        with store.scratch() as path:
            path.write_bytes(payload)
            shards.append(UnitArtifact(f"unit_{number}", sha256, store.add("prj", path, sha256), None))
            assert not path.exists()
    return store, shards


def test_shards_come_in_the_order_they_are_asked_for(tmp_path: Path) -> None:
    store, shards = kept_in_memory(tmp_path, 30)
    folder = ArtifactStore(tmp_path / "data")
    with folder.scratch() as scratch:
        (scratch / "old").write_bytes(b"of the folder")
        sha256 = folder.add("prj", scratch / "old")
    shards.insert(7, UnitArtifact("unit_old", sha256, {}, None))
    assert store.copies is not None
    for shard in shards[::2]:
        store.copies.drop(shard.sha256)
    store.remote.remove([shards[4].result["object"]])
    told: list[tuple[int, int]] = []
    here = store.at_hand("prj", shards, on_progress=lambda done, total: told.append((done, total)))
    assert here[4] is None
    for shard, path in zip(shards, here, strict=True):
        if shard is not shards[4]:
            assert path is not None
            assert hashlib.sha256(path.read_bytes()).hexdigest() == shard.sha256
    assert told == [(done, 30) for done in range(1, 31)]
    store.release()
    with pytest.raises(Stopped):
        store.at_hand("prj", shards, should_stop=lambda: True)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="is an address such as"):
        Settings(gradient_store="/some/folder")
    store = GradientStore(Settings(gradient_store="nowhere://x"), None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="no address that can be used"):
        assert store.remote
    with pytest.raises(StoreUnreachableError):
        assert GradientStore(Settings(), None).remote  # type: ignore[arg-type]
