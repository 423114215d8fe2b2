"""Where a result came from, by the address of its job: one record, several vocabularies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.service import InProcessService, finished_behind_keys


@pytest.fixture(scope="module")
def finished(
    _migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[InProcessService, str, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("provenance")
    with finished_behind_keys(_migrated_sqlite, folder, rows=12, count=4) as (service, job, secret):
        yield service, job["id"], {"Authorization": f"Bearer {secret}"}


def ask(
    finished: tuple[InProcessService, str, dict[str, str]], accept: str | None = None, **params: Any
) -> httpx.Response:
    service, job_id, headers = finished
    more = {} if accept is None else {"Accept": accept}
    return service.http.get(f"/v1/jobs/{job_id}/provenance", params=params, headers=headers | more)


@pytest.mark.parametrize(
    ("accept", "form", "media"),
    [
        (None, None, "application/vnd.in-toto+json"),
        ("*/*", None, "application/vnd.in-toto+json"),
        ("application/json", None, "application/vnd.in-toto+json"),
        ("application/ld+json", None, 'application/ld+json; profile="http://mlcommons.org/croissant/1.1"'),
        (
            "text/html, application/ld+json;q=0.4, application/vnd.in-toto+json;q=0.9",
            None,
            "application/vnd.in-toto+json",
        ),
        ("application/ld+json;q=0.9, application/vnd.in-toto+json;q=x", None, "application/ld+json"),
        ("application/ld+json", "in-toto", "application/vnd.in-toto+json"),
        ("application/vnd.in-toto+json", "croissant", "application/ld+json"),
    ],
)
def test_the_form_follows_the_parameter_then_accept(
    finished: tuple[InProcessService, str, dict[str, str]], accept: str | None, form: str | None, media: str
) -> None:
    answer = ask(finished, accept, **({} if form is None else {"format": form}))
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith(media)
    assert answer.headers["Vary"] == "Accept"
    assert ("@context" in answer.json()) == media.startswith("application/ld+json")


def test_an_unknown_form_is_refused_by_its_parameter(finished: tuple[InProcessService, str, dict[str, str]]) -> None:
    answer = ask(finished, format="prov-json")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-error")


def test_the_croissant_record_of_the_service_is_that_of_the_files_with_addresses_in_full(
    finished: tuple[InProcessService, str, dict[str, str]],
) -> None:
    service, job_id, headers = finished
    shown = ask(finished, format="croissant").json()
    base = f"/v1/jobs/{job_id}/files/"
    stored = service.http.get(f"{base}croissant.json", headers=headers).json()
    for file in shown["distribution"]:
        assert file["contentUrl"].startswith(f"http://127.0.0.1:{service.port}{base}")
        fetched = service.http.get(file["contentUrl"], headers=headers)
        assert fetched.headers["ETag"] == f'"{file["sha256"]}"'
        file["contentUrl"] = file["contentUrl"].rpartition("/")[2]
    assert shown == stored
