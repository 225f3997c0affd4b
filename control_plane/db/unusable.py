"""Why a database cannot be used, each reason with its way out. Nothing of its URL is told but where it leads."""

import re
import socket
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

import asyncpg

from control_plane.errors import OperatorError

OLDEST_POSTGRES: Final = 15

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]*)(:\d{1,5})?", re.ASCII)
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_SHAPE: Final = (
    "write postgresql://user:password@host:port/database, and in user and password %40 for @, %3A for :, %2F for /, %3F for ?, "
    "%23 for #, %25 for %"
)


def check_url(text: str) -> str:
    """The URL, if drivers can read it. ValueError without any of its text: a password that is not encoded may be anywhere."""
    try:
        parts = urlsplit(text)
        parameters = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(_SHAPE) from None
    places = parts.netloc.rpartition("@")[2].split(",")
    stray = parts.fragment or "@" in parts.query or set("/@") & set(parts.path[1:])
    if parts.scheme not in ("postgresql", "postgres") or stray or not all(map(_HOST.fullmatch, places)):
        raise ValueError(_SHAPE)
    if not set(parameters.get("sslmode", ())) <= set(_SSL_MODES):
        raise ValueError(f"sslmode is one of {', '.join(_SSL_MODES)}")
    for name in _SSL_FILES:
        for file in parameters.get(name, ()):
            if not Path(file).is_file():
                raise ValueError(f"{name} names {file}, and no such file can be read here")
    return text


def explained(url: str, problem: Exception) -> OperatorError:
    """What kept us from connecting to `url`, which `check_url` has passed, in words for whoever has to put it right."""
    at = _where(urlsplit(url))
    said = _said(problem)
    if isinstance(problem, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidPasswordError):
        return OperatorError(f"PostgreSQL at {at} refuses the user or the password in CATALYST_DATABASE_URL: {said}.")
    if isinstance(problem, asyncpg.InvalidCatalogNameError):
        return OperatorError(
            f"PostgreSQL at {at} answers: {said}. Correct CATALYST_DATABASE_URL, or create the database and run "
            "`catalyst migrate`."
        )
    if isinstance(problem, asyncpg.InsufficientPrivilegeError):
        return OperatorError(
            f"PostgreSQL at {at} does not let the user in CATALYST_DATABASE_URL in: {said}. Let an administrator run: "
            "GRANT catalyst_control TO that user (for `catalyst migrate`: catalyst_migrate)."
        )
    if isinstance(problem, asyncpg.ClientConfigurationError | asyncpg.PostgresError):
        return OperatorError(f"PostgreSQL at {at} cannot be used: {said}. If that is not to be, correct CATALYST_DATABASE_URL.")
    return OperatorError(
        f"The database at {at} cannot be reached: {said}. See that PostgreSQL runs there and that CATALYST_DATABASE_URL is right."
    )


def refuse_old_server(version: int) -> None:
    """OperatorError for a server before PostgreSQL 15. `version` as in server_version_num: 150004 is 15.4."""
    if version // 10000 < OLDEST_POSTGRES:
        raise OperatorError(
            f"PostgreSQL {version // 10000} is too old. Upgrade it to {OLDEST_POSTGRES} or later, or name another in "
            "CATALYST_DATABASE_URL."
        )


def refuse_read_only(answer: str) -> None:
    """OperatorError where `SHOW transaction_read_only` says "on": a standby, or a database that was closed to writes."""
    if answer == "on":
        raise OperatorError(
            "The database takes no writes: a standby, or default_transaction_read_only is on. Name the primary in "
            "CATALYST_DATABASE_URL."
        )


def _where(parts: SplitResult) -> str:
    """Host and port, or the folder of the socket."""
    return parts.netloc.rpartition("@")[2] or next(iter(parse_qs(parts.query).get("host", ())), "the local socket")


def _said(problem: Any) -> str:
    """A driver's, a server's or the system's own words, in one line and without a full stop."""
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if isinstance(problem, socket.gaierror):
        return "its host name is not known"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted, {problem.verify_message}"
    text = getattr(problem, "message", None) or getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
    return str(text).strip().splitlines()[0].rstrip(".")
