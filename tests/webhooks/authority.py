"""A certificate authority of the tests, and what it vouches for: PEM texts."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Pair:
    """A certificate (with its chain, where it has one) and its key."""

    certificate: str
    key: str


class Authority:
    """`parent`: who vouches for it; without one it does so itself."""

    def __init__(self, name: str = "Authority of the tests", parent: "Authority | None" = None) -> None:
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        vouching = parent or self
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        made = _builder(self._name, self._key, timedelta(days=1)).add_extension(constraints, critical=True)
        self.certificate = _pem(made.issuer_name(vouching._name).sign(vouching._key, SHA256()))
        self._chain = self.certificate + parent._chain if parent else ""

    def under(self, name: str) -> Self:
        return type(self)(name, self)

    def vouch(self, *names: str, ends: timedelta = timedelta(days=1), key: Private | None = None) -> Pair:
        """For a server of these names and addresses, or a client of that name."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        made = _builder(subject, key, ends).add_extension(alternatives, critical=False)
        certificate = made.issuer_name(self._name).sign(self._key, SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return Pair(_pem(certificate) + self._chain, private)


def _builder(subject: x509.Name, key: Private, ends: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + ends)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
