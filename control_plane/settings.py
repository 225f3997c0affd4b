"""What the control plane is told by its environment. Every problem is reported at once; a secret's value never is."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from control_plane.db.unusable import check_url
from control_plane.errors import OperatorError
from control_plane.sealing import Keyring, SecretKey
from control_plane.variables import LOG_FORMATS, LOG_LEVELS, Address, Variable, address, one_of, read, whole
from sidecar.canonical import is_local

LOGIN_PATH: Final = "/login"
_DOMAIN: Final = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_SECRET_KEY_BYTES: Final = 32
_SIGNING_ALGORITHMS: Final = ("EdDSA", "ES256")
_CONNECTIONS_MEANING: Final = "Connections to PostgreSQL, at most. Requests wait for a free one, up to 30 seconds."
_DATABASE_MEANING: Final = "PostgreSQL's primary, postgresql://user:password@host:port/database."
_SIGNING_KEY_DAYS_MEANING: Final = "How long a signing key signs before the next one takes over by itself; 0: until told."
_ALGORITHM_MEANING: Final = "What signing keys are made for from now on: EdDSA or ES256."
_SECRET_KEY_MEANING: Final = (
    "32 bytes in base64 that wrap the secrets in the database: those that it was begun with, or `openssl rand -base64 32`. "
    "Several, separated by commas: the first wraps, all unwrap."
)

_KEEP_DAYS_MEANING: Final = "Audit events older than this are dropped, by whole months; 0: none ever is."
_LOGIN_LISTEN_MEANING: Final = (
    "A listener of its own for the pages that people log in with and the token endpoint; empty: beside the API."
)
_LOGIN_URL_MEANING: Final = "The login page as browsers reach it; sidecars need the same."
_TRUSTED_PROXIES_MEANING: Final = (
    "The proxies before the control plane, as CIDRs: their X-Forwarded-For says whose address a request comes from. Without them "
    "all that comes through a proxy counts as one client."
)
_COOKIE_DOMAIN_MEANING: Final = (
    "Where all applications share a domain with the login page: that domain, and one session cookie serves them all. "
    "Empty: a cookie for each host."
)
_GRACE_MEANING: Final = "How long a refresh token that was just replaced still gives what replaced it: for tabs that ask at once."
_OUTBOUND_MEANING: Final = (
    "Networks inside that identity providers may have addresses in, and be asked over http: CIDRs with commas between. "
    "Empty: none; only public addresses are asked, over https."
)
_WEBHOOK_NETWORKS_MEANING: Final = (
    "Networks inside that webhooks may be sent to, and over http: CIDRs with commas between. Whoever may administer webhooks in "
    "any org reaches what is in them. Empty: none; only public addresses, over https."
)
_KEEP_WEBHOOKS_MEANING: Final = "How long events and their deliveries are kept, to be looked at and sent again."
_WORKER_LISTEN_MEANING: Final = "Where health and metrics of a worker listen."
_CHECKPOINT_MEANING: Final = "How often the end of each audit chain that has gone on is signed."


Network = IPv4Network | IPv6Network


def _address_or_none(text: str) -> Address | None:
    return address(text) if text else None


def _issuer(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("write an http or https URL without query and fragment, for example https://auth.example.com")
    return text


def _login_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("write an http or https URL without a fragment, for example https://auth.example.com/login")
    return text


def _cookie_domain(text: str) -> str:
    if text and not _DOMAIN.fullmatch(text):
        raise ValueError("write a domain in lower case without a dot before it, for example example.com")
    return text


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("write networks as CIDRs with commas between, for example 10.0.0.0/8,fd00::/8") from None


def _secret_key(text: str) -> Keyring:
    keys = [_key(part.strip()) for part in text.split(",")]
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands in it twice; write each once")
    return Keyring(tuple(SecretKey(key) for key in keys))


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _SECRET_KEY_BYTES:
        raise ValueError(
            "write 32 random bytes in base64, several keys with commas between; "
            "`openssl rand -base64 32` makes one for a new database"
        )
    return key


def _at_odds(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with settings that can each be read."""
    host, domain = urlsplit(values.get("login_url", "")).hostname or "", values.get("cookie_domain", "")
    if domain and host and not f".{host}".endswith(f".{domain}"):
        return ["CATALYST_COOKIE_DOMAIN must be a domain that the host of CATALYST_LOGIN_URL lies in: it sets the cookies."]
    return []


def doubts(settings: "Settings") -> list[str]:
    """What can be meant as it is set, and seldom is: told at the start, with what to do. No secret."""
    login = urlsplit(settings.login_url)
    local = is_local(login.hostname or "")
    cases = {
        "CATALYST_LOGIN_URL is http: cookies are sent without Secure, where others can read them. Write https.": (
            login.scheme == "http" and not local
        ),
        f"CATALYST_LOGIN_URL leads to {login.path or '/'}, and the login page here is at /login: is it another service's?": (
            login.path != LOGIN_PATH
        ),
        "CATALYST_LOGIN_URL is this machine's and CATALYST_ISSUER is not: nobody elsewhere can log in. Set both.": (
            local and not is_local(urlsplit(settings.issuer).hostname or "")
        ),
        "CATALYST_LOGIN_LISTEN is not set: whoever reaches the login page reaches the API. Give it a listener of its own.": (
            not local and settings.login_listen is None
        ),
    }
    return [text for text, holds in cases.items() if holds]


