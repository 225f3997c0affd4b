"""What a policy answers to a request, and why: by the engine that sidecars enforce with, and what the database says now."""

from control_plane.changes import Work
from control_plane.errors import invalid
from control_plane.orgs import service as orgs
from control_plane.permissions import effective
from control_plane.policies import stored
from control_plane.policies.models import Asking, Explanation, Question
from control_plane.profiles import service as profiles
from sidecar.canonical import Refused, canonical_url
from sidecar.contract import Reason
from sidecar.policy.explain import Explanation as Reasons
from sidecar.policy.explain import explain
from sidecar.policy.model import ANONYMOUS, Decision, Kind, Principal
from sidecar.policy.patterns import is_served


async def answer(work: Work, reference: str, question: Question, now: float) -> Explanation:
    """The decision for a request, with every rule; 422 where the host is not the application's."""
    application = await stored.application_of(work, reference)
    try:
        request = canonical_url(question.method, question.url, question.client)
    except Refused as refused:
        return _shown(Reasons(Decision(reason=refused.reason), ()))
    if not is_served(request.host, application.hosts):
        raise invalid("/url", Reason.UNKNOWN_HOST, "The application has no such host.")
    policy = await (stored.drafted if question.draft else stored.in_force)(work, application)
    principal = ANONYMOUS if question.principal is None else await _principal(work, question.principal, now)
    return _shown(explain(policy, request, principal, now))


async def _principal(work: Work, asking: Asking, now: float) -> Principal:
    """What a credential of this profile would prove; 422 where a sidecar would not ask the policy at all."""
    profile = await profiles.read(work, asking.profile, "/principal/profile")
    org = await orgs.read(work, asking.org, "/principal/org")
    held = await effective(work.connection, profile.id, org.id)
    if held is None or held.profile_status != "active" or held.org_status != "active":
        raise invalid("/principal/profile", "not_a_member", "The profile is no active member of an active org.")
    return Principal(
        kind=Kind(asking.kind),
        sub=str(profile.id),
        email=profile.email or "",
        org_id=str(org.id),
        org_slug=org.slug,
        groups=frozenset(held.groups),
        roles=frozenset(held.roles),
        entitlements=frozenset(held.entitlements),
        scopes=frozenset(asking.scopes),
        labels=profile.labels,
        amr=frozenset(asking.amr),
        acr=asking.acr,
        auth_time=int(asking.auth_time.timestamp() if asking.auth_time else now),
    )


def _shown(reasons: Reasons) -> Explanation:
    return Explanation.model_validate(reasons, from_attributes=True)
