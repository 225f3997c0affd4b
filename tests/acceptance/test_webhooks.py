"""Webhooks over the API: what is kept, what is shown, who may."""

from pathlib import Path
from typing import Any

import pytest

from control_plane import events
from tests.acceptance.command_line import catalyst_here
from tests.acceptance.plane import Api, Plane, Tenant, bootstrapped, make_tenant
from tests.acceptance.processes import control_plane
from tests.protocol.authority import Authority

PATH = "/v1/webhooks"
URL = "https://hooks.example.com/in/zxc"
NEW = {"url": URL, "events": ["profile.*"]}
BOTH = ["catalyst:webhooks:read", "catalyst:webhooks:write"]
SECRET = "Bearer s3cret"


@pytest.fixture(autouse=True)
def acme(admin: Api) -> Tenant:
    """An org whose administrator may read and write webhooks, and nothing else."""
    return make_tenant(admin, "acme", BOTH)


def code(problem: Any) -> tuple[str, str]:
    """The field at fault, and what is wrong with it."""
    (fault,) = problem["errors"]
    return fault["field"], fault["code"]


def pem(path: str) -> str:
    return Path(path).read_text()


def test_what_was_given_is_shown_and_secrets_once(admin: Api, acme: Tenant) -> None:
    made = acme.api.post(PATH, NEW | {"headers": {"Authorization": SECRET}, "description": "To the shop"})
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert made["org"] == acme.id
    assert (made["status"], made["header_names"], made["public_key"]) == ("active", ["authorization"], None)
    assert made["retry_schedule"] == [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    nothing = {
        "pending": 0,
        "retrying": 0,
        "dead": 0,
        "failures": 0,
        "failing_since": None,
        "held_until": None,
        "last_attempt": None,
    }
    assert made["health"] == nothing
    assert acme.api.get(f"{PATH}/{made['id']}") == made
    assert acme.api.get(PATH)["items"] == [made]
    assert admin.get(PATH, org="acme", status="active")["items"] == [made]
    assert admin.get(PATH, org="acme", status="paused")["items"] == []
    event = admin.last_event()
    assert (event["type"], event["after"]["host"]) == ("webhook.created", "hooks.example.com")
    assert event["after"]["withheld"] == ["url", "description", "headers"]
    assert not any(kept in f"{made} {event}" for kept in (SECRET, secret))
    assert not any(withheld in str(event) for withheld in ("zxc", "shop", "authorization"))


def test_whose_it_is_is_said_and_never_guessed(admin: Api, acme: Tenant) -> None:
    """Of all orgs hears only what the platform made for itself, and said so."""
    other = make_tenant(admin, "other", BOTH)
    assert code(admin.post(PATH, NEW, 422)) == ("/org", "org_required")
    assert admin.post(PATH, NEW | {"org": None})["org"] is None
    assert admin.post(PATH, NEW | {"org": "other"})["org"] == other.id
    assert acme.api.post(PATH, NEW)["org"] == acme.api.post(PATH, NEW | {"org": "acme"})["org"] == acme.id
    assert acme.api.post(PATH, NEW | {"org": None}, 403)["code"] == "permission_denied"
    for org in (other.id, "other", "nobody"):
        assert code(acme.api.post(PATH, NEW | {"org": org}, 422)) == ("/org", "not_found")
    assert len(admin.get(PATH)["items"]) == 4
    assert {one["org"] for one in acme.api.get(PATH)["items"]} == {acme.id}
    assert acme.api.get(PATH, 404, org="other")["code"] == "not_found"


def test_what_is_anothers_does_not_exist(admin: Api, acme: Tenant) -> None:
    make_tenant(admin, "other", [])
    for org in ("other", None):
        made = admin.post(PATH, NEW | {"org": org})
        one = f"{PATH}/{made['id']}"
        for method, path in (("GET", one), ("DELETE", one), ("POST", f"{one}/test"), ("POST", f"{one}/rotate-secret")):
            assert acme.api.call(method, path, 404)["code"] == "not_found"
        assert acme.api.patch(one, {"status": "paused"}, 404)["code"] == "not_found"
        made.pop("secret")
        assert admin.get(one) == made


def test_who_reads_does_not_write(admin: Api) -> None:
    reader = make_tenant(admin, "readers", ["catalyst:webhooks:read"]).api
    made = admin.post(PATH, NEW | {"org": "readers"})
    assert reader.get(f"{PATH}/{made['id']}")["url"] == URL
    for method, path in (("DELETE", ""), ("PATCH", ""), ("POST", "/test"), ("POST", "/rotate-secret")):
        assert reader.call(method, f"{PATH}/{made['id']}{path}", 403)["code"] == "permission_denied"
    assert reader.post(PATH, NEW, 403)["code"] == "permission_denied"


def test_an_org_has_so_many_and_no_more(plane: Plane, admin: Api, acme: Tenant) -> None:
    many = "INSERT INTO catalyst.webhooks (org_id, url, events, retry_schedule) SELECT %s, 'https://x', '{*}', '{}' FROM generate_series(1, 99)"
    plane.execute(many, acme.id)
    last = acme.api.post(PATH, NEW)["id"]
    assert acme.api.post(PATH, NEW, 409)["code"] == "too_many_webhooks"
    admin.post(PATH, NEW | {"org": None})
    acme.api.delete(f"{PATH}/{last}")
    acme.api.post(PATH, NEW)


@pytest.mark.parametrize(
    ("wrong", "field", "found"),
    [
        ({"url": "ftp://hooks.example.com"}, "/url", "string_pattern_mismatch"),
        ({"url": "https://user:password@hooks.example.com"}, "/url", "value_error"),
        ({"url": "https://hooks.example.com/#x"}, "/url", "value_error"),
        ({"url": "https://hooks.example.com/ä"}, "/url", "value_error"),
        ({"url": "https://"}, "/url", "value_error"),
        ({"url": "https://hooks.example.com/" + "x" * 2000}, "/url", "string_too_long"),
        ({"url": "https://10.0.0.1/"}, "/url", "address_refused"),
        ({"url": "https://[::1]/"}, "/url", "address_refused"),
        ({"url": "https://169.254.169.254/latest"}, "/url", "address_refused"),
        ({"url": "http://192.0.2.1/"}, "/url", "address_refused"),
        ({"url": "http://8.8.8.8/"}, "/url", "address_refused"),
        ({"events": []}, "/events", "too_short"),
        ({"events": ["profile"]}, "/events/0", "string_pattern_mismatch"),
        ({"events": ["*.created"]}, "/events/0", "string_pattern_mismatch"),
        ({"events": ["profil.*"]}, "/events/0", "value_error"),
        ({"events": ["profile.updatd"]}, "/events/0", "value_error"),
        ({"events": ["policy.*", "*"]}, "/events", "never_heard"),
        ({"headers": {"webhook-id": "x"}}, "/headers", "value_error"),
        ({"headers": {"x-user-sub": "x"}}, "/headers", "value_error"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "/headers", "value_error"),
        ({"headers": {"x-a": "two\nlines"}}, "/headers/x-a", "string_pattern_mismatch"),
        ({"headers": {"x a": "1"}}, "/headers/x a/[key]", "string_pattern_mismatch"),
        ({"retry_schedule": [0]}, "/retry_schedule/0", "greater_than_equal"),
        ({"retry_schedule": [604_801]}, "/retry_schedule/0", "less_than_equal"),
        ({"retry_schedule": [1] * 21}, "/retry_schedule", "too_long"),
        ({"timeout_seconds": 31}, "/timeout_seconds", "less_than_equal"),
        ({"rate_limit": 0}, "/rate_limit", "greater_than_equal"),
        ({"max_in_flight": 101}, "/max_in_flight", "less_than_equal"),
        ({"payload": "fat"}, "/payload", "literal_error"),
        ({"signatures": []}, "/signatures", "too_short"),
        ({"signatures": ["v2"]}, "/signatures/0", "literal_error"),
        ({"ca_bundle": "none"}, "/ca_bundle", "value_error"),
        ({"client_certificate": "alone"}, "/client_key", "both_or_neither"),
        ({"client_key": "alone"}, "/client_certificate", "both_or_neither"),
        ({"client_certificate": "no", "client_key": "pem"}, "/client_certificate", "not_a_pair"),
        ({"status": "paused"}, "/status", "extra_forbidden"),
    ],
)
def test_what_cannot_be_right_is_refused(acme: Tenant, wrong: dict[str, Any], field: str, found: str) -> None:
    assert code(acme.api.post(PATH, NEW | wrong, 422)) == (field, found)
    assert acme.api.get(PATH)["items"] == []


def test_http_goes_nowhere_unless_the_operator_named_a_network(database: Any, tmp_path: Path) -> None:
    administrator = bootstrapped(database.url("catalyst_control"))
    with control_plane(database.url("catalyst_control"), tmp_path / "log") as program:
        admin = Api(program.url, administrator.api_key)
        for url, found in (("http://hooks.example.com/", "https_required"), ("https://127.0.0.1/", "address_refused")):
            assert code(admin.post(PATH, {"url": url, "events": ["*"], "org": None}, 422)) == ("/url", found)
        admin.close()


def test_a_pattern_that_nothing_matches_is_answered_with_what_there_is(acme: Tenant) -> None:
    def said(pattern: str) -> str:
        message: str = acme.api.post(PATH, NEW | {"events": [pattern]}, 422)["errors"][0]["message"]
        return message

    assert "Did you mean profile.*" in said("profiles.*")
    assert "Did you mean profile.updated" in said("profile.updatd")
    assert "Of grant there are: *, created, deleted, expired." in said("grant.zzzzzzzz")
    assert all(kind in said("zzzzzzz.*") for kind in events.EVENTS)
    for pattern in ("*", "grant.*", "session.revoked"):
        assert events.unknown(pattern) is None


def test_what_is_absent_stays_and_null_is_as_if_it_had_not_been_given(admin: Api, acme: Tenant) -> None:
    given = NEW | {"description": "x", "retry_schedule": [7], "rate_limit": 3, "ordered": True, "headers": {"a": "1", "b": "2"}}
    made = acme.api.post(PATH, given | {"payload": "thin", "timeout_seconds": 3})
    one = f"{PATH}/{made['id']}"

    def patched(**wanted: Any) -> Any:
        return acme.api.patch(one, wanted)

    assert patched(events=["*"])["description"] == "x"
    assert admin.last_event()["after"] == {"events": ["*"]}
    assert patched(headers={"c": "3"})["header_names"] == ["c"]
    assert admin.last_event()["after"] == {"withheld": ["headers"]}
    assert patched(url=URL + "/other", headers={"c": "3"})["header_names"] == ["c"]
    assert admin.last_event()["after"] == {"withheld": ["url", "headers"]}
    emptied = patched(description=None, retry_schedule=None, rate_limit=None, ordered=None, headers=None, payload=None)
    assert (emptied["description"], emptied["rate_limit"], emptied["ordered"], emptied["header_names"]) == ("", None, False, [])
    assert (emptied["payload"], emptied["timeout_seconds"], len(emptied["retry_schedule"])) == ("full", 3, 9)
    before = admin.last_event()["id"]
    assert patched(url=None, events=None, status=None)["events"] == ["*"]
    assert admin.last_event()["id"] == before
    assert code(acme.api.patch(one, {"org": "other"}, 422)) == ("/org", "extra_forbidden")
    assert code(acme.api.patch(one, {"events": ["policy.published"]}, 422)) == ("/events", "never_heard")
    assert code(acme.api.patch(one, {"url": "https://127.0.1.1.nip.io:0/"}, 422)) == ("/url", "value_error")


def test_what_was_given_for_one_url_is_not_carried_to_another(acme: Tenant, tmp_path: Path) -> None:
    """Who may write webhooks could otherwise have what is sealed sent to a server of their own."""
    certificate, key = map(pem, Authority(tmp_path).issue("catalyst"))
    shown = {"client_certificate": certificate, "client_key": key}
    one = f"{PATH}/{acme.api.post(PATH, NEW | {'headers': {'authorization': SECRET}} | shown)['id']}"
    for url in (
        "https://mine.example/in",
        "https://hooks.example.com:8443/in",
        "https://hooks.example.com/mine",
        f"{URL}?to=mine",
    ):
        assert code(acme.api.patch(one, {"url": url}, 422)) == ("/headers", "secret_required")
        assert code(acme.api.patch(one, {"url": url, "headers": {}}, 422)) == ("/client_key", "secret_required")
    assert acme.api.patch(one, {"url": URL, "description": "x"})["header_names"] == ["authorization"]
    moved = acme.api.patch(one, {"url": "https://mine.example/in", "headers": {}, **shown})
    assert (moved["header_names"], moved["client_certificate"]) == ([], certificate)
    gone = acme.api.patch(one, {"url": "https://other.example/in", "client_certificate": None, "client_key": None})
    assert gone["client_certificate"] is None
    acme.api.patch(one, {"url": "https://another.example/in"})


def test_a_client_certificate_comes_with_its_key(admin: Api, acme: Tenant, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (certificate, key), (_, other) = ([pem(path) for path in authority.issue(name)] for name in ("one", "two"))
    wrong = {"client_certificate": certificate, "client_key": other}
    assert code(acme.api.post(PATH, NEW | wrong, 422)) == ("/client_certificate", "not_a_pair")
    made = acme.api.post(PATH, NEW | {"client_certificate": certificate, "client_key": key, "ca_bundle": pem(authority.path)})
    one = f"{PATH}/{made['id']}"
    assert admin.last_event()["after"]["withheld"] == ["url", "client_certificate", "client_key", "ca_bundle"]
    assert "PRIVATE" not in str(made) + str(acme.api.get(one))
    # A new certificate of the same key; of another; no key; nothing of both.
    renewed = certificate + pem(authority.path)
    assert acme.api.patch(one, {"client_certificate": renewed})["client_certificate"] == renewed
    assert code(acme.api.patch(one, {"client_certificate": pem(authority.path)}, 422)) == ("/client_certificate", "not_a_pair")
    assert code(acme.api.patch(one, {"client_key": other}, 422)) == ("/client_certificate", "not_a_pair")
    assert code(acme.api.patch(one, {"client_key": None}, 422)) == ("/client_key", "both_or_neither")
    assert acme.api.patch(one, {"client_certificate": None})["client_certificate"] is None
    assert admin.last_event()["after"] == {"withheld": ["client_certificate", "client_key"]}
    acme.api.patch(one, {"client_certificate": certificate, "client_key": key})


def test_it_is_paused_resumed_and_enabled_again(plane: Plane, admin: Api, acme: Tenant) -> None:
    made = acme.api.post(PATH, NEW)
    one = f"{PATH}/{made['id']}"
    paused = acme.api.patch(one, {"status": "paused"})
    assert (paused["status"], paused["status_at"] > made["status_at"]) == ("paused", True)
    assert admin.last_event()["before"] == {"status": "active"}
    assert acme.api.patch(one, {"status": "active"})["status"] == "active"
    plane.execute("SELECT catalyst.disable_webhook(%s, 'gone')", made["id"])
    disabled = acme.api.get(one)
    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "gone")
    assert acme.api.get(PATH, status="disabled")["items"] == [disabled]
    assert acme.api.patch(one, {"description": "x"})["disabled_reason"] == "gone"
    assert code(acme.api.patch(one, {"status": "disabled"}, 422)) == ("/status", "literal_error")
    again = acme.api.patch(one, {"status": "active"})
    assert (again["status"], again["disabled_reason"]) == ("active", None)
    assert admin.last_event()["after"] == {"status": "active", "disabled_reason": None}
    plane.execute("SELECT catalyst.disable_webhook(%s, 'failing')", made["id"])
    assert acme.api.patch(one, {"status": "paused"})["disabled_reason"] is None


def test_how_deliveries_go_is_shown_and_is_no_part_of_the_version(plane: Plane, acme: Tenant) -> None:
    one = f"{PATH}/{acme.api.post(PATH, NEW)['id']}"
    tag = acme.api.client.get(one).headers["etag"]
    plane.execute("UPDATE catalyst.webhook_queues SET pending = 3, retrying = 2, dead = 1, failures = 7, failing_since = now()")
    health = acme.api.get(one)["health"]
    assert [health[name] for name in ("pending", "retrying", "dead", "failures")] == [3, 2, 1, 7]
    assert (health["failing_since"] is None, health["held_until"]) == (False, None)
    assert acme.api.client.get(one).headers["etag"] == tag
    acme.api.call("PATCH", one, 200, json={"ordered": True}, headers={"if-match": tag})
    for method, path, body in (("PATCH", "", {"ordered": False}), ("DELETE", "", None), ("POST", "/rotate-secret", None)):
        assert acme.api.call(method, one + path, 412, json=body, headers={"if-match": tag})["code"] == "precondition_failed"


def test_a_request_that_is_sent_again_makes_one_and_shows_the_same_secret(acme: Tenant) -> None:
    first, again = (acme.api.call("POST", PATH, 201, json=NEW, headers={"idempotency-key": "one"}) for _ in range(2))
    assert first == again
    assert first["secret"]
    assert len(acme.api.get(PATH)["items"]) == 1


def test_an_org_hears_of_a_profile_from_when_it_became_a_member(plane: Plane, admin: Api, acme: Tenant) -> None:
    """However late its events are fanned out, and also by a replay."""
    one = f"{PATH}/{acme.api.post(PATH, NEW)['id']}"
    ours = f"{PATH}/{admin.post(PATH, NEW | {'org': None})['id']}"
    ann = admin.post("/v1/profiles", {})["id"]
    admin.patch(f"/v1/profiles/{ann}", {"status": "suspended"})
    membership = admin.post("/v1/orgs/acme/memberships", {"profile": ann})["id"]
    admin.patch(f"/v1/profiles/{ann}", {"status": "active"})
    plane.fan_out()
    admin.patch(f"/v1/profiles/{ann}", {"display_name": "Ann"})
    admin.delete(f"/v1/orgs/acme/memberships/{membership}")
    plane.fan_out()
    assert [told["type"] for told in acme.api.get(f"{one}/deliveries")["items"]] == ["profile.updated"]
    assert [told["type"] for told in admin.get(f"{ours}/deliveries")["items"]] == [*["profile.updated"] * 3, "profile.created"]


def test_the_command_line_takes_files_and_secrets_that_do_not_stand_in_it(plane: Plane, admin: Api, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("catalyst")
    variables = {"CATALYST_URL": plane.url, "CATALYST_API_KEY": plane.administrator.api_key}
    words = ["webhooks", "create", "--url", URL, "--events", "*", "--headers", "authorization=-", "--headers", "x-a=b"]
    words += ["--client-certificate", f"@{certificate}", "--client-key", f"@{key}", "--ca-bundle", f"@{authority.path}"]
    done = catalyst_here(*words, "--platform", typed=f"{SECRET}\n", **variables)
    assert done.returncode == 0, done.stderr
    assert "The secret is shown this once" in done.stderr
    (made,) = admin.get(PATH)["items"]
    assert (made["org"], made["header_names"]) == (None, ["authorization", "x-a"])
    assert (made["client_certificate"], made["ca_bundle"]) == (pem(certificate), pem(authority.path))
    update = ("webhooks", "update", made["id"], "--client-key", "-", "--url", "https://else.example", "--unset", "headers")
    assert catalyst_here(*update, typed=pem(key), **variables).returncode == 0
    for more, said in (
        (["--platform", "--org", "acme"], "--platform and --org stand against each other"),
        (["--ca-bundle", "@nowhere.pem"], "--ca-bundle: there is no such file of text, or you may not read it"),
        ([], "--org: Say whose it is"),
    ):
        refused = catalyst_here("webhooks", "create", "--url", URL, "--events", "*", *more, **variables)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
