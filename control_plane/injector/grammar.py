"""What may be written in an annotation: small closed grammars, each of which gives a value or says what to write.

Nothing that does not match as a whole comes out of here, so nobody's text becomes configuration.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PORTS: Final = range(1024, 65536)
"""A process without capabilities may listen on these."""
_MOST_NAMES: Final = 50
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""An application's slug, and a container's name (a DNS label, RFC 1123): the same shape."""
_CPU: Final = re.compile(r"([1-9][0-9]{0,4})(m?)")
_MEMORY: Final = re.compile(r"([1-9][0-9]{0,4})(Mi|Gi)")
_MOST_MILLICPU: Final = 64_000
_MEBIBYTES: Final = range(32, 64 * 1024 + 1)


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount of CPU (in thousandths) or memory (in MiB), and how it is written for Kubernetes."""

    amount: int
    text: str


def port(text: str) -> int:
    """A port. Raises ValueError."""
    if not re.fullmatch(r"[1-9][0-9]{3,4}", text, re.ASCII) or int(text) not in PORTS:
        raise ValueError("write a port between 1024 and 65535")
    return int(text)


def cpu(text: str) -> Quantity:
    """CPU time: `250m` or whole CPUs. Raises ValueError."""
    match = _CPU.fullmatch(text)
    amount = int(match[1]) * (1 if match[2] else 1000) if match else 0
    if not 0 < amount <= _MOST_MILLICPU:
        raise ValueError("write CPU time as 250m, or as whole CPUs such as 2, at most 64")
    return Quantity(amount, text)


def memory(text: str) -> Quantity:
    """Memory: `256Mi`, `1Gi`. Raises ValueError."""
    match = _MEMORY.fullmatch(text)
    amount = int(match[1]) * (1024 if match[2] == "Gi" else 1) if match else 0
    if amount not in _MEBIBYTES:
        raise ValueError("write memory as 256Mi or 1Gi, between 32Mi and 64Gi")
    return Quantity(amount, text)


def names(what: str, example: str) -> Callable[[str], tuple[str, ...]]:
    """Reads names with commas between, each once."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(part.strip(" ") for part in text.split(",")) if len(text) <= _MOST_NAMES * 65 else ()
        if not found or len(found) > _MOST_NAMES or len(set(found)) != len(found) or not all(map(_LABEL.fullmatch, found)):
            raise ValueError(f"write {what}, each once, with commas between, for example {example}")
        return found

    return read


applications: Final = names("slugs of applications", "orders,billing")
containers: Final = names("names of containers of this pod", "nginx")
