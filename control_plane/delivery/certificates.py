"""Client certificates, keys and CA bundles of endpoints: PEM that is checked when it comes, and what TLS makes of it."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from control_plane.outbound import believing

MOST_RSA_BITS: Final = 4096
"""A signature by a key of four times as many takes half a second, in which a worker does nothing else."""
_KEY_INSTEAD: Final = "PRIVATE KEY"
_KINDS: Final = "the key is of a kind that TLS does not know: use RSA, ECDSA or Ed25519"


def check_client_certificate(chain: str, key: str) -> None:
    """ValueError, which quotes neither, unless `key` is that of the first certificate of `chain` and TLS takes both."""
    certificates = _certificates(chain, "the client certificate")
    if _public_bytes(_key(key)) != _public_bytes(certificates[0]):
        raise ValueError("the key is not the key of the first certificate: begin the chain with the client's own certificate")
    try:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain, key)
    except ssl.SSLError as problem:
        raise ValueError(f"TLS does not take the client certificate ({problem.reason}): make one with a stronger key") from None


def check_ca_bundle(bundle: str) -> None:
    """ValueError unless it is certificates, one at least."""
    _certificates(bundle, "the CA bundle")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=bundle)
    except (ssl.SSLError, ValueError):
        raise ValueError("TLS does not take the CA bundle: write certificates in PEM, nothing between them") from None


def context_of(certificate: str | None, key: str | None, ca_bundle: str | None) -> ssl.SSLContext:
    """What connections are made with: chain and name are verified, and with a bundle, that is believed and no public authority.

    ValueError or ssl.SSLError for what `check_…` would have refused.
    """
    context = believing(ca_bundle)
    if certificate is not None and key is not None:
        _load(context, certificate, key)
    return context


def _certificates(pem: str, what: str) -> list[x509.Certificate]:
    """The certificates of a PEM text; ValueError where it is none, or holds a private key."""
    if _KEY_INSTEAD in pem:
        raise ValueError(f"{what} holds a private key: write certificates alone")
    try:
        return x509.load_pem_x509_certificates(pem.encode("ascii"))
    except ValueError:
        raise ValueError(f"{what} is no PEM: write certificates, each from BEGIN CERTIFICATE to END CERTIFICATE") from None


def _key(pem: str) -> PrivateKeyTypes:
    """A private key; ValueError that never quotes it."""
    try:
        # To prove primes costs minutes where somebody chose them well; that it is the certificate's key is compared anyway.
        key = load_pem_private_key(pem.encode("ascii"), password=None, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm:
        raise ValueError(_KINDS) from None
    except TypeError:
        raise ValueError("the key has a passphrase: write it without one, it is kept sealed") from None
    except ValueError:
        raise ValueError("the key is no PEM: write it from BEGIN PRIVATE KEY to END PRIVATE KEY") from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey):
        raise ValueError(_KINDS)  # noqa: TRY004  (what was written is none that is taken)
    if isinstance(key, RSAPrivateKey) and key.key_size > MOST_RSA_BITS:
        raise ValueError(f"the key is too large, each handshake would take long: RSA has at most {MOST_RSA_BITS} bits here")
    return key


def _public_bytes(holder: PrivateKeyTypes | x509.Certificate) -> bytes:
    """The public key of either; ValueError where it is of no known kind."""
    try:
        return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(_KINDS) from None


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Python reads a chain and its key from files alone: this one is in memory where the system can do that."""
    with _file(f"{certificate}\n{key}\n".encode()) as path:
        context.load_cert_chain(path, password=lambda: b"")


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A file with that in it, which only this process's user may read, for as long as it is needed."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("catalyst", os.MFD_CLOEXEC)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  (of a descriptor)
            file.write(content)
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pem"
        path.touch(mode=0o600)
        path.write_bytes(content)
        yield str(path)
