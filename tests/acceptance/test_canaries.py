"""Secrets, tokens and e-mail addresses are put in wherever they could go, and looked for wherever they must not come out."""

from pathlib import Path
from typing import Any

import httpx2
import psycopg
from psycopg import sql

from control_plane.sessions import service as sessions
from control_plane.sessions.service import Refused, Seen
from tests.acceptance.canaries import Cage, Planter
from tests.acceptance.logins import PROVIDER, Door, later
from tests.acceptance.plane import SECRET_KEY, Api, bootstrapped, settings_for
from tests.acceptance.processes import control_plane
from tests.acceptance.tokens import ACCESS_TOKEN, API_KEY, JWT, ask, exchange, token_of

MAIL = "canary-4711@private.example"
WORD = "canary-word-4712"
ADDRESS = "192.0.2.213"

BREAK = """
    CREATE FUNCTION public.quote_it() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'cannot take %', NEW.email; END $$;
    CREATE TRIGGER quote_it BEFORE INSERT ON catalyst.profiles FOR EACH ROW EXECUTE FUNCTION public.quote_it();
"""


def fill(admin: Api) -> set[str]:
    """Use every call that takes something private, well and badly; the secrets that came out of it."""
    secrets: set[str] = set()
    identity = {"issuer": "https://idp.example", "subject": WORD}
    profile = {"email": MAIL, "display_name": WORD, "labels": {"note": WORD}, "identities": [identity]}
    ann = admin.post("/v1/profiles", profile)["id"]
    admin.post("/v1/profiles", profile, 409)
    admin.post("/v1/profiles", {"email": MAIL + "\n"}, 422)
    admin.patch(f"/v1/profiles/{ann}", {"email": "x" + MAIL, "display_name": WORD + "!", "labels": {"note": WORD + "!"}})
    admin.get("/v1/profiles", email=MAIL)
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    admin.post("/v1/orgs/acme/memberships", {"profile": ann})
    subject = {"kind": "profile", "id": ann}
    admin.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": "orders:read", "reason": f"{WORD} {MAIL}"})
    key = admin.post("/v1/api-keys", {"profile": ann, "org": "acme", "name": f"{MAIL} {WORD}"})
    rotated = admin.post(f"/v1/api-keys/{key['id']}/rotate")
    session = admin.post("/v1/sessions", {"profile": ann, "org": "acme", "amr": ["pwd"]})
    exchanged = token_of(admin.url, exchange(rotated["secret"]))["access_token"]
    for secret in (key["secret"], rotated["secret"], session["token"], exchanged):
        secrets |= {secret, secret[-40:]}
        admin.with_credential(secret).client.get("/v1/orgs/acme")
        admin.with_credential(secret + "x").client.get("/v1/orgs/acme")
        admin.client.get(f"/v1/orgs/{secret[:60]}", params={"after": secret})
        admin.client.get(f"/{secret}")
        for parameters in asked_of_the_token_endpoint(secret):
            assert ask(admin.url, parameters, auth=(secret, WORD)).is_error
            assert ask(admin.url, parameters | {"client_id": MAIL, "client_secret": secret[:-1]}).is_error
        admin.client.get("/v1/orgs", headers={"cookie": f"catalyst_session={secret}", "x-request-id": secret[:100] + "!"})
    admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"]})
    document = f"version: 1  # {WORD}\nrules:\n  - {{id: all, effect: allow, paths: ['/**']}}\n"
    admin.put_policy("orders", document)
    admin.put_policy("orders", document + f"{MAIL}: {WORD}\n", 422)
    admin.post("/v1/applications/orders/policy/publish", {"note": f"{WORD} {MAIL}"})
    admin.post(f"/v1/profiles/{ann}/sessions/revoke", status=200)
    admin.post("/v1/signing-keys/rotate")
    secrets |= send_webhooks(admin)
    admin.delete(f"/v1/profiles/{ann}")
    return secrets


