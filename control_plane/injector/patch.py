"""The JSON Patch (RFC 6902) that brings a sidecar into a pod: what is ours, the mounts that were asked for, nothing else."""

from collections.abc import Iterator
from typing import Any

from control_plane.injector.container import FOLDER, VOLUME, Sidecar, is_same
from control_plane.injector.pod import Container, Pod, Where
from control_plane.injector.refused import Refused
from control_plane.injector.wishes import INJECTED

Operation = dict[str, Any]


def patch(pod: Pod, sidecar: Sidecar, socket: tuple[str, ...], *, native: bool) -> list[Operation]:
    """The operations, in order; none where the pod has this very sidecar already.

    Mounts come first, because positions in the lists move when a sidecar is taken out or put in.
    """
    target: Where = "initContainers" if native else "containers"
    operations = [
        *_mounts(pod, sidecar, socket),
        *_volume(pod, sidecar),
        *_container(pod, sidecar, target),
    ]
    if operations or pod.annotations.get(INJECTED) != sidecar.digest:
        operations += _marker(pod, sidecar)
    return operations


def _container(pod: Pod, sidecar: Sidecar, target: Where) -> Iterator[Operation]:
    """Ours once, in the right list: kept, replaced, or added; what lies elsewhere is taken out, the last one first."""
    there = [one for one in pod.ours if one.where == target]
    for one in reversed([*(one for one in pod.ours if one.where != target), *there[1:]]):
        yield {"op": "remove", "path": f"/spec/{one.where}/{one.index}"}
    if not there:
        yield from _added(pod, target, sidecar.container)
    elif pod.annotations.get(INJECTED) != sidecar.digest or not is_same(there[0], sidecar.container):
        yield {"op": "replace", "path": f"/spec/{target}/{there[0].index}", "value": sidecar.container}


def _added(pod: Pod, target: Where, container: Any) -> Iterator[Operation]:
    """First among the initContainers: those after it start when it is ready, and none can cut its network before that.

    Last among the containers, so that the first one stays what `kubectl exec` and `kubectl logs` choose.
    """
    if not pod.spec.get(target):
        yield {"op": "add", "path": f"/spec/{target}", "value": [container]}
    else:
        yield {"op": "add", "path": f"/spec/{target}/{'0' if target == 'initContainers' else '-'}", "value": container}


def _volume(pod: Pod, sidecar: Sidecar) -> Iterator[Operation]:
    if sidecar.volume is None:
        return
    found = [index for index, one in enumerate(pod.volumes) if one.get("name") == VOLUME]
    if not pod.volumes:
        yield {"op": "add", "path": "/spec/volumes", "value": [sidecar.volume]}
    elif not found:
        yield {"op": "add", "path": "/spec/volumes/-", "value": sidecar.volume}
    elif pod.volumes[found[0]] != sidecar.volume:
        yield {"op": "replace", "path": f"/spec/volumes/{found[0]}", "value": sidecar.volume}


def _mounts(pod: Pod, sidecar: Sidecar, socket: tuple[str, ...]) -> Iterator[Operation]:
    for container in socket_containers(pod, socket):
        there = [index for index, one in enumerate(container.mounts) if one.get("mountPath") == FOLDER]
        path = f"/spec/{container.where}/{container.index}/volumeMounts"
        if not container.mounts:
            yield {"op": "add", "path": path, "value": [sidecar.mount]}
        elif not there:
            yield {"op": "add", "path": f"{path}/-", "value": sidecar.mount}
        elif not _is_mount(container.mounts[there[0]], sidecar.mount):
            raise Refused("socket", f"the container {container.shown} mounts something else at {FOLDER}: mount it elsewhere")


def _is_mount(found: Any, wanted: Any) -> bool:
    """The API server adds recursiveReadOnly where it knows it."""
    return bool({key: value for key, value in found.items() if key != "recursiveReadOnly"} == wanted)


def socket_containers(pod: Pod, names: tuple[str, ...]) -> list[Container]:
    """The containers that the socket is mounted in. Raises `Refused` for a name that no container has."""
    found = {one.name: one for one in pod.others}
    if missing := [name for name in names if name not in found]:
        raise Refused(
            "socket", f"the pod has no container {', '.join(missing)} to mount the socket in: write names of its containers"
        )
    return [found[name] for name in names]


def _marker(pod: Pod, sidecar: Sidecar) -> Iterator[Operation]:
    metadata = pod.raw.get("metadata")
    if not metadata:
        yield {"op": "add", "path": "/metadata", "value": {"annotations": {INJECTED: sidecar.digest}}}
    elif not pod.annotations:
        yield {"op": "add", "path": "/metadata/annotations", "value": {INJECTED: sidecar.digest}}
    else:
        yield {"op": "add", "path": f"/metadata/annotations/{INJECTED.replace('/', '~1')}", "value": sidecar.digest}
