"""`catalyst secrets`: a new CATALYST_SECRET_KEY, by the command line, on a database that has all kinds of sealed values."""

import base64
import json
import subprocess
import sys
from typing import Any

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typer.testing import CliRunner

from control_plane.cli import app
from control_plane.rewrapping import STORES
from control_plane.sealing import SecretKey, seal
from tests.acceptance.plane import SECRET_KEY, Api, Plane, make_tenant
from tests.acceptance.processes import control_plane, environment

OLD, NEW, OTHER = SECRET_KEY, *(base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2))


def ids(*keys: str) -> list[str]:
    """What keys are called."""
    return [SecretKey(base64.b64decode(key)).id for key in keys]


def secrets(plane: Plane, command: str, *keys: str, status: int = 0) -> Any:
    """What `catalyst secrets … --json` prints with these keys."""
    variables = {"CATALYST_DATABASE_URL": plane.settings.database_url, "CATALYST_SECRET_KEY": ",".join(keys)}
    done = CliRunner().invoke(app, ["secrets", command, "--json"], env=variables)
    assert done.exit_code == status, done.output
    return json.loads(done.output)


def stored(plane: Plane) -> set[bytes]:
    """Every sealed value there is."""
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        return {
            sealed
            for query in (
                "SELECT private_wrapped FROM catalyst.signing_keys WHERE private_wrapped <> ''",
                "SELECT answer FROM catalyst.idempotency_keys",
                "SELECT private_wrapped FROM catalyst.audit_keys",
                "SELECT client_secret_wrapped FROM catalyst.identity_providers",
                "SELECT wrapped FROM catalyst.webhook_secrets",
                "SELECT id_token_wrapped FROM catalyst.sessions WHERE id_token_wrapped <> ''",
            )
            for (sealed,) in connection.execute(query)
        }


def make_it_old(plane: Plane) -> None:
    """The active signing key as a version before this one would have sealed it: no header."""
    signer, nonce = plane.active_key(), bytes(12)
    plain = signer.private_key.private_bytes_raw()
    sealed = nonce + AESGCM(base64.b64decode(OLD)).encrypt(nonce, plain, f"signing key {signer.kid}".encode())
    plane.execute("UPDATE catalyst.signing_keys SET private_wrapped = %s WHERE kid = %s", sealed, signer.kid)


def test_every_value_is_wrapped_by_the_new_key_and_the_old_one_can_go(own_plane: Plane, own_admin: Api, tmp_path: Any) -> None:
    tenant = make_tenant(own_admin, "acme", ["catalyst:orgs:read"])
    request = {"json": {"profile": tenant.profile, "org": "acme", "name": "ci"}, "headers": {"idempotency-key": "once"}}
    made = own_admin.call("POST", "/v1/api-keys", 201, **request)
    session = own_admin.post("/v1/sessions", {"profile": tenant.profile, "org": "acme"})["id"]
    id_token = seal(own_plane.settings.secret_key, f"id token {session}", b"of a login")
    own_plane.execute("UPDATE catalyst.sessions SET id_token_wrapped = %s WHERE id = %s", id_token, session)
    provider = {"slug": "idp", "name": "Idp", "issuer": "https://idp.example", "client_id": "c", "client_secret": "s"}
    own_admin.post("/v1/orgs/acme/identity-providers", provider)
    webhook = {
        "org": "acme",
        "url": "https://hooks.example",
        "events": ["*"],
        "signatures": ["v1", "v1a"],
        "headers": {"x-a": "b"},
    }
    own_admin.post("/v1/webhooks", webhook)
    make_it_old(own_plane)
    (old, new), before = ids(OLD, NEW), stored(own_plane)

    found = secrets(own_plane, "status", NEW, OLD)
    assert (found["wraps"], found["unwrap"], found["missing"]) == (new, [new, old], [])
    assert found["values"] == {
        new: {},
        old: {"signing_keys": 1, "audit_keys": 1, "kept_answers": 1, "client_secrets": 1, "id_tokens": 1, "webhook_secrets": 3},
        "unnamed": {"signing_keys": 1},
    }
    revision = own_admin.revision()
    assert secrets(own_plane, "rewrap", NEW, OLD) == {
        "key": new,
        "rewrapped": {
            "signing_keys": 2,
            "audit_keys": 1,
            "kept_answers": 1,
            "client_secrets": 1,
            "id_tokens": 1,
            "webhook_secrets": 3,
        },
    }
    event = own_admin.last_event()
    assert (event["type"], event["resource"]) == ("secret_key.rewrapped", new)
    assert (event["actor"]["kind"], event["actor"]["id"]) == ("operator", "secrets")
    assert event["after"] == {
        "signing_keys": 2,
        "audit_keys": 1,
        "kept_answers": 1,
        "client_secrets": 1,
        "id_tokens": 1,
        "webhook_secrets": 3,
    }
    assert own_admin.revision() == revision
    assert not before & stored(own_plane)

    assert secrets(own_plane, "rewrap", NEW, OLD)["rewrapped"] == {
        "signing_keys": 0,
        "audit_keys": 0,
        "kept_answers": 0,
        "client_secrets": 0,
        "id_tokens": 0,
        "webhook_secrets": 0,
    }
    assert own_admin.last_event()["id"] == event["id"]
    assert secrets(own_plane, "status", NEW)["values"] == {
        new: {"signing_keys": 2, "audit_keys": 1, "kept_answers": 1, "client_secrets": 1, "id_tokens": 1, "webhook_secrets": 3}
    }
    assert secrets(own_plane, "status", OLD, status=1)["missing"] == [new]
    with control_plane(own_plane.settings.database_url, tmp_path / "log", CATALYST_SECRET_KEY=NEW) as plane:
        admin = own_admin.with_credential(own_plane.administrator.api_key)
        admin.client.base_url = plane.url
        assert admin.call("POST", "/v1/api-keys", 201, **request) == made
        token = admin.post("/v1/sessions", {"profile": tenant.profile, "org": "acme"})["token"]
        assert own_admin.with_credential(token).get("/v1/orgs/acme")


