"""Finds every refusal that the control plane can give, by reading its source: `ApiError` and what stands for it, with literal codes."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from control_plane import problems
from sidecar.contract import STATUS, Reason

SOURCE = Path(__file__).resolve().parent.parent / "control_plane"
_STATUS_OF = {"conflict": 409, "forbidden": 403}


class Refusal(NamedTuple):
    """A code of a whole answer, its status, and what is said (nothing where that depends on the request)."""

    code: str
    status: int
    detail: str


def refusals() -> list[Refusal]:
    """Every refusal, by code; where a code is given in several places, nothing of what is said."""
    routing = (Refusal(code, status, detail) for status, (code, detail) in problems._ROUTING.items())
    constraints = (Refusal(code, status, "") for status, code, _ in problems._CONSTRAINTS.values() if code != "not_found")
    others = (
        Refusal("not_found", 404, "There is no such thing, or it is out of your reach."),
        Refusal("conflict", 409, "This stands against what is stored."),
    )
    found: dict[tuple[str, int], Refusal] = {}
    for refusal in (*others, *routing, *_written(), *_reasons(), *constraints):
        key = (refusal.code, refusal.status)
        same = key not in found or found[key].detail == refusal.detail
        found[key] = refusal if same else refusal._replace(detail="")
    return sorted(found.values())


def field_codes() -> list[tuple[str, str]]:
    """Codes of single fields, besides those of pydantic, with what is said."""
    found: dict[str, str] = {"not_found": "No such thing, or it is out of your reach."}
    for call in _calls():
        if _name(call) in ("invalid", "Fault") and len(call.args) >= 3:
            code, message = (_text(one) for one in call.args[1:3])
            if code:
                found.setdefault(code, message)
    return sorted(found.items())


def _written() -> Iterator[Refusal]:
    for call in _calls():
        name, arguments = _name(call), call.args
        if name == "ApiError" and len(arguments) >= 3 and isinstance(arguments[0], ast.Constant):
            status, code, detail = arguments[0].value, _text(arguments[1]), _text(arguments[2])
        elif name in _STATUS_OF and arguments:
            status, code, detail = _STATUS_OF[name], _text(arguments[0]), _text(arguments[1]) if len(arguments) > 1 else ""
        else:
            continue
        if code:
            yield Refusal(code, int(str(status)), detail)


def _reasons() -> Iterator[Refusal]:
    """Those that a sidecar gives by the same code: of credentials."""
    for node in ast.walk(ast.parse((SOURCE / "authentication.py").read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason":
            reason = Reason[node.attr]
            yield Refusal(str(reason), STATUS[reason], "")


def _calls() -> Iterator[ast.Call]:
    for tree in _trees():
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _trees() -> Iterator[ast.Module]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield ast.parse(path.read_text())


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _text(node: ast.expr) -> str:
    """A literal text; nothing where it is made of parts."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
