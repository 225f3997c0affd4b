"""A certificate authority of the injector's own, for clusters without cert-manager: files in a folder, renewed in time.

The API server trusts what `ca.crt` holds. A new authority is published there long before it signs anything, so there is no
moment at which the one in use is not trusted, provided that `ca.crt` reaches the webhook's `caBundle` after each renewal.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from control_plane.errors import OperatorError

AUTHORITY_LIVES: Final = timedelta(days=3650)
PUBLISHED_BEFORE: Final = timedelta(days=365)
"""A new authority is made when the newest one has less than this left."""
SIGNS_UNTIL: Final = timedelta(days=180)
"""The oldest authority with more than this left signs."""
CERTIFICATE_LIVES: Final = timedelta(days=90)
RENEWED_BEFORE: Final = timedelta(days=30)
_CLOCKS_DIFFER: Final = timedelta(hours=1)
_END: Final = b"-----END PRIVATE KEY-----\n"


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a renewal did, and the certificates to trust (PEM)."""

    authority: bool
    certificate: bool
    ca: bytes


def _now() -> datetime:
    return datetime.now(UTC)


def renew(folder: Path, names: Sequence[str], *, addresses: Sequence[str] = (), clock: Callable[[], datetime] = _now) -> Renewed:
    """Make or renew `ca.crt`, `ca.key`, `tls.crt` and `tls.key` in the folder where they are due; else leave them as they are.

    `ca.key` stays where this runs: neither the injector nor the API server needs it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = clock()
    known = _authorities(folder)
    authorities = [one for one in known if one.certificate.not_valid_after_utc > now]
    fresh = not authorities or authorities[-1].certificate.not_valid_after_utc - now < PUBLISHED_BEFORE
    if fresh:
        authorities.append(_new_authority(now))
    ca = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in authorities)
    if fresh or len(authorities) != len(known):
        _write(folder / "ca.key", b"".join(_pem(one.key) for one in authorities), 0o600)
        _write(folder / "ca.crt", ca, 0o644)
    signer = next((one for one in authorities if one.certificate.not_valid_after_utc - now > SIGNS_UNTIL), authorities[-1])
    due = not _serves(folder / "tls.crt", signer, names, addresses, now)
    if due:
        _sign(folder, signer, names, addresses, now)
    return Renewed(fresh, due, ca)


def _authorities(folder: Path) -> list[_Authority]:
    """Those in the folder, oldest first; none where there are no files. OperatorError where they cannot be read."""
    if not (folder / "ca.crt").exists():
        return []
    try:
        certificates = x509.load_pem_x509_certificates((folder / "ca.crt").read_bytes())
        pems = (folder / "ca.key").read_bytes().split(_END)
        keys = [load_pem_private_key(one + _END, None) for one in pems if one.strip()]
        found = [
            _Authority(one, key)
            for one, key in zip(certificates, keys, strict=True)
            if isinstance(key, ec.EllipticCurvePrivateKey)
        ]
    except (OSError, ValueError, TypeError):
        found = []
    if not found or any(one.certificate.public_key() != one.key.public_key() for one in found):
        raise OperatorError(
            f"{folder}/ca.crt and {folder}/ca.key cannot be read, or do not belong together. Bring back the two that do, or "
            "remove both, and give the API server the new ca.crt."
        )
    return found


def _new_authority(now: datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Catalyst Auth injector {now:%Y-%m-%d}")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _begun(key, name, now, AUTHORITY_LIVES)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return _Authority(certificate, key)


def _sign(folder: Path, signer: _Authority, names: Sequence[str], addresses: Sequence[str], now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _begun(key, x509.Name([]), now, CERTIFICATE_LIVES)
        .issuer_name(signer.certificate.subject)
        .add_extension(x509.SubjectAlternativeName(_alternatives(names, addresses)), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        .sign(signer.key, SHA256())
    )
    # The key first: an injector that looks in between finds that the two do not belong together, and looks again.
    _write(folder / "tls.key", _pem(key), 0o600)
    _write(folder / "tls.crt", certificate.public_bytes(Encoding.PEM), 0o644)


def _begun(key: ec.EllipticCurvePrivateKey, subject: x509.Name, now: datetime, lives: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + lives)
    )


def _alternatives(names: Sequence[str], addresses: Sequence[str]) -> list[x509.GeneralName]:
    return [*(x509.DNSName(name) for name in names), *(x509.IPAddress(ip_address(one)) for one in addresses)]


def _serves(file: Path, signer: _Authority, names: Sequence[str], addresses: Sequence[str], now: datetime) -> bool:
    """Whether the certificate in the file is this signer's, for these names, and has time left."""
    try:
        found = x509.load_pem_x509_certificate(file.read_bytes())
        found.verify_directly_issued_by(signer.certificate)
        held = list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except Exception:  # noqa: BLE001  (whatever is wrong with it, it is made anew)
        return False
    return held == _alternatives(names, addresses) and found.not_valid_after_utc - now > RENEWED_BEFORE


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(file: Path, content: bytes, mode: int) -> None:
    """The file as a whole or not at all, and nobody's who may not read it, at no time."""
    beside = file.with_name(f".{file.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as output:
        output.write(content)
    beside.replace(file)
