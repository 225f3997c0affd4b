"""Who hears of what: random sequences of everything that may change it, against a model. No org ever hears of another's events."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, get_state_machine_test, invariant, rule
from psycopg.types.json import Jsonb

from control_plane.db.embedded import EmbeddedPostgres
from tests.conftest import make_database
from tests.webhooks.scene import Scene

ORGS = tuple(uuid4() for _ in range(3))
PROFILES = tuple(uuid4() for _ in range(3))
KINDS = ("profile.updated", "profile.erased", "group.updated", "org.updated", "profiles.odd")
PATTERNS = ("*", "profile.*", "group.*", "org.updated", "profile.erased")
NOBODY = "not-an-id"

orgs = st.sampled_from(ORGS)
profiles = st.sampled_from(PROFILES)
chosen = st.integers(0, 9)


@dataclass
class Hearer:
    """An endpoint as the model knows it. `since`: how many events there had been when it was made."""

    org: UUID | None
    patterns: frozenset[str]
    since: int
    status: str = "active"


@dataclass(frozen=True)
class Told:
    """An event as the model knows it."""

    number: int
    org: UUID | None
    kind: str
    about: str


class World(RuleBasedStateMachine):
    """Each example in a transaction of its own, which is taken back."""

    connection: ClassVar[psycopg.Connection[Any]]

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(self.connection.transaction(force_rollback=True))
        self.members: set[tuple[UUID, UUID]] = set()
        self.hearers: dict[UUID, Hearer] = {}
        self.waiting: list[Told] = []
        self.events = 0
        self.expected: set[tuple[UUID, int]] = set()
        self.kept: set[int] = set()

    def teardown(self) -> None:
        self.stack.close()

    def execute(self, query: str, *arguments: object) -> Any:
        return self.connection.execute(query, arguments)

    @rule(org=orgs, profile=profiles)
    def join(self, org: UUID, profile: UUID) -> None:
        if (org, profile) not in self.members:
            self.execute("INSERT INTO catalyst.memberships (org_id, profile_id) VALUES (%s, %s)", org, profile)
            self.members.add((org, profile))

    @rule(org=orgs, profile=profiles)
    def leave(self, org: UUID, profile: UUID) -> None:
        self.execute("DELETE FROM catalyst.memberships WHERE org_id = %s AND profile_id = %s", org, profile)
        self.members.discard((org, profile))

    @rule(org=st.none() | orgs, patterns=st.frozensets(st.sampled_from(PATTERNS), min_size=1), ordered=st.booleans())
    def subscribe(self, org: UUID | None, patterns: frozenset[str], ordered: bool) -> None:
        webhook = uuid4()
        self.execute(
            "INSERT INTO catalyst.webhooks (id, org_id, url, events, retry_schedule, ordered, created_at)"
            " VALUES (%s, %s, 'https://x.example', %s, '{5}', %s, clock_timestamp())",
            *(webhook, org, sorted(patterns), ordered),
        )
        self.hearers[webhook] = Hearer(org, patterns, self.events)

    @rule(number=chosen, status=st.sampled_from(["active", "paused", "disabled"]))
    def change(self, number: int, status: str) -> None:
        if self.hearers:
            webhook = list(self.hearers)[number % len(self.hearers)]
            reason = "gone" if status == "disabled" else None
            self.execute("UPDATE catalyst.webhooks SET status = %s, disabled_reason = %s WHERE id = %s", status, reason, webhook)
            self.hearers[webhook].status = status

    @rule(number=chosen)
    def delete(self, number: int) -> None:
        if self.hearers:
            webhook = list(self.hearers)[number % len(self.hearers)]
            self.execute("DELETE FROM catalyst.webhooks WHERE id = %s", webhook)
            del self.hearers[webhook]

    @rule(org=st.none() | orgs, kind=st.sampled_from(KINDS), about=profiles.map(str) | st.just(NOBODY))
    def happen(self, org: UUID | None, kind: str, about: str) -> None:
        data = Jsonb({"id": about, "org": None if org is None else str(org), "number": self.events})
        self.execute("INSERT INTO catalyst.outbox_events (org_id, type, data) VALUES (%s, %s, %s)", org, kind, data)
        self.waiting.append(Told(self.events, org, kind, about))
        self.events += 1

    @rule(most=st.integers(1, 5))
    def fan_out(self, most: int) -> None:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        assert self.execute("SELECT catalyst.fan_out(%s)", most).fetchone() == (len(taken),)
        for event in taken:
            for webhook, hearer in self.hearers.items():
                if self.hears(hearer, event):
                    self.kept.add(event.number)
                    if hearer.status != "disabled":
                        self.expected.add((webhook, event.number))

    def hears(self, hearer: Hearer, event: Told) -> bool:
        kind = event.kind.partition(".")[0]
        if event.number < hearer.since or not hearer.patterns & {"*", f"{kind}.*", event.kind}:
            return False
        if hearer.org is None or hearer.org == event.org:
            return True
        return (
            event.org is None
            and kind == "profile"
            and any((hearer.org, p) in self.members for p in PROFILES if str(p) == event.about)
        )

    @invariant()
    def everybody_was_given_theirs_and_nothing_else(self) -> None:
        given = self.execute(
            "SELECT d.webhook_id, (e.data ->> 'number')::int FROM catalyst.webhook_deliveries d JOIN catalyst.webhook_events e USING (position)"
        ).fetchall()
        assert len(given) == len(set(given))
        assert set(given) == self.expected
        kept = self.execute("SELECT (data ->> 'number')::int FROM catalyst.webhook_events").fetchall()
        assert {number for (number,) in kept} == self.kept
        counted = self.execute("SELECT webhook_id, pending FROM catalyst.webhook_queues").fetchall()
        assert dict(counted) == {webhook: sum(of == webhook for of, _ in self.expected) for webhook in self.hearers}


@pytest.fixture
def owner(postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    for database in make_database(postgres, "catalyst"):
        with psycopg.connect(database.url("catalyst_migrate"), autocommit=True) as connection:
            for number, (org, profile) in enumerate(zip(ORGS, PROFILES, strict=True)):
                connection.execute("INSERT INTO catalyst.orgs (id, slug, name) VALUES (%s, %s, 'x')", [org, f"org-{number}"])
                connection.execute(
                    "INSERT INTO catalyst.profiles (id, email) VALUES (%s, %s)", [profile, f"p{number}@example.com"]
                )
            yield connection


def test_who_hears_of_what_agrees_with_the_model(owner: psycopg.Connection[Any]):
    World.connection = owner
    some = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    get_state_machine_test(World, settings=some)()


def test_an_endpoint_receives_what_happens_in_its_org_and_to_its_members(system: Scene):
    """From the API to what arrives: two orgs, a profile in one of them, one in both, one in none.

    They were made before they were members: of that no org hears, although it is all fanned out after they were.
    """
    webhooks: dict[str, str] = {}
    for slug in ("one", "two"):
        system.api.post("/v1/orgs", {"slug": slug, "name": slug})
        webhooks[slug] = system.endpoint(f"/{slug}", org=slug)
    people = {}
    for name, where in {"ann": ["one"], "bob": ["one", "two"], "eve": []}.items():
        people[name] = system.api.post("/v1/profiles", {"kind": "user", "email": f"{name}@example.com"})["id"]
        for slug in where:
            system.api.post(f"/v1/orgs/{slug}/memberships", {"profile": people[name]})
    for name, profile in people.items():
        system.api.patch(f"/v1/profiles/{profile}", {"display_name": name.title()})
    system.api.post("/v1/orgs/one/groups", {"slug": "eu", "name": "EU"})
    with system.worker():
        one = heard(system, "/one", 6)
        two = heard(system, "/two", 3)
    assert one == {
        *(("webhook.created", webhooks["one"]), ("membership.created", "one"), ("group.created", "one")),
        *(("profile.updated", people[name]) for name in ("ann", "bob")),
    }
    assert two == {
        *(("webhook.created", webhooks["two"]), ("membership.created", "two"), ("profile.updated", people["bob"])),
    }


def heard(system: Scene, path: str, count: int) -> set[tuple[str, str]]:
    """Types of events, and what they are about; of what is made in an org, the org."""
    system.receiver.wait_for(path, count)
    system.settled()
    slugs = {row["id"]: row["slug"] for row in system.api.get("/v1/orgs")["items"]}
    events = [arrival.event for arrival in system.receiver.arrivals(path)]
    assert len(events) == count
    return {
        (event["type"], slugs[event["data"]["org"]] if event["type"].startswith(("member", "group")) else event["data"]["id"])
        for event in events
    }
