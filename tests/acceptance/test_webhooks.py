"""Webhooks over the API: what is kept, what is shown, who may."""

import pytest

from tests.acceptance.plane import Api, Tenant, make_tenant

PATH = "/v1/webhooks"
URL = "https://hooks.example.com/in/zxc"
NEW = {"url": URL, "events": ["profile.*"], "org": "acme"}
BOTH = ["catalyst:webhooks:read", "catalyst:webhooks:write"]


@pytest.fixture(autouse=True)
def acme(admin: Api) -> Tenant:
    """An org whose administrator may read and write webhooks, and nothing else."""
    return make_tenant(admin, "acme", BOTH)


def test_what_was_given_is_shown_and_secrets_once(admin: Api, acme: Tenant) -> None:
    made = acme.api.post(PATH, {"url": URL, "events": ["profile.*"], "headers": {"Authorization": "Bearer s3cret"}})
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert made["org"] == acme.id
    assert (made["status"], made["header_names"], made["public_key"]) == ("active", ["authorization"], None)
    assert made["retry_schedule"] == [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert acme.api.get(f"{PATH}/{made['id']}") == made
    assert acme.api.get(PATH)["items"] == [made]
    assert admin.get(PATH, org="acme")["items"] == [made]
    event = admin.last_event()
    assert (event["type"], event["after"]["host"]) == ("webhook.created", "hooks.example.com")
    assert event["after"]["withheld"] == ["url", "headers"]
    assert "s3cret" not in str(made) + str(event)
    assert "zxc" not in str(event)
