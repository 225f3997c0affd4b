"""What a pod asks for with its annotations. Anything that cannot be read is a refusal that says what to write."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from control_plane.injector import grammar
from control_plane.injector.grammar import Quantity
from control_plane.injector.refused import Refused
from control_plane.variables import LOG_LEVELS, one_of

PREFIX: Final = "catalyst-auth/"
INJECT: Final = f"{PREFIX}inject"
"""The label, on a namespace or a pod: enabled or disabled."""
INJECTED: Final = f"{PREFIX}injected"
"""The annotation that the injector writes: a digest of what it injected."""
_MOST_PROBLEMS: Final = 10
_SAYABLE: Final = re.compile(r"[A-Za-z0-9._-]{1,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How one pod's sidecar is to be: the operator's defaults, and what the pod's annotations choose instead."""

    applications: tuple[str, ...] = ()
    port: int = 8787
    socket: tuple[str, ...] = ()
    ops_port: int = 9787
    log_level: str = "info"
    cpu_request: Quantity
    cpu_limit: Quantity | None
    memory_request: Quantity
    memory_limit: Quantity


class Annotation(NamedTuple):
    """One annotation: how it is read, and what it means."""

    parse: Callable[[str], Any]
    meaning: str


ANNOTATIONS: Final = {
    "applications": Annotation(grammar.applications, "Serve only these applications: slugs with commas between. Absent: all."),
    "port": Annotation(grammar.port, "Where the sidecar listens on loopback. Absent: 8787."),
    "socket": Annotation(
        grammar.containers,
        "Listen on a Unix socket, /run/catalyst-auth/check.sock, and mount it in these containers of the pod: names with commas "
        "between. All of them must run as one user, which is not root; the sidecar then runs as that user.",
    ),
    "ops-port": Annotation(grammar.port, "Where health and metrics listen. Absent: 9787."),
    "log-level": Annotation(one_of(LOG_LEVELS), "debug, info, warning or error. Absent: info."),
    "cpu-request": Annotation(grammar.cpu, "CPU time that is kept for the sidecar, for example 250m."),
    "cpu-limit": Annotation(grammar.cpu, "CPU time that it may use at most."),
    "memory-request": Annotation(grammar.memory, "Memory that is kept for the sidecar, for example 256Mi."),
    "memory-limit": Annotation(grammar.memory, "Memory that it may use at most."),
}
"""Every annotation that a pod may carry, without its prefix; the field of `Wishes` is the same with underscores."""


def read(annotations: Mapping[str, str], defaults: Wishes) -> Wishes:
    """The wishes of a pod. Raises `Refused` with a sentence for everything that is wrong with its annotations."""
    chosen: dict[str, Any] = {}
    problems: list[str] = []
    for key, text in sorted(annotations.items()):
        if not key.startswith(PREFIX) or key == INJECTED:
            continue
        name = key.removeprefix(PREFIX)
        if name not in ANNOTATIONS:
            problems.append(_unknown(name))
            continue
        try:
            chosen[name.replace("-", "_")] = ANNOTATIONS[name].parse(text)
        except ValueError as problem:
            problems.append(f"the annotation {key} cannot be read: {problem}")
    problems += _at_odds(chosen, found := replace(_with_room(defaults, chosen), **chosen))
    if problems:
        left = len(problems) - _MOST_PROBLEMS
        raise Refused("annotation", "; ".join(problems[:_MOST_PROBLEMS]) + (f"; and {left} more" if left > 0 else ""))
    return found


def _unknown(name: str) -> str:
    """What is said of an annotation that nobody reads: most are slips of the pen, and a slip must not go unnoticed."""
    if name == "inject":
        return f"{INJECT} is a label, not an annotation: write it among the labels"
    shown = f"{PREFIX}{name}" if _SAYABLE.fullmatch(name) else f"one that begins with {PREFIX}"
    return f"there is no annotation {shown}; there are {', '.join(PREFIX + known for known in ANNOTATIONS)}"


def _with_room(defaults: Wishes, chosen: Mapping[str, Any]) -> Wishes:
    """The defaults, moved where one chosen half of a pair would cross the other half that nobody chose."""
    for resource in ("cpu", "memory"):
        request, limit = f"{resource}_request", f"{resource}_limit"
        if request in chosen and limit not in chosen:
            usual = getattr(defaults, limit)
            if usual is not None and usual.amount < chosen[request].amount:
                defaults = replace(defaults, **{limit: chosen[request]})
        elif limit in chosen and chosen[limit].amount < getattr(defaults, request).amount:
            defaults = replace(defaults, **{request: chosen[limit]})
    return defaults


def _at_odds(chosen: Mapping[str, Any], found: Wishes) -> list[str]:
    """What is wrong with annotations that can each be read."""
    problems = []
    if "port" in chosen and "socket" in chosen:
        problems.append(f"{PREFIX}port and {PREFIX}socket exclude each other: write one of them")
    if not found.socket and found.port == found.ops_port:
        problems.append(f"{PREFIX}port and {PREFIX}ops-port are both {found.port}: write two ports")
    if found.cpu_limit is not None and found.cpu_request.amount > found.cpu_limit.amount:
        problems.append(f"{PREFIX}cpu-request is more than {PREFIX}cpu-limit: write a request within the limit")
    if found.memory_request.amount > found.memory_limit.amount:
        problems.append(f"{PREFIX}memory-request is more than {PREFIX}memory-limit: write a request within the limit")
    return problems
