"""The sidecar's configuration: read from the environment once, every problem reported at once, secrets never echoed."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from sidecar.contract import SESSION_COOKIE

Network = IPv4Network | IPv6Network

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_COOKIE_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,100}")
_LONGEST_PATH: Final = 100
"""Of the 108 bytes that Linux has for a socket's path."""
_LAST_PORT: Final = 65535
_MOST_WORKERS: Final = 64
_LARGEST_SAMPLE: Final = 1000
LISTEN: Final = "CATALYST_SIDECAR_LISTEN"
OPS_LISTEN: Final = "CATALYST_SIDECAR_OPS_LISTEN"
_PLACE: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]*)(:\d{1,5})?", re.ASCII)
_URL_SHAPE: Final = (
    "write postgresql://user:password@host:port/database, and in user and password %40 for @, %3A for :, %2F for /, %3F for ?, "
    "%23 for #, %25 for %"
)
_SLUG: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class SettingsInvalid(Exception):
    """The environment cannot be used. `problems` holds one line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a TCP `host` and `port` (0: any free port), or a Unix socket's `path`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or ip_address(self.host).is_loopback


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the check listener's TLS: certificate chain and key (PEM), and who signs client certificates (mutual TLS)."""

    certificate: str
    key: str
    client_ca: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can choose. Durations in seconds."""

    database_url: str
    listen: Address
    ops_listen: Address
    trusted_proxies: tuple[Network, ...]
    max_staleness: float
    serve_stale: bool
    applications: tuple[str, ...]
    workers: int
    decision_sample: int
    tls: Tls | None
    drain_seconds: float
    session_cookie: str
    login_url: str
    login_relay_url: str
    issuer: str
    log_level: str
    log_format: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and check all variables. Raises `SettingsInvalid` with every problem found."""
        reader = _Reader(environ)
        values: dict[str, Any] = {variable.field: reader.read(variable) for variable in VARIABLES if variable.field}
        values["tls"] = reader.tls()
        reader.cross_check(values)
        if reader.problems:
            raise SettingsInvalid(reader.problems)
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def address(text: str) -> Address:
    """`host:port`, `[ipv6]:port`, `localhost:port` or `unix:/path`. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or len(path.encode()) > _LONGEST_PATH:
            raise ValueError("write unix: and an absolute path of at most 100 bytes")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > _LAST_PORT:
        raise ValueError("write host:port, for example 127.0.0.1:8787, or unix:/path")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        return Address(host=str(ip_address(host)), port=int(port))
    except ValueError:
        raise ValueError("the host must be an IP address, for example 127.0.0.1, 0.0.0.0 or [::1]") from None


def networks(text: str) -> tuple[Network, ...]:
    """Comma-separated CIDRs. Raises ValueError that names the bad one."""
    found = []
    for item in _items(text):
        try:
            found.append(ip_network(item))
        except ValueError:
            raise ValueError(f"{item!r} is not a network; write CIDRs without host bits, for example 10.0.0.0/8") from None
    return tuple(found)


def duration(text: str) -> float:
    """`30s`, `500ms`, `2m`, `1h` or a number of seconds, in seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("write a duration, for example 30s, 500ms or 2m")
    return float(match[1]) * _SECONDS[match[2]]


def _items(text: str) -> Iterator[str]:
    return (item for item in (part.strip() for part in text.split(",")) if item)


def _database_url(text: str) -> str:
    """Refuses what a driver would misread. Says none of it: a password that is not encoded may be in any part."""
    try:
        parts = urlsplit(text)
        parameters = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(_URL_SHAPE) from None
    stray = parts.fragment or "@" in parts.query or set("/@") & set(parts.path[1:])
    places = parts.netloc.rpartition("@")[2].split(",")
    if parts.scheme not in {"postgresql", "postgres"} or stray or not all(map(_PLACE.fullmatch, places)):
        raise ValueError(_URL_SHAPE)
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        for file in parameters.get(name, ()):
            if not Path(file).is_file():
                raise ValueError(f"{name} names {file}, and there is no such file")
    return text


def _positive(text: str) -> float:
    seconds = duration(text)
    if seconds <= 0:
        raise ValueError("write a duration longer than 0, for example 30s")
    return seconds


def _workers(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text, re.ASCII) or not 1 <= int(text) <= _MOST_WORKERS:
        raise ValueError("write a number of processes from 1 to 64")
    return int(text)


def _sample(text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII) or int(text) > _LARGEST_SAMPLE:
        raise ValueError("write a number of decisions from 0 to 1000")
    return int(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"write {' or '.join(choices)}")
        return text.lower()

    return parse


def _applications(text: str) -> tuple[str, ...]:
    slugs = tuple(_items(text))
    for slug in slugs:
        if not _SLUG.fullmatch(slug):
            raise ValueError(f"{slug!r} is not an application's slug; write slugs such as orders,billing")
    return slugs


def _cookie(text: str) -> str:
    if not _COOKIE_NAME.fullmatch(text):
        raise ValueError("write a cookie name: letters, digits and -_. without spaces")
    return text


def _http_url(text: str) -> str:
    if not text:
        return ""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment or not _printable(text):
        raise ValueError("must be an absolute http or https URL without a fragment")
    return text


def _relay_url(text: str) -> str:
    parts = urlsplit(_http_url(text))
    if parts.query or "@" in parts.netloc:
        raise ValueError("must be an http or https URL without a query and without a user")
    return text.rstrip("/")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if url else ""


