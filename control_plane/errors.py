"""What can go wrong, in two kinds: an operator's mistake (printed, exit code 2) and a caller's (answered as problem details)."""

from collections.abc import Sequence
from dataclasses import dataclass


class OperatorError(Exception):
    """Something that whoever runs the program must put right. Each problem is one sentence that says what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request. `field` is a JSON pointer into the body, or the name of a parameter.

    `line` and `column` count from 1 and are given for policy documents only.
    """

    field: str
    code: str
    message: str
    line: int | None = None
    column: int | None = None


class ApiError(Exception):
    """A refusal with a status and a stable code. `detail` is shown to the caller: it never holds a stored value.

    `retry_after`: in how many seconds the same may be tried again, where that is known.
    """

    def __init__(
        self, status: int, code: str, detail: str, faults: Sequence[Fault] = (), *, retry_after: int | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.faults = tuple(faults)
        self.retry_after = retry_after


def not_found(what: str, field: str) -> ApiError:
    """404: no such thing, or it lies outside the caller's reach; the two are never told apart. 422 for a field of a body."""
    status, code = (422, "invalid_request") if field.startswith("/") else (404, "not_found")
    return ApiError(status, code, f"There is no such {what}.", [Fault(field, "not_found", f"No such {what}.")])


def invalid(field: str, code: str, message: str) -> ApiError:
    """422: one field of a well-formed request cannot be taken."""
    return ApiError(422, "invalid_request", message, [Fault(field, code, message)])


def conflict(code: str, detail: str, field: str = "") -> ApiError:
    """409: the request is fine, what is stored stands against it."""
    return ApiError(409, code, detail, [Fault(field, code, detail)] if field else ())


def forbidden(code: str, detail: str) -> ApiError:
    """403: the caller is known and may not do this."""
    return ApiError(403, code, detail)