def test_a_key_that_was_lost_is_told_and_nothing_is_changed(own_plane: Plane) -> None:
    before = stored(own_plane)
    done = catalyst(own_plane, "rewrap", NEW, OTHER)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"was sealed by the key {ids(OLD)[0]}, and CATALYST_SECRET_KEY holds {' and '.join(ids(NEW, OTHER))}" in done.stderr
    assert stored(own_plane) == before


def catalyst(plane: Plane, command: str, *keys: str) -> subprocess.CompletedProcess[str]:
    """`catalyst secrets …` as somebody types it."""
    settings = environment(CATALYST_DATABASE_URL=plane.settings.database_url, CATALYST_SECRET_KEY=",".join(keys))
    arguments = [sys.executable, "-m", "control_plane", "secrets", command]
    done = subprocess.run(arguments, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert not any(key in done.stdout + done.stderr for key in keys), "a secret is never shown"
    return done


NOT_SEALED = {"secret_sha256", "key", "inner_pad", "outer_pad", "previous", "hash", "dropped_hash", "id", "fingerprint"} | {
    "address_salt",
    "address_sha256",
    "sha256",
    "current_sha256",
    "previous_sha256",
    "successor_sealed",
    "jti",
    "subject",
    "sid",
    "code_sha256",
    "challenge",
}
"""Columns of bytes that hold hashes, or (the doorbell's key) what the database itself must know, or what only a refresh token opens."""


def test_no_column_of_sealed_values_is_left_out(own_plane: Plane) -> None:
    """Whoever adds a column of sealed values adds it to `STORES`."""
    with psycopg.connect(own_plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        query = (
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'catalyst' AND data_type = 'bytea'"
        )
        columns = [(table, column) for table, column in connection.execute(query) if column not in NOT_SEALED]
    assert columns
    for table, column in columns:
        assert any(f"UPDATE catalyst.{table} " in store.reseal and f"SET {column} = " in store.reseal for store in STORES), table


def test_it_is_told_to_people_too(own_plane: Plane) -> None:
    new, old = ids(NEW, OLD)
    done = catalyst(own_plane, "status", NEW, OLD)
    assert [line.split()[:1] for line in done.stdout.splitlines()[1:]] == [[new], [old]], done.stderr
    assert "2 signing keys" in done.stdout
    done = catalyst(own_plane, "rewrap", NEW, OLD)
    assert done.stdout.startswith(f"Wrapped anew under the key {new}: 2 of signing keys"), done.stderr
    assert f"Nothing in the database needs {old} now." in done.stdout
