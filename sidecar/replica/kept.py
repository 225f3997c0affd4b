"""What a replica keeps of the rows: orgs, profiles, memberships, grants, API keys, and the stamps that results hang on.

Slotted, and sharing what can be shared: a million members should cost hundreds of megabytes, not thousands. UUIDs that come in
great numbers are kept as integers (48 bytes where the text takes 96).
"""

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.policy.model import EMPTY
from sidecar.replica.rows import ApiKeyRow, uuid_text


class Stamp:
    """What a kept result hangs on: valid until something that the result came from changes, never again after that."""

    __slots__ = ("valid",)

    def __init__(self) -> None:
        self.valid = True


class Stamped:
    """Something whose changes kill the results that were made from it. A stamp costs memory only once one was asked for."""

    __slots__ = ("_stamp",)

    def __init__(self) -> None:
        self._stamp: Stamp | None = None

    @property
    def stamp(self) -> Stamp:
        """The stamp in force; valid."""
        if self._stamp is None:
            self._stamp = Stamp()
        return self._stamp

    def touch(self) -> None:
        """Say that it changed: the stamp in force dies."""
        if self._stamp is not None:
            self._stamp.valid = False
            self._stamp = None


class Org(Stamped):
    """A tenant. Its stamp also stands for its groups and roles and for what is granted to it or to them."""

    __slots__ = ("grants", "id", "places", "slug", "status")

    def __init__(self, key: int) -> None:
        super().__init__()
        self.id = uuid_text(key)
        self.slug = ""
        self.status = ""
        self.grants: dict[int, Grant] = {}
        self.places: dict[tuple[frozenset[Role], frozenset[Group]], Place] = {}

    @property
    def active(self) -> bool:
        """Whether its members may have anything."""
        return self.status == "active"


class Role:
    """A named set of entitlements of an org."""

    __slots__ = ("grants", "org", "slug")

    def __init__(self, org: Org) -> None:
        self.org = org
        self.slug = ""
        self.grants: dict[int, Grant] = {}


class Group:
    """A group of an org. `parent` is the key of the group it lies in."""

    __slots__ = ("grants", "org", "parent", "slug")

    def __init__(self, org: Org) -> None:
        self.org = org
        self.slug = ""
        self.parent: int | None = None
        self.grants: dict[int, Grant] = {}


class Held(NamedTuple):
    """What the members of one place have: slugs, entitlements, until when (epoch seconds), while `stamp` is valid."""

    groups: frozenset[str]
    roles: frozenset[str]
    entitlements: frozenset[str]
    until: float
    stamp: Stamp


class Place:
    """An org with a set of roles and groups: shared by all members who have just these, as most members of an org do."""

    __slots__ = ("groups", "held", "members", "org", "roles")

    def __init__(self, org: Org, roles: "frozenset[Role]", groups: "frozenset[Group]") -> None:
        self.org = org
        self.roles = roles
        self.groups = groups
        self.members = 0
        self.held: Held | None = None


class Membership:
    """A profile in an org."""

    __slots__ = ("place", "profile")

    def __init__(self, profile: "Profile", place: Place) -> None:
        self.profile = profile
        self.place = place


class Standing(NamedTuple):
    """The part of a profile that most profiles have in common, kept once."""

    kind: str
    status: str
    labels: Mapping[str, str]
    not_before: float


class Profile(Stamped):
    """A person or a service. Its stamp also stands for its memberships, own grants, API keys and revoked sessions.

    `not_before`: session tokens issued before this moment (epoch seconds) are refused. `email` may be empty.
    """

    __slots__ = ("email", "key", "memberships", "standing")

    def __init__(self, key: int) -> None:
        super().__init__()
        self.key = key
        self.email = ""
        self.standing = Standing("", "", EMPTY, 0.0)
        # One membership is the rule; a dict of one would cost five times its memory.
        self.memberships: Membership | dict[Org, Membership] | None = None

    @property
    def id(self) -> str:
        """Its UUID as text."""
        return uuid_text(self.key)

    @property
    def kind(self) -> str:
        """`user` or `service`."""
        return self.standing.kind

    @property
    def status(self) -> str:
        """`active`, `suspended` or `archived`."""
        return self.standing.status

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels, not to be changed."""
        return self.standing.labels

    @property
    def not_before(self) -> float:
        """Epoch seconds; 0 where nothing was ever set."""
        return self.standing.not_before

    @property
    def active(self) -> bool:
        """Whether it may have anything."""
        return self.standing.status == "active"

    def membership(self, org: Org) -> Membership | None:
        """Its membership in an org."""
        known = self.memberships
        if isinstance(known, dict):
            return known.get(org)
        return known if known is not None and known.place.org is org else None

    def join(self, membership: Membership) -> None:
        """Take a membership, in place of an earlier one in the same org."""
        org, known = membership.place.org, self.memberships
        if isinstance(known, dict):
            known[org] = membership
        elif known is None or known.place.org is org:
            self.memberships = membership
        else:
            self.memberships = {known.place.org: known, org: membership}

    def leave(self, membership: Membership) -> None:
        """Drop a membership, if it has not been replaced by another one in the same org."""
        known = self.memberships
        if known is membership:
            self.memberships = None
        elif isinstance(known, dict) and known.get(membership.place.org) is membership:
            del known[membership.place.org]


class Grant:
    """One entitlement for one holder, until `expires_at` (epoch seconds)."""

    __slots__ = ("entitlement", "expires_at", "holder", "org")

    def __init__(self, holder: "Holder", org: Org, entitlement: str, expires_at: float) -> None:
        self.holder = holder
        self.org = org
        self.entitlement = entitlement
        self.expires_at = expires_at


Holder = Org | Group | Role | Membership | Profile


class ApiKey:
    """A long-lived credential. `entitlements` None: all that the profile has; otherwise at most these.

    `sha256` is that of the whole key as the client sends it (32 bytes); `expires_at` in epoch seconds, infinite where there is
    none. What was made from it hangs on its profile's stamp.
    """

    __slots__ = ("entitlements", "expires_at", "key", "org", "profile", "revoked", "scopes", "sha256")

    def __init__(self, row: "ApiKeyRow", profile: Profile, org: Org) -> None:
        self.key = row.id
        self.profile = profile
        self.org = org
        self.sha256 = row.sha256
        self.scopes = row.scopes
        self.entitlements = row.entitlements
        self.expires_at = row.expires_at
        self.revoked = row.revoked

    @property
    def id(self) -> str:
        """The 32 hexadecimal digits that stand in the key."""
        return f"{self.key:032x}"

    @property
    def profile_id(self) -> str:
        """The UUID of its profile."""
        return self.profile.id

    @property
    def org_id(self) -> str:
        """The UUID of its org."""
        return self.org.id
