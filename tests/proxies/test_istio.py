"""Istio's configuration: no Istio runs here, but what istiod makes of it for Envoy does, under the tests of the other proxies.

The translation follows istiod (pilot/pkg/security/authz/builder/extauthz.go: generateHTTPConfig, generateHeaders).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from ruamel.yaml import YAML

from control_plane.errors import OperatorError
from control_plane.proxies import CONFIGURATIONS, Address, Parameters
from sidecar.contract import IDENTITY_HEADERS
from tests.proxies import test_proxies
from tests.proxies.realm import Door, Realm, printed, running_proxy

HERE = Address("127.0.0.1", 8787)
DEMAND = ("proxy-config", "istio", "--header", "x-tier", "--header", "tenant-id", "--sidecar")


def documents(sidecar: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The provider, the policy and the filter that are printed."""
    mesh, policy, envoy_filter = YAML(typ="safe").load_all(printed(*DEMAND, sidecar))
    return mesh["meshConfig"]["extensionProviders"][0], policy, envoy_filter


def matchers(names: list[str]) -> dict[str, Any]:
    """generateHeaders: exact, prefix and suffix, in any case."""
    kinds = [
        {"suffix": name[1:]} if name.startswith("*") else {"prefix": name[:-1]} if name.endswith("*") else {"exact": name}
        for name in names
    ]
    return {"patterns": [{**kind, "ignore_case": True} for kind in kinds]}


def as_envoy(configuration: str, sidecar: str) -> str:
    """An Envoy bootstrap file in which the connection manager and its authorizer are those that istiod would make."""
    provider, _, envoy_filter = documents(sidecar)
    asked = provider["envoyExtAuthzHttp"]
    bootstrap = YAML(typ="safe").load(configuration)
    manager = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for ours in ("early_header_mutation_extensions", "use_remote_address", "local_reply_config", "common_http_protocol_options"):
        del manager[ours]
    connection, routes = (patch["patch"]["value"] for patch in envoy_filter["spec"]["configPatches"])
    manager.update(connection["typed_config"])
    del manager["route_config"]["virtual_hosts"][0]["routes"][0]["request_headers_to_add"]
    manager["route_config"].update(routes)
    authorizer = manager["http_filters"][0]["typed_config"]
    for name in set(authorizer) - {"@type", "transport_api_version"}:
        del authorizer[name]
    authorizer |= {
        "status_on_error": {"code": int(asked["statusOnError"])},
        "failure_mode_allow": asked["failOpen"],
        "allowed_headers": matchers(asked["includeRequestHeadersInCheck"]),
        "http_service": {
            "path_prefix": asked["pathPrefix"],
            "server_uri": {"uri": f"http://{asked['service']}", "cluster": "catalyst_sidecar", "timeout": asked["timeout"]},
            "authorization_response": {"allowed_upstream_headers": matchers(asked["headersToUpstreamOnAllow"])},
        },
    }
    return json.dumps(bootstrap)


@pytest.fixture(scope="module")
def door(realm: Realm) -> Iterator[Door]:
    sidecar = realm.stack.listen["sidecar"]
    places = ("envoy", realm.recorder.port, sidecar)
    with running_proxy(*places, change=lambda text: as_envoy(text, sidecar)) as port:
        yield Door("istio", port, realm.recorder)


@pytest.fixture
def start_proxy() -> Iterator[Callable[..., int]]:
    with ExitStack() as running:
        yield lambda _name, application, sidecar, *more: running.enter_context(
            running_proxy("envoy", application, sidecar, *more, change=lambda text: as_envoy(text, sidecar))
        )


# The same tests, through this door.
test_identity = test_proxies.test_identity_headers_take_the_place_of_the_clients_own
test_empty = test_proxies.test_empty_answers_remove_the_clients_own
test_aliases = test_proxies.test_aliases_of_identity_headers_never_arrive
test_targets = test_proxies.test_what_arrives_was_judged
test_forwarded_question = test_proxies.test_spoofed_forwarded_headers_change_nothing
test_forwarded = test_proxies.test_spoofed_forwarded_headers_do_not_reach_the_application
test_address = test_proxies.test_the_client_does_not_choose_its_address
test_connection = test_proxies.test_connection_cannot_remove_what_the_sidecar_says
test_refusals = test_proxies.test_refusals_reach_the_client_whole
test_browsers = test_proxies.test_browsers_are_sent_to_log_in
test_steps = test_proxies.test_steps_of_a_login_reach_the_browser_whole
test_credentials = test_proxies.test_every_credential_passes_the_proxy
test_web_sockets = test_proxies.test_web_sockets_are_judged_and_pass
test_web_socket_connection = test_proxies.test_a_web_socket_cannot_remove_what_the_sidecar_says
test_other_upgrades = test_proxies.test_other_upgrades_do_not_pass


def test_the_header_lists_are_those_of_the_contract() -> None:
    provider, policy, _ = documents("catalyst-sidecar.catalyst.svc.cluster.local:8787")
    asked = provider["envoyExtAuthzHttp"]
    assert asked["headersToUpstreamOnAllow"] == [*IDENTITY_HEADERS, "x-tier", "tenant-id"]
    assert "headersToDownstreamOnDeny" not in asked
    assert (asked["service"], asked["port"]) == ("catalyst-sidecar.catalyst.svc.cluster.local", 8787)
    assert asked["failOpen"] is False
    assert (policy["spec"]["action"], policy["spec"]["provider"]["name"]) == ("CUSTOM", provider["name"])
    assert policy["spec"]["rules"] == [{}]


def test_the_login_host_alone_is_no_question() -> None:
    login = ("--login", "auth.example.com=catalyst-login.catalyst.svc.cluster.local:8081")
    _, policy, _ = YAML(typ="safe").load_all(printed(*DEMAND, "127.0.0.1:8787", *login))
    assert policy["spec"]["rules"] == [{"to": [{"operation": {"notHosts": ["auth.example.com", "auth.example.com:*"]}}]}]


def test_what_istio_says_elsewhere_is_refused() -> None:
    with pytest.raises(OperatorError) as refused:
        CONFIGURATIONS["istio"](Parameters(HERE, Address(path="/run/sidecar.sock"), HERE, ("orders.example.com",)))
    assert [problem.partition(" ")[0] for problem in refused.value.problems] == ["Istio", "Istio's"]
