"""Pods of every shape (pods/*.yaml), asked about over TLS, patched as an API server patches, validated as Kubernetes validates."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sidecar.settings import Settings
from tests.injector.scene import (
    NAME,
    NATIVE,
    NEWEST,
    OLDEST,
    Injector,
    as_stored,
    containers,
    operations,
    patched,
    sidecar,
    validate,
)

FILES = sorted((Path(__file__).parent / "pods").glob("*.yaml"))
CASES = {file.stem: YAML(typ="safe").load(file) for file in FILES}
WAYS = ("native", "ordinary")
ALLOWED = ("injected", "replaced")


def expected(case: Any, way: str) -> str:
    return case["expect"] if isinstance(case["expect"], str) else case["expect"][way]


def changed(way: str) -> list[str]:
    return [name for name, case in CASES.items() if expected(case, way) in ALLOWED]


@pytest.fixture(params=WAYS)
def asked(request: pytest.FixtureRequest) -> tuple[str, Injector]:
    return request.param, request.getfixturevalue(request.param)


def pod(name: str, server: Injector) -> Any:
    """The pod of a case, grown where the case says so."""
    case = CASES[name]
    found = copy.deepcopy(case["pod"])
    if "grow" in case:
        found["spec"]["containers"][0]["env"] = [
            {"name": f"FILLER_{i}", "value": "x" * 1000} for i in range(case["grow"] // 1040)
        ]
    marks = found.get("metadata", {}).get("annotations") or {}
    if marks.get("catalyst-auth/injected") == "MARK":
        plain = {"spec": {"containers": [{"name": "app", "image": "app:1"}]}}
        marks |= patched(plain, server.ask(plain))["metadata"]["annotations"]
    return found


def test_there_are_enough_shapes() -> None:
    assert len(CASES) >= 50
    assert all(file.read_text().startswith("# ") for file in FILES)


@pytest.mark.parametrize("name", CASES)
def test_what_comes_of_it(name: str, asked: tuple[str, Injector]) -> None:
    way, server = asked
    case, shape = CASES[name], pod(name, server)
    outcome, _, code = expected(case, way).partition(" ")
    response = server.ask(shape, **case.get("request", {}))
    assert response["auditAnnotations"] == {"outcome": outcome}
    assert response["allowed"] is (outcome != "refused")
    assert bool(operations(response)) is (outcome in ALLOWED)
    if outcome == "refused":
        assert response["status"]["code"] == 403
        assert response["status"]["message"].startswith("catalyst-auth: ")
        assert f'code="{code}"' in server.metrics()
    said = "\n".join([response.get("status", {}).get("message", ""), *response.get("warnings", [])])
    if "says" in case and not (isinstance(case["expect"], dict) and outcome in ALLOWED):
        assert re.search(case["says"], said, re.DOTALL), said
    assert all(len(line) < 256 for line in response.get("warnings", []))


@pytest.mark.parametrize("name", sorted({*changed("native"), *changed("ordinary")}))
def test_pods_that_are_given_one(name: str, asked: tuple[str, Injector]) -> None:
    way, server = asked
    case, before = CASES[name], pod(name, server)
    if name not in changed(way):
        assert operations(server.ask(before)) == []
        return
    after = patched(before, server.ask(before, **case.get("request", {})))
    if not case.get("loose"):
        oldest = NATIVE if way == "native" or "since" in case else OLDEST
        for version in (oldest, NEWEST):
            validate(after, version)
    one = sidecar(after)
    where = "initContainers" if way == "native" else "containers"
    assert one in after["spec"][where]
    assert one.get("restartPolicy") == ("Always" if way == "native" else None)
    admitted_by_pod_security(one)
    assert env(one).items() >= case.get("env", {}).items()
    assert one["securityContext"]["runAsUser"] == case.get("user", 65532)
    assert one["resources"] == case.get("resources", one["resources"])
    accepted_by_the_sidecar(one)
    untouched(before, after, case.get("mounted", []))
    # Asked again: by the API server at once, later when it has filled in what it fills in, by whoever copies the pod.
    for again in (after, as_stored(after)):
        response = server.ask(again)
        assert (response["allowed"], response["auditAnnotations"]["outcome"], operations(response)) == (True, "unchanged", [])


def env(container: Any) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


def accepted_by_the_sidecar(container: Any) -> None:
    """What the sidecar itself says of this environment."""
    assert container["env"][0]["name"] == "CATALYST_DATABASE_URL"
    Settings.from_environ({**env(container), "CATALYST_DATABASE_URL": "postgresql://sidecar@db/catalyst"})


def admitted_by_pod_security(container: Any) -> None:
    """Pod security standard "restricted", https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] != 0
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["readOnlyRootFilesystem"] is True
    assert security["privileged"] is False
    assert {key for one in container["ports"] for key in one} == {"name", "containerPort", "protocol"}


