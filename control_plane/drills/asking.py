"""Whether a real sidecar, started on a restored database, answers as the engine says."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2

from control_plane.changes import Origin, changing, reading
from control_plane.cli.processes import Process, answers, free_port
from control_plane.db.queries import load
from control_plane.drills.questions import Ask, Expected
from control_plane.permissions import SYSTEM, operator
from control_plane.sessions import service as sessions
from control_plane.sessions.models import NewSession
from control_plane.settings import Settings
from sidecar.contract import (
    AUTH_ERROR,
    AUTH_REASON,
    ENTITLEMENTS_OMITTED,
    MIN_REVISION_HEADER,
    USER_ENTITLEMENTS,
    USER_SUB,
    Reason,
)

SQL: Final = load(Path(__file__).with_name("queries.sql"))

_APPLICATIONS: Final = 25
_START_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 10.0


class Prepared(NamedTuple):
    """Questions, each with the session token of who asks (None: nobody), and the revision that the sidecar must have reached."""

    questions: list[tuple[Expected, str | None]]
    revision: int


async def prepare(pool: Any, settings: Settings) -> Prepared:
    """Find what to ask, and make the sessions to ask with, in the database of `pool`: a scratch one."""
    found: list[Expected] = []
    async with reading(pool, SYSTEM) as work:
        for application in (await work.connection.fetch(SQL.applications))[:_APPLICATIONS]:
            found += [expected async for expected in Ask(work, SQL, application).questions()]
    asked = [(expected, await _token(pool, settings, expected)) for expected in found]
    return Prepared(asked, await pool.fetchval(SQL.head))


async def _token(pool: Any, settings: Settings, expected: Expected) -> str | None:
    who = expected.question.principal
    if who is None:
        return None
    async with changing(pool, Origin(operator("drill"))) as change:
        session = NewSession(profile=who.profile, org=who.org, amr=who.amr, acr=who.acr)
        return (await sessions.mint(change, settings, session)).token


@contextmanager
def sidecar(url: str, issuer: str, folder: Path) -> Iterator[str]:
    """A sidecar on the database at `url`; the address of its check listener. OperatorError where it does not start."""
    listen, ops = (f"127.0.0.1:{free_port()}" for _ in range(2))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")}
    environ |= {"CATALYST_DATABASE_URL": url, "CATALYST_ISSUER": issuer}
    environ |= {"CATALYST_SIDECAR_LISTEN": listen, "CATALYST_SIDECAR_OPS_LISTEN": ops}
    process = Process("the sidecar", [sys.executable, "-m", "sidecar"], folder / "sidecar.log", environ)
    try:
        process.wait_until(partial(answers, ops), _START_SECONDS)
        yield listen
    finally:
        process.stop()


def ask(listen: str, prepared: Prepared) -> list[str]:
    """Ask everything, and a session that never was. What was answered otherwise than the engine says."""
    problems = []
    with httpx2.Client(base_url=f"http://{listen}", timeout=_ANSWER_SECONDS, trust_env=False) as client:
        for expected, token in prepared.questions:
            answer = _answer(client, expected, token, prepared.revision)
            problems += _differences(expected, answer)
        if prepared.questions:
            stranger = _answer(client, prepared.questions[0][0], "not.a.token", prepared.revision)
            if stranger.status_code != HTTPStatus.UNAUTHORIZED or stranger.headers.get(AUTH_ERROR) != Reason.INVALID_TOKEN:
                problems.append(f"A token that is none was answered {stranger.status_code} {stranger.headers.get(AUTH_ERROR)}.")
    return problems


def _answer(client: httpx2.Client, expected: Expected, token: str | None, revision: int) -> httpx2.Response:
    """The sidecar's answer to what nginx would ask."""
    question = expected.question
    headers = {
        "x-original-method": question.method,
        "x-original-url": question.url,
        "x-forwarded-for": str(question.client),
        MIN_REVISION_HEADER: str(revision),
    }
    return client.get("/forward-auth/nginx", headers=headers | ({"authorization": f"Bearer {token}"} if token else {}))


def _differences(expected: Expected, answer: httpx2.Response) -> list[str]:
    allowed = answer.status_code == HTTPStatus.OK
    reason = answer.headers.get(AUTH_REASON if allowed else AUTH_ERROR)
    if (allowed, reason) != (expected.allowed, expected.reason):
        wanted = "allowed" if expected.allowed else "refused"
        got = f"the sidecar answered {answer.status_code}, {reason}"
        return [f"{_named(expected)}: the engine says {wanted}, {expected.reason}; {got}."]
    if allowed and expected.entitlements is not None and not _tells(expected, answer.headers):
        return [f"{_named(expected)}: the application would be told of another person, or of other entitlements."]
    return []


def _tells(expected: Expected, headers: Mapping[str, str]) -> bool:
    """Whether the application is told who asks and what they hold; a list that is too long is sent empty."""
    sent = frozenset(headers[USER_ENTITLEMENTS].split(",")) - {""}
    who = expected.question.principal
    told = sent == expected.entitlements or ENTITLEMENTS_OMITTED in headers
    return who is not None and headers[USER_SUB] == str(who.profile) and told


def _named(expected: Expected) -> str:
    """The question as a report may hold it: by ids, without a credential."""
    who = expected.question.principal
    by = "nobody" if who is None else f"profile {who.profile} in {who.org}"
    asked = f"{expected.question.method} {expected.question.url} by {by}"
    return f"{asked} (application {expected.application}, rule {expected.rule})"
