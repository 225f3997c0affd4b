"""Signatures: what the public library takes, what the specification's own libraries sign, and that nothing else is taken."""

import base64
import binascii
import hmac
import time
from collections.abc import Callable

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from control_plane.delivery import signing

SECRET = signing.new_secret()
PRIVATE, PUBLIC = signing.new_key_pair()

ids = st.uuids().map(lambda event: f"msg_{event.hex}")
bodies = st.text(st.characters(exclude_categories=["Cs"])).map(str.encode)
secrets = st.binary(min_size=24, max_size=64).map(lambda raw: "whsec_" + base64.b64encode(raw).decode())
private_keys = st.binary(min_size=32, max_size=32)


def present() -> int:
    """Not once for all: the public library takes nothing that is five minutes old."""
    return int(time.time())


def headers(message_id: str, signature: str, timestamp: int) -> dict[str, str]:
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def verify(public: str, signed: bytes, signature: str) -> None:
    """As a receiver with the public key does it."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    key.verify(base64.b64decode(signature.removeprefix("v1a,")), signed)


def flipped(value: bytes, bit: int) -> bytes:
    """One bit of it the other way round."""
    at = bit % (len(value) * 8)
    return bytes(byte ^ (1 << at % 8 if number == at // 8 else 0) for number, byte in enumerate(value))


def test_the_vectors_of_the_specifications_own_libraries() -> None:
    """Of standard-webhooks/standard-webhooks: libraries/javascript/src/webhook.test.ts, libraries/go/webhook_asymmetric_test.go."""
    secret = signing.key("v1", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    private = signing.key("v1a", "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=")
    signature = signing.sign([secret, private], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature.split(" ") == [
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==",
    ]


@given(body=bodies, message_id=ids, secret=secrets)
def test_the_public_library_takes_every_signature(body: bytes, message_id: str, secret: str) -> None:
    now = present()
    signature = signing.sign([signing.key("v1", secret)], message_id, now, body)
    Webhook(secret).verify(body, headers(message_id, signature, now), json_parse=False)


@given(body=bodies.filter(len), message_id=ids, bit=st.integers(0))
def test_the_public_library_refuses_another_body(body: bytes, message_id: str, bit: int) -> None:
    now = present()
    signature = signing.sign([signing.key("v1", SECRET)], message_id, now, body)
    with pytest.raises((WebhookVerificationError, UnicodeDecodeError)):
        Webhook(SECRET).verify(flipped(body, bit), headers(message_id, signature, now), json_parse=False)


@given(bit=st.integers(0, 255))
def test_the_public_library_refuses_another_signature(bit: int) -> None:
    now = present()
    signature = signing.sign([signing.key("v1", SECRET)], "msg_1", now, b"{}")
    wrong = "v1," + base64.b64encode(flipped(base64.b64decode(signature[3:]), bit)).decode()
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b"{}", headers("msg_1", wrong, now))


def test_the_public_library_refuses_another_id_and_another_time() -> None:
    now = present()
    signature = signing.sign([signing.key("v1", SECRET)], "msg_1", now, b"{}")
    for other in (headers("msg_2", signature, now), headers("msg_1", signature, now + 1)):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(b"{}", other)


@given(body=st.binary(), message_id=ids, private=private_keys, bit=st.integers(0))
def test_the_public_key_takes_what_was_signed_and_nothing_else(body: bytes, message_id: str, private: bytes, bit: int) -> None:
    now = present()
    key = signing.key("v1a", "whsk_" + base64.b64encode(private).decode())
    signature = signing.sign([key], message_id, now, body)
    public = "whpk_" + base64.b64encode(Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()).decode()
    signed = b"%s.%d.%s" % (message_id.encode(), now, body)
    verify(public, signed, signature)
    with pytest.raises(InvalidSignature):
        verify(public, flipped(signed, bit), signature)


def test_a_new_pair_belongs_together() -> None:
    verify(PUBLIC, b"msg_1.17.{}", signing.sign([signing.key("v1a", PRIVATE)], "msg_1", 17, b"{}"))
    with pytest.raises(InvalidSignature):
        verify(signing.new_key_pair()[1], b"msg_1.17.{}", signing.sign([signing.key("v1a", PRIVATE)], "msg_1", 17, b"{}"))


def test_while_a_secret_is_rotated_both_are_taken() -> None:
    now = present()
    old, new = signing.new_secret(), signing.new_secret()
    signature = signing.sign([signing.key("v1", new), signing.key("v1", old), signing.key("v1a", PRIVATE)], "msg_1", now, b"{}")
    assert [each.split(",")[0] for each in signature.split(" ")] == ["v1", "v1", "v1a"]
    for secret in (old, new):
        assert Webhook(secret).verify(b"{}", headers("msg_1", signature, now)) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b"{}", headers("msg_1", signature, now))


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Asia/Kathmandu"])
def test_the_machines_time_zone_changes_nothing(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library takes a time without a zone for UTC, and drops another's zone."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert signing.sign([signing.key("v1", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")], "msg_1", 1614265330, b"{}") == (
            "v1," + _mac("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b"msg_1.1614265330.{}")
        )
    finally:
        monkeypatch.undo()
        time.tzset()


def _mac(secret: str, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(base64.b64decode(secret), signed, "sha256")).decode()


@pytest.mark.parametrize("make", [lambda: signing.key("v1", SECRET), lambda: signing.key("v1a", PRIVATE)])
def test_a_key_does_not_show_itself(make: Callable[[], signing.Key]) -> None:
    shown = repr(make()) + str(make())
    for text in (SECRET, PRIVATE):
        raw = base64.b64decode(text.partition("_")[2])
        assert text.partition("_")[2] not in shown
        assert binascii.hexlify(raw).decode() not in shown
        assert repr(raw) not in shown


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("v1", ""),
        ("v1", "whsec_"),
        ("v1", "whsec_c2hvcnQ="),
        ("v1", "whsec_canary!canary!canary!canary!canary!"),
        ("v1", PRIVATE),
        ("v1", SECRET.removeprefix("whsec_")),
        ("v1", "whsec_" + base64.b64encode(b"x" * 65).decode()),
        ("v1a", SECRET),
        ("v1a", PUBLIC),
        ("v1a", "whsk_" + base64.b64encode(b"x" * 31).decode()),
        ("v1a", "whsk_" + base64.b64encode(b"x" * 64).decode()),
    ],
    # Not the texts themselves: some are made anew in each process.
    ids=range(11),
)
def test_what_is_no_key(kind: signing.Kind, text: str) -> None:
    with pytest.raises(ValueError, match=r"bytes|begin|base64") as caught:
        signing.key(kind, text)
    assert not text or text not in str(caught.value)
