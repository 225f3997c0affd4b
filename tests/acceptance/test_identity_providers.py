"""Identity providers of orgs, over the API: what is kept, what is shown, who may."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar
from uuid import UUID

import pytest

from control_plane.changes import Work, reading
from control_plane.db.pool import create_pool
from control_plane.identity_providers import service
from control_plane.permissions import SYSTEM
from tests.acceptance.command_line import catalyst_here
from tests.acceptance.plane import Api, Plane, make_tenant
from tests.providers.liar import Liar

ACME = {"slug": "acme", "name": "Acme", "issuer": "https://idp.example.com", "client_id": "catalyst"}
PATH = "/v1/orgs/acme/identity-providers"
Result = TypeVar("Result")


@pytest.fixture(autouse=True)
def _acme(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})


@pytest.fixture(scope="module")
def _liar() -> Iterator[Liar]:
    with Liar(algorithm="EdDSA") as made:
        yield made


@pytest.fixture
def liar(_liar: Liar) -> Liar:
    _liar.lies = set()
    return _liar


def asked(plane: Plane, work: Callable[[Work], Awaitable[Result]]) -> Result:
    """What a login finds in the database."""

    async def main() -> Result:
        pool = await create_pool(plane.settings.database_url, "catalyst_control", size=1)
        try:
            async with reading(pool, SYSTEM) as looking:
                return await work(looking)
        finally:
            await pool.close()

    return asyncio.run(main())


def offered(plane: Plane, org: str | None = None, domain: str | None = None) -> list[str]:
    return [choice.slug for choice in asked(plane, lambda work: service.choices(work, org, domain))]


def test_what_was_given_is_shown_and_the_secret_never(plane: Plane, admin: Api) -> None:
    made = admin.post(PATH, ACME | {"client_secret": "s3cret"})
    assert made["has_client_secret"]
    assert "s3cret" not in str(made) + str(admin.get(PATH)) + str(admin.last_event())
    assert made["redirect_uri"] == f"{plane.url}/login/callback/{made['id']}"
    assert made["backchannel_logout_uri"] == f"{plane.url}/login/backchannel/{made['id']}"
    assert (made["just_in_time"], made["domains"], made["group_mappings"], made["token_audience"]) == (False, [], {}, "")
    assert admin.get(f"{PATH}/acme") == made
    event = admin.last_event()
    assert (event["type"], event["after"]["withheld"]) == ("identity_provider.created", ["name", "client_secret_wrapped"])


def test_a_secret_is_replaced_taken_away_and_not_carried_to_another_issuer(plane: Plane, admin: Api) -> None:
    provider = UUID(admin.post(PATH, ACME | {"client_secret": "first"})["id"])

    def secret() -> str:
        found = asked(plane, lambda work: service.active(work, plane.settings, provider))
        assert found is not None
        return found.client_secret

    assert secret() == "first"
    admin.patch(f"{PATH}/acme", {"name": "Still"})
    assert secret() == "first"
    assert admin.patch(f"{PATH}/acme", {"issuer": "https://else.example"}, 422)["errors"][0]["code"] == "secret_required"
    admin.patch(f"{PATH}/acme", {"issuer": "https://else.example", "client_secret": "second"})
    assert secret() == "second"
    assert admin.last_event()["after"]["withheld"] == ["client_secret_wrapped"]
    assert not admin.patch(f"{PATH}/acme", {"client_secret": None})["has_client_secret"]
    assert secret() == ""


def test_one_client_of_an_issuer_once_in_an_org(admin: Api) -> None:
    admin.post(PATH, ACME)
    assert admin.post(PATH, ACME | {"client_id": "other"}, 409)["code"] == "slug_taken"
    assert admin.post(PATH, ACME | {"slug": "second"}, 409)["code"] == "already_configured"
    admin.post(PATH, ACME | {"slug": "second", "client_id": "other"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "ftp://idp.example.com"},
        {"issuer": "https://idp.example.com?x=1"},
        {"issuer": "https://user@idp.example.com"},
        {"issuer": "https://idp.example.com#x"},
        {"issuer": "idp.example.com"},
        {"scopes": ["email"]},
        {"scopes": ["openid", "two words"]},
        {"algorithms": []},
        {"algorithms": ["none"]},
        {"algorithms": ["HS256"]},
        {"clock_skew_seconds": 301},
        {"client_id": "caté"},
        {"domains": ["nodot"]},
        {"acr_aliases": {"a": "x", "b": "x"}},
        {"second_factor_amr": ["two words"]},
        {"group_mappings": {"staff": "no-such-group"}},
        {"made_up": True},
    ],
)
def test_what_cannot_be_right_is_refused(admin: Api, wrong: dict[str, Any]) -> None:
    assert admin.post(PATH, ACME | wrong, 422)["errors"]
    assert admin.get(PATH)["items"] == []


def test_the_platform_writes_and_the_org_reads(admin: Api) -> None:
    tenant = make_tenant(admin, "other", ["catalyst:orgs:read", "catalyst:orgs:write", "catalyst:groups:read"])
    path = "/v1/orgs/other/identity-providers"
    assert tenant.api.post(path, ACME, 403)["code"] == "permission_denied"
    admin.post(path, ACME)
    assert [one["slug"] for one in tenant.api.get(path)["items"]] == ["acme"]
    tenant.api.patch(f"{path}/acme", {"enabled": False}, 403)
    tenant.api.delete(f"{path}/acme", 403)
    assert tenant.api.get(PATH, 404)["code"] == "not_found"
    admin.delete(f"{path}/acme")
    assert tenant.api.get(path)["items"] == []


def test_mapped_groups_go_with_their_group(plane: Plane, admin: Api) -> None:
    eu = admin.post("/v1/orgs/acme/groups", {"slug": "eu", "name": "Europe"})["id"]
    made = admin.post(PATH, ACME | {"groups_claim": "groups", "group_mappings": {"staff": "eu", "x": eu}})
    assert made["group_mappings"] == {"staff": "eu", "x": "eu"}
    found = asked(plane, lambda work: service.active(work, plane.settings, UUID(made["id"])))
    assert found is not None
    assert found.group_mappings == {"staff": (UUID(eu),), "x": (UUID(eu),)}
    assert admin.patch(f"{PATH}/acme", {"group_mappings": {"staff": "eu"}})["group_mappings"] == {"staff": "eu"}
    admin.delete("/v1/orgs/acme/groups/eu")
    assert admin.get(f"{PATH}/acme")["group_mappings"] == {}


def test_nobody_hands_out_through_a_provider_what_they_do_not_hold(admin: Api) -> None:
    group = admin.post("/v1/orgs/acme/groups", {"slug": "admins", "name": "Admins"})["id"]
    grant = {"org": "acme", "subject": {"kind": "group", "id": group}, "entitlement": "catalyst:grants:write"}
    admin.post("/v1/grants", grant)
    system = next(org["slug"] for org in admin.get("/v1/orgs")["items"] if org["slug"] != "acme")
    operator = admin.post("/v1/profiles", {"kind": "service"})["id"]
    member = admin.post(f"/v1/orgs/{system}/memberships", {"profile": operator})["id"]
    for entitlement in ("catalyst:orgs:write", "catalyst:orgs:read"):
        admin.post("/v1/grants", {"org": system, "subject": {"kind": "membership", "id": member}, "entitlement": entitlement})
    key = admin.post("/v1/api-keys", {"profile": operator, "org": system, "name": "k"})
    caller = admin.with_credential(key["secret"])
    mapping = {"group_mappings": {"staff": "admins"}}
    assert caller.post(PATH, ACME | mapping, 403)["code"] == "escalation_refused"
    caller.post(PATH, ACME)
    assert caller.patch(f"{PATH}/acme", mapping, 403)["code"] == "escalation_refused"
    admin.post("/v1/grants", {"org": "acme", "subject": {"kind": "org", "id": "acme"}, "entitlement": "catalyst:roles:write"})
    assert caller.patch(f"{PATH}/acme", {"just_in_time": True}, 403)["code"] == "escalation_refused"
    admin.patch(f"{PATH}/acme", mapping | {"just_in_time": True})
    # What is mapped already would go to whom another issuer vouches for.
    assert caller.patch(f"{PATH}/acme", {"issuer": "https://mine.example"}, 403)["code"] == "escalation_refused"
    assert caller.patch(f"{PATH}/acme", {"groups_claim": "mine"}, 403)["code"] == "escalation_refused"
    caller.patch(f"{PATH}/acme", {"enabled": False, "issuer": "https://mine.example"})
    assert caller.patch(f"{PATH}/acme", {"enabled": True}, 403)["code"] == "escalation_refused"
    admin.delete(f"/v1/profiles/{operator}")


def test_what_the_login_page_offers(plane: Plane, admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "other", "name": "Other"})
    admin.post(PATH, ACME | {"domains": ["acme.example"]})
    admin.post(PATH, ACME | {"slug": "quiet", "client_id": "2", "listed": False, "domains": ["ACME.example", "quiet.example"]})
    admin.post("/v1/orgs/other/identity-providers", ACME | {"slug": "other"})
    assert offered(plane) == ["acme", "other"] or offered(plane) == ["other", "acme"]
    assert sorted(offered(plane, "acme")) == ["acme", "quiet"]
    assert offered(plane, admin.get("/v1/orgs/other")["id"]) == ["other"]
    assert sorted(offered(plane, None, "acme.example")) == ["acme", "quiet"]
    assert offered(plane, None, "quiet.example") == ["quiet"]
    assert offered(plane, "nobody") == offered(plane, None, "nobody.example") == []
    admin.patch(f"{PATH}/acme", {"enabled": False})
    assert offered(plane) == ["other"]
    admin.patch("/v1/orgs/other", {"status": "suspended"})
    assert offered(plane) == []


def test_only_an_enabled_provider_of_an_active_org_logs_anybody_in(plane: Plane, admin: Api) -> None:
    provider = UUID(admin.post(PATH, ACME | {"token_audience": "api"})["id"])

    def is_active() -> bool:
        return asked(plane, lambda work: service.active(work, plane.settings, provider)) is not None

    def takes(audience: str) -> int:
        return len(asked(plane, lambda work: service.taking_tokens(work, plane.settings, ACME["issuer"], ["x", audience])))

    assert is_active()
    assert (takes("api"), takes("other"), takes("")) == (1, 0, 0)
    admin.patch(f"{PATH}/acme", {"enabled": False})
    assert not is_active()
    assert takes("api") == 0
    admin.patch(f"{PATH}/acme", {"enabled": True})
    admin.patch("/v1/orgs/acme", {"status": "suspended"})
    assert not is_active()


def test_a_test_says_in_words_what_is_wrong(admin: Api, liar: Liar) -> None:
    admin.post(PATH, ACME | {"issuer": liar.issuer, "client_secret": "catalyst-secret", "just_in_time": True})
    said = admin.post(f"{PATH}/acme/test", status=200)
    assert said["passed"]
    levels = {one["check"]: one["level"] for one in said["findings"]}
    assert (levels["client_credentials"], levels["domains"]) == ("ok", "warning")
    admin.patch(f"{PATH}/acme", {"client_secret": "not it", "enabled": False})
    said = admin.post(f"{PATH}/acme/test", status=200)
    assert [one["check"] for one in said["findings"] if one["level"] == "error"] == ["client_credentials"]
    event = admin.last_event()
    assert (event["type"], event["after"]) == ("identity_provider.tested", {"passed": False, "failed": ["client_credentials"]})
    assert admin.post(f"{PATH}/nobody/test", status=404)["code"] == "not_found"


def test_a_secret_need_not_stand_in_the_command(plane: Plane, admin: Api, liar: Liar) -> None:
    variables = {"CATALYST_URL": plane.url, "CATALYST_API_KEY": plane.administrator.api_key}
    words = ("identity-providers", "create", "acme", "--slug", "idp", "--name", "Idp", "--client-id", "catalyst")
    command = (*words, "--issuer", liar.issuer, "--client-secret", "-")
    assert catalyst_here(*command, **variables).returncode == 2
    assert catalyst_here(*command, typed="catalyst-secret\n", **variables).returncode == 0
    assert catalyst_here("identity-providers", "test", "acme", "idp", **variables).returncode == 0
    liar.lies = {"wrong_client_secret"}
    done = catalyst_here("identity-providers", "test", "acme", "idp", **variables)
    assert (done.returncode, "error" in done.stdout) == (1, True)
    assert "The provider refuses the client: are client_id and client_secret right?" in done.stdout