def send_webhooks(admin: Api) -> set[str]:
    """A webhook with something private in each of its fields, well and badly; its secrets."""
    url, headers = f"http://127.0.0.1:9/{WORD}?{WORD}", {"authorization": f"Bearer {WORD} {MAIL}"}
    webhook = {
        "org": "acme",
        "url": url,
        "events": ["*"],
        "headers": headers,
        "description": f"{WORD} {MAIL}",
        "signatures": ["v1", "v1a"],
    }
    made = admin.post("/v1/webhooks", webhook)
    one = f"/v1/webhooks/{made['id']}"
    for wrong in (
        {"url": f"https://{MAIL}/{WORD}"},
        {"url": f"https://{WORD}.example/"},
        {"client_key": WORD},
        {"ca_bundle": WORD},
    ):
        admin.patch(one, wrong, 422)
    assert not admin.post(f"{one}/test", status=200)["delivered"]
    rotated = admin.post(f"{one}/rotate-secret", status=200)
    admin.delete(one)
    return {text for kept in (made, rotated) for text in (kept["secret"], kept["secret"].removeprefix("whsec_"))}


def log_in(admin: Api, database_url: str) -> set[str]:
    """Every step of a login's life, each with something private; the tokens that came out of it."""
    ann, org = (admin.post(*made)["id"] for made in (("/v1/profiles", {}), ("/v1/orgs", {"slug": "logins", "name": "Logins"})))
    admin.post("/v1/orgs/logins/memberships", {"profile": ann})
    login = {
        "subject": WORD,
        "upstream_sid": WORD,
        "issuer": f"https://{WORD}",
        "id_token": WORD,
        "user_agent": f"{WORD} Firefox/1",
    }
    with Door(settings_for(database_url)) as door:
        one, two = (door.begin(ann, org, address=ADDRESS, **login) for _ in range(2))
        chain = door.open_chain(one.session, "shop.example.com")
        later(door, 400)
        turned = door.change(lambda change: sessions.refresh(change, door.settings, one.tokens.refresh, "", Seen(ADDRESS, WORD)))
        later(door, 30)
        assert door.refresh(one.tokens.refresh) == Refused("reused")
        assert door.change(lambda change: sessions.end_upstream(change, PROVIDER, WORD, WORD)) == 1
        given = [*(began.tokens for began in (one, two)), chain, turned]
        assert not any(secret in f"{given} {Seen(ADDRESS, WORD)}" for secret in (one.tokens.refresh, turned.access))
    for text in (given[0].refresh, given[0].access):
        admin.with_credential(text).client.get("/v1/orgs/logins")
        admin.client.get("/login", headers={"cookie": f"catalyst_login={text}", "user-agent": WORD}, params={"return_to": text})
    return {text for tokens in given for text in (tokens.refresh, tokens.access, tokens.refresh[-64:])}


def asked_of_the_token_endpoint(secret: str) -> list[dict[str, str]]:
    """A secret wherever one could stand there, and words of a person beside it."""
    kinds = (API_KEY, ACCESS_TOKEN, JWT, secret)
    asked = [exchange(secret + WORD, kind, scope=f"{WORD} {secret}", org=MAIL) for kind in kinds]
    asked += [
        exchange(WORD, API_KEY, **{name: secret}) for name in ("audience", "resource", "actor_token", secret, "org", "scope")
    ]
    return [*asked, {"grant_type": secret, "code": WORD}, {"grant_type": "client_credentials", "scope": f"{secret} {MAIL}"}]


def test_nothing_private_reaches_a_log_a_metric_or_an_audit_row(database: Any, tmp_path: Path) -> None:
    administrator = bootstrapped(database.url("catalyst_control"))
    variables = {"CATALYST_LOG_LEVEL": "debug", "CATALYST_WEBHOOK_NETWORKS": "127.0.0.0/8"}
    with control_plane(database.url("catalyst_control"), tmp_path / "log", **variables) as program:
        admin = Api(program.url, administrator.api_key)
        tokens = log_in(admin, database.url("catalyst_control"))
        secrets = {*fill(admin), *tokens, administrator.api_key, SECRET_KEY}
        admin.close()
        # What nobody foresaw is logged with what went wrong, and PostgreSQL's messages quote values.
        with psycopg.connect(database.admin_url) as connection:
            connection.execute(BREAK)
        admin = Api(program.url, administrator.api_key)
        admin.post("/v1/profiles", {"email": MAIL, "identities": [{"issuer": WORD, "subject": WORD}]}, 500)
        admin.close()
        metrics = httpx2.get(f"{program.ops}/metrics").text
        program.stop()
        log = program.output.read_text()
        errors = [line for line in program.lines() if line["level"] == "error"]
    with psycopg.connect(database.admin_url) as connection:
        rows = connection.execute("SELECT to_jsonb(e)::text FROM catalyst.audit_events e").fetchall()
        rows += connection.execute("SELECT to_jsonb(e)::text FROM catalyst.outbox_events e").fetchall()
    written = "\n".join(row for (row,) in rows)
    assert errors[-1]["exception"] == "RaiseError"
    assert any("profiles/service.py" in place for place in errors[-1]["places"])
    assert len(rows) > 20
    for private in {*secrets, MAIL, WORD, ADDRESS}:
        for place, text in (("log", log), ("metrics", metrics), ("audit and outbox", written)):
            assert private not in text, place


