"""Whatever an annotation holds: a refusal, or configuration out of the closed grammar. Whatever a pod is: an answer."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from control_plane.injector.authority import renew
from control_plane.injector.injection import Verdict, decide
from control_plane.injector.review import asked
from control_plane.injector.settings import InjectorSettings
from control_plane.injector.wishes import ANNOTATIONS, PREFIX
from tests.injector.scene import IMAGE, review, sidecar
from tests.injector.scene import settings as environment

GRAMMAR = re.compile(
    r"""127\.0\.0\.1:[0-9]{4,5}                  # where it listens
    | unix:/run/catalyst-auth/check\.sock | /run/catalyst-auth | catalyst-auth-socket
    | 0\.0\.0\.0:[0-9]{4,5}                      # health and metrics
    | [a-z0-9-]{1,63}(,[a-z0-9-]{1,63}){0,49}    # slugs
    | debug|info|warning|error
    | [1-9][0-9]{0,4}(m|Mi|Gi)?                  # amounts
    | CATALYST_[A-Z_]+ | IfNotPresent | TCP | ALL | RuntimeDefault | FallbackToLogsOnError | HTTP | Always | /readyz | /healthz""",
    re.VERBOSE | re.ASCII,
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> InjectorSettings:
    folder: Path = tmp_path_factory.mktemp("settings")
    renew(folder, ["localhost"])
    return InjectorSettings.from_environ(environment(folder))


def verdict(pod: Any, told: InjectorSettings) -> Verdict:
    return decide(asked(json.dumps(review(pod)).encode()), told)


def texts(value: Any) -> list[str]:
    """Every text in it, keys too."""
    if isinstance(value, dict):
        return [text for key, one in value.items() for text in (*texts(key), *texts(one))]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []


def applied(pod: Any, operations: Any) -> Any:
    return jsonpatch.apply_patch(copy.deepcopy(pod), list(operations))


KEYS = {
    "name", "image", "imagePullPolicy", "env", "value", "valueFrom", "secretKeyRef", "key", "ports", "containerPort", "protocol",
    "resources", "requests", "limits", "cpu", "memory", "securityContext", "allowPrivilegeEscalation", "capabilities", "drop",
    "privileged", "readOnlyRootFilesystem", "runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile", "type", "startupProbe",
    "readinessProbe", "livenessProbe", "httpGet", "path", "port", "scheme", "periodSeconds", "failureThreshold", "timeoutSeconds",
    "terminationMessagePolicy", "restartPolicy", "volumeMounts", "mountPath", "database-url", "catalyst-auth-sidecar", "catalyst-ops",
    IMAGE,
}  # fmt: skip

good = st.sampled_from(["orders", "orders,billing", "8788", "9788", "debug", "250m", "2", "512Mi", "1Gi", "app"])
hostile = (
    st.text()
    | st.from_regex(r"[a-z0-9,. :$(){}\"'\n-]{0,40}")
    | good.map(lambda text: text + "\n")
    | good.map(lambda text: f" {text}")
)
names = st.sampled_from(sorted(ANNOTATIONS)) | st.text(max_size=30)


@settings(max_examples=250, deadline=None)
@given(annotations=st.dictionaries(names, good | hostile, max_size=6))
@example(annotations={"socket": "app"})
@example(annotations={"port": "٨٧٨٨"})
def test_any_text_is_refused_or_in_the_grammar(annotations: dict[str, str], told: InjectorSettings) -> None:
    marks = {PREFIX + name: text for name, text in annotations.items()}
    pod = {
        "metadata": {"annotations": marks},
        "spec": {"containers": [{"name": "app", "image": "a:1", "securityContext": {"runAsUser": 7}}]},
    }
    found = verdict(pod, told)
    if found.refusal is not None:
        assert not found.operations
        assert found.outcome == "refused"
        assert re.search(r"write |there is no annotation|exclude each other|choose another|let the", found.refusal)
        return
    after = applied(pod, found.operations)
    for text in texts(sidecar(after)):
        assert text in KEYS or GRAMMAR.fullmatch(text), text
    assert {key: value for key, value in after["metadata"]["annotations"].items() if key != f"{PREFIX}injected"} == {
        key: value for key, value in marks.items() if key != f"{PREFIX}injected"
    }


@pytest.mark.parametrize(
    ("name", "accepted", "refused"),
    [
        (
            "port",
            ["1024", "65535", "8788"],
            ["1023", "65536", "0", "-1", "+8787", "8_787", " 8787", "08787", "8787 ", "8.787e3", "0x2253", ""],
        ),
        ("cpu-request", ["1m", "9999m", "64"], ["0", "0m", "65", "64001m", "0.5", "1e3", "1u", "M", "", "01"]),
        ("memory-limit", ["128Mi", "1Gi", "64Gi"], ["31Mi", "65Gi", "128M", "128", "1Ti", "-1Gi", "0Mi", ""]),
        ("log-level", ["debug", "error"], ["trace", "INFO", "", "info,debug"]),
        (
            "applications",
            ["a", "a,b", "a, b", "a" * 63],
            ["", ",", "a,", "a,a", "A", "a_b", "-a", "a-", "a" * 64, ",".join(f"a{i}" for i in range(51)), "*"],
        ),
        ("socket", ["app"], ["", "App", "app,app", "../app"]),
    ],
)
def test_the_grammar_at_its_edges(name: str, accepted: list[str], refused: list[str], told: InjectorSettings) -> None:
    def outcome(text: str) -> str:
        container = {"name": "app", "image": "a:1", "securityContext": {"runAsUser": 7}}
        return verdict({"metadata": {"annotations": {PREFIX + name: text}}, "spec": {"containers": [container]}}, told).outcome

    assert [(text, outcome(text)) for text in accepted] == [(text, "injected") for text in accepted]
    assert [(text, outcome(text)) for text in refused] == [(text, "refused") for text in refused]


def test_a_thousand_mistakes_are_told_briefly(told: InjectorSettings) -> None:
    marks = {f"{PREFIX}x{number}": "" for number in range(1000)}
    found = verdict({"metadata": {"annotations": marks}, "spec": {"containers": [{"name": "app", "image": "a:1"}]}}, told)
    assert found.refusal is not None
    assert found.refusal.endswith("; and 990 more")
    assert len(found.refusal) < 5000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=10),
    lambda children: st.lists(children, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "metadata", "spec", "labels", "annotations", "containers", "initContainers", "volumes", "name", "image", "ports",
            "containerPort", "volumeMounts", "mountPath", "securityContext", "runAsUser", "os", "nodeSelector", "kubernetes.io/os",
            "hostNetwork", "restartPolicy", "catalyst-auth/inject", "catalyst-auth/socket", "kubernetes.io/config.mirror", "nodeName",
        ]),
        children,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    spec=st.dictionaries(
        st.sampled_from(["os", "nodeSelector", "volumes", "initContainers", "securityContext", "restartPolicy"]), json_values
    ),
    container=json_values,
    metadata=json_values,
)
def test_any_shape_is_answered_and_none_runs_without(spec: Any, container: Any, metadata: Any, told: InjectorSettings) -> None:
    pod = {"metadata": metadata, "spec": {**spec, "containers": [{"name": "app", "image": "a:1"}, container]}}
    found = verdict(pod, told)
    if found.outcome in {"injected", "replaced"}:
        assert sidecar(applied(pod, found.operations))["image"] == IMAGE
    elif found.outcome != "opted_out":
        assert found.refusal
