"""Who is asking: bearer keys, kept as hashes and compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from reference.gateway.settings import KeyBlock
from reference.wire.errors import ApiError


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request belongs to, and which models its key may use (empty: all)."""

    tenant: str
    models: tuple[str, ...] = ()
    key: str = ""
    """The key's name, which is no secret."""

    def may_use(self, model: str) -> bool:
        """Say whether the key has a scope for a model, or an alias, by the name that callers use."""
        return not self.models or model in self.models

    def require(self, model: str) -> None:
        """Refuse a model that the key has no scope for.

        Raises:
            ApiError: 403.
        """
        if not self.may_use(model):
            raise ApiError(403, f"this key may not use the model {model!r}", param="model", code="model_not_allowed")


ANYBODY = Caller("default")


class Keys:
    """The valid keys of a gateway."""

    def __init__(self, blocks: Sequence[KeyBlock]) -> None:
        self._callers = [
            (bytes.fromhex(block.sha256), Caller(block.tenant, block.models, block.name)) for block in blocks
        ]

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Return who is asking. Every key is compared, whether or not one has matched.

        Raises:
            ApiError: 401, no key or none that is valid.
        """
        if not self._callers:
            return ANYBODY
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise ApiError(401, "no API key: send it as `Authorization: Bearer KEY`", code="missing_api_key")
        digest, found = sha256(key.strip()).digest(), None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            raise ApiError(401, "the API key is not valid", code="invalid_api_key")
        return found
