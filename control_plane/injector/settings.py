"""What the injector is told by its environment, and what of it goes on to every sidecar that it injects."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal

from control_plane.errors import OperatorError
from control_plane.injector import grammar
from control_plane.injector.grammar import Quantity
from control_plane.injector.wishes import Wishes
from control_plane.variables import LOG_FORMATS, LOG_LEVELS, Address, Variable, address, one_of, read, whole

NATIVE_SINCE: Final = (1, 29)
"""Kubernetes has sidecars in initContainers since 1.28; from 1.29 on without a feature gate (KEP-753)."""

PASSED_ON: Final = (
    "CATALYST_ISSUER",
    "CATALYST_LOGIN_URL",
    "CATALYST_LOGIN_RELAY_URL",
    "CATALYST_SESSION_COOKIE",
    "CATALYST_SIDECAR_TRUSTED_PROXIES",
    "CATALYST_SIDECAR_MAX_STALENESS",
    "CATALYST_SIDECAR_ON_STALE",
    "CATALYST_SIDECAR_DECISION_SAMPLE",
    "CATALYST_SIDECAR_DRAIN_SECONDS",
    "CATALYST_LOG_FORMAT",
)
"""Settings of sidecars that are the installation's, not a pod's: every injected sidecar has the injector's own."""

_IMAGE: Final = re.compile(
    r"(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?::[0-9]{1,5}(?=/))?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?P<version>(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?)",
    re.ASCII,
)
_SECRET: Final = re.compile(r"([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)/([A-Za-z0-9._-]{1,253})", re.ASCII)
_VERSION: Final = re.compile(r"v?([0-9]{1,2})\.([0-9]{1,3})(?:[.+-].*)?", re.ASCII)
_USER: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_IMAGE_MEANING: Final = (
    "The sidecar's image, with a tag or a digest. A pod that is made with a sidecar of another image gets this one instead."
)
_SECRET_MEANING: Final = (
    "name/key of the Secret that holds the sidecars' CATALYST_DATABASE_URL. It must be in each namespace that has sidecars."
)
_NATIVE_MEANING: Final = (
    "Whether sidecars are put among the initContainers with restartPolicy Always: on, off, or auto, which is on from Kubernetes "
    "1.29."
)
_VERSION_MEANING: Final = (
    "The version of the cluster's oldest node, for example 1.33. Needed where CATALYST_INJECTOR_NATIVE_SIDECARS is auto."
)
_OPT_OUT_MEANING: Final = (
    "What becomes of a pod labelled catalyst-auth/inject: disabled in a namespace that is enabled. warn: it runs without a "
    "sidecar, and whoever made it is told. deny: it does not run."
)
_USER_MEANING: Final = "The user that sidecars run as; none: the image's, or the cluster's choice (OpenShift)."
_OPS_HOST_MEANING: Final = (
    "Where sidecars' health and metrics listen, for the kubelet and Prometheus: :: where pods have IPv6 alone."
)
_LEAVE_MEANING: Final = (
    "For how long requests are still taken after SIGTERM: until the cluster has noticed that this one leaves and asks another."
)
_CERTIFICATE_MEANING: Final = "The injector's certificate chain (PEM file). Read again by itself when it has changed."


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise ValueError(f"there is no file {text}; name a PEM file")
    return Path(text)


def _image(text: str) -> str:
    match = _IMAGE.fullmatch(text)
    if not match or not match["version"]:
        raise ValueError("write an image with a tag or a digest, for example registry.example.com/catalyst-sidecar:0.1.0")
    return text


def repository(image: str) -> str:
    """An image's name without tag and digest; the text itself where it has another shape."""
    match = _IMAGE.fullmatch(image)
    return match["repository"] if match else image


def _secret(text: str) -> tuple[str, str]:
    match = _SECRET.fullmatch(text)
    if not match:
        raise ValueError("write name/key of a Secret, for example catalyst-auth-sidecar/database-url")
    return match[1], match[2]


def _version(text: str) -> tuple[int, int] | None:
    match = _VERSION.fullmatch(text) if text else None
    if text and not match:
        raise ValueError("write a version of Kubernetes, for example 1.33")
    return (int(match[1]), int(match[2])) if match else None


def _user(text: str) -> int | None:
    if text != "none" and not _USER.fullmatch(text):
        raise ValueError("write a user's number, which is not 0, or none")
    return None if text == "none" else int(text)


def _host(text: str) -> str:
    try:
        host = ip_address(text)
    except ValueError:
        raise ValueError("write an IP address, for example 0.0.0.0 or ::") from None
    if host.is_loopback:
        raise ValueError("the kubelet does not reach loopback; write 0.0.0.0 or ::")
    return f"[{host}]" if host.version == 6 else str(host)  # noqa: PLR2004  (IPv6)


def _cpu_or_none(text: str) -> Quantity | None:
    return grammar.cpu(text) if text != "none" else None


