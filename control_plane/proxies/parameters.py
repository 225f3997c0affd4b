"""What a proxy's configuration depends on, checked before it is written into one."""

import re
from dataclasses import dataclass
from typing import Final

from control_plane.errors import OperatorError
from sidecar.contract import IDENTITY_HEADERS

CHECK_TIMEOUT_SECONDS: Final = 6
"""After this the proxy refuses by itself. A check takes microseconds, a wait for a revision at most 250 ms; for a step of a login
the sidecar waits up to 5 s for the control plane."""

MISLEADING_HEADERS: Final = (
    "forwarded",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-prefix",
    "x-forwarded-path",
    "x-original-uri",
    "x-original-url",
    "x-original-method",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
)
"""Headers by which a client can make some frameworks serve another path or method than the one that was judged."""

CLIENT_ADDRESS_HEADERS: Final = ("x-real-ip", "true-client-ip", "x-client-ip", "x-cluster-client-ip")
"""Headers that applications read as the client's address and that no proxy here sets by itself."""

_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
_HEADER: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PORTS: Final = range(1, 65536)
_PATH: Final = re.compile(r"/[A-Za-z0-9._/-]{1,100}")
_SERVER: Final = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])")


@dataclass(frozen=True, slots=True)
class Address:
    """`host:port`, or a Unix socket (`path`, with `host` empty). Only characters that mean nothing in a configuration file."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """From `host:port`, `[::1]:port` or `unix:/path`. Raises OperatorError."""
        if text.startswith("unix:") and _PATH.fullmatch(text[5:]):
            return cls(path=text[5:])
        host, colon, port = text.removeprefix("http://").rpartition(":")
        if colon and _SERVER.fullmatch(host) and port.isascii() and port.isdigit() and int(port) in _PORTS:
            return cls(host=host, port=int(port))
        raise OperatorError(f"{text!r} is no address: write host:port, [::1]:port or unix:/path")

    @property
    def bare_host(self) -> str:
        """The host without the brackets of an IPv6 address."""
        return self.host.strip("[]")

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """Where people log in: the host of CATALYST_LOGIN_URL, and who serves it (CATALYST_LOGIN_LISTEN, or the API's listener)."""

    host: str
    address: Address

    @classmethod
    def parse(cls, text: str) -> "Login":
        """From `auth.example.com=127.0.0.1:8081`. Raises OperatorError."""
        host, _, address = text.partition("=")
        if address and _HOST.fullmatch(host) and not host.startswith("*."):
            return cls(host, Address.parse(address))
        raise OperatorError(
            f"--login {text!r} is none: write the host of CATALYST_LOGIN_URL in lower case, =, and who serves it, "
            "for example auth.example.com=127.0.0.1:8081"
        )


@dataclass(frozen=True, slots=True)
class Parameters:
    """One listener in front of one application.

    `hosts` empty: every host is taken, and the sidecar refuses the ones it does not know. `headers`: what policy rules send
    to the application beside the identity headers (lower case). `login`: the host whose
    requests are no question to the sidecar; None: it is reached otherwise.
    """

    application: Address
    sidecar: Address
    listen: Address
    hosts: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    login: Login | None = None

    def __post_init__(self) -> None:
        """Raises OperatorError: what stands in a configuration file must not be able to end a line or a string in it."""
        problems = [
            f"{host!r} is no host name: write it in lower case and without a port; *.example.com is one label"
            for host in self.hosts
            if not _HOST.fullmatch(host)
        ]
        problems += [
            f"{header!r} is no header that a rule could send: write lower-case letters, digits and hyphens"
            for header in self.headers
            if not _HEADER.fullmatch(header)
        ]
        if self.listen.path or self.application.path or (self.login and self.login.address.path):
            problems.append("only the sidecar can be reached over a Unix socket; the proxy listens on and asks host:port")
        if self.login and self.login.host in self.hosts:
            problems.append(f"{self.login.host} cannot be the login host and an application's: nobody could log in to reach it")
        if problems:
            raise OperatorError(*problems)

    @property
    def answer_headers(self) -> tuple[str, ...]:
        """Every header that the sidecar's answer puts in the place of the client's own."""
        return IDENTITY_HEADERS + tuple(h for h in self.headers if h not in IDENTITY_HEADERS)
