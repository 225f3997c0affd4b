"""Which rows become keys that tokens are verified with."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from sidecar.replica.rows import Change
from sidecar.replica.state import State


def ed25519() -> dict[str, Any]:
    jwk: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key()))
    return jwk


def ec(curve: Any) -> dict[str, Any]:
    jwk: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(generate_ec(curve()).public_key()))
    return jwk


def row(jwk: object, algorithm: str = "EdDSA", status: str = "active", kid: str = "key-0001") -> Change:
    columns = {"kid": kid, "algorithm": algorithm, "status": status, "jwk": jwk, "not_after": None}
    return Change("signing_keys", "u", columns)


def after(*changes: Change) -> State:
    state = State("epoch", 0)
    state.apply(1, changes)
    return state


@pytest.mark.parametrize(("jwk", "algorithm"), [(ed25519(), "EdDSA"), (ec(SECP256R1), "ES256")])
@pytest.mark.parametrize("status", ["next", "active", "retiring"])
def test_a_key_is_read_as_what_its_row_says(jwk: dict[str, Any], algorithm: str, status: str) -> None:
    key = after(row(jwk, algorithm, status)).signing_key("key-0001")
    assert key is not None
    assert key.algorithm == algorithm
    to_jwk = OKPAlgorithm.to_jwk if algorithm == "EdDSA" else ECAlgorithm.to_jwk
    assert json.loads(to_jwk(key.key)) == jwk  # type: ignore[arg-type]


POINT = ec(SECP256R1)


@pytest.mark.parametrize(
    "change",
    [
        row(ed25519(), status="retired"),
        row(ed25519(), "ES256"),
        row(POINT, "EdDSA"),
        row(ec(SECP384R1), "ES256"),
        row({**POINT, "crv": "P-384"}, "ES256"),
        row({**POINT, "y": POINT["x"]}, "ES256"),
        row({**ed25519(), "x": "AA"}),
        row({**ed25519(), "x": 5}),
        row({**ed25519(), "x": "\u00e9" * 43}),
        row({**ed25519(), "crv": "X25519"}),
        row({}),
        row({"kty": "oct", "k": "c2VjcmV0"}, "HS256"),
    ],
)
def test_anything_else_is_no_key(change: Change) -> None:
    state = after(row(ed25519(), kid="key-0002"), change)
    assert state.signing_key("key-0001") is None
    assert state.signing_key("key-0002") is not None


def test_every_change_of_the_keyring_kills_its_stamp() -> None:
    jwk = ed25519()
    state = after(row(jwk))
    for revision, change in enumerate(
        [row(ed25519(), kid="key-0002"), row(jwk, status="retiring"), row(jwk, status="retired")], 2
    ):
        before = state.signing_key("key-0001")
        assert before is not None
        state.apply(revision, [change])
        assert not before.stamp.valid
    assert state.signing_key("key-0001") is None
    other = state.signing_key("key-0002")
    assert other is not None
    assert other.stamp.valid
    state.apply(5, [Change("signing_keys", "d", {"kid": "key-0002"})])
    assert not other.stamp.valid
    assert state.signing_key("key-0002") is None
