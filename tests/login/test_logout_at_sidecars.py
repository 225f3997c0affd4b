"""Every end of a session at two real sidecars: a token that its own clock still lets live is refused by both, and nothing else is."""

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from control_plane.login import callback
from control_plane.sessions.service import Refused
from tests.acceptance.logins import Door, claims
from tests.acceptance.plane import Api
from tests.login.browser import Browser, Request
from tests.login.world import SHOP, World, sidecar_of
from tests.protocol import processes

PAGE = f"http://{SHOP}/page/1"


@pytest.fixture(scope="module")
def _second(_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Sidecar]:
    folder: Path = tmp_path_factory.mktemp("second")
    with sidecar_of(_plane, folder) as running:
        yield running


@dataclass
class Gates:
    """Two sidecars before the same applications."""

    admin: Api
    urls: list[str]
    http: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=20))

    def ask(self, url: str, token: str, revision: int = 0) -> str:
        """What one of them makes of a request with this token: allow, or the reason why not."""
        asked = {"method": "GET", "proto": "http", "host": SHOP, "uri": "/page/1", "for": "203.0.113.7"}
        headers = {f"x-forwarded-{name}": value for name, value in asked.items()}
        headers |= {"authorization": f"Bearer {token}", "x-catalyst-min-revision": str(revision)}
        answer = self.http.get(f"{url}/forward-auth/traefik", headers=headers)
        return "allow" if answer.status_code == 200 else str(answer.headers["x-forward-auth-error"])

    def both(self, token: str) -> str:
        """What both say, as of now."""
        revision = self.admin.revision()
        said = {self.ask(url, token, revision) for url in self.urls}
        assert len(said) == 1, said
        return said.pop()

    def refused_after(self, end: Callable[[], object], token: str) -> float:
        """Seconds from the end of a session to its refusal by both, both asked without a pause."""
        started = time.perf_counter()
        end()
        open_ = list(self.urls)
        while open_ := [url for url in open_ if self.ask(url, token) == "allow"]:
            assert time.perf_counter() - started < 60, "a session that has ended goes on"
        return time.perf_counter() - started


@pytest.fixture
def gates(world: World, _second: processes.Sidecar) -> Iterator[Gates]:
    gates = Gates(world.admin, ["http://{}:{}".format(*one.check) for one in (world.sidecar, _second)])
    yield gates
    gates.http.close()


@pytest.fixture
def door(world: World) -> Iterator[Door]:
    with Door(world.plane.settings) as door:
        yield door


@dataclass
class Session:
    """A login as its browser has it: the login host's tokens, and those of an application's host."""

    id: str
    person: str
    provider: str
    sid: str
    login: str
    access: str
    host: str
    host_access: str


