"""Random calls of the API, and after each: the database, the replica of a real sidecar and the audit chain say what the model says."""

import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import httpx2
import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.acceptance.plane import Api
from tests.stateful.model import (
    ENTITLEMENTS,
    RULES,
    Grant,
    Group,
    Held,
    Key,
    Membership,
    Org,
    Profile,
    Role,
    Rule,
    Session,
    World,
)

Thing = TypeVar("Thing")
Event = tuple[str, str, str | None]
"""Type, resource, org."""

STATUSES = ("active", "suspended", "archived")
NEAR = 0.4
"""Within this many seconds of its end nobody can say whether a grant still holds."""
FOREVER = float("inf")

EVENTS = """
    SELECT id, type, resource_id, org_id::text, actor_kind, seq, previous, hash, catalyst.audit_text(e), revision
    FROM catalyst.audit_events AS e WHERE id > %s ORDER BY id
"""


@dataclass
class Realm:
    """What runs: a control plane and a sidecar, each a process, on one database. Kept from one example to the next."""

    admin: Api
    checks: httpx2.Client
    database: psycopg.Connection[Any]
    last_event: int = 0
    head: int = 0
    chains: dict[str | None, tuple[int, bytes]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    steps: int = 0
    compared: int = 0
    refused: int = 0

    def catch_up(self) -> None:
        """Begin where the audit log ends."""
        rows = self.database.execute("SELECT org_id::text, seq, hash FROM catalyst.audit_chains").fetchall()
        self.chains = {row[0]: (row[1], row[2]) for row in rows}
        self.last_event = self._one("SELECT COALESCE(max(id), 0) FROM catalyst.audit_events")
        self.head = self._one("SELECT revision FROM catalyst.head")

    def _one(self, query: str) -> int:
        row = self.database.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def new_events(self) -> list[Any]:
        """The events since the last call, each proved to be the next in its chain."""
        rows = self.database.execute(EVENTS, [self.last_event]).fetchall()
        for event, _, _, org, _, seq, previous, digest, text, _ in rows:
            before, last = self.chains.get(org, (0, bytes(32)))
            assert (seq, previous) == (before + 1, last), f"event {event} is not the next in its chain"
            assert hashlib.sha256(last + text.encode()).digest() == digest, f"event {event} has another hash"
            self.chains[org] = (seq, digest)
            self.last_event = event
        return rows

    def ask(self, headers: Mapping[str, str]) -> httpx2.Response:
        """A check of GET https://<application>/ at the newest revision, each from another address: none fails too often."""
        number = next(self.numbers)
        return self.checks.get("/forward-auth/traefik", headers={
            "x-forwarded-method": "GET", "x-forwarded-proto": "https", "x-forwarded-uri": "/",
            "x-forwarded-for": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "x-catalyst-min-revision": str(self.head), **headers,
        })  # fmt: skip


class Machine(RuleBasedStateMachine):
    """One run. Names are the run's own, so that runs do not meet."""

    realm: ClassVar[Realm]

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.name = f"m{uuid4().hex[:10]}"
        self.counts = itertools.count()
        self.expected: list[Event] = []
        self.replicated = 0
        self.application = ""

    # --- how calls are made --------------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any, status: int, *events: Event, replicated: bool = True, **more: Any) -> Any:
        """One call. `events`: what it must leave in the audit log; `replicated`: whether it must take a revision; otherwise it may."""
        sent = {"json": body} if body is not None else {}
        answer = self.realm.admin.client.request(method, path, **{**sent, **more})
        assert answer.status_code == status, f"{method} {path} {body}: {answer.status_code} {answer.text}"
        self.realm.steps += 1
        self.expected += events
        if status < 400:
            self.replicated += replicated
            assert int(answer.headers["x-catalyst-revision"]) >= self.realm.head + replicated
        else:
            self.realm.refused += 1
        return answer.json() if answer.content else None

    def create(self, path: str, body: Any, kind: str, org: str | None) -> str:
        """Make something that sidecars hear of; its id."""
        made = self.call("POST", path, body, 201)["id"]
        self.expected.append((f"{kind}.created", made, org))
        return str(made)

    def pick(self, data: Any, things: Mapping[str, Thing]) -> Thing:
        """One of them, by its place: ids are other ones in each run."""
        return list(things.values())[data.draw(st.integers(0, len(things) - 1))]

    def some(self, data: Any, things: Mapping[str, Any], org: str) -> list[Any]:
        """Some of an org's groups or roles."""
        mine = [thing for thing in things.values() if thing.org == org]
        return [thing for thing in mine if data.draw(st.booleans())]

    # --- orgs and profiles -----------------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """An application with every rule, an org, two people in it."""
        hosts = [f"{self.name}.example.com"]
        self.application = self.create(
            "/v1/applications", {"slug": self.name, "name": "App", "hosts": hosts}, "application", None
        )
        self._publish(RULES)
        for _ in range(2):
            self.create_profile()
        self.create_org()
        org, one = next(iter(self.world.orgs.values())), next(iter(self.world.profiles.values()))
        self._join(org, one, [], [])
        self._session(one, org)

    @precondition(lambda self: len(self.world.orgs) < 3)
    @rule()
    def create_org(self) -> None:
        slug = f"{self.name}-{next(self.counts)}"
        made = self.call("POST", "/v1/orgs", {"slug": slug, "name": "Org"}, 201)["id"]
        self.expected.append(("org.created", made, made))
        self.world.orgs[made] = Org(made, slug)

    @precondition(lambda self: self.world.orgs)
    @rule(data=st.data(), status=st.sampled_from(STATUSES))
    def set_org_status(self, data: Any, status: str) -> None:
        org = self.pick(data, self.world.orgs)
        events = [("org.updated", org.id, org.id)] if org.status != status else []
        self.call("PATCH", f"/v1/orgs/{org.id}", {"status": status}, 200, *events, replicated=bool(events))
        org.status = status

    @precondition(lambda self: len(self.world.orgs) > 1)
    @rule(data=st.data())
    def delete_org(self, data: Any) -> None:
        org = self.pick(data, self.world.orgs)
        self.call("DELETE", f"/v1/orgs/{org.slug}", None, 204, ("org.deleted", org.id, org.id))
        self.world.drop_org(org.id)

    @precondition(lambda self: len(self.world.profiles) < 5)
    @rule()
    def create_profile(self) -> None:
        email = f"{self.name}-{next(self.counts)}@example.com"
        made = self.create("/v1/profiles", {"kind": "user", "email": email, "display_name": "P"}, "profile", None)
        self.world.profiles[made] = Profile(made)

    @precondition(lambda self: self.world.profiles)
    @rule(data=st.data(), status=st.sampled_from(STATUSES))
    def set_profile_status(self, data: Any, status: str) -> None:
        profile = self.pick(data, self.world.profiles)
        events = [("profile.updated", profile.id, None)] if profile.status != status else []
        self.call("PATCH", f"/v1/profiles/{profile.id}", {"status": status}, 200, *events, replicated=bool(events))
        profile.status = status

    @precondition(lambda self: self.world.profiles)
    @rule(data=st.data(), labels=st.sampled_from([{}, {"frozen": "yes"}, {"plan": "pro"}]))
    def set_labels(self, data: Any, labels: dict[str, str]) -> None:
        profile = self.pick(data, self.world.profiles)
        events = [("profile.updated", profile.id, None)] if profile.labels != labels else []
        self.call("PATCH", f"/v1/profiles/{profile.id}", {"labels": labels}, 200, *events, replicated=bool(events))
        profile.labels = labels

    @precondition(lambda self: len(self.world.profiles) > 2)
    @rule(data=st.data())
    def delete_profile(self, data: Any) -> None:
        profile = self.pick(data, self.world.profiles)
        left = sorted((one.id, one.org) for one in self.world.memberships.values() if one.profile == profile.id)
        events = [("membership.removed", *one) for one in left]
        self.call("DELETE", f"/v1/profiles/{profile.id}", None, 204, *events, ("profile.deleted", profile.id, None))
        self.world.drop_profile(profile.id)

    # --- memberships, groups, roles --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.orgs and self.world.profiles)
    @rule(data=st.data())
    def join(self, data: Any) -> None:
        org, profile = self.pick(data, self.world.orgs), self.pick(data, self.world.profiles)
        self._join(org, profile, self.some(data, self.world.roles, org.id), self.some(data, self.world.groups, org.id))

    def _join(self, org: Org, profile: Profile, roles: list[Role], groups: list[Group]) -> None:
        body = {"profile": profile.id, "roles": [role.slug for role in roles], "groups": [group.id for group in groups]}
        if self.world.membership(profile.id, org.id):
            self.call("POST", f"/v1/orgs/{org.id}/memberships", body, 409)
            return
        made = self.create(f"/v1/orgs/{org.slug}/memberships", body, "membership", org.id)
        self.world.memberships[made] = Membership(made, org.id, profile.id, {r.id for r in roles}, {g.id for g in groups})

    @precondition(lambda self: self.world.memberships)
    @rule(data=st.data())
    def change_membership(self, data: Any) -> None:
        member = self.pick(data, self.world.memberships)
        roles, groups = ({t.id for t in self.some(data, things, member.org)} for things in (self.world.roles, self.world.groups))
        events = [("membership.updated", member.id, member.org)] if (roles, groups) != (member.roles, member.groups) else []
        body = {"roles": sorted(roles), "groups": sorted(groups)}
        path = f"/v1/orgs/{member.org}/memberships/{member.id}"
        self.call("PATCH", path, body, 200, *events, replicated=bool(events))
        member.roles, member.groups = roles, groups

    @precondition(lambda self: self.world.memberships)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        member = self.pick(data, self.world.memberships)
        path = f"/v1/orgs/{member.org}/memberships/{member.id}"
        self.call("DELETE", path, None, 204, ("membership.removed", member.id, member.org))
        self.world.drop_membership(member.id)

    @precondition(lambda self: self.world.orgs)
    @rule(data=st.data(), slug=st.sampled_from(["g1", "g2", "g3"]), nested=st.booleans())
    def create_group(self, data: Any, slug: str, nested: bool) -> None:
        org = self.pick(data, self.world.orgs)
        mine = {group.id: group for group in self.world.groups.values() if group.org == org.id}
        parent = self.pick(data, mine).id if nested and mine else None
        body = {"slug": slug, "name": "Group", **({"parent": parent} if parent else {})}
        if slug in {group.slug for group in mine.values()}:
            self.call("POST", f"/v1/orgs/{org.id}/groups", body, 409)
            return
        made = self.create(f"/v1/orgs/{org.id}/groups", body, "group", org.id)
        self.world.groups[made] = Group(made, org.id, slug, parent)

    @precondition(lambda self: self.world.groups)
    @rule(data=st.data(), top=st.booleans())
    def move_group(self, data: Any, top: bool) -> None:
        group = self.pick(data, self.world.groups)
        mine = {other.id: other for other in self.world.groups.values() if other.org == group.org}
        parent = None if top else self.pick(data, mine).id
        path = f"/v1/orgs/{group.org}/groups/{group.id}"
        if parent is not None and group.id in self.world.above(parent):
            self.call("PATCH", path, {"parent": parent}, 409)
            return
        events = [("group.updated", group.id, group.org)] if parent != group.parent else []
        self.call("PATCH", path, {"parent": parent}, 200, *events, replicated=bool(events))
        group.parent = parent

    @precondition(lambda self: self.world.groups)
    @rule(data=st.data())
    def delete_group(self, data: Any) -> None:
        group = self.pick(data, self.world.groups)
        path = f"/v1/orgs/{group.org}/groups/{group.slug}"
        if any(other.parent == group.id for other in self.world.groups.values()):
            self.call("DELETE", path, None, 409)
            return
        self.call("DELETE", path, None, 204, ("group.deleted", group.id, group.org))
        self.world.drop_group(group.id)

    @precondition(lambda self: self.world.orgs)
    @rule(data=st.data(), slug=st.sampled_from(["r1", "r2"]))
    def create_role(self, data: Any, slug: str) -> None:
        org = self.pick(data, self.world.orgs)
        body = {"slug": slug, "name": "Role"}
        if any((role.org, role.slug) == (org.id, slug) for role in self.world.roles.values()):
            self.call("POST", f"/v1/orgs/{org.id}/roles", body, 409)
            return
        made = self.create(f"/v1/orgs/{org.id}/roles", body, "role", org.id)
        self.world.roles[made] = Role(made, org.id, slug)

    @precondition(lambda self: self.world.roles)
    @rule(data=st.data())
    def delete_role(self, data: Any) -> None:
        role = self.pick(data, self.world.roles)
        self.call("DELETE", f"/v1/orgs/{role.org}/roles/{role.id}", None, 204, ("role.deleted", role.id, role.org))
        self.world.drop_role(role.id)

    # --- grants ----------------------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.orgs and self.world.profiles)
    @rule(data=st.data(), entitlement=st.sampled_from(ENTITLEMENTS), seconds=st.sampled_from([None, None, 4, 3600]))
    def grant(self, data: Any, entitlement: str, seconds: int | None) -> None:
        org = self.pick(data, self.world.orgs)
        tables = {"group": self.world.groups, "role": self.world.roles, "membership": self.world.memberships}
        subjects = [("org", org.id), *(("profile", profile) for profile in self.world.profiles)]
        subjects += [(kind, thing.id) for kind, table in tables.items() for thing in table.values() if thing.org == org.id]
        kind, subject = subjects[data.draw(st.integers(0, len(subjects) - 1))]
        body: dict[str, Any] = {"org": org.id, "subject": {"kind": kind, "id": subject}, "entitlement": entitlement}
        self._pass_ends()
        ends = FOREVER if seconds is None else int(time.time()) + seconds + 1.0
        if seconds is not None:
            body["expires_at"] = ends
        same = [
            g
            for g in self.world.grants.values()
            if (g.org, g.kind, g.subject, g.entitlement) == (org.id, kind, subject, entitlement)
        ]
        if same and same[0].ends > time.time():
            self.call("POST", "/v1/grants", body, 409)
            return
        if same:
            # One that has ended makes room; who finds it first says so.
            self.expected.append(("grant.expired", same[0].id, org.id))
            del self.world.grants[same[0].id]
        made = self.create("/v1/grants", body, "grant", org.id)
        self.world.grants[made] = Grant(made, org.id, kind, subject, entitlement, ends)

    @precondition(lambda self: self.world.memberships)
    @rule(data=st.data(), entitlement=st.sampled_from(ENTITLEMENTS), kind=st.sampled_from(["membership", "profile", "org"]))
    def grant_for_a_moment(self, data: Any, entitlement: str, kind: str) -> None:
        """It is there, and then it is not: all agree before anybody has tidied up."""
        member = self.pick(data, self.world.memberships)
        subject = {"membership": member.id, "profile": member.profile, "org": member.org}[kind]
        place = (member.org, kind, subject, entitlement)
        if any((grant.org, grant.kind, grant.subject, grant.entitlement) == place for grant in self.world.grants.values()):
            return
        ends = time.time() + 3 * NEAR
        body = {"org": member.org, "subject": {"kind": kind, "id": subject}, "entitlement": entitlement, "expires_at": ends}
        made = self.create("/v1/grants", body, "grant", member.org)
        self.world.grants[made] = Grant(made, member.org, kind, subject, entitlement, ends)
        self._audit_agrees()
        self._pass_ends()
        self._database_agrees(member.profile, member.org)
        time.sleep(max(ends + NEAR - time.time(), 0))
        self._audit_agrees()
        self._database_agrees(member.profile, member.org)

    @precondition(lambda self: self._lasting())
    @rule(data=st.data())
    def take_back(self, data: Any) -> None:
        grants = self._lasting()
        if grants:
            grant = self.pick(data, grants)
            self.call("DELETE", f"/v1/grants/{grant.id}", None, 204, ("grant.deleted", grant.id, grant.org))
            del self.world.grants[grant.id]

    def _lasting(self) -> dict[str, Grant]:
        """The grants that nobody but their owner ends in the next moments."""
        return {grant.id: grant for grant in self.world.grants.values() if grant.ends > time.time() + 60}

    def _pass_ends(self) -> None:
        """Wait where a grant is just about to end, so that all agree whether it has."""
        while near := [grant.ends for grant in self.world.grants.values() if abs(grant.ends - time.time()) < NEAR]:
            time.sleep(max(max(near) + NEAR - time.time(), 0.01))

    # --- credentials -----------------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.memberships)
    @rule(data=st.data(), scopes=st.sampled_from([[], ["s1"]]), narrowed=st.sampled_from([None, None, ["e:1"], ["e:2", "e:4"]]))
    def create_key(self, data: Any, scopes: list[str], narrowed: list[str] | None) -> None:
        member = self.pick(data, self.world.memberships)
        body = {"profile": member.profile, "org": member.org, "name": "Key", "scopes": scopes, "entitlements": narrowed}
        made = self.call("POST", "/v1/api-keys", body, 201)
        self.expected.append(("api_key.created", made["id"], member.org))
        kept = None if narrowed is None else set(narrowed)
        self.world.keys[made["id"]] = Key(made["id"], made["secret"], member.org, member.profile, set(scopes), kept)

    @precondition(lambda self: any(not key.revoked for key in self.world.keys.values()))
    @rule(data=st.data())
    def revoke_key(self, data: Any) -> None:
        key = self.pick(data, {key.id: key for key in self.world.keys.values() if not key.revoked})
        self.call("POST", f"/v1/api-keys/{key.id}/revoke", None, 204, ("api_key.revoked", key.id, key.org))
        key.revoked = True

    @precondition(lambda self: self.world.memberships)
    @rule(data=st.data())
    def log_in(self, data: Any) -> None:
        member = self.pick(data, self.world.memberships)
        self._session(self.world.profiles[member.profile], self.world.orgs[member.org])

    def _session(self, profile: Profile, org: Org) -> None:
        body = {"profile": profile.id, "org": org.slug}
        if profile.status != "active":
            self.call("POST", "/v1/sessions", body, 409)
            return
        made = self.call("POST", "/v1/sessions", body, 201, replicated=False)
        self.expected.append(("session.created", made["id"], org.id))
        self.world.sessions[made["id"]] = Session(made["id"], made["token"], org.id, profile.id)

    @precondition(lambda self: self._live())
    @rule(data=st.data())
    def log_out(self, data: Any) -> None:
        session = self.pick(data, self._live())
        self.call("POST", f"/v1/sessions/{session.id}/revoke", None, 204, ("session.revoked", session.id, session.org))
        session.revoked = True

    @precondition(lambda self: self.world.profiles)
    @rule(data=st.data())
    def log_out_everywhere(self, data: Any) -> None:
        profile = self.pick(data, self.world.profiles)
        path = f"/v1/profiles/{profile.id}/sessions/revoke"
        # Twice within a second, and nothing is new to a sidecar.
        some = any(session.profile == profile.id for session in self._live().values())
        self.call("POST", path, None, 200, ("profile.sessions_revoked", profile.id, None), replicated=some)
        for session in self.world.sessions.values():
            session.revoked |= session.profile == profile.id

    def _live(self) -> dict[str, Session]:
        known = self.world.profiles
        return {s.id: s for s in self.world.sessions.values() if not s.revoked and s.profile in known}

    # --- policies --------------------------------------------------------------------------------------------------------------------

    @rule(chosen=st.lists(st.sampled_from(RULES), min_size=1, unique=True))
    def publish(self, chosen: list[Rule]) -> None:
        self._publish(tuple(chosen))

    def _publish(self, rules: tuple[Rule, ...]) -> None:
        document = json.dumps({"version": 1, "rules": [_written(rule) for rule in rules]})
        path, headers = f"/v1/applications/{self.application}/policy", {"content-type": "application/json"}
        drafted = ("policy.drafted", self.application, None)
        self.call("PUT", f"{path}/draft", None, 200, drafted, replicated=False, content=document, headers=headers)
        self.call("POST", f"{path}/publish", {"note": "n"}, 201, ("policy.published", self.application, None))
        self.world.versions.append(rules)
        self.world.version = len(self.world.versions)

    @rule(data=st.data())
    def roll_back(self, data: Any) -> None:
        version = data.draw(st.integers(1, len(self.world.versions)))
        event = ("policy.rolled_back", self.application, None)
        path = f"/v1/applications/{self.application}/policy/rollback"
        self.call("POST", path, {"version": version}, 200, event, replicated=version != self.world.version)
        self.world.version = version

    # --- what must hold after each step ----------------------------------------------------------------------------------------------

    @invariant()
    def all_agree(self) -> None:
        self._audit_agrees()
        self._pass_ends()
        for profile, org in list(itertools.product(self.world.profiles, self.world.orgs))[-3:]:
            self._database_agrees(profile, org)
        for session in list(self.world.sessions.values())[-4:]:
            headers = {"authorization": f"Bearer {session.token}"}
            self._sidecar_agrees(headers, session.profile, *self.world.by_session(session, time.time()))
        for key in list(self.world.keys.values())[-3:]:
            self._sidecar_agrees({"x-api-key": key.secret}, key.profile, *self.world.by_key(key, time.time()))

    def _audit_agrees(self) -> None:
        """The events are exactly those of the calls, and those that the control plane makes by itself are of grants that ended."""
        found = self.realm.new_events()
        mine = [event[1:4] for event in found if event[4] != "system"]
        for ended in [event[1:4] for event in found if event[4] == "system" and event[1] == "grant.expired"]:
            if ended in self.expected:
                self.expected.remove(ended)
            elif ended[1] in self.world.grants:
                assert self.world.grants.pop(ended[1]).ends <= time.time()
        assert mine == self.expected
        taken = len({event[9] for event in found} - {None})
        head = self.realm._one("SELECT revision FROM catalyst.head")
        assert head >= self.realm.head + self.replicated
        assert head == self.realm.head + taken
        self.realm.head, self.expected, self.replicated = head, [], 0

    def _database_agrees(self, profile: str, org: str) -> None:
        held = self.world.held(profile, org, time.time()) or Held(set(), set(), set())
        told = self.realm.admin.get(f"/v1/profiles/{profile}/effective", org=org)
        names = ("groups", "roles", "entitlements")
        assert {name: told[name] for name in names} == {name: sorted(getattr(held, name)) for name in names}
        self.realm.compared += 1

    def _sidecar_agrees(self, credential: Mapping[str, str], profile: str, reason: str, told: Held | None) -> None:
        answer = self.realm.ask({"x-forwarded-host": f"{self.name}.example.com", **credential})
        header = "x-forward-auth-reason" if answer.status_code == 200 else "x-forward-auth-error"
        assert (answer.headers[header], answer.status_code == 200) == (reason, told is not None)
        assert int(answer.headers["x-catalyst-revision"]) >= self.realm.head
        if told is not None:
            names = ("groups", "roles", "entitlements")
            sent = {name: answer.headers[f"x-user-{name}"] for name in names}
            assert sent == {name: ",".join(sorted(getattr(told, name))) for name in names}
            assert answer.headers["x-user-sub"] == profile
        self.realm.compared += 1

    def teardown(self) -> None:
        """Leave nothing; what is asked then is no longer compared."""
        for path in (*(f"orgs/{org}" for org in self.world.orgs), *(f"profiles/{profile}" for profile in self.world.profiles)):
            self.realm.admin.client.request("DELETE", f"/v1/{path}")
        if self.application:
            self.realm.admin.client.request("DELETE", f"/v1/applications/{self.application}")
        self.realm.catch_up()


def _written(rule: Rule) -> dict[str, Any]:
    wanted = {"require": {"frozen": "yes"}} if rule.wants == "labels" else {"any": list(rule.names)}
    return {"id": rule.id, "effect": rule.effect, "paths": ["/**"], "when": {rule.wants: wanted}}
