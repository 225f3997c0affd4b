"""Where connections are made, and what it means when they fail."""

import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Final

import httpcore2

from control_plane.outbound.addresses import Code, OutboundRefused, Resolve, is_named, is_public
from control_plane.outbound.streams import AnswerTooLarge, connect
from control_plane.settings import Network

_CONNECT_SECONDS: Final = 2.0
"""For one address of several: an address that swallows packets must not eat the time of the next."""

FAILURES: Final = (
    TimeoutError,
    OSError,
    ValueError,
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)
"""What goes wrong on the way out, all of it the other side's doing, or the network's."""

# Of X509_verify_cert(3).
_DATES: Final = frozenset({9, 10})
_NAMES: Final = frozenset({62, 64})


class Guard(httpcore2.AsyncNetworkBackend):
    """Makes connections: resolves once, judges, connects to what was judged.

    `tls`: for https, and so to public addresses too; http goes to `networks`, which `setting` holds, and nowhere else.
    """

    def __init__(self, networks: Sequence[Network], resolver: Resolve, *, tls: bool, setting: str) -> None:
        self._networks, self._resolver, self._tls, self._setting = networks, resolver, tls, setting

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  (the interface; the whole exchange has one time of its own)
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to the first allowed address that takes one."""
        failure: Exception = httpcore2.ConnectError("nobody answers")
        for address in await self._allowed(host, port):
            try:
                return await connect(address, port, _CONNECT_SECONDS)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as problem:
                failure = problem
        raise failure

    async def _allowed(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to; OutboundRefused where there is none."""
        try:
            addresses = list(await self._resolver(host.removeprefix("[").removesuffix("]"), port))
        except (OSError, UnicodeError):
            raise OutboundRefused("name_unknown", "The host's name does not resolve.") from None
        allowed = [a for a in addresses if is_named(a, self._networks) or (self._tls and is_public(a))]
        if allowed:
            return allowed
        if not self._tls and any(is_public(address) for address in addresses):
            raise OutboundRefused("insecure", f"It is http, and {self._setting} does not name its address: use https.")
        raise OutboundRefused("address_refused", f"Its address is not public, and {self._setting} does not name it.")


def refusal(problem: Exception, seconds: float) -> OutboundRefused:
    """One of FAILURES in our words. `seconds`: what there was for the whole of it."""
    if isinstance(problem, TimeoutError | httpcore2.TimeoutException):
        return OutboundRefused("timeout", f"No complete answer within {seconds:g} s.")
    tls = _of_tls(problem)
    if tls:
        return tls
    if isinstance(problem, httpcore2.ConnectError):
        return OutboundRefused("unreachable", "Nobody answers there, or not as TLS.")
    if isinstance(problem, httpcore2.NetworkError | OSError):
        return OutboundRefused("unreachable", "The connection broke.")
    if isinstance(problem, AnswerTooLarge):
        return OutboundRefused("too_large", "The head of the answer does not end.")
    return OutboundRefused("bad_answer", "The answer is not HTTP/1.1.")


def _of_tls(problem: BaseException | None) -> OutboundRefused | None:
    """What OpenSSL says about a certificate, theirs or ours; None where it says nothing of the kind."""
    while problem is not None and not isinstance(problem, ssl.SSLError):
        problem = problem.__cause__ or problem.__context__
    if isinstance(problem, ssl.SSLCertVerificationError):
        code: Code = "certificate_untrusted"
        if problem.verify_code in _DATES:
            code = "certificate_expired"
        elif problem.verify_code in _NAMES:
            code = "certificate_name"
        return OutboundRefused(code, "The certificate does not verify.")
    # An alert is what the other side says: after ours was asked for, that it is missing or none that it takes.
    said = "" if problem is None else str(problem.reason)
    if "ALERT" not in said:
        return None
    if "CERTIFICATE" in said or "UNKNOWN_CA" in said:
        return OutboundRefused("client_certificate", "The other side does not take our certificate, or wants one.")
    return OutboundRefused("tls_refused", "Nobody answers there, or not as TLS.")


def believing(authorities: str | None) -> ssl.SSLContext:
    """What connections are made with: chain and name are verified, by these authorities (PEM) or the system's, never by both.

    ValueError or ssl.SSLError for what is no certificate.
    """
    if authorities is None:
        context = httpcore2.default_ssl_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # No DHE: a server chooses its prime, and with a large one each handshake holds up everybody's for most of a second.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL")
    return context
