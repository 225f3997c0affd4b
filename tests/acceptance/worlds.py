"""An org with one of everything, and requests to every operation of the API made of such things.

What a request is made of comes from the API's description: its examples, with each field that names something (`REFERENCES`) put in
the place of one of an org's own things. A new field must stand in one of the two tables below.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from control_plane.access import needs
from control_plane.app import api_routes, create_app
from control_plane.permissions import Permission
from control_plane.telemetry import Metrics
from tests.acceptance.plane import Api, Plane, make_tenant, settings_for

DESCRIPTION = create_app(settings_for("postgresql:///not-connected-to"), None, Metrics()).openapi()

REFERENCES = {
    "org": "org",
    "profile": "profile",
    "membership": "membership",
    "group": "group",
    "groups": "group",
    "parent": "group",
    "role": "role",
    "roles": "role",
    "grant": "grant",
    "api_key": "api_key",
    "session": "session",
    "identity_provider": "identity_provider",
    "application": "application",
    "webhook": "webhook",
    "event": "event",
    "replay": "replay",
    "id": "role",
    "subject_id": "role",
    "resource": "grant",
    "actor": "profile",
    "email": "email",
}
"""Parameters and fields of bodies that name something of an org: by what of a `World`."""

PLAIN = {
    *("Idempotency-Key", "If-Match", "limit", "after", "version", "slug", "name", "status", "kind", "display_name", "labels"),
    *("identities", "issuer", "subject", "subject_kind", "entitlement", "entitlements", "expires_at", "reason", "scopes", "amr"),
    *(
        "acr",
        "auth_time",
        "overlap_seconds",
        "at_once",
        "hosts",
        "entitlement_prefixes",
        "assertions",
        "note",
        "method",
        "url",
        "client",
    ),
    *(
        "principal",
        "draft",
        "type",
        "since",
        "until",
        "rows",
        "dry_run",
        "skip_bad",
        "etag",
        "waive",
        "second_approver",
        "request_id",
    ),
    *(
        "unused_since",
        "latest",
        "active",
        "state",
        "before",
        "document",
        "source",
        "media_type",
        "assume",
        "at",
        "people",
        "routes",
    ),
    *("failed", "after_id"),
    *("against", "listed", "at_once", "host", "ending_before"),
    *("client_id", "client_secret", "algorithms", "enabled", "clock_skew_seconds", "just_in_time", "domains", "groups_claim"),
    *("session_idle_seconds", "session_lifetime_seconds"),
    *("group_mappings", "second_factor_amr", "second_factor_acr", "acr_aliases", "token_audience"),
    *("events", "description", "payload", "ordered", "signatures", "retry_schedule", "timeout_seconds", "rate_limit"),
    *("max_in_flight", "headers", "client_certificate", "client_key", "ca_bundle"),
    "which",
}
"""Those that name nothing of an org."""

_SUBJECT = {"kind": "role", "id": "?"}
BODIES: dict[str, Any] = {
    "POST /v1/grants": {"org": "?", "subject": _SUBJECT, "entitlement": "orders:write"},
    "POST /v1/imports/memberships": {"rows": [{"org": "?", "profile": "?", "roles": ["?"], "groups": ["?"]}]},
    "POST /v1/imports/grants": {"rows": [{"org": "?", "subject": _SUBJECT, "entitlement": "orders:write"}]},
}
"""Bodies that an example cannot show: rows without a schema, a subject that goes with its kind. "?" stands for a reference."""


@dataclass
class World:
    """An org with one of everything. `things`: what stands for each kind of reference; `slugs`: their other names."""

    things: dict[str, str]
    slugs: dict[str, str]
    member: Api
    administrator: Api
    secrets: set[str] = field(default_factory=set)
    """What nobody outside of the org may see."""


def make_world(plane: Plane, admin: Api, slug: str) -> World:
    """An org of this name; `member` may nothing there, `administrator` everything."""
    tenant = make_tenant(admin, slug, [str(permission) for permission in Permission])
    email = f"ann@{slug}.example"
    person = admin.post("/v1/profiles", {"email": email, "display_name": f"Ann of {slug}", "labels": {"of": f"label-{slug}"}})[
        "id"
    ]
    role = admin.post(f"/v1/orgs/{slug}/roles", {"slug": f"buyer-{slug}", "name": f"Buyer {slug}"})["id"]
    group = admin.post(f"/v1/orgs/{slug}/groups", {"slug": f"team-{slug}", "name": f"Team {slug}"})["id"]
    member = {"profile": person, "roles": [role], "groups": [group]}
    membership = admin.post(f"/v1/orgs/{slug}/memberships", member)["id"]
    subject = {"kind": "role", "id": role}
    given = {"org": slug, "subject": subject, "entitlement": f"{slug}:read", "reason": f"reason-{slug}"}
    grant = admin.post("/v1/grants", given)["id"]
    key = admin.post("/v1/api-keys", {"profile": person, "org": slug, "name": f"key-{slug}"})
    session = admin.post("/v1/sessions", {"profile": person, "org": slug})["id"]
    provider = {
        "slug": f"idp-{slug}",
        "name": f"Login of {slug}",
        "issuer": f"https://127.0.0.1:9/{slug}",
        "client_id": "catalyst",
    }
    webhook = {"org": slug, "url": f"https://127.0.0.1:9/{slug}", "events": ["*"], "description": f"webhook-{slug}"}
    application = {"slug": f"app-{slug}", "name": f"App {slug}", "hosts": [f"{slug}.example.com"]}
    things = {
        "org": tenant.id,
        "profile": person,
        "membership": membership,
        "group": group,
        "role": role,
        "grant": grant,
        "api_key": key["id"],
        "session": session,
        "identity_provider": admin.post(f"/v1/orgs/{slug}/identity-providers", provider)["id"],
        "application": admin.post("/v1/applications", application)["id"],
        "webhook": admin.post("/v1/webhooks", webhook)["id"],
        "email": email,
    }
    policy = f'version: 1\nrules:\n  - id: read\n    effect: allow\n    paths: ["/**"]\n    hosts: ["{slug}.example.com"]\n'
    admin.put_policy(application["slug"], policy)
    admin.post(f"/v1/applications/{application['slug']}/policy/publish")
    slugs = {"org": slug, "group": f"team-{slug}", "role": f"buyer-{slug}"}
    told = {value for name, value in things.items() if name != "application"}
    secrets = {*told, tenant.profile, tenant.membership, f"{slug}:read", f"reason-{slug}", f"key-{slug}", f"label-{slug}"}
    secrets |= {f"webhook-{slug}", webhook["url"]}
    # Whatever happened so far is told, first of all that there is a webhook.
    plane.fan_out()
    things["event"] = admin.get(f"/v1/webhooks/{things['webhook']}/deliveries")["items"][0]["event"]
    things["replay"] = admin.post(f"/v1/webhooks/{things['webhook']}/deliveries/replay", {"which": "dead"}, 202)["id"]
    secrets.add(things["replay"])
    return World(things, slugs, admin.with_credential(key["secret"]), tenant.api, secrets)


@dataclass(frozen=True)
class Operation:
    """One operation of the API, and what it takes."""

    name: str
    method: str
    path: str
    description: Mapping[str, Any]
    platform: bool
    permission: Permission | None
    public: bool

    @property
    def queries(self) -> list[str]:
        return [one["name"] for one in self.description["parameters"] if one["in"] == "query"]

    @property
    def paths(self) -> list[str]:
        return [one["name"] for one in self.description["parameters"] if one["in"] == "path"]

    @property
    def content(self) -> tuple[str, Any] | None:
        """The media type of its body, and a body as its example says; None where it takes none."""
        content = self.description.get("requestBody", {}).get("content", {})
        if not content:
            return None
        media_type, one = next(iter(content.items()))
        return media_type, copy.deepcopy(BODIES.get(self.name, one["example"]))


def operations() -> Iterator[Operation]:
    for route in api_routes():
        need = needs(route)
        for method in sorted(route.methods or ()):
            description = DESCRIPTION["paths"][route.path][method.lower()]
            platform, permission = (need.platform, need.permission) if need else (False, None)
            yield Operation(f"{method} {route.path}", method, route.path, description, platform, permission, need is None)


OPERATIONS = list(operations())

Place = tuple[Any, ...]
"""Where a reference stands: ("path", name), ("query", name), or ("body", step, step, ...)."""


def places(operation: Operation) -> Iterator[Place]:
    """Every place of a request that names something."""
    yield from (("path", name) for name in operation.paths if name in REFERENCES)
    yield from (("query", name) for name in operation.queries if name in REFERENCES)
    if operation.content is not None and not isinstance(operation.content[1], str):
        yield from (("body", *steps) for steps in _pointers(operation.content[1]))


def kind_of(place: Place) -> str:
    """What a place names."""
    return REFERENCES[next(step for step in reversed(place) if isinstance(step, str))]


def send(api: Api, operation: Operation, world: World, foreign: Mapping[Place, str]) -> Any:
    """A request made of the world's own things, but for what `foreign` says. A query parameter that is optional is left out."""
    path, query = operation.path, {}
    for one in operation.description["parameters"]:
        place = (one["in"], one["name"])
        own = world.things[REFERENCES[one["name"]]] if one["name"] in REFERENCES else "1"
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", foreign.get(place, own))
        elif one["in"] == "query" and (place in foreign or one["required"]):
            query[one["name"]] = foreign.get(place, own)
    return api.client.request(operation.method, path, params=query, **_body(operation, world, foreign))


