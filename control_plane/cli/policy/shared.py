"""What the commands of `catalyst policy` share: their arguments, documents from files, refusals."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from control_plane.cli.api import ApiProblem
from control_plane.errors import OperatorError

Application = Annotated[str, typer.Argument(help="The application's slug or id.", metavar="APPLICATION")]
Document = Annotated[Path, typer.Argument(help="The policy document (.json: JSON, anything else: YAML).", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_REFUSALS: Final = {409, 412, 422}
"""What stands against a request that is well formed."""

LONG_SECONDS: Final = 300.0
"""How long to wait where the control plane asks for many answers."""


def path_of(application: str, what: str) -> str:
    """Where the API has an application's policy."""
    return f"/v1/applications/{application}/policy/{what}"


def read_file(file: Path) -> bytes:
    """The content of a document. Raises OperatorError where the file cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}") from error


def media_type_of(file: Path) -> str:
    """How a document is written."""
    return "application/json" if file.suffix == ".json" else "application/yaml"


def body_of(file: Path, **headers: str) -> dict[str, Any]:
    """A document as the body of a request."""
    return {"content": read_file(file), "headers": {"content-type": media_type_of(file), **headers}}


def sent(file: Path) -> dict[str, str]:
    """A document inside a JSON body. Raises OperatorError where it is not text."""
    try:
        return {"source": read_file(file).decode(), "media_type": media_type_of(file)}
    except UnicodeDecodeError as error:
        raise OperatorError(f"{file} is not UTF-8: save it as that") from error


@contextmanager
def refusals(file: Path | None, code: int = 1, *, as_json: bool = False) -> Iterator[None]:
    """A refusal of what is inside is told, each problem at its place in the file, and ends the command with `code`."""
    try:
        yield
    except ApiProblem as problem:
        if problem.status not in _REFUSALS:
            raise
        if as_json:
            print(json.dumps({"refused": problem.code, "detail": problem.sentence, "errors": problem.faults}))
        else:
            located = [fault for fault in problem.faults if fault.get("line")]
            print_problems(file or Path("draft"), located, to=sys.stdout if code == 1 else sys.stderr)
            print(problem.sentence, file=sys.stdout if code == 1 else sys.stderr)
        raise typer.Exit(code) from None


def print_problems(file: Path, problems: Iterable[Mapping[str, Any]], to: Any = None) -> None:
    """One line each, as compilers write them, so that editors can jump there."""
    for problem in problems:
        place = f"{file}:{problem.get('line') or 1}:{problem.get('column') or 1}"
        print(f"{place}: {problem['message']} ({problem['code']})", file=to)
