"""The sidecar's container: all in it is the operator's or out of a closed grammar, and pod security "restricted" admits it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from posixpath import normpath
from typing import Any, Final

import orjson

from control_plane.injector.grammar import Quantity
from control_plane.injector.pod import NAME, Container
from control_plane.injector.settings import InjectorSettings
from control_plane.injector.wishes import Wishes

VOLUME: Final = "catalyst-auth-socket"
FOLDER: Final = "/run/catalyst-auth"
SOCKET: Final = f"{FOLDER}/check.sock"
_START_SECONDS: Final = 120
"""A sidecar that has not read everything by then is started anew; it has no copy yet that would be lost."""

_FREE: Final = frozenset({
    "resources",
    "resizePolicy",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "imagePullPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
})  # fmt: skip
"""What others rightly change after us: meshes change probes, autoscalers resources, the API server sets what is not set."""
_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_ASKS: Final = frozenset({"exec", "grpc", "httpGet", "tcpSocket"})
_MOUNTED_BY_OTHERS: Final = "/var/run/secrets/"
"""Where service accounts' tokens are mounted by the API server and by clouds."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is injected into one pod: the container, and the volume and mount of its socket where it has one."""

    container: Mapping[str, Any]
    volume: Mapping[str, Any] | None
    mount: Mapping[str, Any] | None
    digest: str


def sidecar(settings: InjectorSettings, wishes: Wishes, user: int | None) -> Sidecar:
    """The sidecar that these wishes ask for. `user`: who it runs as, None for the image's user."""
    container: dict[str, Any] = {
        "name": NAME,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "env": _environment(settings, wishes),
        "ports": [{"name": "catalyst-ops", "containerPort": wishes.ops_port, "protocol": "TCP"}],
        "resources": _resources(wishes),
        "securityContext": _security(user),
        # Ready before the application starts, where the cluster waits for it; started anew only where the process hangs.
        "startupProbe": _probe("/readyz", wishes, period=1, failures=_START_SECONDS),
        "readinessProbe": _probe("/readyz", wishes, period=5, failures=2),
        "livenessProbe": _probe("/healthz", wishes, period=10, failures=6),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if settings.native:
        container["restartPolicy"] = "Always"
    volume = mount = None
    if wishes.socket:
        volume = {"name": VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
        mount = {"name": VOLUME, "mountPath": FOLDER, "readOnly": True}
        container["volumeMounts"] = [{"name": VOLUME, "mountPath": FOLDER}]
    everything = orjson.dumps([container, volume, mount, wishes.socket], option=orjson.OPT_SORT_KEYS)
    return Sidecar(container, volume, mount, hashlib.sha256(everything).hexdigest()[:16])


def is_same(found: Container, wanted: Mapping[str, Any]) -> bool:
    """Whether a container is what would be injected, but for what others rightly change. One field more makes it another."""
    mounts = [one for one in found.mounts if not normpath(str(one.get("mountPath", ""))).startswith(_MOUNTED_BY_OTHERS)]
    return _fixed(found.raw) == _fixed(wanted) and mounts == wanted.get("volumeMounts", [])


def _fixed(container: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {key: value for key, value in container.items() if key not in _FREE}
    security = fixed.get("securityContext")
    if isinstance(security, dict) and security.get("procMount") == "Default":
        fixed["securityContext"] = {key: value for key, value in security.items() if key != "procMount"}
    # Where a probe asks may change; that it asks by HTTP, and runs no command in here, may not.
    probes = [container.get(name) for name in _PROBES]
    fixed["probes"] = [sorted(_ASKS & set(probe)) if isinstance(probe, dict) else [] for probe in probes]
    return fixed


def _environment(settings: InjectorSettings, wishes: Wishes) -> list[dict[str, Any]]:
    name, key = settings.database_secret
    variables = {
        "CATALYST_SIDECAR_LISTEN": f"unix:{SOCKET}" if wishes.socket else f"127.0.0.1:{wishes.port}",
        "CATALYST_SIDECAR_OPS_LISTEN": f"{settings.ops_host}:{wishes.ops_port}",
        "CATALYST_SIDECAR_APPLICATIONS": ",".join(wishes.applications),
        "CATALYST_LOG_LEVEL": wishes.log_level,
        # Kubernetes reads $(NAME) in values as another variable's; $$ is a $.
        **{name: text.replace("$", "$$") for name, text in settings.passed_on},
    }
    url = {"name": "CATALYST_DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
    return [url, *({"name": name, "value": text} for name, text in variables.items() if text)]


def _resources(wishes: Wishes) -> dict[str, dict[str, str]]:
    def written(cpu: Quantity | None, memory: Quantity) -> dict[str, str]:
        return {**({"cpu": cpu.text} if cpu else {}), "memory": memory.text}

    return {
        "requests": written(wishes.cpu_request, wishes.memory_request),
        "limits": written(wishes.cpu_limit, wishes.memory_limit),
    }


def _security(user: int | None) -> dict[str, Any]:
    """Pod security standard "restricted", said for the container, whatever its pod says."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        **({"runAsUser": user, "runAsGroup": user} if user is not None else {}),
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _probe(path: str, wishes: Wishes, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": wishes.ops_port, "scheme": "HTTP"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }
