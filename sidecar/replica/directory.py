"""Who is who: orgs, profiles, memberships, roles, groups, grants, API keys, and what follows from them for one member.

Kept normalised: a grant to a group of a hundred thousand is one object here. What a member has is worked out when asked. Every
change touches the one org or profile whose results it can alter.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from sidecar.policy.model import FOREVER
from sidecar.replica.kept import ApiKey, Grant, Group, Held, Holder, Membership, Org, Place, Profile, Role, Standing
from sidecar.replica.rows import (
    ApiKeyRow,
    GrantRow,
    GroupRow,
    MembershipGroupRow,
    MembershipRoleRow,
    MembershipRow,
    OrgRow,
    ProfileRow,
    RevocationRow,
    RoleRow,
    hex_key,
    uuid_key,
)

_NONE: Final[Mapping[int, Grant]] = {}
_SLICE: Final = 5_000


class Directory:
    """The rows, linked. `put_…` takes a new or changed row, `drop_…` its key; a row that refers to nothing raises KeyError."""

    def __init__(self) -> None:
        self.orgs: dict[int, Org] = {}
        self.orgs_by_slug: dict[str, Org] = {}
        self.profiles: dict[int, Profile] = {}
        self.groups: dict[int, Group] = {}
        self.roles: dict[int, Role] = {}
        self.memberships: dict[int, Membership] = {}
        self.grants: dict[int, Grant] = {}
        self.own_grants: dict[Membership | Profile, dict[int, Grant]] = {}
        self.api_keys: dict[int, ApiKey] = {}
        self.revocations: dict[str, RevocationRow] = {}
        self._standings: dict[tuple[str, str], Standing] = {}

    def take_apart(self) -> Iterator[None]:
        """Let go of everything, a slice at a time: freeing a million objects at once would hold the loop up.

        Circles are broken by hand, as what was there after a full read is frozen: the collector no longer looks at it.
        """
        self.revocations.clear()
        self.own_grants.clear()
        self.orgs_by_slug.clear()
        tables: tuple[dict[int, Any], ...] = (
            self.profiles, self.memberships, self.grants, self.api_keys, self.roles, self.groups, self.orgs,
        )  # fmt: skip
        for table in tables:
            while table:
                for _ in range(min(_SLICE, len(table))):
                    _let_go(table.popitem()[1])
                yield

    # --- questions -------------------------------------------------------------------------------------------------------------

    def org(self, org_id: str) -> Org | None:
        """An org by its UUID in text."""
        with suppress(ValueError):
            return self.orgs.get(uuid_key(org_id))
        return None

    def profile(self, profile_id: str) -> Profile | None:
        """A profile by its UUID in text."""
        with suppress(ValueError):
            return self.profiles.get(uuid_key(profile_id))
        return None

    def api_key(self, key_id: str) -> ApiKey | None:
        """An API key by the 32 hexadecimal digits in it, revoked and expired ones too."""
        with suppress(ValueError):
            return self.api_keys.get(hex_key(key_id))
        return None

    def held(self, membership: Membership, now: float) -> Held:
        """What a membership has at `now`, by its place and on its own."""
        shared = self._held_by_place(membership.place, now)
        until = shared.until
        own: list[str] = []
        for holder in (membership, membership.profile):
            for grant in self.own_grants.get(holder, _NONE).values():
                if grant.org is membership.place.org and grant.expires_at > now:
                    own.append(grant.entitlement)
                    until = min(until, grant.expires_at)
        if not own:
            return shared
        return shared._replace(entitlements=shared.entitlements.union(own), until=until)

    def _held_by_place(self, place: Place, now: float) -> Held:
        held = place.held
        if held is None or not held.stamp.valid or now >= held.until:
            held = place.held = self._work_out(place, now)
        return held

    def _work_out(self, place: Place, now: float) -> Held:
        groups = self._with_ancestors(place.groups)
        entitlements: set[str] = set()
        until = FOREVER
        holders: tuple[Org | Role | Group, ...] = (place.org, *place.roles, *groups)
        for holder in holders:
            for grant in holder.grants.values():
                if grant.expires_at > now:
                    entitlements.add(grant.entitlement)
                    until = min(until, grant.expires_at)
        return Held(
            frozenset(group.slug for group in groups),
            frozenset(role.slug for role in place.roles),
            frozenset(entitlements),
            until,
            place.org.stamp,
        )

    def _with_ancestors(self, groups: Iterable[Group]) -> set[Group]:
        """The groups and all that they lie in. A cycle, which the database refuses, would only end the walk."""
        found: set[Group] = set()
        for start in groups:
            group: Group | None = start
            while group is not None and group not in found:
                found.add(group)
                group = self.groups.get(group.parent) if group.parent is not None else None
        return found

    # --- orgs and what belongs to them ---------------------------------------------------------------------------------------

    def put_org(self, row: OrgRow) -> None:
        """Take an org."""
        org = self.orgs.setdefault(row.id, Org(row.id))
        self._forget_slug(org)
        org.slug, org.status = row.slug, row.status
        self.orgs_by_slug[row.slug] = org
        org.touch()

    def drop_org(self, key: int) -> None:
        """Forget an org."""
        org = self.orgs.pop(key, None)
        if org is not None:
            self._forget_slug(org)
            org.touch()

    def _forget_slug(self, org: Org) -> None:
        if self.orgs_by_slug.get(org.slug) is org:
            del self.orgs_by_slug[org.slug]

    def put_group(self, row: GroupRow) -> None:
        """Take a group."""
        org = self.orgs[row.org_id]
        group = self.groups.setdefault(row.id, Group(org))
        group.org.touch()
        group.org, group.slug, group.parent = org, row.slug, row.parent_id
        org.touch()

    def drop_group(self, key: int) -> None:
        """Forget a group."""
        group = self.groups.pop(key, None)
        if group is not None:
            group.org.touch()

    def put_role(self, row: RoleRow) -> None:
        """Take a role."""
        org = self.orgs[row.org_id]
        role = self.roles.setdefault(row.id, Role(org))
        role.org.touch()
        role.org, role.slug = org, row.slug
        org.touch()

    def drop_role(self, key: int) -> None:
        """Forget a role."""
        role = self.roles.pop(key, None)
        if role is not None:
            role.org.touch()

    # --- profiles and what belongs to them -----------------------------------------------------------------------------------

    def put_profile(self, row: ProfileRow) -> None:
        """Take a profile."""
        profile = self.profiles.get(row.id)
        if profile is None:
            profile = self.profiles[row.id] = Profile(row.id)
        profile.email = row.email
        profile.standing = self._shared(Standing(row.kind, row.status, row.labels, row.not_before))
        profile.touch()

    def _shared(self, standing: Standing) -> Standing:
        """The one copy of a standing without anything personal in it: a handful in all."""
        if standing.labels or standing.not_before:
            return standing
        return self._standings.setdefault((standing.kind, standing.status), standing)

    def drop_profile(self, key: int) -> None:
        """Forget a profile."""
        profile = self.profiles.pop(key, None)
        if profile is not None:
            profile.touch()

    def put_membership(self, row: MembershipRow) -> None:
        """Take a membership; one that moved keeps its roles and groups until their links are dropped."""
        org, profile = self.orgs[row.org_id], self.profiles[row.profile_id]
        membership = self.memberships.get(row.id)
        if membership is None:
            place = _enter(org, frozenset(), frozenset())
            membership = self.memberships[row.id] = Membership(profile, place)
        else:
            self._detach(membership)
            membership.profile = profile
            membership.place = _enter(org, membership.place.roles, membership.place.groups)
        profile.join(membership)
        profile.touch()

    def drop_membership(self, key: int) -> None:
        """Forget a membership."""
        membership = self.memberships.pop(key, None)
        if membership is not None:
            self._detach(membership)

    def _detach(self, membership: Membership) -> None:
        _leave(membership.place)
        membership.profile.leave(membership)
        membership.profile.touch()

    def put_membership_role(self, row: MembershipRoleRow) -> None:
        """Give a role to a membership."""
        membership = self.memberships[row.membership_id]
        _move(membership, membership.place.roles | {self.roles[row.role_id]}, membership.place.groups)

    def drop_membership_role(self, key: tuple[int, int]) -> None:
        """Take a role from a membership."""
        membership, role = self.memberships.get(key[0]), self.roles.get(key[1])
        if membership is not None and role is not None:
            _move(membership, membership.place.roles - {role}, membership.place.groups)

    def put_membership_group(self, row: MembershipGroupRow) -> None:
        """Put a membership into a group."""
        membership = self.memberships[row.membership_id]
        _move(membership, membership.place.roles, membership.place.groups | {self.groups[row.group_id]})

    def drop_membership_group(self, key: tuple[int, int]) -> None:
        """Take a membership out of a group."""
        membership, group = self.memberships.get(key[0]), self.groups.get(key[1])
        if membership is not None and group is not None:
            _move(membership, membership.place.roles, membership.place.groups - {group})

    # --- grants and credentials ------------------------------------------------------------------------------------------------

    def put_grant(self, row: GrantRow) -> None:
        """Take a grant."""
        holder = self._holder(row.subject_kind, row.subject_id)
        org = self.orgs[row.org_id]
        self.drop_grant(row.id)
        grant = self.grants[row.id] = Grant(holder, org, row.entitlement, row.expires_at)
        if isinstance(holder, Membership | Profile):
            self.own_grants.setdefault(holder, {})[row.id] = grant
        else:
            holder.grants[row.id] = grant
        _touch_holder(holder)

    def drop_grant(self, key: int) -> None:
        """Forget a grant."""
        grant = self.grants.pop(key, None)
        if grant is None:
            return
        if isinstance(grant.holder, Membership | Profile):
            own = self.own_grants[grant.holder]
            del own[key]
            if not own:
                del self.own_grants[grant.holder]
        else:
            del grant.holder.grants[key]
        _touch_holder(grant.holder)

    def _holder(self, kind: str, key: int) -> Holder:
        match kind:
            case "org":
                return self.orgs[key]
            case "group":
                return self.groups[key]
            case "role":
                return self.roles[key]
            case "membership":
                return self.memberships[key]
            case "profile":
                return self.profiles[key]
        raise KeyError(kind)

    def put_api_key(self, row: ApiKeyRow) -> None:
        """Take an API key."""
        profile, org = self.profiles[row.profile_id], self.orgs[row.org_id]
        self.drop_api_key(row.id)
        self.api_keys[row.id] = ApiKey(row, profile, org)
        profile.touch()

    def drop_api_key(self, key: int) -> None:
        """Forget an API key."""
        api_key = self.api_keys.pop(key, None)
        if api_key is not None:
            api_key.profile.touch()

    def put_revocation(self, row: RevocationRow) -> None:
        """Take the end of a session."""
        self.revocations[row.session_id] = row
        self._touch_profile(row.profile_id)

    def drop_revocation(self, session_id: str) -> None:
        """Forget the end of a session: by now no token of it could pass."""
        row = self.revocations.pop(session_id, None)
        if row is not None:
            self._touch_profile(row.profile_id)

    def _touch_profile(self, key: int) -> None:
        profile = self.profiles.get(key)
        if profile is not None:
            profile.touch()


def _enter(org: Org, roles: frozenset[Role], groups: frozenset[Group]) -> Place:
    """The org's place with just these roles and groups, one member more."""
    place = org.places.get((roles, groups))
    if place is None:
        place = org.places[roles, groups] = Place(org, roles, groups)
    place.members += 1
    return place


def _leave(place: Place) -> None:
    """One member less; a place without members is forgotten."""
    place.members -= 1
    if not place.members:
        del place.org.places[place.roles, place.groups]


def _move(membership: Membership, roles: frozenset[Role], groups: frozenset[Group]) -> None:
    """Give a membership other roles and groups."""
    place = membership.place
    membership.place = _enter(place.org, roles, groups)
    _leave(place)
    membership.profile.touch()


def _touch_holder(holder: Holder) -> None:
    """Touch the org or the profile whose results a grant to this holder alters."""
    match holder:
        case Org() | Profile():
            holder.touch()
        case Membership():
            holder.profile.touch()
        case Group() | Role():
            holder.org.touch()


def _let_go(thing: object) -> None:
    """Break the circles that something stands in."""
    match thing:
        case Profile():
            thing.memberships = None
        case Org():
            thing.places.clear()
            thing.grants.clear()
        case Role() | Group():
            thing.grants.clear()
