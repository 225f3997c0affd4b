"""One pod in, one verdict out: what is injected, why nothing is, or why the pod is denied. Pure: no I/O, no clock, no metrics."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from control_plane.injector import pod as pods
from control_plane.injector import wishes
from control_plane.injector.container import sidecar
from control_plane.injector.patch import Operation, patch, socket_containers
from control_plane.injector.pod import MIRROR, Pod
from control_plane.injector.refused import Refused
from control_plane.injector.settings import InjectorSettings, repository
from control_plane.injector.wishes import INJECT, PREFIX, Wishes

Outcome = Literal["injected", "replaced", "unchanged", "opted_out", "mirror", "not_asked", "refused", "failed"]
_NODES: Final = "system:nodes"
_LATER: Final = ("UPDATE", "DELETE", "CONNECT")
_SHARES: Final = (
    "other containers see the sidecar's process, and may read its database URL: do without shareProcessNamespace and hostPID"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What an AdmissionReview asks, as far as it matters."""

    uid: str
    operation: str
    subresource: str
    is_pod: bool
    dry_run: bool
    groups: tuple[str, ...]
    object: Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer. `refusal`: the sentence that the pod is denied with; None: it is allowed, with these operations done to it."""

    outcome: Outcome
    code: str = ""
    refusal: str | None = "nobody decided: this is a fault of the injector"
    operations: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()


def decide(asked: Asked, settings: InjectorSettings) -> Verdict:
    """The verdict on one request. Whatever cannot be given a sidecar is refused, and says why."""
    try:
        return _decided(asked, settings)
    except Refused as refused:
        return Verdict("refused", refused.code, refused.sentence)


def _decided(asked: Asked, settings: InjectorSettings) -> Verdict:
    if not asked.is_pod:
        raise Refused("no_pod", "the injector is asked about pods alone: let the webhook's rules say pods")
    if asked.subresource or asked.operation in _LATER:
        # Containers cannot be added to a pod that runs; ephemeral ones come as a subresource and are none of ours.
        return Verdict("not_asked", refusal=None)
    if asked.operation != "CREATE":
        raise Refused("no_operation", "the review says no operation that there is: send CREATE")
    pod = pods.read(asked.object)
    if MIRROR in pod.annotations:
        return _mirror(asked, pod)
    if pods.opted_out(pod):
        return _opted_out(settings)
    pods.refuse_what_cannot_be_protected(pod, native=settings.native)
    wanted = wishes.read(pod.annotations, settings.wishes)
    _refuse_what_is_taken(pod, wanted, settings)
    made = sidecar(settings, wanted, _user(pod, wanted, settings))
    operations = patch(pod, made, wanted.socket, native=settings.native)
    outcome: Outcome = "unchanged" if not operations else "replaced" if pod.ours else "injected"
    return Verdict(outcome, refusal=None, operations=tuple(operations), warnings=_doubts(pod))


def _mirror(asked: Asked, pod: Pod) -> Verdict:
    """A mirror pod only shows what the kubelet runs already, from a file on its node. Nobody but a node may say that of a pod."""
    if _NODES not in asked.groups or not pod.spec.get("nodeName"):
        raise Refused("mirror", f"only a node makes mirror pods: remove the annotation {MIRROR}")
    return Verdict("mirror", refusal=None, warnings=("a static pod runs without a sidecar: nothing can be injected into it",))


def _opted_out(settings: InjectorSettings) -> Verdict:
    if settings.opt_out == "deny":
        raise Refused("opted_out", f"pods may not run without a sidecar here: remove the label {INJECT}, or write enabled")
    return Verdict("opted_out", refusal=None, warnings=(f"this pod runs without a sidecar: its label {INJECT} is disabled",))


def _refuse_what_is_taken(pod: Pod, wanted: Wishes, settings: InjectorSettings) -> None:
    """Raise `Refused` where another container runs the sidecar's image or says that it listens on the sidecar's ports."""
    needed = {wanted.ops_port, *(() if wanted.socket else (wanted.port,))}
    for one in pod.others:
        if repository(one.image) == repository(settings.image):
            raise Refused(
                "second_sidecar",
                f"the container {one.shown} runs the sidecar's image: remove it, or write {INJECT}: disabled and keep it",
            )
        if taken := needed & one.ports:
            raise Refused(
                "port_taken",
                f"the container {one.shown} listens on {min(taken)}, where the sidecar would: choose another port by the "
                f"annotation {PREFIX}{'ops-port' if min(taken) == wanted.ops_port else 'port'}",
            )


def _user(pod: Pod, wanted: Wishes, settings: InjectorSettings) -> int | None:
    """Who the sidecar runs as. A socket admits its owner alone, so there it is the user of those who ask."""
    if not wanted.socket:
        return settings.run_as_user
    users = {pod.user(one) for one in socket_containers(pod, wanted.socket)}
    user = users.pop()
    if users or user is None:
        raise Refused(
            "socket",
            f"a socket admits one user: let the containers in {PREFIX}socket say the same securityContext.runAsUser, not 0",
        )
    return user


def _doubts(pod: Pod) -> tuple[str, ...]:
    """What is allowed, and should be known to whoever made the pod."""
    return (_SHARES,) if pod.spec.get("shareProcessNamespace") or pod.spec.get("hostPID") else ()
