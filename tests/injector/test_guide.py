"""The guide's YAML is valid for every version of Kubernetes, starts an injector, and asks about the right pods."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from control_plane.injector.authority import renew
from control_plane.injector.settings import InjectorSettings
from tests.injector.scene import NEWEST, OLDEST

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "kubernetes-injection.md"
[MANIFESTS] = [
    block for block in re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL) if "kind:" in block
]
OBJECTS = {one["kind"]: one for one in YAML(typ="safe").load_all(MANIFESTS)}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("kind", OBJECTS)
def test_what_the_guide_applies_is_valid(kind: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


def test_its_settings_start_an_injector(tmp_path: Path) -> None:
    renew(tmp_path, ["localhost"])
    container = OBJECTS["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    environ = {one["name"]: re.sub("^/tls/", f"{tmp_path}/", one["value"]) for one in container["env"]}
    settings = InjectorSettings.from_environ(environ)
    assert settings.native
    assert [port["containerPort"] for port in container["ports"]] == [settings.listen.port, settings.ops_listen.port]
    assert {name for name, _ in settings.passed_on} == {"CATALYST_ISSUER", "CATALYST_LOGIN_URL"}


def selected(selector: Any, labels: dict[str, str]) -> bool:
    """A label selector, https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors."""
    wanted = (selector or {}).get("matchLabels", {})
    expressions = (selector or {}).get("matchExpressions", [])
    holds = {"In": lambda value, values: value in values, "NotIn": lambda value, values: value not in values}
    return wanted.items() <= labels.items() and all(
        holds[one["operator"]](labels.get(one["key"]), one["values"]) for one in expressions
    )


@pytest.mark.parametrize(
    ("namespace", "pod", "asked"),
    [
        ({}, {}, []),
        ({"catalyst-auth/inject": "enabled"}, {}, ["namespaces"]),
        ({"catalyst-auth/inject": "enabled"}, {"catalyst-auth/inject": "disabled"}, ["namespaces"]),
        ({"catalyst-auth/inject": "enabled"}, {"catalyst-auth/inject": "enabled"}, ["namespaces"]),
        ({}, {"catalyst-auth/inject": "enabled"}, ["pods"]),
        ({"catalyst-auth/inject": "disabled"}, {"catalyst-auth/inject": "enabled"}, ["pods"]),
        ({"catalyst-auth/inject": "enabled", "kubernetes.io/metadata.name": "catalyst-auth"}, {}, []),
    ],
)
def test_its_selectors_ask_about_the_right_pods_once(namespace: dict[str, str], pod: dict[str, str], asked: list[str]) -> None:
    webhooks = OBJECTS["MutatingWebhookConfiguration"]["webhooks"]
    names = [
        one["name"].partition(".")[0]
        for one in webhooks
        if selected(one["namespaceSelector"], {"kubernetes.io/metadata.name": "shop", **namespace})
        and selected(one.get("objectSelector"), pod)
    ]
    assert names == asked
    assert {(one["failurePolicy"], one["sideEffects"]) for one in webhooks} == {("Fail", "None")}
