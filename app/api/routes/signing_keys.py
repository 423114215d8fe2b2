"""``/.well-known/spice-select-keys.json``: the public keys that check the signatures of results."""

from __future__ import annotations

from fastapi import APIRouter

from app.api import deps
from app.api.middleware import StrictRoute
from app.api.openapi import OPEN_TAG
from app.api.schemas.files import SigningKeysRead
from spice_select.results.signature import KEYS_PATH

router = APIRouter(tags=[OPEN_TAG], route_class=StrictRoute)


@router.get(KEYS_PATH)
def list_signing_keys(services: deps.ServicesDep) -> SigningKeysRead:
    """Public keys of the deployment's signatures; needs no API key."""
    return SigningKeysRead(keys=services.results.result_signer.public_keys())