VARIABLES: Final = (
    Variable("CATALYST_INJECTOR_LISTEN", "listen", "127.0.0.1:8443", "Where the API server asks, over TLS.", address),
    Variable("CATALYST_INJECTOR_OPS_LISTEN", "ops_listen", "127.0.0.1:9280", "Where health and metrics listen.", address),
    Variable("CATALYST_INJECTOR_TLS_CERT", "certificate", None, _CERTIFICATE_MEANING, _file),
    Variable("CATALYST_INJECTOR_TLS_KEY", "key", None, "The private key that belongs to it (PEM file).", _file),
    Variable("CATALYST_INJECTOR_IMAGE", "image", None, _IMAGE_MEANING, _image),
    Variable(
        "CATALYST_INJECTOR_IMAGE_PULL_POLICY",
        "pull_policy",
        "IfNotPresent",
        "IfNotPresent, Always or Never.",
        one_of(("IfNotPresent", "Always", "Never")),
    ),
    Variable(
        "CATALYST_INJECTOR_DATABASE_SECRET", "database_secret", "catalyst-auth-sidecar/database-url", _SECRET_MEANING, _secret
    ),
    Variable("CATALYST_INJECTOR_NATIVE_SIDECARS", "native_sidecars", "auto", _NATIVE_MEANING, one_of(("auto", "on", "off"))),
    Variable("CATALYST_INJECTOR_KUBERNETES_VERSION", "kubernetes_version", "", _VERSION_MEANING, _version),
    Variable("CATALYST_INJECTOR_OPT_OUT", "opt_out", "warn", _OPT_OUT_MEANING, one_of(("warn", "deny"))),
    Variable("CATALYST_INJECTOR_RUN_AS_USER", "run_as_user", "65532", _USER_MEANING, _user),
    Variable("CATALYST_INJECTOR_OPS_HOST", "ops_host", "0.0.0.0", _OPS_HOST_MEANING, _host),  # noqa: S104  (in the pod's own network)
    Variable("CATALYST_INJECTOR_CPU_REQUEST", "cpu_request", "50m", "CPU time kept for a sidecar.", grammar.cpu),
    Variable("CATALYST_INJECTOR_CPU_LIMIT", "cpu_limit", "none", "The most that it may use; none: no limit.", _cpu_or_none),
    Variable("CATALYST_INJECTOR_MEMORY_REQUEST", "memory_request", "128Mi", "Memory kept for a sidecar.", grammar.memory),
    Variable("CATALYST_INJECTOR_MEMORY_LIMIT", "memory_limit", "256Mi", "The most that it may use.", grammar.memory),
    Variable("CATALYST_INJECTOR_LEAVE_SECONDS", "leave_seconds", "5", _LEAVE_MEANING, whole("seconds", 0, 60, or_zero=True)),
    Variable("CATALYST_LOG_LEVEL", "log_level", "info", "debug, info, warning or error: of the injector.", one_of(LOG_LEVELS)),
    Variable("CATALYST_LOG_FORMAT", "log_format", "json", "json or console.", one_of(LOG_FORMATS)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectorSettings:
    """The injector's settings, already checked."""

    listen: Address
    ops_listen: Address
    certificate: Path
    key: Path
    image: str
    pull_policy: str
    database_secret: tuple[str, str]
    native: bool
    opt_out: Literal["warn", "deny"]
    run_as_user: int | None
    ops_host: str
    leave_seconds: int
    wishes: Wishes
    passed_on: tuple[tuple[str, str], ...]
    log_level: str
    log_format: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "InjectorSettings":
        """Settings from environment variables; OperatorError with every problem at once."""
        values, problems = read(VARIABLES, environ)
        problems += _at_odds(values)
        if problems:
            raise OperatorError(*problems)
        way, version = values.pop("native_sidecars"), values.pop("kubernetes_version")
        usual = {name: values.pop(name) for name in ("cpu_request", "cpu_limit", "memory_request", "memory_limit")}
        return cls(
            **values,
            native=way == "on" or (way == "auto" and version >= NATIVE_SINCE),
            wishes=Wishes(**usual),
            passed_on=tuple((name, text) for name in PASSED_ON if (text := environ.get(name, ""))),
        )


def _at_odds(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with settings that can each be read."""
    problems = []
    if values.get("native_sidecars") == "auto" and values.get("kubernetes_version", ()) is None:
        problems.append(
            "CATALYST_INJECTOR_KUBERNETES_VERSION is not set: CATALYST_INJECTOR_NATIVE_SIDECARS is auto. Set the version "
            "of the cluster's oldest node, or say on or off."
        )
    for resource in ("cpu", "memory"):
        request, limit = values.get(f"{resource}_request"), values.get(f"{resource}_limit")
        if request and limit and request.amount > limit.amount:
            name = f"CATALYST_INJECTOR_{resource.upper()}"
            problems.append(f"{name}_REQUEST is more than {name}_LIMIT: write a request within the limit.")
    return problems
