"""Which doorbells are believed."""

import hmac

import pytest

from sidecar.replica.seal import Seal

SEAL = Seal(bytes(range(32)), "5f3c8a52-3d0c-4d2e-9e2b-6f1f8a7f0c11")
MESSAGE = '{"r": 7, "t": 1.5, "c": [["orgs", "u", {"slug": "größe"}]]}'


def rung(message: str = MESSAGE, key: bytes = SEAL.key, epoch: str = SEAL.epoch) -> str:
    return hmac.new(key, (epoch + message).encode(), "sha256").hexdigest() + message


def test_what_the_database_rings_verifies():
    payload = rung()
    assert SEAL.verified(payload) == (payload[:64].encode(), MESSAGE.encode())


@pytest.mark.parametrize(
    "payload",
    [
        "",
        MESSAGE,
        "0" * 64 + MESSAGE,
        "é" * 64 + MESSAGE,
        rung()[:64],
        rung()[:-1],
        rung()[1:],
        rung() + " ",
        rung().replace("7", "8", 1),
        rung()[:64].upper() + MESSAGE,
        rung()[:63] + "\N{FULLWIDTH DIGIT ONE}" + MESSAGE,
        rung(key=bytes(32)),
        rung(key=b""),
        rung(epoch="5f3c8a52-3d0c-4d2e-9e2b-6f1f8a7f0c12"),
        rung(epoch=""),
    ],
)
def test_nothing_else_does(payload):
    assert SEAL.verified(payload) is None


def test_no_single_change_goes_unnoticed():
    payload = rung()
    for place, letter in enumerate(payload):
        changed = payload[:place] + ("0" if letter != "0" else "1") + payload[place + 1 :]
        assert SEAL.verified(changed) is None


def test_the_key_is_not_shown():
    assert "key" not in repr(SEAL)
