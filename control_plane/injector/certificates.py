"""The injector's certificate: read from files, read again when they change, without a connection that notices.

Each handshake takes the newest context that could be loaded whole. Files that are written half, or that do not belong
together, are read again at the next look; until then the one before serves.
"""

import asyncio
import hashlib
import ssl
import time
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

from control_plane.errors import OperatorError
from control_plane.injector.metrics import InjectorMetrics

LOOK_SECONDS: Final = 1.0
_log = structlog.get_logger()


class Unusable(Exception):
    """The files hold no certificate with its key. The message says what is wrong, without their content."""


class Certificate:
    """`context` is for the listener; `ends`: when the certificate in use does, in seconds since 1970."""

    def __init__(self, certificate: Path, key: Path, metrics: InjectorMetrics) -> None:
        self._files = certificate, key
        self._metrics = metrics
        self._seen = b""
        try:
            self._read()
        except Unusable as problem:
            raise OperatorError(
                f"CATALYST_INJECTOR_TLS_CERT ({certificate}) and CATALYST_INJECTOR_TLS_KEY ({key}) cannot be used: {problem}. "
                "Both must be PEM that this user may read, without a passphrase, and the key that of the first certificate."
            ) from None
        self.context = _context()
        self.context.sni_callback = self._hand_over

    def look(self) -> None:
        """Read the files again where they have changed. Never raises for what they hold."""
        try:
            if self._digest() == self._seen:
                return
            self._read()
        except Unusable as problem:
            self._metrics.reloads.labels(result="failed").inc()
            _log.warning("certificate not read", problem=str(problem))
        else:
            self._metrics.reloads.labels(result="done").inc()
            _log.info("certificate read", ends=int(self.ends))

    async def keep_looking(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(self.look)
            except Exception:  # noqa: BLE001  (the edge of a task: the certificate in use goes on serving, its end is a metric)
                _log.exception("look at the certificate failed")

    @property
    def has_ended(self) -> bool:
        """Whether no API server would take it any more."""
        return time.time() > self.ends

    def _read(self) -> None:
        """Take what the files hold now. Raises `Unusable`, and then everything stays as it was."""
        before = self._digest()
        context = _context()
        try:
            context.load_cert_chain(*self._files, password=_no_passphrase)
            ends = x509.load_pem_x509_certificate(self._files[0].read_bytes()).not_valid_after_utc.timestamp()
        except (OSError, ValueError) as problem:
            raise Unusable(_said(problem)) from None
        if self._digest() != before:
            raise Unusable("they changed while they were read")
        self._current, self.ends, self._seen = context, ends, before
        self._metrics.expiry.set(ends)

    def _digest(self) -> bytes:
        try:
            return hashlib.sha256(b"\0".join(file.read_bytes() for file in self._files)).digest()
        except OSError as problem:
            raise Unusable(_said(problem)) from None

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called in each handshake, whether or not the client names a server."""
        connection.context = self._current


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _no_passphrase() -> str:
    """Called for an encrypted key; OpenSSL would ask the terminal."""
    raise ValueError("the key has a passphrase")


def _said(problem: Exception) -> str:
    """The system's or OpenSSL's words, without the line of Python's source that OpenSSL's end with."""
    text = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    return str(text).partition(" (_ssl.c")[0]
