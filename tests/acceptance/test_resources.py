"""Each resource, over HTTP and over the command line: what it answers, the audit event and the revision it leaves."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from control_plane.app import api_routes
from control_plane.cli import resources
from control_plane.cli_description import BY_HAND
from tests.acceptance.command_line import catalyst, catalyst_here
from tests.acceptance.plane import Api, Plane
from tests.providers.liar import Liar
from tests.webhooks.receiver import Receiver


@dataclass
class Step:
    """One operation, as a command and as a request. `{name}` stands for what an earlier step saved under that name."""

    command: str
    request: str
    body: Any = None
    event: str = ""
    """The audit event it leaves, the one about `resource` last where it leaves several; none where it only reads."""
    moves: bool = True
    """Whether sidecars must know: the revision goes on by one. For changes only."""
    has: dict[str, Any] = field(default_factory=dict)
    save: str = ""
    told: bool = False
    """Whether the events of the steps before it go to the webhooks first."""
    resource: str = ""
    """What its event is about; where it is not told, the id in the answer."""


ORG = Step("orgs create --slug acme --name Acme", "POST /v1/orgs", {"slug": "acme", "name": "Acme"}, "org.created", save="org")
ANN = Step(
    "profiles create --email ann@acme.example --display-name Ann --labels plan=pro --labels tier=1"
    " --identities issuer=https://idp.example,subject=a:1",
    "POST /v1/profiles",
    {
        "email": "ann@acme.example",
        "display_name": "Ann",
        "labels": {"plan": "pro", "tier": "1"},
        "identities": [{"issuer": "https://idp.example", "subject": "a:1"}],
    },
    "profile.created",
    has={
        "kind": "user",
        "email": "ann@acme.example",
        "labels": {"plan": "pro", "tier": "1"},
        "identities": [{"issuer": "https://idp.example", "subject": "a:1"}],
    },
    save="ann",
)
MEMBER = Step(
    "memberships create acme --profile {ann}",
    "POST /v1/orgs/acme/memberships",
    {"profile": "{ann}"},
    "membership.created",
    save="membership",
)
EU = Step(
    "groups create acme --slug eu --name Europe",
    "POST /v1/orgs/acme/groups",
    {"slug": "eu", "name": "Europe"},
    "group.created",
    save="eu",
)
BUYER = Step(
    "roles create acme --slug buyer --name Buyer",
    "POST /v1/orgs/acme/roles",
    {"slug": "buyer", "name": "Buyer"},
    "role.created",
    save="buyer",
)

SCENARIOS: dict[str, list[Step]] = {
    "orgs": [
        ORG,
        Step("orgs show acme", "GET /v1/orgs/acme", has={"slug": "acme", "status": "active"}),
        Step("orgs list --status active --limit 1", "GET /v1/orgs?status=active&limit=1", has={"slug": "acme"}),
        Step(
            "orgs update acme --status suspended",
            "PATCH /v1/orgs/acme",
            {"status": "suspended"},
            "org.updated",
            has={"status": "suspended"},
        ),
        Step("orgs delete acme --yes", "DELETE /v1/orgs/acme", event="org.deleted", resource="{org}"),
    ],
    "profiles": [
        ANN,
        ORG,
        MEMBER,
        Step("profiles show {ann}", "GET /v1/profiles/{ann}", has={"display_name": "Ann"}),
        Step("profiles list --email ANN@acme.example", "GET /v1/profiles?email=ANN@acme.example", has={"id": "{ann}"}),
        Step(
            "profiles update {ann} --display-name 'Ann B.' --unset email --unset labels",
            "PATCH /v1/profiles/{ann}",
            {"display_name": "Ann B.", "email": None, "labels": {}},
            "profile.updated",
            has={"display_name": "Ann B.", "email": None, "labels": {}},
        ),
        Step("profiles effective {ann} --org acme", "GET /v1/profiles/{ann}/effective?org=acme", has={"entitlements": []}),
        Step("profiles export {ann}", "GET /v1/profiles/{ann}/export", has={"sessions": [], "decisions": []}),
        Step(
            "profiles delete {ann} --yes",
            "DELETE /v1/profiles/{ann}",
            event="membership.removed profile.deleted",
            resource="{ann}",
        ),
    ],
    "erasure": [
        ANN,
        ORG,
        MEMBER,
        Step(
            "profiles erase {ann} --yes",
            "POST /v1/profiles/{ann}/erase",
            event="membership.removed profile.erased",
            has={"memberships": 1, "grants": 0},
            resource="{ann}",
        ),
    ],
    "memberships": [
        ORG,
        ANN,
        EU,
        BUYER,
        Step(
            "memberships create acme --profile {ann} --roles buyer --groups eu",
            "POST /v1/orgs/acme/memberships",
            {"profile": "{ann}", "roles": ["buyer"], "groups": ["eu"]},
            "membership.created",
            has={"roles": ["buyer"], "groups": ["eu"]},
            save="membership",
        ),
        Step("memberships show acme {membership}", "GET /v1/orgs/acme/memberships/{membership}", has={"profile": "{ann}"}),
        Step("memberships list acme --profile {ann}", "GET /v1/orgs/acme/memberships?profile={ann}", has={"id": "{membership}"}),
        Step(
            "memberships update acme {membership} --unset roles",
            "PATCH /v1/orgs/acme/memberships/{membership}",
            {"roles": []},
            "membership.updated",
            has={"roles": [], "groups": ["eu"]},
        ),
        Step(
            "memberships delete acme {membership}",
            "DELETE /v1/orgs/acme/memberships/{membership}",
            event="membership.removed",
            resource="{membership}",
        ),
    ],
    "groups": [
        ORG,
        EU,
        Step(
            "groups create acme --slug berlin --name Berlin --parent eu",
            "POST /v1/orgs/acme/groups",
            {"slug": "berlin", "name": "Berlin", "parent": "eu"},
            "group.created",
            has={"parent": "{eu}"},
        ),
        Step("groups show acme berlin", "GET /v1/orgs/acme/groups/berlin", has={"parent": "{eu}"}),
        Step("groups list acme --limit 1", "GET /v1/orgs/acme/groups?limit=1", has={"slug": "berlin"}),
        Step(
            "groups update acme berlin --unset parent",
            "PATCH /v1/orgs/acme/groups/berlin",
            {"parent": None},
            "group.updated",
            has={"parent": None},
        ),
        Step("groups delete acme eu", "DELETE /v1/orgs/acme/groups/eu", event="group.deleted", resource="{eu}"),
    ],
    "roles": [
        ORG,
        BUYER,
        Step("roles show acme buyer", "GET /v1/orgs/acme/roles/buyer", has={"name": "Buyer"}),
        Step("roles list acme", "GET /v1/orgs/acme/roles", has={"id": "{buyer}"}),
        # A role's name is no sidecar's business: nothing travels, and no revision is taken.
        Step(
            "roles update acme buyer --name Buyers",
            "PATCH /v1/orgs/acme/roles/buyer",
            {"name": "Buyers"},
            "role.updated",
            moves=False,
            has={"name": "Buyers"},
        ),
        Step("roles delete acme buyer", "DELETE /v1/orgs/acme/roles/buyer", event="role.deleted", resource="{buyer}"),
    ],
    "grants": [
        ORG,
        BUYER,
        Step(
            "grants create --org acme --subject role:buyer --entitlement orders:read --expires-at 2099-01-01T00:00:00Z --reason why",
            "POST /v1/grants",
            {
                "org": "acme",
                "subject": {"kind": "role", "id": "buyer"},
                "entitlement": "orders:read",
                "expires_at": "2099-01-01T00:00:00Z",
                "reason": "why",
            },
            "grant.created",
            has={"subject": {"kind": "role", "id": "{buyer}"}, "entitlement": "orders:read", "reason": "why"},
            save="grant",
        ),
        Step("grants show {grant}", "GET /v1/grants/{grant}", has={"entitlement": "orders:read"}),
        Step("grants list --org acme --subject-kind role", "GET /v1/grants?org=acme&subject_kind=role", has={"id": "{grant}"}),
        Step("grants delete {grant}", "DELETE /v1/grants/{grant}", event="grant.deleted", resource="{grant}"),
    ],
    "api-keys": [
        ORG,
        ANN,
        MEMBER,
        Step(
            "api-keys create --profile {ann} --org acme --name ci --scopes orders --entitlements orders:read",
            "POST /v1/api-keys",
            {"profile": "{ann}", "org": "acme", "name": "ci", "scopes": ["orders"], "entitlements": ["orders:read"]},
            "api_key.created",
            has={"scopes": ["orders"], "entitlements": ["orders:read"], "revoked_at": None},
            save="key",
        ),
        Step("api-keys show {key}", "GET /v1/api-keys/{key}", has={"name": "ci"}),
        Step("api-keys list --org acme", "GET /v1/api-keys?org=acme", has={"id": "{key}"}),
        Step(
            "api-keys rotate {key} --overlap-seconds 60",
            "POST /v1/api-keys/{key}/rotate",
            {"overlap_seconds": 60},
            "api_key.created api_key.rotated",
            has={"name": "ci"},
            resource="{key}",
        ),
        Step("api-keys revoke {key}", "POST /v1/api-keys/{key}/revoke", event="api_key.revoked", resource="{key}"),
    ],
    "sessions": [
        ORG,
        ANN,
        MEMBER,
        # A login is no sidecar's business either.
        Step(
            "sessions create --profile {ann} --org acme --amr pwd --amr otp",
            "POST /v1/sessions",
            {"profile": "{ann}", "org": "acme", "amr": ["pwd", "otp"]},
            "session.created",
            moves=False,
            save="session",
        ),
        Step("sessions show {session}", "GET /v1/sessions/{session}", has={"profile": "{ann}"}),
        Step("sessions list --profile {ann}", "GET /v1/sessions?profile={ann}", has={"id": "{session}", "amr": ["pwd", "otp"]}),
        Step("sessions revoke {session}", "POST /v1/sessions/{session}/revoke", event="session.revoked", resource="{session}"),
        Step(
            "sessions revoke-of-profile {ann}",
            "POST /v1/profiles/{ann}/sessions/revoke",
            event="profile.sessions_revoked",
            resource="{ann}",
            has={"revoked": 0},
        ),
        Step(
            "sessions create --profile {ann} --org acme",
            "POST /v1/sessions",
            {"profile": "{ann}", "org": "acme"},
            "session.created",
            moves=False,
        ),
        Step(
            "sessions revoke-of-org acme",
            "POST /v1/orgs/acme/sessions/revoke",
            event="org.sessions_revoked",
            resource="{org}",
            has={"revoked": 1},
        ),
    ],
    "applications": [
        Step(
            "applications create --slug orders --name Orders --hosts orders.example.com --assertions",
            "POST /v1/applications",
            {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"], "assertions": True},
            "application.created",
            has={"hosts": ["orders.example.com"], "assertions": True, "policy_version": None},
            save="application",
        ),
        Step("applications show orders", "GET /v1/applications/orders", has={"slug": "orders"}),
        Step("applications list", "GET /v1/applications", has={"id": "{application}"}),
        Step(
            "applications update orders --no-assertions --hosts a.example.com --hosts '*.b.example.com'",
            "PATCH /v1/applications/orders",
            {"assertions": False, "hosts": ["a.example.com", "*.b.example.com"]},
            "application.updated",
            has={"assertions": False},
        ),
        Step(
            "applications delete orders --yes",
            "DELETE /v1/applications/orders",
            event="application.deleted",
            resource="{application}",
        ),
    ],
    "identity-providers": [
        ORG,
        EU,
        Step(
            "identity-providers create acme --slug okta --name Okta --issuer {idp} --client-id catalyst"
            " --client-secret catalyst-secret --groups-claim groups --group-mappings staff=eu --domains acme.example --just-in-time",
            "POST /v1/orgs/acme/identity-providers",
            {
                "slug": "okta",
                "name": "Okta",
                "issuer": "{idp}",
                "client_id": "catalyst",
                "client_secret": "catalyst-secret",
                "groups_claim": "groups",
                "group_mappings": {"staff": "eu"},
                "domains": ["acme.example"],
                "just_in_time": True,
            },
            "identity_provider.created",
            moves=False,
            has={"slug": "okta", "has_client_secret": True, "group_mappings": {"staff": "eu"}, "enabled": True},
            save="provider",
        ),
        Step("identity-providers show acme okta", "GET /v1/orgs/acme/identity-providers/okta", has={"id": "{provider}"}),
        Step(
            "identity-providers test acme okta",
            "POST /v1/orgs/acme/identity-providers/okta/test",
            event="identity_provider.tested",
            moves=False,
            resource="{provider}",
            has={"passed": True},
        ),
        Step("identity-providers list acme", "GET /v1/orgs/acme/identity-providers", has={"slug": "okta"}),
        Step(
            "identity-providers update acme okta --no-enabled --unset group_mappings --clock-skew-seconds 5",
            "PATCH /v1/orgs/acme/identity-providers/okta",
            {"enabled": False, "group_mappings": {}, "clock_skew_seconds": 5},
            "identity_provider.updated",
            moves=False,
            has={"enabled": False, "group_mappings": {}, "clock_skew_seconds": 5, "just_in_time": True},
        ),
        Step(
            "identity-providers delete acme okta",
            "DELETE /v1/orgs/acme/identity-providers/okta",
            event="identity_provider.deleted",
            moves=False,
            resource="{provider}",
        ),
    ],
    "webhooks": [
        ORG,
        Step(
            "webhooks create --org acme --url {hook}/in --events profile.* --events webhook.*"
            " --headers x-token=s3cret --retry-schedule 5 --retry-schedule 60 --signatures v1 --signatures v1a --rate-limit 5",
            "POST /v1/webhooks",
            {
                "org": "acme",
                "url": "{hook}/in",
                "events": ["profile.*", "webhook.*"],
                "headers": {"x-token": "s3cret"},
                "retry_schedule": [5, 60],
                "signatures": ["v1", "v1a"],
                "rate_limit": 5,
            },
            "webhook.created",
            moves=False,
            has={"status": "active", "header_names": ["x-token"], "retry_schedule": [5, 60], "rate_limit": 5},
            save="webhook",
        ),
        Step("webhooks show {webhook}", "GET /v1/webhooks/{webhook}", has={"events": ["profile.*", "webhook.*"]}),
        Step(
            "webhooks list --org acme --status active",
            "GET /v1/webhooks?org=acme&status=active",
            has={"url": "{hook}/in"},
        ),
        Step(
            "webhooks deliveries {webhook} --type webhook.* --status pending",
            "GET /v1/webhooks/{webhook}/deliveries?type=webhook.*&status=pending",
            told=True,
            has={"type": "webhook.created", "attempts": 0, "last_attempt": None},
            save="delivery",
        ),
        Step(
            "webhooks delivery {webhook} {delivery}",
            "GET /v1/webhooks/{webhook}/deliveries/{delivery}",
            has={"id": "{delivery}", "org": "{org}", "history": []},
        ),
        Step("webhooks attempts {webhook} --after-id 0", "GET /v1/webhooks/{webhook}/attempts?after_id=0"),
        Step(
            "webhooks test {webhook}",
            "POST /v1/webhooks/{webhook}/test",
            event="webhook.tested",
            moves=False,
            has={"delivered": True, "status": 204, "error": None},
            resource="{webhook}",
        ),
        Step(
            "webhooks rotate-secret {webhook} --overlap-seconds 0",
            "POST /v1/webhooks/{webhook}/rotate-secret",
            {"overlap_seconds": 0},
            "webhook.secret_rotated",
            moves=False,
            has={"id": "{webhook}", "secrets_overlap_until": None},
        ),
        Step(
            "webhooks replay {webhook} --delivery {delivery} --no-wait",
            "POST /v1/webhooks/{webhook}/deliveries/{delivery}/replay",
            event="webhook.replayed",
            moves=False,
            resource="{webhook}",
            has={"webhook": "{webhook}", "which": "all", "queued": 0, "finished_at": None},
            save="replay",
        ),
        Step("webhooks show-replay {webhook} {replay}", "GET /v1/webhooks/{webhook}/replays/{replay}", has={"id": "{replay}"}),
        Step("webhooks replays {webhook} --limit 1", "GET /v1/webhooks/{webhook}/replays?limit=1", has={"id": "{replay}"}),
        Step(
            "webhooks update {webhook} --status paused --unset headers --unset rate_limit --unset retry_schedule --ordered",
            "PATCH /v1/webhooks/{webhook}",
            {"status": "paused", "headers": {}, "rate_limit": None, "retry_schedule": [], "ordered": True},
            "webhook.updated",
            moves=False,
            has={"status": "paused", "header_names": [], "rate_limit": None, "retry_schedule": [], "ordered": True},
        ),
        Step(
            "webhooks delete {webhook}",
            "DELETE /v1/webhooks/{webhook}",
            event="webhook.deleted",
            moves=False,
            resource="{webhook}",
        ),
    ],
    "signing-keys": [
        Step("signing-keys list", "GET /v1/signing-keys", has={"algorithm": "EdDSA"}),
        Step("signing-keys rotate", "POST /v1/signing-keys/rotate", event="signing_key.rotated", has={"status": "active"}),
        Step("signing-keys jwks", "GET /.well-known/jwks.json"),
    ],
}

Door = Callable[[Step, bool], tuple[Any, int]]
"""Carries out a step, the first one of a scenario as a real process where it is a command: its JSON and the revision it told."""


def over_http(admin: Api) -> Door:
    def carry_out(step: Step, _first: bool) -> tuple[Any, int]:
        method, path = step.request.split(" ")
        answer = admin.client.request(method, path, json=step.body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None, int(answer.headers.get("x-catalyst-revision", 0))

    return carry_out


def over_the_command_line(plane: Plane) -> Door:
    variables = {"CATALYST_URL": plane.url, "CATALYST_API_KEY": plane.administrator.api_key}

    def carry_out(step: Step, first: bool) -> tuple[Any, int]:
        run = catalyst if first else catalyst_here
        done = run(*shlex.split(step.command), "--json", **variables)
        assert done.returncode == 0, done.stderr
        told = re.search(r"^revision (\d+)$", done.stderr, re.MULTILINE)
        return json.loads(done.stdout) if done.stdout else None, int(told[1]) if told else 0

    return carry_out


def _name(step: Step) -> str:
    return " ".join(step.command.split()[:2])


def filled(value: Any, saved: dict[str, str]) -> Any:
    """A step's value with what was saved in the place of names in braces."""
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda name: saved[name[1]], value)
    if isinstance(value, dict):
        return {key: filled(one, saved) for key, one in value.items()}
    return [filled(one, saved) for one in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def idp() -> Iterator[str]:
    """The issuer of a provider that answers."""
    with Liar(algorithm="EdDSA") as liar:
        yield liar.issuer


@pytest.fixture(scope="module")
def hook() -> Iterator[str]:
    """Where a receiver of webhooks answers."""
    with Receiver() as receiver:
        yield receiver.url


@pytest.mark.parametrize("door", ["http", "command line"])
@pytest.mark.parametrize("resource", SCENARIOS)
def test_every_call_answers_and_leaves_its_event_and_its_revision(
    request: pytest.FixtureRequest, resource: str, door: str, idp: str, hook: str
) -> None:
    own = "own_" if resource == "signing-keys" else ""
    plane, admin = (request.getfixturevalue(own + name) for name in ("plane", "admin"))
    carry_out = over_http(admin) if door == "http" else over_the_command_line(plane)
    saved = {"idp": idp, "hook": hook}
    for number, template in enumerate(SCENARIOS[resource]):
        step = Step(**{name: filled(value, saved) for name, value in vars(template).items()})
        if step.told:
            plane.fan_out()
        before, head = admin.last_event()["id"], admin.revision()
        answer, told = carry_out(step, number == 0)
        item = next(iter(answer["items"]), None) if isinstance(answer, dict) and "items" in answer else answer
        assert step.has.items() <= (item or {}).items(), step.command
        if step.save:
            saved[step.save] = item["id"]
        check_traces(plane, admin, step, item, before)
        if step.event:
            assert admin.revision() == head + step.moves, step.command
            # A command that somebody wrote tells what it is about, in which a revision may have no place.
            assert told == admin.revision() or (door != "http" and _name(step) in BY_HAND.values()), step.command


def check_traces(plane: Plane, admin: Api, step: Step, item: Any, before: int) -> None:
    """Its events, by this caller, about this thing, at this revision; none for a step that only reads."""
    events = [event for event in admin.get("/v1/audit-events", limit=20)["items"] if event["id"] > before]
    assert [event["type"] for event in reversed(events)] == step.event.split(), step.command
    for event in events:
        by = {"kind": "api_key", "id": api_key_id(plane.administrator.api_key), "profile": str(plane.administrator.profile)}
        assert event["actor"] == by
        assert event["revision"] == (admin.revision() if step.moves else None), step.command
    if events:
        assert events[0]["resource"] == (step.resource or item.get("id") or item["kid"]), step.command


def api_key_id(secret: str) -> str:
    return str(UUID(secret.split("_")[1]))


def test_every_operation_has_a_command_and_every_command_is_tried() -> None:
    made = {
        command["operation"]: f"{group} {name}"
        for group, commands in resources.description().items()
        for name, command in commands["commands"].items()
    }
    assert set(made) | set(BY_HAND) == {route.name for route in api_routes()}
    tried = {_name(step) for steps in SCENARIOS.values() for step in steps}
    assert tried - set(BY_HAND.values()) == set(made.values())
