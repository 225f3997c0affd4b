"""Places a proven profile in an org: what it may do there, and until when that is known to hold."""

from typing import NamedTuple

from sidecar.contract import Reason
from sidecar.identity import Proof, Refused, Stamp
from sidecar.policy.model import Kind, Principal
from sidecar.replica.kept import Org
from sidecar.replica.state import State


class Member(NamedTuple):
    """A principal, valid while all `stamps` are and until `until` (seconds since the epoch). `api_key`: as `Proof` has it."""

    principal: Principal
    until: float
    stamps: tuple[Stamp, ...]
    api_key: int | None = None


def member(proof: Proof, wanted_org: str, state: State, now: float) -> Member:
    """The principal in the org that `wanted_org` (an id or a slug; empty: the credential's own) names.

    Raises `Refused`: `PROFILE_SUSPENDED`, `ORG_REQUIRED`, `NOT_A_MEMBER`, `ORG_SUSPENDED`. Who is not a member does not learn
    how an org stands, or whether there is one.
    """
    profile = state.profile(proof.profile_id)
    if profile is None:
        raise Refused(Reason.INVALID_TOKEN if proof.kind is Kind.SESSION else Reason.INVALID_API_KEY)
    if profile.status != "active":
        raise Refused(Reason.PROFILE_SUSPENDED)
    org = _org(proof, wanted_org, state)
    effective = state.effective(proof.profile_id, org.id, now)
    if effective is None:
        raise Refused(Reason.NOT_A_MEMBER)
    if org.status != "active":
        raise Refused(Reason.ORG_SUSPENDED)
    entitlements = effective.entitlements
    principal = Principal(
        kind=proof.kind,
        sub=profile.id,
        email=profile.email,
        org_id=org.id,
        org_slug=org.slug,
        session_id=proof.session_id,
        groups=effective.groups,
        roles=effective.roles,
        entitlements=entitlements if proof.entitlements is None else entitlements & proof.entitlements,
        scopes=proof.scopes,
        labels=profile.labels,
        amr=proof.amr,
        acr=proof.acr,
        auth_time=proof.auth_time,
    )
    return Member(principal, min(effective.until, proof.until), (*effective.stamps, *proof.stamps), proof.api_key)


def _org(proof: Proof, wanted: str, state: State) -> Org:
    """The org that is meant. An API key belongs to one org, as does a session of `org_only`; others may ask for another one."""
    if not wanted and not proof.org_id:
        raise Refused(Reason.ORG_REQUIRED)
    org = state.org(wanted or proof.org_id) or (state.org_by_slug(wanted) if wanted else None)
    if org is None or ((proof.kind is Kind.API_KEY or proof.org_only) and org.id != proof.org_id):
        raise Refused(Reason.NOT_A_MEMBER)
    return org
