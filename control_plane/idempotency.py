"""`Idempotency-Key`: a change that is sent again is made once, and answered again (draft-ietf-httpapi-idempotency-key-header).

The key is claimed in the very transaction of the change, before anything else happens there: who sends the same request at the
same moment waits for it in the database, then gets its answer. What is rolled back leaves the key free. Neither the key nor the
answer, which may hold a new secret, is stored in clear.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Response

from control_plane.changes import Change
from control_plane.db.queries import load
from control_plane.errors import ApiError, Fault, OperatorError, conflict
from control_plane.permissions import Caller
from control_plane.sealing import Keyring, SealedValues, seal, unseal
from sidecar.contract import REVISION

SQL = load(Path(__file__).with_name("idempotency.sql"))

HEADER: Final = "idempotency-key"
REPLAYED: Final = "idempotent-replayed"
"""On an answer that was given before."""

MAX_KEY: Final = 255
KEY_PATTERN: Final = r"^[\x20-\x7e]+$"
_KEY: Final = re.compile(rf"[\x20-\x7e]{{1,{MAX_KEY}}}")
_QUOTED: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_NOT_REPEATED: Final = frozenset({"content-length", REVISION})


def _label(hex_id: str) -> str:
    return f"answer {hex_id}"


SEALED: Final = SealedValues("kept_answers", SQL.sealed_by, SQL.sealed, SQL.reseal, _label)


class Replay(Exception):
    """Ends a request whose answer was given before; its own transaction changes nothing."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that may be sent again. `id`: whose key it is and which, hashed; `fingerprint`: what is asked for, hashed."""

    id: bytes
    fingerprint: bytes

    @property
    def label(self) -> str:
        """What the sealed answer is bound to."""
        return _label(self.id.hex())


def read_key(values: Sequence[str]) -> str | None:
    """The key among a request's header values, None without any. A structured-field string (RFC 8941) or its bare text."""
    if not values:
        return None
    quoted = _QUOTED.fullmatch(values[0])
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else values[0]
    if len(values) > 1 or not _KEY.fullmatch(key) or (values[0].startswith('"') and not quoted):
        message = "Send one Idempotency-Key of 1 to 255 printable ASCII characters, a new one for each change."
        raise ApiError(400, "malformed_idempotency_key", message, [Fault(HEADER, "malformed", message)])
    return key


def claim_of(caller: Caller, key: str, *request: bytes) -> Claim:
    """The claim that a caller makes with a key. `request`: method, path, query and body. Two callers never share a key."""
    owner = (caller.kind.encode(), caller.id.encode(), str(caller.reach).encode())
    return Claim(_digest(*owner, key.encode()), _digest(*request))


async def take(change: Change, claim: Claim, ring: Keyring) -> None:
    """Claim the key for this change. Replay where the same request was answered; 422 where another one used the key."""
    if await change.connection.fetchval(SQL.claim, claim.id, change.caller.reach, claim.fingerprint):
        return
    row = await change.connection.fetchrow(SQL.stored, claim.id)
    if row is None:
        raise ApiError(503, "try_again", "The key has just become free: send the request again.")
    if row["fingerprint"] != claim.fingerprint:
        message = "This Idempotency-Key was used for another request: take a new one."
        raise ApiError(422, "idempotency_key_reused", message, [Fault(HEADER, "reused", message)])
    raise Replay(_opened(claim, ring, row["answer"], row["revision"]))


async def keep(change: Change, claim: Claim, ring: Keyring, response: Response) -> None:
    """Store the answer beside the change that it tells of."""
    headers = {name: value for name, value in response.headers.items() if name not in _NOT_REPEATED}
    head = json.dumps([response.status_code, headers]).encode()
    sealed = seal(ring, claim.label, head + b"\n" + bytes(response.body))
    await change.connection.execute(SQL.keep, claim.id, sealed)


def _opened(claim: Claim, ring: Keyring, sealed: bytes, revision: int) -> Response:
    """The stored answer, byte for byte, with its revision (the head's, once the log no longer knows it)."""
    try:
        head, _, body = unseal(ring, claim.label, sealed).partition(b"\n")
    except OperatorError:
        raise conflict("answer_lost", "This was done, but its answer does not open with today's CATALYST_SECRET_KEY.") from None
    status, headers = json.loads(head)
    return Response(body, status, {**headers, REPLAYED: "true", REVISION: str(revision)})


def _digest(*parts: bytes) -> bytes:
    """SHA-256 over the parts, each with its length before it: no two lists of parts run into one."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.digest()
