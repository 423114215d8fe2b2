"""Results are signed: whatever is forged in a pulled folder, with every digest made to fit, the public key notices."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.services.access.result_signer import SECRET_FILE, ResultSigner
from app.settings import Settings
from spice_select.client import Client
from spice_select.errors import VerificationError
from spice_select.results.signature import ENVELOPE_FILE, KEYS_PATH, UNSIGNED, read_keys
from spice_select.results.verify import verify_folder
from tests.fixtures.commands import Command, commands
from tests.fixtures.forgeries import edit_statement, every_row_replaced, numbers_changed, reversed_ranking
from tests.fixtures.results import seal
from tests.fixtures.service import InProcessService, jsonl, sums


class Signed:
    """Two finished jobs of one service, pulled, and the address of its public keys."""

    def __init__(self, service: InProcessService, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.keys = f"{service.http.base_url}".rstrip("/") + KEYS_PATH
        self.source = folder / "pool.jsonl"
        self.source.write_bytes(jsonl(sums(12)))
        dataset = service.push(self.source.read_bytes())
        self.job, self.other = (service.submit(dataset["id"], budget={"count": count})["id"] for count in (4, 3))
        service.drain()
        with Client(str(service.http.base_url)) as client:
            client.jobs.download(self.job, folder / self.job)
            client.jobs.download(self.other, folder / self.other)


@pytest.fixture(scope="module")
def signed(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    folder = tmp_path_factory.mktemp("signed")
    (folder / "spice.db").write_bytes(_migrated_sqlite.read_bytes())
    with InProcessService(f"sqlite:///{folder / 'spice.db'}", folder / "data") as service:
        yield Signed(service, folder)


@pytest.fixture
def spice(capsys: pytest.CaptureFixture[str]) -> Command:
    return commands(capsys)


def signed_by_another(folder: Path, signed: Signed) -> None:
    """The envelope that another deployment would make for this very statement."""
    signer = ResultSigner(Settings(data_dir=signed.folder / "elsewhere"))
    statement = (folder / "provenance.intoto.jsonl").read_bytes()
    said = {entry["name"]: entry["digest"]["sha256"] for entry in json.loads(statement)["subject"]}
    (folder / ENVELOPE_FILE).write_bytes(signer.envelope(statement, signed.job, said))


def signed_under_a_trusted_name(folder: Path, signed: Signed) -> None:
    """A forged statement in an envelope of another key that claims the id of the right one."""
    every_row_replaced(folder)
    seal(folder)
    key_id = json.loads((folder / ENVELOPE_FILE).read_text())["signatures"][0]["keyid"]
    signed_by_another(folder, signed)
    envelope = json.loads((folder / ENVELOPE_FILE).read_text())
    envelope["signatures"][0]["keyid"] = key_id
    (folder / ENVELOPE_FILE).write_text(json.dumps(envelope))


def statement_put_into_the_envelope(folder: Path, signed: Signed) -> None:
    """A forged statement under the genuine signature."""
    every_row_replaced(folder)
    seal(folder)
    envelope = json.loads((folder / ENVELOPE_FILE).read_text())
    envelope["payload"] = base64.b64encode((folder / "provenance.intoto.jsonl").read_bytes()).decode()
    (folder / ENVELOPE_FILE).write_text(json.dumps(envelope))


def alone(forge: Callable[[Path], None]) -> Callable[[Path, Signed], None]:
    return lambda folder, _: forge(folder)


def build(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda predicate: predicate["buildDefinition"][name]


FORGED: dict[str, Callable[[Path, Signed], None]] = {
    "every row replaced": alone(every_row_replaced),
    "ranking reversed": alone(reversed_ranking),
    "gains a hundredfold": alone(numbers_changed(lambda gains: [100 * gain for gain in gains])),
    "another method": alone(
        edit_statement(lambda said: build("externalParameters")(said)["config"]["selection"].update(method="random"))
    ),
    "another seed": alone(edit_statement(lambda said: build("internalParameters")(said).update(seed=99))),
    "another builder": alone(
        edit_statement(lambda said: said["runDetails"]["builder"].update(id="https://example.org/b"))
    ),
    "the envelope of another job": lambda folder, signed: (
        shutil.copy(signed.folder / signed.other / ENVELOPE_FILE, folder / ENVELOPE_FILE),
        None,
    )[1],
    "no envelope": lambda folder, _: (folder / ENVELOPE_FILE).unlink(),
    "no signature in the envelope": lambda folder, _: (
        (folder / ENVELOPE_FILE).write_text(
            json.dumps({**json.loads((folder / ENVELOPE_FILE).read_text()), "signatures": []})
        )
        and None
    ),
    "the key of another deployment": signed_by_another,
    "another key under the name of ours": signed_under_a_trusted_name,
    "a forged statement under our signature": statement_put_into_the_envelope,
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_result_fails_with_the_key(signed: Signed, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(signed.folder / signed.job, tmp_path / "copy"))
    FORGED[name](folder, signed)
    seal(folder)
    without = verify_folder(folder)
    assert without.ok, "whoever can write the folder makes everything fit, so this must be about the signature"
    assert without.notice == UNSIGNED
    report = verify_folder(folder, None, read_keys(signed.keys))
    assert [check.name for check in report.checks if not check.ok] == ["signature"], report


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", pytest.param("[" * 200_000, id="deep"), '{"payload": "!", "payloadType": 1, "signatures": []}',
     '{"payload": "", "payloadType": "application/vnd.in-toto+json", "signatures": [1]}',
     '{"payload": "", "payloadType": "application/vnd.in-toto+json", "signatures": {"sig": ""}}'],
)  # fmt: skip
def test_what_is_no_envelope_fails(signed: Signed, tmp_path: Path, content: str) -> None:
    folder = Path(shutil.copytree(signed.folder / signed.job, tmp_path / "copy"))
    (folder / ENVELOPE_FILE).write_text(content)
    report = verify_folder(folder, None, read_keys(signed.keys))
    assert [check.name for check in report.checks if not check.ok] == ["signature"], report


def test_an_extra_file_fails_with_and_without_the_key(signed: Signed, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(signed.folder / signed.job, tmp_path / "copy"))
    (folder / "selected-2.jsonl").write_text("{}\n")
    for keys in (None, read_keys(signed.keys)):
        report = verify_folder(folder, None, keys)
        assert [check.name for check in report.checks if not check.ok] == ["other files"]


def test_a_genuine_result_holds_by_the_published_key(
    signed: Signed, spice: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = signed.folder / signed.job
    published = tmp_path / "keys.json"
    published.write_bytes(signed.service.http.get(KEYS_PATH).content)
    pem = tmp_path / "key.pem"
    (key,) = read_keys(str(published))
    pem.write_bytes(_pem(key))
    for given in (signed.keys, signed.keys.removesuffix(KEYS_PATH), published, pem):
        ended = spice("verify", folder, "--source", signed.source, "--key", given, "--job", signed.job, "--json")
        assert ended.status == 0, ended
        assert ended.json()["notice"] is None
        assert f"{signed.job} is signed by the key {key.keyid}" in ended.out
    monkeypatch.setenv("SPICE_API_URL", str(signed.service.http.base_url))
    hint = re.sub(r"\s+", " ", spice("pull", signed.job, "--output", tmp_path / "hinted").err)
    assert f"--source FILE --key {signed.keys.removesuffix(KEYS_PATH)} " in hint
    # The genuine result of another job is genuine, and not the one that was asked for.
    assert spice("verify", signed.folder / signed.other, "--key", pem).status == 0
    ended = spice("verify", signed.folder / signed.other, "--key", pem, "--job", signed.job)
    assert ended.status == 1
    assert f"FAILED  signature: the result is that of {signed.other}, not of {signed.job}" in ended.out
    unsigned = spice("verify", folder)
    assert unsigned.status == 0
    assert "not who made them" in " ".join(unsigned.err.split())


def test_the_envelope_is_a_file_of_the_result(signed: Signed) -> None:
    http, base = signed.service.http, f"/v1/jobs/{signed.job}"
    listed = {file["name"]: file for file in http.get(f"{base}/files").json()["data"]}
    sent = http.get(f"{base}/files/{ENVELOPE_FILE}")
    assert sent.headers["ETag"] == f'"{listed[ENVELOPE_FILE]["sha256"]}"'
    assert http.get(f"{base}/provenance", params={"format": "dsse"}).json() == sent.json()
    statement = http.get(f"{base}/files/provenance.intoto.jsonl").content
    assert base64.b64decode(sent.json()["payload"]) == statement
    assert sent.json()["payloadType"] == "application/vnd.in-toto+json"
    assert http.get(f"{base}/files/{ENVELOPE_FILE}", params={"k": 2}).status_code == 422


def test_the_api_signs_nothing_that_its_records_do_not_hold(signed: Signed) -> None:
    statement = (signed.folder / signed.job / "provenance.intoto.jsonl").read_bytes()
    said = {entry["name"]: entry["digest"]["sha256"] for entry in json.loads(statement)["subject"]}
    signer = ResultSigner(Settings(data_dir=signed.folder / "data"))
    assert signer.envelope(statement, signed.job, said)
    for job_id, digests in ((signed.other, said), (signed.job, said | {"README.md": "0" * 64})):
        with pytest.raises(Exception, match="does not state the job's own files"):
            signer.envelope(statement, job_id, digests)


def test_the_key_of_the_deployment_is_made_once_and_can_be_replaced(tmp_path: Path) -> None:
    first = ResultSigner(Settings(data_dir=tmp_path))
    assert first.key_id == ResultSigner(Settings(data_dir=tmp_path)).key_id
    assert (tmp_path / SECRET_FILE).stat().st_mode & 0o777 == 0o600
    old, new = "o" * 32, "n" * 32
    both = ResultSigner(Settings(data_dir=tmp_path, signing_key=f"{new},{old}"))
    assert both.key_id == ResultSigner(Settings(signing_key=new)).key_id != first.key_id
    assert both.public_keys()[1:] == ResultSigner(Settings(signing_key=old)).public_keys()
    with pytest.raises(ValidationError, match="32 random characters"):
        Settings(signing_key=f"{new},short")


@pytest.mark.parametrize(
    "place", ["/nowhere", "http://192.0.2.1/keys.json", "http://select.example.org/keys.json", "ftp://127.0.0.1/k"]
)
def test_a_key_is_not_taken_from_where_it_could_have_been_exchanged(place: str) -> None:
    with pytest.raises(VerificationError, match="no public key can be read"):
        read_keys(place)


@pytest.mark.parametrize("content", ["", "{}", '{"keys": []}', '{"keys": [{"keyid": "a"}]}', "-----BEGIN X-----\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys").write_text(content)
    with pytest.raises(VerificationError, match="public key"):
        read_keys(str(tmp_path / "keys"))


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_the_gradients_of_a_service_show_what_no_digest_does(signed: Signed, spice: Command, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(signed.folder / signed.job, tmp_path / "copy"))
    arguments = (
        "verify",
        folder,
        "--json",
        "--source",
        signed.source,
        "--gradients",
        signed.folder / "data" / "objects",
    )
    assert spice(*arguments, "--key", f"{signed.service.http.base_url}", "--job", signed.job).json()["ok"]
    reversed_ranking(folder)
    seal(folder)
    failed = [check["name"] for check in spice(*arguments).json()["checks"] if not check["ok"]]
    assert failed == ["numbers", "selection"]
