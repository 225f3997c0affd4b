"""Sockets and TLS of the listeners."""

import socket
import ssl
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from sidecar.settings import Address, Tls

CANNOT_START: Final = 2
"""The exit code of a process that cannot do its work."""


class CannotStart(Exception):
    """The process cannot do its work. The message says why and what to do, in one line."""


def bind(address: Address, variable: str, *, reuse_port: bool = False) -> socket.socket:
    """A bound socket that does not listen yet, at the address in `variable`. Raises `CannotStart`."""
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if address.path:
            _remove_dead_socket(address.path)
            sock.bind(address.path)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
            sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        raise CannotStart(
            f"cannot listen on {address}: {error.strerror}. Set {variable} to an address of this machine that nobody listens on, "
            "or unix: and a path in a folder that this user may write to"
        ) from None
    sock.setblocking(False)
    return sock


def _remove_dead_socket(path: str) -> None:
    """Remove a socket that an earlier process left. One that still answers stays, as does any other file; binding fails then."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def bound_address(sock: socket.socket) -> Address:
    """Where a socket is bound."""
    name = sock.getsockname()
    return Address(path=name) if sock.family is socket.AF_UNIX else Address(host=name[0], port=name[1])


def tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    """TLS 1.2 or later for the check listener, with client certificates where a CA for them is named. Raises `CannotStart`."""
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key, _refuse_passphrase)
    except (ssl.SSLError, OSError) as error:
        raise CannotStart(
            f"CATALYST_SIDECAR_TLS_CERT ({tls.certificate}) and CATALYST_SIDECAR_TLS_KEY ({tls.key}) cannot be used: "
            f"{_said(error)}. Both must be PEM that this user may read, and the key that of the first certificate"
        ) from None
    if tls.client_ca:
        try:
            context.load_verify_locations(tls.client_ca)
        except (ssl.SSLError, OSError) as error:
            raise CannotStart(
                f"CATALYST_SIDECAR_TLS_CLIENT_CA ({tls.client_ca}) cannot be used: {_said(error)}. "
                "It must hold certificates in PEM that this user may read"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _refuse_passphrase() -> str:
    """Called for an encrypted key; OpenSSL would ask the terminal for its passphrase. Raises `CannotStart`."""
    raise CannotStart(
        "the key in CATALYST_SIDECAR_TLS_KEY is encrypted: give one without a passphrase (`openssl pkey` writes it)"
    )


def _said(error: OSError) -> str:
    """The system's or OpenSSL's words, without the line of Python's source that OpenSSL's end with."""
    return str(error.strerror or error).partition(" (_ssl.c")[0]