LAST = ["patch_application", "delete_membership", "delete_application", "delete_org", "erase_profile", "delete_profile"]
"""In this order after all others, for which nothing would be left."""

RECORDED = {
    "body/slug": "the names of orgs, groups, roles and applications are what the log is about",
    "body/name": "the same; of an API key it is withheld",
    "body/hosts": "which hosts an application takes is what an auditor asks",
    "body/entitlement": "what was given is what an auditor asks",
    "body/entitlements": "the same",
    "body/entitlement_prefixes": "the same",
    "body/scopes": "the same",
    "body/amr": "how a login was proved (RFC 8176)",
    "body/acr": "the same",
    "body/issuer": "whom an org believes, and how far, is what an auditor asks",
    "body/client_id": "the same; the client's secret is withheld",
    "body/domains": "the same",
    "body/groups_claim": "the same",
    "body/group_mappings/key": "the same",
    "body/second_factor_amr": "the same",
    "body/second_factor_acr": "the same",
    "body/acr_aliases/key": "the same",
    "body/acr_aliases/value": "the same",
    "body/token_audience": "the same",
    "header/x-request-id": "the caller's own name for the request, by which an event and a line of the log are found",
}
"""What audit and outbox rows may hold of a request, and why. Of an import's rows nothing but this either."""

TOLD = {
    "key": "a name that nobody knows is told, as it was written, to whoever wrote it: a misspelt field is found by that",
    "body/labels/key": "the same",
    "body/acr_aliases/key": "the same",
    "body/group_mappings/key": "the same",
    "body/headers/key": "the same",
    "header/x-request-id": "echoed, for whoever sent it",
}
"""What an error may repeat of its request, and why."""

KEPT = {
    *("orgs", "profiles", "identities", "memberships", "groups", "roles", "grants", "api_keys", "sessions", "applications"),
    *("application_hosts", "policy_drafts", "policy_versions", "published_policies", "policy_approvals", "shadow_policies"),
    *("identity_providers", "identity_provider_groups", "changes", "webhooks"),
}
"""Tables that are there to keep what is sent: the resources, and what of them travels to sidecars (until it is trimmed)."""

EVENTS = {"outbox_events", "webhook_events"}
"""Before and after they are fanned out."""

NEVER_DONE = {"approve_policy": "the application asks for no second approver"}
"""What the world below has no success for: its errors are looked at all the same."""

TABLES = """
    SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = 'catalyst' AND relkind IN ('r', 'p') AND NOT relispartition
"""