VARIABLES: Final = (
    Variable("CATALYST_DATABASE_URL", "database_url", None, _DATABASE_MEANING, check_url),
    Variable("CATALYST_CONTROL_LISTEN", "listen", "127.0.0.1:8080", "Where the API listens.", address),
    Variable("CATALYST_CONTROL_OPS_LISTEN", "ops_listen", "127.0.0.1:9080", "Where health and metrics listen.", address),
    Variable("CATALYST_LOGIN_LISTEN", "login_listen", "", _LOGIN_LISTEN_MEANING, _address_or_none),
    Variable("CATALYST_LOGIN_URL", "login_url", "http://127.0.0.1:8080/login", _LOGIN_URL_MEANING, _login_url),
    Variable("CATALYST_COOKIE_DOMAIN", "cookie_domain", "", _COOKIE_DOMAIN_MEANING, _cookie_domain),
    Variable("CATALYST_LOGIN_TRUSTED_PROXIES", "trusted_proxies", "", _TRUSTED_PROXIES_MEANING, _networks),
    Variable("CATALYST_ISSUER", "issuer", "http://127.0.0.1:8080", "`iss` of session tokens; sidecars need the same.", _issuer),
    Variable("CATALYST_SECRET_KEY", "secret_key", None, _SECRET_KEY_MEANING, _secret_key),
    Variable("CATALYST_CONTROL_CONNECTIONS", "connections", "10", _CONNECTIONS_MEANING, whole("connections", 2, 500)),
    Variable("CATALYST_SESSION_SECONDS", "session_seconds", "300", "How long a session token lives.", whole("seconds", 30, 3600)),
    Variable("CATALYST_REFRESH_GRACE_SECONDS", "refresh_grace_seconds", "10", _GRACE_MEANING, whole("seconds", 1, 300)),
    Variable("CATALYST_OUTBOUND_NETWORKS", "outbound_networks", "", _OUTBOUND_MEANING, _networks),
    Variable("CATALYST_WORKER_OPS_LISTEN", "worker_ops_listen", "127.0.0.1:9180", _WORKER_LISTEN_MEANING, address),
    Variable("CATALYST_WEBHOOK_NETWORKS", "webhook_networks", "", _WEBHOOK_NETWORKS_MEANING, _networks),
    Variable("CATALYST_WEBHOOK_KEEP_DAYS", "webhook_keep_days", "30", _KEEP_WEBHOOKS_MEANING, whole("days", 5, 3650)),
    Variable("CATALYST_SIGNING_KEY_DAYS", "signing_key_days", "30", _SIGNING_KEY_DAYS_MEANING, whole("days", 0, 3650)),
    Variable("CATALYST_SIGNING_ALGORITHM", "signing_algorithm", "EdDSA", _ALGORITHM_MEANING, one_of(_SIGNING_ALGORITHMS)),
    Variable("CATALYST_AUDIT_KEEP_DAYS", "audit_keep_days", "0", _KEEP_DAYS_MEANING, whole("days", 31, 36_500, or_zero=True)),
    Variable(
        "CATALYST_AUDIT_CHECKPOINT_SECONDS",
        "audit_checkpoint_seconds",
        "3600",
        _CHECKPOINT_MEANING,
        whole("seconds", 60, 86_400),
    ),
    Variable("CATALYST_LOG_LEVEL", "log_level", "info", "debug, info, warning or error.", one_of(LOG_LEVELS)),
    Variable("CATALYST_LOG_FORMAT", "log_format", "json", "json or console.", one_of(LOG_FORMATS)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The control plane's settings, already checked. Printing one shows no secret."""

    database_url: str
    listen: Address
    ops_listen: Address
    login_listen: Address | None
    login_url: str
    cookie_domain: str
    trusted_proxies: tuple[Network, ...]
    issuer: str
    secret_key: Keyring
    connections: int
    session_seconds: int
    refresh_grace_seconds: int
    outbound_networks: tuple[Network, ...]
    worker_ops_listen: Address
    webhook_networks: tuple[Network, ...]
    webhook_keep_days: int
    signing_key_days: int
    signing_algorithm: Literal["EdDSA", "ES256"]
    audit_keep_days: int
    audit_checkpoint_seconds: int
    log_level: str
    log_format: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Settings from environment variables; OperatorError with every problem at once. An empty variable counts as unset."""
        values, problems = read(VARIABLES, environ)
        problems += _at_odds(values)
        if problems:
            raise OperatorError(*problems)
        return cls(**values)

    def __repr__(self) -> str:
        return f"Settings(listen={self.listen}, ops_listen={self.ops_listen}, issuer={self.issuer!r})"
