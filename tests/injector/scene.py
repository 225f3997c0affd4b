"""A real injector as a process, behind TLS with a CA of the tests' own, and what an API server does with its answers."""

import base64
import contextlib
import copy
import functools
import json
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
import jsonpatch
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from control_plane.injector.authority import renew
from tests.acceptance.processes import Program, environment, running

OLDEST, NATIVE, NEWEST = "1.25", "1.29", "1.37"
"""The oldest version that schemas are at hand for, the first with native sidecars, and the newest."""
NAME = "catalyst-auth-sidecar"
IMAGE = "registry.example.com/catalyst-sidecar:0.1.0"
NAMES = ("CATALYST_INJECTOR_LISTEN", "CATALYST_INJECTOR_OPS_LISTEN")


@dataclass
class Injector:
    """A running injector, and a client that trusts its CA alone."""

    program: Program
    folder: Path
    client: httpx2.Client

    @property
    def url(self) -> str:
        return self.program.url.replace("http://", "https://") + "/mutate?timeout=10s"

    def post(self, content: bytes, media_type: str = "application/json") -> httpx2.Response:
        return self.client.post(self.url, content=content, headers={"content-type": media_type})

    def ask(self, pod: Any, **request: Any) -> dict[str, Any]:
        """The answer to a review of this pod."""
        question = review(pod, **request)
        answer = self.post(json.dumps(question).encode())
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["apiVersion"], told["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        assert told["response"]["uid"] == question["request"]["uid"]
        return told["response"]

    def metrics(self) -> str:
        return httpx2.get(f"{self.program.ops}/metrics").text


@contextlib.contextmanager
def injector(folder: Path, **variables: str) -> Iterator[Injector]:
    """An injector with a certificate for 127.0.0.1 in `folder`/tls."""
    folder.mkdir(exist_ok=True)
    renew(folder / "tls", ["localhost"], addresses=["127.0.0.1"])
    context = ssl.create_default_context(cafile=str(folder / "tls" / "ca.crt"))
    with (
        running(["control_plane", "injector"], NAMES, folder / "log", **{**settings(folder / "tls"), **variables}) as program,
        httpx2.Client(verify=context, timeout=20) as client,
    ):
        yield Injector(program, folder, client)


def settings(tls: Path) -> dict[str, str]:
    return {
        "CATALYST_INJECTOR_TLS_CERT": str(tls / "tls.crt"),
        "CATALYST_INJECTOR_TLS_KEY": str(tls / "tls.key"),
        "CATALYST_INJECTOR_IMAGE": IMAGE,
        "CATALYST_INJECTOR_KUBERNETES_VERSION": NEWEST,
        "CATALYST_INJECTOR_LEAVE_SECONDS": "1",
    }


def refused_to_start(**variables: str) -> str:
    """What it says of settings that it cannot be started with."""
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", "injector"],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


def review(pod: Any, **request: Any) -> dict[str, Any]:
    """An AdmissionReview as an API server writes it."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": str(uuid.uuid4()),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:authenticated"],
            },
            "object": pod,
            "oldObject": None,
            "dryRun": False,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
            **request,
        },
    }


def operations(response: dict[str, Any]) -> list[Any]:
    """The patch of an answer; an empty one where there is none."""
    if "patch" not in response:
        assert "patchType" not in response
        return []
    assert response["patchType"] == "JSONPatch"
    return json.loads(base64.b64decode(response["patch"], validate=True))


def patched(pod: Any, response: dict[str, Any]) -> Any:
    """The pod with the patch of an answer applied to it, by somebody else's implementation of RFC 6902."""
    return jsonpatch.apply_patch(copy.deepcopy(pod), operations(response))


def validate(thing: Any, version: str) -> None:
    """Against Kubernetes' own schema of that version, which knows no unknown fields."""
    _schema(version).validate({"apiVersion": "v1", "kind": "Pod", **thing})


@functools.cache
def _schema(version: str) -> Any:
    """The schema that `kubernetes_validate.validate` would read anew each time."""
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    pod, definitions = (json.loads((folder / name).read_text()) for name in ("pod-v1.json", "_definitions.json"))
    registry = Resource.from_contents(pod) @ Registry()
    return Draft202012Validator(pod, registry=Resource.from_contents(definitions) @ registry)


def containers(pod: Any) -> list[Any]:
    spec = pod["spec"]
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def sidecar(pod: Any) -> Any:
    """The only sidecar of a pod."""
    [found] = [one for one in containers(pod) if one.get("name") == NAME]
    return found


def as_stored(pod: Any) -> Any:
    """The pod as the API server shows it the second time: with what it sets by default."""
    pod = copy.deepcopy(pod)
    for one in containers(pod):
        one.setdefault("terminationMessagePath", "/dev/termination-log")
        one.setdefault("terminationMessagePolicy", "File")
        one.setdefault("imagePullPolicy", "IfNotPresent")
        one.setdefault("resources", {})
        one.setdefault("volumeMounts", [])
        one["volumeMounts"] = [
            *(one["volumeMounts"] or []),
            {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
        ]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in one:
                one[probe] = {"timeoutSeconds": 1, "successThreshold": 1, **one[probe]}
    return pod
