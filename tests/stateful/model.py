"""What Catalyst Auth must say, worked out a second time and as plainly as can be: dictionaries, no database, no sidecar."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Org:
    id: str
    slug: str
    status: str = "active"


@dataclass
class Profile:
    id: str
    status: str = "active"
    labels: dict[str, str] = field(default_factory=dict)


@dataclass
class Group:
    id: str
    org: str
    slug: str
    parent: str | None


@dataclass
class Role:
    id: str
    org: str
    slug: str


@dataclass
class Membership:
    id: str
    org: str
    profile: str
    roles: set[str]
    groups: set[str]


@dataclass
class Grant:
    """`ends`: seconds since the epoch; infinity: never."""

    id: str
    org: str
    kind: str
    subject: str
    entitlement: str
    ends: float


@dataclass
class Key:
    id: str
    secret: str
    org: str
    profile: str
    scopes: set[str]
    entitlements: set[str] | None
    revoked: bool = False


@dataclass
class Session:
    id: str
    token: str
    org: str
    profile: str
    revoked: bool = False


@dataclass(frozen=True)
class Rule:
    """`wants`: what is looked at (entitlements, roles, groups, scopes, labels); `names`: one of them must be there."""

    id: str
    effect: str
    wants: str
    names: tuple[str, ...]


RULES = (
    Rule("first", "allow", "entitlements", ("e:1",)),
    Rule("others", "allow", "entitlements", ("e:2", "e:3")),
    Rule("by-role", "allow", "roles", ("r1",)),
    Rule("by-group", "allow", "groups", ("g1",)),
    Rule("by-scope", "allow", "scopes", ("s1",)),
    Rule("no-group", "deny", "groups", ("g3",)),
    Rule("no-right", "deny", "entitlements", ("e:4",)),
    Rule("no-frozen", "deny", "labels", ("frozen",)),
)
ENTITLEMENTS = ("e:1", "e:2", "e:3", "e:4")


@dataclass
class Held:
    """What a member has in an org."""

    groups: set[str]
    roles: set[str]
    entitlements: set[str]


@dataclass
class World:
    """Everything there is. `versions`: each policy version's rules; `version`: the one in force."""

    orgs: dict[str, Org] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    memberships: dict[str, Membership] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    versions: list[tuple[Rule, ...]] = field(default_factory=list)
    version: int = 0

    def membership(self, profile: str, org: str) -> Membership | None:
        return next((m for m in self.memberships.values() if (m.profile, m.org) == (profile, org)), None)

    def above(self, group: str) -> Iterator[str]:
        """A group and its ancestors."""
        step: str | None = group
        while step is not None:
            yield step
            step = self.groups[step].parent

    def held(self, profile: str, org: str, now: float) -> Held | None:
        """None without membership; nothing unless org and profile are active."""
        member = self.membership(profile, org)
        if member is None:
            return None
        if (self.orgs[org].status, self.profiles[profile].status) != ("active", "active"):
            return Held(set(), set(), set())
        groups = {above for group in member.groups for above in self.above(group)}
        subjects = {("org", org), ("membership", member.id), ("profile", profile)}
        subjects |= {("role", role) for role in member.roles} | {("group", group) for group in groups}
        grants = [grant for grant in self.grants.values() if grant.org == org and grant.ends > now]
        return Held(
            {self.groups[group].slug for group in groups},
            {self.roles[role].slug for role in member.roles},
            {grant.entitlement for grant in grants if (grant.kind, grant.subject) in subjects},
        )

    # --- what goes with what -----------------------------------------------------------------------------------------------------

    def drop_org(self, org: str) -> None:
        del self.orgs[org]
        for member in [m.id for m in self.memberships.values() if m.org == org]:
            self.drop_membership(member)
        tables: tuple[dict[str, Group] | dict[str, Role] | dict[str, Grant], ...] = (self.groups, self.roles, self.grants)
        for table in tables:
            for thing in [thing.id for thing in table.values() if thing.org == org]:
                del table[thing]
        for session in self.sessions.values():
            session.revoked |= session.org == org

    def drop_profile(self, profile: str) -> None:
        del self.profiles[profile]
        for member in [m.id for m in self.memberships.values() if m.profile == profile]:
            self.drop_membership(member)
        self._drop_grants("profile", profile)

    def drop_membership(self, membership: str) -> None:
        member = self.memberships.pop(membership)
        self._drop_grants("membership", membership)
        for key in [key.id for key in self.keys.values() if (key.org, key.profile) == (member.org, member.profile)]:
            self.keys[key].revoked = True

    def drop_group(self, group: str) -> None:
        del self.groups[group]
        self._drop_grants("group", group)
        for member in self.memberships.values():
            member.groups.discard(group)

    def drop_role(self, role: str) -> None:
        del self.roles[role]
        self._drop_grants("role", role)
        for member in self.memberships.values():
            member.roles.discard(role)

    def _drop_grants(self, kind: str, subject: str) -> None:
        for grant in [g.id for g in self.grants.values() if (g.kind, g.subject) == (kind, subject)]:
            del self.grants[grant]

    # --- what a sidecar must answer ------------------------------------------------------------------------------------------------

    def by_session(self, session: Session, now: float) -> tuple[str, Held | None]:
        """The reason of the answer to a request with a session's token, and what the application is told on allow."""
        if session.profile not in self.profiles:
            return "invalid_token", None
        if self.profiles[session.profile].status == "active" and session.revoked:
            return "revoked_session", None
        return self._answer(session.profile, session.org, now, set(), None)

    def by_key(self, key: Key, now: float) -> tuple[str, Held | None]:
        """The same for an API key."""
        return ("invalid_api_key", None) if key.revoked else self._answer(key.profile, key.org, now, key.scopes, key.entitlements)

    def _answer(self, profile: str, org: str, now: float, scopes: set[str], narrowed: set[str] | None) -> tuple[str, Held | None]:
        if self.profiles[profile].status != "active":
            return "profile_suspended", None
        held = self.held(profile, org, now) if org in self.orgs else None
        if held is None:
            return "not_a_member", None
        if self.orgs[org].status != "active":
            return "org_suspended", None
        if narrowed is not None:
            held.entitlements &= narrowed
        has = {
            "entitlements": held.entitlements, "roles": held.roles, "groups": held.groups, "scopes": scopes,
            "labels": set(self.profiles[profile].labels),
        }  # fmt: skip
        rules = [rule for rule in self.versions[self.version - 1] if has[rule.wants] & set(rule.names)]
        for effect in ("deny", "allow"):
            for rule in rules:
                if rule.effect == effect:
                    return f"policy.rule.{rule.id}.{effect}", held if effect == "allow" else None
        return "policy_denied", None
