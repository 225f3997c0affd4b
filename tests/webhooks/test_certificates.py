"""TLS with receivers: client certificates, CA bundles, and whose certificates are refused, each with its reason."""

import base64
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from control_plane.delivery.certificates import check_ca_bundle, check_client_certificate
from control_plane.delivery.sending import Sender
from tests.webhooks.attempts import MESSAGE, attempt, endpoint, says, speaking, with_sender
from tests.webhooks.authority import Authority, Pair
from tests.webhooks.receiver import Receiver

HERE = ("127.0.0.1", "hook.example")
AUTHORITY = Authority()
OTHERS = Authority("Another authority")
SERVER = AUTHORITY.vouch(*HERE)
CLIENT = AUTHORITY.vouch("catalyst.example")

Serving = Callable[..., AbstractContextManager[Receiver]]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """A receiver with that certificate, which demands one of that authority where it is told."""

    def make(pair: Pair, client_ca: str = "") -> AbstractContextManager[Receiver]:
        paths = [tmp_path / f"{uuid4()}.pem" for _ in range(3)]
        for path, text in zip(paths, (pair.certificate, pair.key, client_ca), strict=True):
            path.write_text(text)
        return Receiver(certificate=paths[0], key=paths[1], client_ca=paths[2] if client_ca else None)

    return make


def test_a_receiver_that_demands_a_client_certificate(serving: Serving) -> None:
    with serving(SERVER, AUTHORITY.certificate) as receiver:
        to = endpoint(receiver.url, certificate=CLIENT.certificate, client_key=CLIENT.key, ca_bundle=AUTHORITY.certificate)
        assert attempt(to).delivered
        assert [arrival.peer for arrival in receiver.arrivals("/")] == ["catalyst.example"]