def world(admin: Api) -> dict[str, Any]:
    """Something of each kind, and how a request names it."""
    org = admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
    ann, bob = (admin.post("/v1/profiles", {"email": f"{name}@acme.example"})["id"] for name in ("ann", "bob"))
    admin.post("/v1/orgs/acme/groups", {"slug": "eu", "name": "Europe"})
    admin.post("/v1/orgs/acme/roles", {"slug": "buyer", "name": "Buyer"})
    membership = admin.post("/v1/orgs/acme/memberships", {"profile": ann})["id"]
    subject = {"kind": "profile", "id": ann}
    grant = admin.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": "orders:read"})["id"]
    key = admin.post("/v1/api-keys", {"profile": ann, "org": "acme", "name": "ci"})["id"]
    provider = {"slug": "okta", "name": "Okta", "issuer": "https://127.0.0.1:9", "client_id": "catalyst"}
    provider = admin.post("/v1/orgs/acme/identity-providers", provider)["id"]
    session = admin.post("/v1/sessions", {"profile": ann, "org": "acme"})["id"]
    webhook = admin.post("/v1/webhooks", {"org": "acme", "url": "https://127.0.0.1:9/", "events": ["*"]})["id"]
    admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"]})
    admin.put_policy("orders", "version: 1\nrules: []\n")
    admin.post("/v1/applications/orders/policy/publish")
    known = {"org": "acme", "org id": org, "profile": ann, "group": "eu", "role": "buyer", "membership": membership}
    known |= {"grant": grant, "api_key": key, "session": session, "application": "orders", "version": 1, "another profile": bob}
    known["since"] = "2019-01-01T00:00:00Z"
    known["replay"] = admin.post(f"/v1/webhooks/{webhook}/deliveries/replay", {"which": "dead"}, 202)["id"]
    known |= {"identity_provider": provider, "webhook": webhook, "events": ["grant.*"], "retry_schedule": [5]}
    known |= {"client_certificate": None, "client_key": None, "ca_bundle": None, "signatures": ["v1"]}
    known |= {"grant subject": subject, "subject_id": ann, "auth_time": "2020-01-01T00:00:00Z", "roles": ["buyer"]}
    known |= {"groups": ["eu"], "limit": 10, "parent": None, "second_approver": False, "type": "org.created"}
    known |= {"before": "published", "after": "draft", "against": "draft", "source": "version: 1\nrules: []\n"}
    return known | {"method": "GET", "url": "https://orders.example.com/x", "client": "192.0.2.7"}


def told_event(database: Any) -> str:
    """An event that the webhook has a delivery of, as after a fan-out."""
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("SELECT catalyst.fan_out(1000)")
        found = connection.execute("SELECT id FROM catalyst.webhook_events ORDER BY position DESC LIMIT 1").fetchone()
    assert found is not None
    return str(found[0])


def test_what_is_put_in_anywhere_comes_out_only_where_it_belongs(database: Any, tmp_path: Path) -> None:
    """Every operation of the API's own description, with a canary in every text of path, query, headers and body."""
    administrator = bootstrapped(database.url("catalyst_control"))
    cage, done, told = Cage(), {}, set()
    variables = {"CATALYST_LOG_LEVEL": "debug", "CATALYST_WEBHOOK_NETWORKS": "127.0.0.0/8"}
    with control_plane(database.url("catalyst_control"), tmp_path / "log", **variables) as program:
        admin = Api(program.url, administrator.api_key)
        nobody = admin.with_credential(None)
        planter = Planter(admin.client.get("/openapi.json").json(), world(admin) | {"event": told_event(database)}, cage)
        for path, method, operation in planter.operations(LAST):
            name = operation["operationId"]
            asks = [(nobody, planter.stranger(path, method, operation))]
            asks += [(admin, ask) for ask in planter.asks(path, method, operation)]
            for caller, ask in asks:
                answer = caller.client.request(ask.method, ask.path, **ask.more)
                assert answer.status_code < 500, (name, answer.text)
                done[name] = done.get(name, False) or answer.is_success
                if answer.is_error:
                    told |= cage.seen(f"{answer.text} {answer.headers}")
        with psycopg.connect(database.admin_url) as connection:
            connection.execute("SELECT catalyst.fan_out(50)")
        metrics = httpx2.get(f"{program.ops}/metrics").text
        export = admin.client.get("/v1/audit-events/export").text
        admin.close()
        program.stop()
        log = program.output.read_text()
    assert len(cage.places) > 1000
    assert cage.seen(metrics) == set()
    assert {place.where for place in cage.seen(log)} == {"header/x-request-id"}
    assert {place.where for place in told} == set(TOLD)
    assert {place.where for place in cage.seen(export)} <= set(RECORDED)
    with psycopg.connect(database.admin_url) as connection:
        for (table,) in connection.execute(TABLES).fetchall():
            rows = connection.execute(sql.SQL("SELECT to_jsonb(t)::text FROM catalyst.{} t").format(sql.Identifier(table)))
            found = {place.where for place in cage.seen(str(rows.fetchall()))}
            assert found.isdisjoint({"body/client_secret", "body/headers/value", "body/client_key"}), table
            assert table in KEPT or found <= (set(RECORDED) if table in {"audit_events", *EVENTS} else set()), table
    assert {name for name, ok in done.items() if not ok} == set(NEVER_DONE)