def _body(operation: Operation, world: World, foreign: Mapping[Place, str]) -> dict[str, Any]:
    if operation.content is None:
        return {}
    media_type, body = operation.content
    if isinstance(body, str):
        return {"content": body, "headers": {"content-type": media_type}}
    for steps in list(_pointers(body)):
        place = ("body", *steps)
        *parents, last = steps
        holder = body
        for step in parents:
            holder = holder[step]
        holder[last] = foreign.get(place, world.things[kind_of(place)])
    return {"json": body}


def _pointers(body: Any, steps: Place = ()) -> Iterator[Place]:
    """Where in a body references stand."""
    if isinstance(body, dict):
        for name, value in body.items():
            if name in REFERENCES and isinstance(value, str):
                yield (*steps, name)
            elif name in REFERENCES and isinstance(value, list):
                yield from ((*steps, name, number) for number in range(len(value)))
            else:
                yield from _pointers(value, (*steps, name))
    elif isinstance(body, list):
        for number, value in enumerate(body):
            yield from _pointers(value, (*steps, number))


def names(schema: Mapping[str, Any]) -> Iterator[str]:
    """The names of all fields of a schema, whatever is nested in it."""
    if "$ref" in schema:
        yield from names(DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    for name, one in schema.get("properties", {}).items():
        yield name
        yield from names(one)
    for one in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])):
        yield from names(one)


def unknown(value: str) -> str:
    """What is formed like this, and names nothing."""
    if "@" in value:
        return f"{uuid4().hex}@nowhere.example"
    return str(uuid4()) if len(value) == 36 else f"none-{uuid4().hex[:20]}"
