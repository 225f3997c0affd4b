"""A state written out as the rows that it stands for, to be compared with the rows of the views."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sidecar.policy.model import FOREVER
from sidecar.replica.kept import Grant, Group, Membership, Org, Profile, Role
from sidecar.replica.rows import uuid_text
from sidecar.replica.state import State

Rows = dict[str, list[str]]


def written(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Rows in an order and a spelling that can be compared."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def rows_of(state: State) -> Rows:
    """Every row that the state holds, by relation."""
    return {relation: written(rows) for relation, rows in _relations(state).items()}


def _relations(state: State) -> dict[str, Iterator[dict[str, Any]]]:
    people, applications = state.directory, state.catalogue.applications.values()
    return {
        "orgs": ({"id": org.id, "slug": org.slug, "status": org.status} for org in people.orgs.values()),
        "profiles": map(_profile, people.profiles.values()),
        "groups": (
            {
                "id": uuid_text(key),
                "org_id": group.org.id,
                "slug": group.slug,
                "parent_id": group.parent and uuid_text(group.parent),
            }
            for key, group in people.groups.items()
        ),
        "roles": ({"id": uuid_text(key), "org_id": role.org.id, "slug": role.slug} for key, role in people.roles.items()),
        "memberships": (
            {"id": uuid_text(key), "org_id": membership.place.org.id, "profile_id": membership.profile.id}
            for key, membership in people.memberships.items()
            if membership.profile.membership(membership.place.org) is membership
        ),
        "membership_roles": _links(state, "role", people.roles),
        "membership_groups": _links(state, "group", people.groups),
        "grants": (_grant(state, key, grant) for key, grant in people.grants.items()),
        "api_keys": (
            {
                "id": key.id,
                "org_id": key.org_id,
                "profile_id": key.profile_id,
                "sha256": key.sha256.hex(),
                "scopes": sorted(key.scopes),
                "entitlements": None if key.entitlements is None else sorted(key.entitlements),
                "expires_at": _time(key.expires_at),
                "revoked": key.revoked,
            }
            for key in people.api_keys.values()
        ),
        "session_revocations": (
            {"session_id": row.session_id, "profile_id": uuid_text(row.profile_id), "until": row.until}
            for row in people.revocations.values()
        ),
        "signing_keys": (
            {"kid": row.kid, "algorithm": row.algorithm, "status": row.status, "jwk": row.jwk, "not_after": _time(row.not_after)}
            for row in state.signing_keys.values()
        ),
        "applications": (
            {
                "id": application.id,
                "slug": application.slug,
                "entitlement_prefixes": list(application.entitlement_prefixes),
                "assertions": application.assertions,
            }
            for application in applications
        ),
        "application_hosts": (
            {"host": host, "application_id": application.id}
            for host, application in state.catalogue.hosts.items()
            if host in application.hosts
        ),
        "policies": (
            {
                "application_id": application.id,
                "version": application.published.version,
                "document": application.published.document,
            }
            for application in applications
            if application.published is not None
        ),
        "shadow_policies": (
            {"application_id": application.id, "etag": application.shadow.row.etag, "document": application.shadow.row.document}
            for application in applications
            if application.shadow is not None
        ),
    }


def _time(moment: float) -> float | None:
    return None if moment == FOREVER else moment


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "kind": profile.kind,
        "email": profile.email or None,
        "status": profile.status,
        "labels": dict(profile.labels),
        "not_before": profile.not_before or None,
    }


def _links(state: State, what: str, things: dict[int, Any]) -> Iterator[dict[str, Any]]:
    ids = {thing: uuid_text(key) for key, thing in things.items()}
    for key, membership in state.directory.memberships.items():
        for thing in getattr(membership.place, what + "s"):
            yield {"membership_id": uuid_text(key), what + "_id": ids[thing]}


def _grant(state: State, key: int, grant: Grant) -> dict[str, Any]:
    holder = grant.holder
    kinds = {Org: "org", Group: "group", Role: "role", Membership: "membership", Profile: "profile"}
    if isinstance(holder, Membership | Profile):
        assert state.directory.own_grants[holder][key] is grant
    else:
        assert holder.grants[key] is grant
    return {
        "id": uuid_text(key),
        "org_id": grant.org.id,
        "subject_kind": kinds[type(holder)],
        "subject_id": _id_of(state, holder),
        "entitlement": grant.entitlement,
        "expires_at": _time(grant.expires_at),
    }


def _id_of(state: State, holder: Org | Group | Role | Membership | Profile) -> str:
    if isinstance(holder, Org | Profile):
        return holder.id
    people = state.directory
    tables: tuple[dict[int, Any], ...] = (people.groups, people.roles, people.memberships)
    return next(uuid_text(key) for table in tables for key, thing in table.items() if thing is holder)
