"""Copies of remote files on a worker's machine: checked, bounded, and never taken away from whoever uses them."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from workers.storage.local_cache import LEFT_OVER_SECONDS, LocalCache


def name_of(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def bring(copies: LocalCache, payload: bytes, used: float = 0.0) -> str:
    """A copy that was used so many seconds after the epoch."""
    sha256 = name_of(payload)
    path = copies.fetch(sha256, lambda there: there.write_bytes(payload) > 0)
    assert path is not None
    os.utime(path, (used, used))
    return sha256


def test_only_the_right_bytes_become_a_copy(tmp_path: Path) -> None:
    copies = LocalCache(tmp_path / "copies", 1000)
    sha256 = bring(copies, b"right")
    assert copies.path(sha256).read_bytes() == b"right"
    assert copies.fetch(sha256, lambda _path: pytest.fail("it is there already")) == copies.path(sha256)
    other = name_of(b"other")
    assert copies.fetch(other, lambda path: path.write_bytes(b"wrong") > 0) is None
    assert copies.fetch(other, lambda _path: False) is None
    assert not copies.path(other).exists()
    with pytest.raises(OSError, match="network"):
        copies.fetch(other, lambda path: (path.write_bytes(b"oth"), (_ for _ in ()).throw(OSError("network")))[0] > 0)
    assert list((tmp_path / "copies" / "tmp").iterdir()) == []
    copies.drop(sha256)
    copies.drop(sha256)
    assert not copies.path(sha256).exists()


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    copies = LocalCache(tmp_path, 30)
    names = [bring(copies, bytes([number]) * 10, used=1000.0 + number) for number in range(3)]
    assert copies.make_room() == 0
    assert all(copies.path(name).exists() for name in names)
    assert copies.fetch(names[0], lambda _path: False) is not None, "used again just now"
    assert copies.make_room(10) == 0
    assert [copies.path(name).exists() for name in names] == [True, False, True]
    assert copies.make_room(30) == 0
    assert not any(copies.path(name).exists() for name in names)


def test_what_is_in_use_stays_until_it_is_let_go_or_its_user_dies(tmp_path: Path) -> None:
    mine, other = LocalCache(tmp_path, 0), LocalCache(tmp_path, 0)
    first, second, third = (bring(mine, bytes([number]) * 10, used=number) for number in range(3))
    mine.pin([first])
    mine.pin([second])
    other.pin([second])
    assert other.make_room() == 20, "that much is above the bound, and in use"
    assert [mine.path(name).exists() for name in (first, second, third)] == [True, True, False]
    mine.release()
    assert other.make_room() == 10
    assert [mine.path(name).exists() for name in (first, second)] == [False, True]
    [(descriptor, _)] = other._held
    os.close(descriptor)  # what the system does when a process dies
    other._held.clear()
    assert len(list((tmp_path / "pins").iterdir())) == 1
    assert mine.make_room() == 0
    assert not mine.path(second).exists()
    assert list((tmp_path / "pins").iterdir()) == []


def test_a_pin_comes_before_the_copy(tmp_path: Path) -> None:
    copies = LocalCache(tmp_path, 0)
    copies.pin([name_of(b"coming")])
    sha256 = bring(copies, b"coming")
    assert LocalCache(tmp_path, 0).make_room() == len(b"coming")
    assert copies.path(sha256).exists()


def test_what_dead_processes_left_in_the_making_goes(tmp_path: Path) -> None:
    copies = LocalCache(tmp_path, 1000)
    for name, age in (("old", LEFT_OVER_SECONDS + 60), ("new", 60)):
        path = tmp_path / "tmp" / name
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    copies.make_room()
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["new"]
