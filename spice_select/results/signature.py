"""Signatures of results: a DSSE envelope over the provenance statement, byte for byte as its file holds it.

The service signs (``app.services.access.result_signer``); here are the names that both sides use, and the checking.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spice_select.errors import VerificationError
from spice_select.results.provenance import STATEMENT_MEDIA_TYPE

if TYPE_CHECKING:
    from securesystemslib.signer import Key

ENVELOPE_FILE = "provenance.dsse.json"
ENVELOPE_MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
KEYS_PATH = "/.well-known/spice-select-keys.json"
"""Where a service publishes the public keys of its signatures."""
MAX_KEYS_BYTES = 2**20
UNSIGNED = (
    "Without a key these checks show that the files agree with one another (and with the source, where it was given), "
    "not who made them: whoever can write the folder can exchange rows, ranking, settings and source and make every "
    "digest fit. --key with the deployment's public key shows that the deployment made exactly these files."
)
"""What a check without a key proves, and what it does not."""


def check_signature(folder: Path, keys: list[Key], job_id: str | None = None) -> str:
    """Check that the envelope of a folder is signed by one of the keys and holds the folder's own statement.

    Args:
        folder: Folder with the files of a result.
        keys: Public keys that are trusted.
        job_id: The job that the result has to be of; None takes the result of any job.

    Returns:
        Who signed it.

    Raises:
        VerificationError: It is not signed, by another key, or about another statement or job.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError
    from securesystemslib.exceptions import VerificationError as BadSignatureError

    path = folder / ENVELOPE_FILE
    if not path.exists():
        raise VerificationError(f"{ENVELOPE_FILE} is missing: the result is not signed")
    try:
        envelope = Envelope.from_dict(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise VerificationError(f"{ENVELOPE_FILE} is no DSSE envelope") from error
    if envelope.payload_type != STATEMENT_MEDIA_TYPE:
        raise VerificationError(f"{ENVELOPE_FILE} is about {str(envelope.payload_type)[:100]}, not about a statement")
    try:
        accepted = envelope.verify(keys, 1)
    except BadSignatureError as error:
        raise VerificationError(f"{ENVELOPE_FILE} is not signed by a key that was given") from error
    if envelope.payload != (folder / "provenance.intoto.jsonl").read_bytes():
        raise VerificationError(f"{ENVELOPE_FILE} is about another statement than provenance.intoto.jsonl")
    made_by = json.loads(envelope.payload)["predicate"]["runDetails"]["metadata"]["invocationId"]
    if job_id is not None and made_by != job_id:
        raise VerificationError(f"the result is that of {made_by}, not of {job_id}")
    return f"{made_by} is signed by the key {next(iter(accepted))}"


def read_keys(place: str) -> list[Key]:
    """Public keys from a file or from the service that publishes them.

    Args:
        place: A file in the form that the service publishes or in PEM, or the ``https://`` address of one; ``http://``
            on this machine only, because whoever can change the answer could have signed. An address without a path
            is that of the service.

    Raises:
        VerificationError: There is no usable key.
    """
    from securesystemslib.exceptions import FormatError, UnsupportedLibraryError

    try:
        content = _fetched(place) if "://" in place else Path(place).read_bytes()
        keys = _parsed(content)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, FormatError, UnsupportedLibraryError) as error:
        raise VerificationError(f"no public key can be read from {place}: {str(error)[:200]}") from error
    if not keys:
        raise VerificationError(f"{place} holds no public key")
    return keys


def _parsed(content: bytes) -> list[Key]:
    from securesystemslib.signer import Key, SSlibKey

    if content.lstrip().startswith(b"-----BEGIN"):
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        return [SSlibKey.from_crypto(load_pem_public_key(content))]
    published: list[dict[str, Any]] = json.loads(content)["keys"]
    return [Key.from_dict(key["keyid"], {k: v for k, v in key.items() if k != "keyid"}) for key in published]


def _fetched(address: str) -> bytes:
    """The answer of an address.

    Raises:
        ValueError: The address is not one that can be trusted, or does not answer.
    """
    import httpx

    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(parts.hostname or "")):
        raise ValueError("a key is fetched by https only; fetch it in a way that you trust and give the file")
    if parts.path in {"", "/"}:
        address = parts._replace(path=KEYS_PATH).geturl()
    try:
        answer = httpx.get(address, timeout=15).raise_for_status()
    except httpx.HTTPError as error:
        raise ValueError(str(error)) from error
    if len(answer.content) > MAX_KEYS_BYTES:
        raise ValueError(f"the answer has {len(answer.content)} bytes")
    return answer.content


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
