"""Signs the provenance of results with the Ed25519 key of the deployment, when it is read through the API.

Workers never need the key: they write the statement, and the database holds its digest.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from app.errors import ServiceError
from app.services.access.signed_links import own_secret
from app.settings import Settings
from spice_select.results.provenance import STATEMENT_MEDIA_TYPE

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

SECRET_FILE = "signing-key"  # ruff: ignore[hardcoded-password-string] - the name of a file


class ResultSigner:
    """The deployment's signature.

    Args:
        settings: For the keys, separated by commas: the first signs, every one of them is published. Without any, the
            data folder holds one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def key_id(self) -> str:
        """Id (hex) of the key that signs."""
        return str(self._signers[0].public_key.keyid)

    def public_keys(self) -> list[dict[str, Any]]:
        """Every public key whose signatures hold, in securesystemslib's form; the one that signs first."""
        return [{"keyid": signer.public_key.keyid, **signer.public_key.to_dict()} for signer in self._signers]

    def envelope(self, statement: bytes, job_id: str, digests: dict[str, str]) -> bytes:
        """The signed envelope (DSSE, JSON) of a statement; the same bytes each time.

        Args:
            statement: The file of the statement, its bytes checked against their digest.
            job_id: The job that it has to be about.
            digests: Digest (hex) of each file of the job's result, by name, as the database holds them.

        Raises:
            ServiceError: ``artifact-corrupt``: it says something else than the records of the job.
        """
        from securesystemslib.dsse import Envelope

        said = json.loads(statement)
        subject = {entry["name"]: entry["digest"]["sha256"] for entry in said["subject"]}
        made_by = said["predicate"]["runDetails"]["metadata"]["invocationId"]
        if made_by != job_id or not subject.items() <= digests.items():
            raise ServiceError("artifact-corrupt", f"the provenance of {job_id} does not state the job's own files")
        envelope = Envelope(statement, STATEMENT_MEDIA_TYPE, {})
        envelope.sign(self._signers[0])
        return json.dumps(envelope.to_dict(), separators=(",", ":")).encode() + b"\n"

    @cached_property
    def _signers(self) -> list[CryptoSigner]:
        # Loaded on first use: the start of the API does not need it.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from securesystemslib.signer import CryptoSigner

        secrets = self._settings.signing_keys or [own_secret(self._settings.data_dir, SECRET_FILE)]
        seeds = [hashlib.sha256(b"spice-select result signature\n" + secret).digest() for secret in secrets]
        return [CryptoSigner(Ed25519PrivateKey.from_private_bytes(seed)) for seed in seeds]
