"""A provider for this folder's tests: honest at the start of each."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from control_plane.oidc import Provider
from tests.providers.liar import Liar


@pytest.fixture(scope="session")
def _liar() -> Iterator[Liar]:
    with Liar(algorithm="EdDSA") as made:
        yield made


@pytest.fixture
def liar(_liar: Liar) -> Liar:
    _liar.lies, _liar.auto = set(), None
    _liar.rotate("EdDSA", keep=0)
    return _liar


@pytest.fixture
def provider(liar: Liar) -> Provider:
    known = {"client_id": "catalyst", "client_secret": "catalyst-secret"}
    return Provider(id=UUID(int=1), issuer=liar.issuer, groups_claim="groups", **known)


@pytest.fixture
def liar_url(liar: Liar) -> str:
    """Something that answers over http on this machine."""
    return f"{liar.issuer}/.well-known/openid-configuration"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that nobody vouches for, and its key: paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(folder / "cert.pem"), str(folder / "key.pem")