@pytest.mark.parametrize("shown", ["none", "another authority's", "an expired one"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_receiver_that_does_not_take_what_is_shown(shown: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    """It says so by an alert; in TLS 1.3 after the handshake, when the message is on its way."""
    pairs = {
        "another authority's": OTHERS.vouch("catalyst.example"),
        "an expired one": AUTHORITY.vouch("catalyst.example", ends=timedelta(days=-1)),
    }
    pair = pairs.get(shown)
    ours = {"certificate": pair.certificate, "client_key": pair.key} if pair else {}
    (tmp_path / "server.pem").write_text(SERVER.certificate + SERVER.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=AUTHORITY.certificate)
    context.load_cert_chain(tmp_path / "server.pem")
    context.verify_mode, context.minimum_version, context.maximum_version = ssl.CERT_REQUIRED, version, version
    taken: list[bytes] = []

    def demand(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls:
            try:
                tls.do_handshake()
                taken.append(tls.recv(65536))
            except ssl.SSLError:
                # Read what comes, so that what was said before is not lost with the connection.
                while socket.socket.recv(tls, 65536):
                    pass

    with speaking(demand) as at:
        outcome = attempt(endpoint(f"https://{at}/", ca_bundle=AUTHORITY.certificate, **ours))
    # To OpenSSL that it was shown none is no matter of certificates in TLS 1.2.
    unclear = shown == "none" and version == ssl.TLSVersion.TLSv1_2
    assert (outcome.status, outcome.error, taken) == (None, "tls_refused" if unclear else "client_certificate", [])


def test_a_chain_is_shown_whole(serving: Serving) -> None:
    """The receiver knows the root alone, and so do we of its certificate."""
    between = AUTHORITY.under("In between")
    ours, theirs = between.vouch("catalyst.example"), between.vouch(*HERE)
    assert ours.certificate.count("BEGIN CERTIFICATE") == 2
    check_client_certificate(ours.certificate, ours.key)
    with serving(theirs, AUTHORITY.certificate) as receiver:
        to = endpoint(receiver.url, certificate=ours.certificate, client_key=ours.key, ca_bundle=AUTHORITY.certificate)
        assert attempt(to).delivered


@pytest.mark.parametrize(
    ("theirs", "bundle", "error"),
    [
        (SERVER, AUTHORITY.certificate, None),
        (SERVER, OTHERS.certificate + AUTHORITY.certificate, None),
        (SERVER, None, "certificate_untrusted"),
        (SERVER, OTHERS.certificate, "certificate_untrusted"),
        (AUTHORITY.vouch("other.example", "127.0.0.2"), AUTHORITY.certificate, "certificate_name"),
        (AUTHORITY.vouch(*HERE, ends=timedelta(hours=-1)), AUTHORITY.certificate, "certificate_expired"),
    ],
    ids=["taken", "one of two", "private", "another authority", "another name", "expired"],
)
def test_whose_certificate_is_taken(serving: Serving, theirs: Pair, bundle: str | None, error: str | None) -> None:
    with serving(theirs) as receiver:
        for url in (receiver.url, receiver.url.replace("127.0.0.1", "hook.example")):
            outcome = attempt(endpoint(url, ca_bundle=bundle), resolver=says("127.0.0.1"))
            assert (outcome.error, outcome.delivered) == (error, error is None)
        assert len(receiver.arrivals("/")) == (2 if error is None else 0)


def test_a_bundle_is_believed_instead_of_the_systems_authorities(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And a client certificate alone changes nothing about whom we believe."""
    (tmp_path / "system.pem").write_text(AUTHORITY.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    with serving(SERVER) as receiver:
        with_client = endpoint(receiver.url, certificate=CLIENT.certificate, client_key=CLIENT.key)
        assert attempt(with_client).delivered
        assert attempt(endpoint(receiver.url, ca_bundle=OTHERS.certificate)).error == "certificate_untrusted"


def test_an_endpoints_certificate_is_its_own(serving: Serving) -> None:
    """Two endpoints at one place: each shows its own certificate, over connections of its own."""
    with serving(SERVER, AUTHORITY.certificate) as receiver:

        async def each(sender: Sender) -> None:
            for name in ("first.example", "second.example", "first.example"):
                pair = pairs[name]
                to = endpoint(
                    receiver.url,
                    id=ids[name],
                    certificate=pair.certificate,
                    client_key=pair.key,
                    ca_bundle=AUTHORITY.certificate,
                )
                assert (await sender.send(to, MESSAGE, datetime.now(UTC))).delivered

        pairs = {name: AUTHORITY.vouch(name) for name in ("first.example", "second.example")}
        ids = {name: uuid4() for name in pairs}
        with_sender(each)
        assert [arrival.peer for arrival in receiver.arrivals("/")] == ["first.example", "second.example", "first.example"]
        assert receiver.connections == 2


# what the API takes


def key_of(pair: Pair, private_format: PrivateFormat) -> str:
    """The same key, written another way."""
    key = load_pem_private_key(pair.key.encode(), None)
    return key.private_bytes(Encoding.PEM, private_format, NoEncryption()).decode()


WEAK = AUTHORITY.vouch("weak.example", key=rsa.generate_private_key(65537, 1024))
STRONG = AUTHORITY.vouch("strong.example", key=rsa.generate_private_key(65537, 2048))
LOCKED = load_pem_private_key(CLIENT.key.encode(), None).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
)  # fmt: skip


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        (CLIENT.certificate, CLIENT.key),
        (CLIENT.certificate + AUTHORITY.certificate, CLIENT.key),
        ("a remark before it\n" + CLIENT.certificate, CLIENT.key),
        (CLIENT.certificate.replace("\n", "\r\n"), CLIENT.key.replace("\n", "\r\n")),
        (CLIENT.certificate, key_of(CLIENT, PrivateFormat.TraditionalOpenSSL)),
        (STRONG.certificate, STRONG.key),
        (STRONG.certificate, key_of(STRONG, PrivateFormat.TraditionalOpenSSL)),
    ],
)
def test_client_certificates_that_are_taken(certificate: str, key: str) -> None:
    check_client_certificate(certificate, key)


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        (CLIENT.certificate, SERVER.key, "the key is not the key of the first certificate"),
        (AUTHORITY.certificate + CLIENT.certificate, CLIENT.key, "begin the chain with the client's own"),
        (CLIENT.certificate, LOCKED.decode(), "passphrase"),
        (CLIENT.certificate, "canary", "the key is no PEM"),
        (CLIENT.certificate, "", "the key is no PEM"),
        (CLIENT.certificate, CLIENT.certificate, "the key is no PEM"),
        (CLIENT.certificate, CLIENT.key.replace("M", "N"), "the key is no PEM"),
        (CLIENT.key, CLIENT.certificate, "holds a private key"),
        (CLIENT.certificate + CLIENT.key, CLIENT.key, "holds a private key"),
        ("canary", CLIENT.key, "is no PEM"),
        ("", CLIENT.key, "is no PEM"),
        ("-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n", CLIENT.key, "is no PEM"),
        ("\ud800", CLIENT.key, "is no PEM"),
        (CLIENT.certificate, "\ud800", "the key is no PEM"),
        (WEAK.certificate, WEAK.key, "stronger key"),
    ],
)
def test_client_certificates_that_are_not(certificate: str, key: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        check_client_certificate(certificate, key)
    assert "canary" not in str(caught.value)
    assert not any(line in str(caught.value) for line in key.splitlines() if line)


@given(st.data())
def test_whatever_is_written_is_taken_or_refused_in_words(data: st.DataObject) -> None:
    """Certificates and keys with something else in them are ValueErrors, if they are not taken."""

    def changed(pem: str) -> str:
        at = data.draw(st.integers(0, len(pem)))
        return pem[:at] + data.draw(st.text(max_size=3)) + pem[at + data.draw(st.integers(0, 5)) :]

    with suppress(ValueError):
        check_client_certificate(changed(CLIENT.certificate), changed(CLIENT.key))
    with suppress(ValueError):
        check_ca_bundle(changed(AUTHORITY.certificate))


def test_a_key_of_a_kind_that_nobody_knows() -> None:
    """PKCS #8 with an algorithm of 1.2.3.4.5."""
    der = bytes.fromhex("3015020100300606042a0304050408") + bytes(8)
    key = f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(der).decode()}\n-----END PRIVATE KEY-----\n"
    with pytest.raises(ValueError, match=r"RSA, ECDSA or Ed25519"):
        check_client_certificate(CLIENT.certificate, key)


@pytest.mark.parametrize("bundle", [AUTHORITY.certificate, AUTHORITY.certificate + OTHERS.certificate, SERVER.certificate])
def test_bundles_that_are_taken(bundle: str) -> None:
    check_ca_bundle(bundle)


@pytest.mark.parametrize(
    ("bundle", "said"),
    [
        ("", "is no PEM"),
        ("canary", "is no PEM"),
        ("\ud800", "is no PEM"),
        (AUTHORITY.certificate + SERVER.key, "holds a private key"),
        (AUTHORITY.certificate + "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n", "is no PEM"),
    ],
)
def test_bundles_that_are_not(bundle: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        check_ca_bundle(bundle)
    assert "canary" not in str(caught.value)