def untouched(before: Any, after: Any, mounted: list[str]) -> None:
    """All that is not ours is as it was; but for the socket in the containers that asked for it."""

    def rest(shape: Any) -> Any:
        shape = copy.deepcopy(shape)
        metadata, spec = shape.get("metadata") or {}, shape["spec"]
        spec["volumes"] = [one for one in spec.get("volumes") or [] if one["name"] != "catalyst-auth-socket"]
        for where in ("initContainers", "containers"):
            spec[where] = [one for one in spec.get(where) or [] if one["name"] != NAME]
        for one in containers(shape):
            mounts = one.get("volumeMounts") or []
            one["volumeMounts"] = [mount for mount in mounts if mount["name"] != "catalyst-auth-socket"]
            assert (one["volumeMounts"] != mounts) is (one["name"] in mounted and shape_is_after(shape)), one["name"]
        annotations = metadata.get("annotations") or {}
        kept = {key: value for key, value in annotations.items() if key != "catalyst-auth/injected"}
        return {**metadata, "annotations": kept}, spec

    def shape_is_after(shape: Any) -> bool:
        marks = (shape.get("metadata") or {}).get("annotations") or {}
        return marks.get("catalyst-auth/injected") == after["metadata"]["annotations"]["catalyst-auth/injected"]

    assert rest(after) == rest(before)


def test_the_first_container_stays_the_first(ordinary: Injector) -> None:
    shape = pod("plain", ordinary)
    assert [one["name"] for one in patched(shape, ordinary.ask(shape))["spec"]["containers"]] == ["app", NAME]


def test_it_starts_before_all_others_where_it_can(native: Injector) -> None:
    shape = pod("istio", native)
    assert [one["name"] for one in patched(shape, native.ask(shape))["spec"]["initContainers"]] == [NAME, "istio-init"]


def test_one_field_more_makes_it_another_container(native: Injector) -> None:
    shape = pod("plain", native)
    good = patched(shape, native.ask(shape))
    changes: list[dict[str, Any]] = [
        {"command": ["sleep", "1d"]},
        {"args": ["--help"]},
        {"image": "registry.example.com/catalyst-sidecar:0.0.9"},
        {"env": [*sidecar(good)["env"], {"name": "CATALYST_SIDECAR_ON_STALE", "value": "serve"}]},
        {"envFrom": [{"configMapRef": {"name": "mine"}}]},
        {"lifecycle": {"postStart": {"exec": {"command": ["sh"]}}}},
        {"securityContext": {**sidecar(good)["securityContext"], "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}},
        {"volumeMounts": [{"name": "mine", "mountPath": "/usr/lib/python3"}]},
        {"volumeMounts": [{"name": "mine", "mountPath": "/var/run/secrets/../../../app/lib"}]},
        {"livenessProbe": {"exec": {"command": ["/app/bin/python", "-c", "import os; print(os.environ)"]}}},
        {"startupProbe": None},
        {"startupProbe": 5},
    ]
    for change in changes:
        tampered = copy.deepcopy(good)
        sidecar(tampered).update(change)
        response = native.ask(tampered)
        assert response["auditAnnotations"] == {"outcome": "replaced"}, change
        assert patched(tampered, response) == good


def test_what_others_rightly_change_stays(native: Injector) -> None:
    shape = pod("plain", native)
    other = patched(shape, native.ask(shape))
    sidecar(other)["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}}
    sidecar(other)["readinessProbe"]["httpGet"] = {"path": "/app-health/catalyst-auth-sidecar/readyz", "port": 15020}
    sidecar(other)["securityContext"]["procMount"] = "Default"
    assert operations(native.ask(other)) == []


def test_settings_of_the_installation_reach_every_sidecar(native: Injector) -> None:
    shape = pod("plain", native)
    one = sidecar(patched(shape, native.ask(shape)))
    assert env(one)["CATALYST_ISSUER"] == "https://auth.example.com/$$(HOME)"  # Kubernetes makes one $ of two and expands nothing
    assert one["env"][0] == {
        "name": "CATALYST_DATABASE_URL",
        "valueFrom": {"secretKeyRef": {"name": "catalyst-auth-sidecar", "key": "database-url"}},
    }


def test_a_cluster_that_changes_its_way_moves_the_sidecar(native: Injector, ordinary: Injector) -> None:
    shape = pod("init_containers", native)
    was_native = patched(shape, native.ask(shape))
    now_ordinary = patched(was_native, ordinary.ask(was_native))
    validate(now_ordinary, OLDEST)
    assert sidecar(now_ordinary) in now_ordinary["spec"]["containers"]
    assert patched(now_ordinary, native.ask(now_ordinary)) == was_native
