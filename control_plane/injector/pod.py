"""A pod as the API server shows it, read as far as the injector needs it, and the pods that cannot have a sidecar."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from control_plane.injector.refused import Refused
from control_plane.injector.wishes import INJECT

NAME: Final = "catalyst-auth-sidecar"
"""The injected container. The name is ours: a container that has it is replaced where it is not what would be injected."""
MIRROR: Final = "kubernetes.io/config.mirror"

Where = Literal["initContainers", "containers"]
LISTS: Final[tuple[Where, ...]] = ("initContainers", "containers")


@dataclass(frozen=True, slots=True)
class Container:
    """One container, and where it stands in its pod."""

    name: str
    image: str
    where: Where
    index: int
    raw: Mapping[str, Any]

    @property
    def shown(self) -> str:
        """Its name as a message may hold it: the API server has not looked at it yet."""
        return ascii(self.name[:63])[1:-1]

    @property
    def ports(self) -> set[int]:
        """The ports that it says it listens on."""
        ports = (port.get("containerPort") for port in _objects(self.raw, "ports", f"{self.where}[{self.index}]"))
        return {port for port in ports if isinstance(port, int)}

    @property
    def mounts(self) -> list[Mapping[str, Any]]:
        """Its volume mounts."""
        return _objects(self.raw, "volumeMounts", f"{self.where}[{self.index}]")


@dataclass(frozen=True, slots=True)
class Pod:
    """What matters of a pod. `raw` is all of it, as it came."""

    raw: Mapping[str, Any]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    containers: tuple[Container, ...]
    volumes: tuple[Mapping[str, Any], ...]

    @property
    def ours(self) -> list[Container]:
        """Sidecars that somebody injected already, in either list."""
        return [one for one in self.containers if one.name == NAME]

    @property
    def others(self) -> list[Container]:
        """Everybody else's containers."""
        return [one for one in self.containers if one.name != NAME]

    def user(self, container: Container) -> int | None:
        """The user that a container says it runs as, or its pod says for it."""
        for place in (container.raw, self.spec):
            context = _object(place, "securityContext", "the pod")
            if (user := context.get("runAsUser")) is not None:
                return user if type(user) is int and user > 0 else None  # True is an int, and nobody's number
        return None


def read(raw: Any) -> Pod:
    """The pod. Raises `Refused` where it has a shape that no pod has."""
    if not isinstance(raw, dict):
        raise Refused("shape", "the object is not a pod: send one")
    metadata, spec = _object(raw, "metadata", "the pod"), _object(raw, "spec", "the pod")
    return Pod(
        raw,
        _texts(metadata, "labels"),
        _texts(metadata, "annotations"),
        spec,
        tuple(_containers(spec)),
        tuple(_objects(spec, "volumes", "spec")),
    )


def _containers(spec: Mapping[str, Any]) -> Iterator[Container]:
    for where in LISTS:
        for index, one in enumerate(_objects(spec, where, "spec")):
            name, image = one.get("name", ""), one.get("image", "")
            if not isinstance(name, str) or not isinstance(image, str):
                raise Refused("shape", f"spec.{where}[{index}] has a name or an image that is no text: write texts")
            yield Container(name, image, where, index, one)


def _object(parent: Mapping[str, Any], key: str, place: str) -> Mapping[str, Any]:
    """A member that is an object; an empty one where it is absent or null, as Go writes what is not set."""
    found = parent.get(key) or {}
    if not isinstance(found, dict):
        raise Refused("shape", f"{key} of {place} is no object: write one")
    return found


def _objects(parent: Mapping[str, Any], key: str, place: str) -> list[Mapping[str, Any]]:
    """A member that is a list of objects, the same way."""
    found = parent.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Refused("shape", f"{key} of {place} is no list of objects: write one")
    return found


def _texts(metadata: Mapping[str, Any], key: str) -> Mapping[str, str]:
    found = _object(metadata, key, "metadata")
    if not all(isinstance(text, str) for text in found.values()):
        raise Refused("shape", f"metadata.{key} holds what is no text: write texts, numbers in quotation marks")
    return found


def opted_out(pod: Pod) -> bool:
    """Whether the pod's own label says that it wants no sidecar. Raises `Refused` for a label that says neither."""
    label = pod.labels.get(INJECT, "enabled")
    if label not in {"enabled", "disabled"}:
        raise Refused("label", f"the label {INJECT} says neither yes nor no: write enabled or disabled")
    return label == "disabled"


def refuse_what_cannot_be_protected(pod: Pod, *, native: bool) -> None:
    """Raise `Refused` for a pod whose kind leaves no place for a sidecar."""
    if not any(one.where == "containers" for one in pod.others):
        raise Refused("no_containers", "the pod has no containers of its own: write at least one")
    if _is_windows(pod.spec):
        raise Refused(
            "windows",
            f"the sidecar does not run on Windows: protect this pod with a standalone sidecar, and write {INJECT}: disabled",
        )
    if pod.spec.get("hostNetwork"):
        raise Refused(
            "host_network",
            "with hostNetwork the sidecar's loopback would be the whole node's: remove hostNetwork, or protect this pod with a "
            f"standalone sidecar and write {INJECT}: disabled",
        )
    if not native and pod.spec.get("restartPolicy", "Always") != "Always":
        raise Refused(
            "never_ends",
            "this pod ends by itself, and a sidecar among its containers would keep it running for ever: it needs one among the "
            f"initContainers (Kubernetes 1.29, CATALYST_INJECTOR_NATIVE_SIDECARS), or write {INJECT}: disabled",
        )


def _is_windows(spec: Mapping[str, Any]) -> bool:
    selector = _object(spec, "nodeSelector", "spec")
    return "windows" in (
        _object(spec, "os", "spec").get("name"),
        *(selector.get(f"{prefix}kubernetes.io/os") for prefix in ("", "beta.")),
    )