class Life:
    """What people, providers and administrators do. Each end is a call over HTTP, as it is made by whom it is made by."""

    def __init__(self, world: World, door: Door, gates: Gates) -> None:
        self.world, self.door, self.gates = world, door, gates
        self.people = {"alice": world.alice, "bob": self._person("bob")}
        fields = {"slug": "other", "name": "Other", "issuer": world.liar.issuer, "client_id": "other", "client_secret": "x"}
        other = world.admin.post("/v1/orgs/acme/identity-providers", fields)["id"]
        self.clients = {world.provider: "catalyst", other: "other"}
        self.org = world.admin.get("/v1/orgs/acme")["id"]
        self._sids = count()

    def _person(self, name: str) -> str:
        identity = {"issuer": self.world.liar.issuer, "subject": name}
        profile: str = self.world.admin.post("/v1/profiles", {"identities": [identity]})["id"]
        self.world.admin.post("/v1/orgs/acme/memberships", {"profile": profile})
        return profile

    def log_in(self, person: str, provider: str) -> Session:
        sid = f"sid-{next(self._sids)}"
        upstream = {"provider": UUID(provider), "issuer": self.world.liar.issuer, "subject": person, "upstream_sid": sid}
        began = self.door.begin(self.people[person], self.org, **upstream)
        host = self.door.open_chain(began.session, SHOP)
        tokens = (began.tokens.refresh, began.tokens.access, host.refresh, host.access)
        return Session(str(began.session), person, provider, sid, *tokens)

    def at_the_login_host(self, session: Session, scope: str) -> None:
        headers = {"cookie": f"catalyst_login={session.login}", "sec-fetch-site": "same-origin"}
        answer = self.gates.http.post(f"{self.world.plane.url}/logout", data={"scope": scope}, headers=headers)
        assert answer.status_code == 200, answer.text

    def at_a_host(self, session: Session, scope: str) -> None:
        headers = {"cookie": f"catalyst_refresh={session.host}", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
        asked = Request("POST", f"http://{SHOP}/.catalyst/logout?scope={scope}", headers | {"x-forwarded-for": "203.0.113.7"})
        assert self.world.check(asked).json() == {"error": "logged_out"}

    def by_the_provider(self, provider: str, subject: str | None, sid: str | None) -> None:
        token = self.world.liar.logout_token(subject, sid, self.clients[provider])
        url = f"{self.world.plane.url}/login/backchannel/{provider}"
        assert self.gates.http.post(url, data={"logout_token": token}).status_code == 200

    def by_an_administrator(self, path: str) -> None:
        self.world.admin.call("POST", path, 204 if path.startswith("/v1/sessions") else 200)

    def is_alive(self, session: Session) -> bool:
        """What everything that the browser has is worth: all of it or nothing."""
        held = {self.door.holder(session.login) is not None, self.door.holder(session.host, SHOP) is not None}
        passed = {self.gates.both(token) == "allow" for token in (session.access, session.host_access)}
        assert len(held | passed) == 1, (held, passed)
        return held.pop()


@pytest.fixture
def life(world: World, door: Door, gates: Gates) -> Life:
    return Life(world, door, gates)


END: dict[str, Callable[[Life, Session], None]] = {
    "here": lambda life, session: life.at_the_login_host(session, "here"),
    "here, at an application's host": lambda life, session: life.at_a_host(session, "here"),
    "everywhere": lambda life, session: life.at_the_login_host(session, "everywhere"),
    "at the provider": lambda life, session: life.at_the_login_host(session, "provider"),
    "by the provider": lambda life, session: life.by_the_provider(session.provider, session.person, session.sid),
    "by the API": lambda life, session: life.by_an_administrator(f"/v1/sessions/{session.id}/revoke"),
}


@pytest.mark.parametrize("kind", END)
def test_a_token_that_lives_by_its_clock_is_refused_by_both(life: Life, kind: str) -> None:
    mine, theirs = life.log_in("alice", life.world.provider), life.log_in("bob", life.world.provider)
    assert [life.is_alive(one) for one in (mine, theirs)] == [True, True]
    END[kind](life, mine)
    assert claims(mine.access)["exp"] > time.time() + 60
    assert [life.gates.both(token) for token in (mine.access, mine.host_access)] == ["revoked_session"] * 2
    assert [life.is_alive(one) for one in (mine, theirs)] == [False, True]
    for token, host in ((mine.login, ""), (mine.host, SHOP)):
        assert life.door.refresh(token, host) == Refused("ended")


@pytest.mark.parametrize("seed", range(3))
def test_any_mix_of_logins_and_logouts_leaves_alive_what_should_be(life: Life, seed: int) -> None:
    """Against a model: a set. No session survives that should not, none dies that should not."""
    chance = random.Random(seed)
    sessions: list[Session] = []
    alive: set[str] = set()
    for step in range(24):
        one = chance.choice(sessions) if sessions else None
        kind = chance.choice(["log in", "log in", "one", "person", "upstream session", "upstream person", "API person"])
        if one is None or kind == "log in":
            sessions.append(life.log_in(chance.choice(["alice", "bob"]), chance.choice(list(life.clients))))
            alive.add(sessions[-1].id)
            continue
        if kind == "one" and one.id in alive:
            END[chance.choice(["here", "here, at an application's host", "by the API"])](life, one)
        if kind == "person" and one.id in alive:
            chance.choice([life.at_the_login_host, life.at_a_host])(one, "everywhere")
        if kind == "upstream session":
            life.by_the_provider(one.provider, chance.choice([None, one.person]), one.sid)
        if kind == "upstream person":
            life.by_the_provider(one.provider, one.person, None)
        if kind == "API person":
            life.by_an_administrator(f"/v1/profiles/{life.people[one.person]}/sessions/revoke")
        alive -= {other.id for other in sessions if _is_meant(kind, one, other, one.id in alive)}
        assert {other.id for other in sessions if life.is_alive(other)} == alive, (step, kind)


def _is_meant(kind: str, one: Session, other: Session, was_alive: bool) -> bool:
    """Whether what was done about `one` ends `other`. Who is logged out already ends nobody's sessions."""
    if kind in {"one", "upstream session"}:
        return other.id == one.id
    if kind == "person":
        return was_alive and other.person == one.person
    if kind == "upstream person":
        return (other.person, other.provider) == (one.person, one.provider)
    return other.person == one.person


# --- what administrators do ---------------------------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[str, str, Any]] = {
    "the profile is suspended": ("PATCH", "/v1/profiles/{alice}", {"status": "suspended"}),
    "the profile is archived": ("PATCH", "/v1/profiles/{alice}", {"status": "archived"}),
    "the profile is erased": ("POST", "/v1/profiles/{alice}/erase", None),
    "the profile is deleted": ("DELETE", "/v1/profiles/{alice}", None),
    "the identity is taken away": ("PATCH", "/v1/profiles/{alice}", {"identities": []}),
    "the provider is disabled": ("PATCH", "/v1/orgs/acme/identity-providers/liar", {"enabled": False}),
    "the provider is deleted": ("DELETE", "/v1/orgs/acme/identity-providers/liar", None),
    "the provider is changed": ("PATCH", "/v1/orgs/acme/identity-providers/liar", {"client_id": "third"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_an_administrator_takes_out_of_use_takes_its_sessions_along(life: Life, change: str) -> None:
    other = next(provider for provider in life.clients if provider != life.world.provider)
    mine, theirs = life.log_in("alice", life.world.provider), life.log_in("bob", other)
    assert [life.is_alive(one) for one in (mine, theirs)] == [True, True]
    method, path, body = CHANGES[change]
    path = path.format(alice=life.people["alice"])
    life.world.admin.call(method, path, 204 if method == "DELETE" else 200, json=body)
    assert life.gates.both(mine.access) in {"revoked_session", "invalid_token", "profile_suspended"}
    assert [life.door.holder(mine.login), life.door.holder(mine.host, SHOP)] == [None, None]
    assert life.is_alive(theirs)
    if "provider" in change:
        event = life.world.events("identity_provider.sessions_revoked")[0]
        assert (event["resource"], event["after"]["revoked"]) == (life.world.provider, 1)
        assert event["after"]["cause"] == {"disabled": "disabled", "deleted": "deleted"}.get(
            change.rsplit(maxsplit=1)[-1], "changed"
        )


def test_a_provider_whose_name_changes_keeps_its_sessions(life: Life) -> None:
    mine = life.log_in("alice", life.world.provider)
    life.world.configure(name="Another name", scopes=["openid"], enabled=True)
    assert life.is_alive(mine)
    life.world.configure(enabled=False)
    life.world.configure(enabled=True)
    assert not life.is_alive(mine)


def test_an_org_or_a_membership_that_goes_ends_no_session_and_lets_nobody_pass(life: Life) -> None:
    """It may be good in other orgs. It is refused in this one at once, not extended in it, and goes on when the org does."""
    admin, mine = life.world.admin, life.log_in("alice", life.world.provider)
    admin.patch("/v1/orgs/acme", {"status": "suspended"})
    assert life.gates.both(mine.access) == "org_suspended"
    assert life.door.refresh(mine.host, SHOP) == Refused("not_active")
    admin.patch("/v1/orgs/acme", {"status": "active"})
    assert life.is_alive(mine)
    [membership] = admin.get("/v1/orgs/acme/memberships", profile=life.people["alice"])["items"]
    admin.delete(f"/v1/orgs/acme/memberships/{membership['id']}")
    assert life.gates.both(mine.access) == "not_a_member"
    assert life.door.refresh(mine.login) == Refused("not_active")
    admin.post("/v1/orgs/acme/memberships", {"profile": life.people["alice"]})
    assert life.is_alive(mine)


@pytest.mark.parametrize("change", ["provider disabled", "identity taken away"])
def test_a_login_under_way_does_not_outlive_what_it_stands_on(
    world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """An administrator acts between two steps of the callback: when the provider was found, or the person."""
    module, name = {"provider disabled": (callback, "_claims"), "identity taken away": (callback.accounts, "find")}[change]
    honest = getattr(module, name)

    def act() -> None:
        if change == "provider disabled":
            world.configure(enabled=False)
        else:
            world.admin.patch(f"/v1/profiles/{world.alice}", {"identities": []})

    async def then(*arguments: Any) -> Any:
        found = await honest(*arguments)
        await asyncio.to_thread(act)
        return found

    monkeypatch.setattr(module, name, then)
    assert browser.open(PAGE).status_code in {403, 404}
    assert world.sessions() == []


# --- how fast -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_how_fast_each_kind_reaches_both(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    """From the call that ends a session to its refusal by both, each kind beside a revocation by the API, in turns."""
    took: dict[str, list[float]] = {kind: [] for kind in END}
    for _ in range(15):
        for kind, end in END.items():
            session = life.log_in("alice", life.world.provider)
            took[kind].append(life.gates.refused_after(lambda end=end, session=session: end(life, session), session.access))
    beside = statistics.median(took["by the API"])
    with capsys.disabled():
        print()
        for kind, seconds in took.items():
            median = statistics.median(seconds)
            print(f"{kind}: {median * 1000:.1f} ms at the median, {median / beside:.2f} times a revocation by the API")