def _printable(text: str) -> bool:
    return all("!" <= char <= "~" for char in text)


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: its name, default as written, meaning, the field it fills and how it is read."""

    name: str
    default: str
    meaning: str
    field: str = ""
    parse: Callable[[str], Any] = str
    secret: bool = False


VARIABLES: Final = (
    Variable(
        "CATALYST_DATABASE_URL",
        "",
        "PostgreSQL, postgresql://user:password@host:port/database. Required.",
        "database_url",
        _database_url,
        True,
    ),
    Variable(LISTEN, "127.0.0.1:8787", "Check listener: address:port or unix:/path.", "listen", address),
    Variable(
        OPS_LISTEN,
        "127.0.0.1:9787",
        "Health, metrics and explain: address:port or unix:/path.",
        "ops_listen",
        address,
    ),
    Variable(
        "CATALYST_SIDECAR_TRUSTED_PROXIES",
        "127.0.0.0/8,::1/128",
        "Who may ask, as CIDRs; X-Forwarded-For is walked over these. Required when the check listener is not on loopback.",
        "trusted_proxies",
        networks,
    ),
    Variable(
        "CATALYST_SIDECAR_MAX_STALENESS",
        "30s",
        "How long decisions are served without a sign of life from the database.",
        "max_staleness",
        _positive,
    ),
    Variable(
        "CATALYST_SIDECAR_ON_STALE",
        "deny",
        "What then: deny (503 stale) or serve (marked as stale).",
        "on_stale",
        _one_of("deny", "serve"),
    ),
    Variable(
        "CATALYST_SIDECAR_APPLICATIONS",
        "",
        "Serve only these applications (slugs, comma-separated). Empty: all.",
        "applications",
        _applications,
    ),
    Variable("CATALYST_SIDECAR_WORKERS", "1", "Processes that answer checks.", "workers", _workers),
    Variable(
        "CATALYST_SIDECAR_DECISION_SAMPLE",
        "100",
        "Decisions that each process keeps for replay, every 5 seconds at most so many, without credentials. 0: none.",
        "decision_sample",
        _sample,
    ),
    Variable("CATALYST_SIDECAR_TLS_CERT", "", "Certificate chain (PEM file) of the check listener. Empty: no TLS."),
    Variable("CATALYST_SIDECAR_TLS_KEY", "", "Private key (PEM file) that belongs to it."),
    Variable("CATALYST_SIDECAR_TLS_CLIENT_CA", "", "Who signs the proxies' certificates (PEM file). Set: only they may connect."),
    Variable("CATALYST_SIDECAR_DRAIN_SECONDS", "10s", "Longest time between SIGTERM and the end.", "drain_seconds", duration),
    Variable(
        "CATALYST_SESSION_COOKIE", SESSION_COOKIE, "Name of the cookie that holds the session token.", "session_cookie", _cookie
    ),
    Variable("CATALYST_LOGIN_URL", "", "Where browsers are sent to log in. Empty: 401 instead.", "login_url", _http_url),
    Variable(
        "CATALYST_LOGIN_RELAY_URL",
        "",
        "Where the sidecar itself reaches the login, for /.catalyst/ on applications' hosts. Empty: scheme and host of "
        "CATALYST_LOGIN_URL; without that, these paths lead nowhere. Certificates are verified (SSL_CERT_FILE: by these).",
        "login_relay_url",
        _relay_url,
    ),
    Variable("CATALYST_ISSUER", "http://127.0.0.1:8080", "The `iss` of session tokens.", "issuer", _http_url),
    Variable(
        "CATALYST_LOG_LEVEL", "info", "debug, info, warning or error.", "log_level", _one_of("debug", "info", "warning", "error")
    ),
    Variable("CATALYST_LOG_FORMAT", "json", "json or console.", "log_format", _one_of("json", "console")),
)
"""All variables that the sidecar reads, for the start, for `--help` and for the generated reference."""


class _Reader:
    """Reads variables one by one and gathers what is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def read(self, variable: Variable) -> Any:
        """The variable's value, or None and a problem noted."""
        text = self.environ.get(variable.name, "").strip() or variable.default
        try:
            return variable.parse(text)
        except ValueError as error:
            shown = "" if variable.secret or not text else f" (is {text!r})"
            self.problems.append(
                f"{variable.name}: {error}{shown}" if text else f"{variable.name} is not set: {variable.meaning}"
            )
            return None

    def tls(self) -> Tls | None:
        """The TLS files, each of which must be there."""
        names = ("CATALYST_SIDECAR_TLS_CERT", "CATALYST_SIDECAR_TLS_KEY", "CATALYST_SIDECAR_TLS_CLIENT_CA")
        files = [self.environ.get(name, "").strip() for name in names]
        self.problems += [
            f"{name}: there is no file {file!r}; name a PEM file"
            for name, file in zip(names, files, strict=True)
            if file and not Path(file).is_file()
        ]
        if not any(files):
            return None
        if not (files[0] and files[1]):
            self.problems.append("CATALYST_SIDECAR_TLS_CERT and CATALYST_SIDECAR_TLS_KEY must be set together")
        return Tls(*files)

    def cross_check(self, values: dict[str, Any]) -> None:
        """What holds between variables."""
        values["serve_stale"] = values.pop("on_stale") == "serve"
        values["login_relay_url"] = values["login_relay_url"] or _origin(values["login_url"] or "")
        listen = values["listen"]
        named = self.environ.get("CATALYST_SIDECAR_TRUSTED_PROXIES", "").strip()
        if listen is not None and not listen.is_local and not named:
            self.problems.append(
                f"CATALYST_SIDECAR_LISTEN: {listen} can be reached from other machines; "
                "name the proxies that may ask in CATALYST_SIDECAR_TRUSTED_PROXIES"
            )
        if listen is not None and listen == values["ops_listen"] and (listen.path or listen.port):
            self.problems.append(f"CATALYST_SIDECAR_OPS_LISTEN: {listen} is the check listener's address already")
