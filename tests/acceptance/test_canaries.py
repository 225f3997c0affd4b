"""Secrets, tokens and e-mail addresses are put in wherever they could go, and looked for wherever they must not come out."""

from pathlib import Path
from typing import Any

import httpx2
import psycopg

from tests.acceptance.plane import SECRET_KEY, Api, bootstrapped
from tests.acceptance.processes import control_plane

MAIL = "canary-4711@private.example"
WORD = "canary-word-4712"

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
    for secret in (key["secret"], rotated["secret"], session["token"]):
        secrets |= {secret, secret[-40:]}
        admin.with_credential(secret).client.get("/v1/orgs/acme")
        admin.with_credential(secret + "x").client.get("/v1/orgs/acme")
        admin.client.get(f"/v1/orgs/{secret[:60]}", params={"after": secret})
        admin.client.get(f"/{secret}")
        admin.client.get("/v1/orgs", headers={"cookie": f"catalyst_session={secret}", "x-request-id": secret[:100] + "!"})
    admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"]})
    document = f"version: 1  # {WORD}\nrules:\n  - {{id: all, effect: allow, paths: ['/**']}}\n"
    admin.put_policy("orders", document)
    admin.put_policy("orders", document + f"{MAIL}: {WORD}\n", 422)
    admin.post("/v1/applications/orders/policy/publish", {"note": f"{WORD} {MAIL}"})
    admin.post(f"/v1/profiles/{ann}/sessions/revoke", status=200)
    admin.post("/v1/signing-keys/rotate")
    admin.delete(f"/v1/profiles/{ann}")
    return secrets


def test_nothing_private_reaches_a_log_a_metric_or_an_audit_row(database: Any, tmp_path: Path) -> None:
    administrator = bootstrapped(database.url("catalyst_control"))
    with control_plane(database.url("catalyst_control"), tmp_path / "log", CATALYST_LOG_LEVEL="debug") as program:
        admin = Api(program.url, administrator.api_key)
        secrets = {*fill(admin), administrator.api_key, SECRET_KEY}
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
    for private in {*secrets, MAIL, WORD}:
        for place, text in (("log", log), ("metrics", metrics), ("audit and outbox", written)):
            assert private not in text, place
