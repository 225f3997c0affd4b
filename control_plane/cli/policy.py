"""`catalyst policy`: from a document in a file to the version in force, over the control plane's API."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from control_plane.cli.api import Api, ApiProblem, ask_sidecar
from control_plane.errors import OperatorError

group = typer.Typer(
    name="policy",
    help="An application's policy. CATALYST_URL says where the control plane is, CATALYST_API_KEY who asks.",
    no_args_is_help=True,
)

Application = Annotated[str, typer.Argument(help="The application's slug or id.", metavar="APPLICATION")]
Document = Annotated[Path, typer.Argument(help="The policy document (.json: JSON, anything else: YAML).", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@group.command()
def validate(application: Application, file: Document, as_json: AsJson = False) -> None:
    """Say what is wrong with a document, all of it at once, with line and column. Exit code 1 where anything is."""
    found = _validation(application, file)
    if as_json:
        print(json.dumps(found))
    else:
        _print_problems(file, found["problems"])
        print(f"{file}: {'valid' if found['valid'] else 'not valid'}")
    raise typer.Exit(0 if found["valid"] else 1)


@group.command("test")
def run_tests(application: Application, file: Document, as_json: AsJson = False) -> None:
    """Run a document's own tests with the engine that enforces. Exit code 1 where one fails."""
    found = _validation(application, file)
    if as_json:
        print(json.dumps(found))
    else:
        _print_problems(file, found["problems"])
        _print_problems(file, found["failed_tests"])
        if found["valid"] and not found["failed_tests"]:
            print(f"{file}: all tests passed")
    raise typer.Exit(0 if found["valid"] and not found["failed_tests"] else 1)


@group.command()
def publish(
    application: Application,
    file: Annotated[Path | None, typer.Argument(help="Stored as the draft first; without: the draft as it is.")] = None,
    note: Annotated[str, typer.Option("--note", help="Why, for those who read the versions later.")] = "",
    as_json: AsJson = False,
) -> None:
    """Put a policy in force, everywhere at once. Exit code 1 where the document or one of its tests stands against it."""
    with Api.from_environ() as api:
        try:
            if file is not None:
                api.call("PUT", _path(application, "draft"), **_body(file))
            version = api.post(_path(application, "publish"), {"note": note})
        except ApiProblem as problem:
            if problem.status not in {409, 422}:
                raise
            _print_problems(file or Path("draft"), problem.faults)
            print(problem.problems[0])
            raise typer.Exit(1) from None
    print(json.dumps(version) if as_json else f"{application}: version {version['version']} is in force")


@group.command()
def rollback(
    application: Application,
    version: Annotated[int, typer.Argument(help="The version to put back in force.")],
    as_json: AsJson = False,
) -> None:
    """Put an earlier version back in force."""
    with Api.from_environ() as api:
        back = api.post(_path(application, "rollback"), {"version": version})
    print(json.dumps(back) if as_json else f"{application}: version {back['version']} is in force")


@group.command()
def versions(application: Application, as_json: AsJson = False) -> None:
    """List the versions, newest first."""
    with Api.from_environ() as api:
        items = list(api.pages(_path(application, "versions")))
    if as_json:
        print(json.dumps(items))
        return
    table = Table("version", "", "published", "note", box=None)
    for item in items:
        table.add_row(str(item["version"]), "in force" if item["published"] else "", item["created_at"], item["note"])
    Console().print(table)


@group.command()
def explain(
    method: Annotated[str, typer.Argument(help="The request's method.")],
    url: Annotated[str, typer.Argument(help="The request's URL, https://orders.example.com/orders/1")],
    profile: Annotated[str, typer.Option("--profile", help="Who asks: a profile's id. Without: nobody.")] = "",
    org: Annotated[str, typer.Option("--org", help="In which org (slug or id).")] = "",
    client: Annotated[str, typer.Option("--client", help="From which address.")] = "127.0.0.1",
    as_json: AsJson = False,
) -> None:
    """Ask a sidecar on this machine how it would decide, and why. CATALYST_SIDECAR_OPS_LISTEN says where it is.

    Exit code 0 where the request would pass, 1 where it would not.
    """
    if bool(profile) != bool(org):
        raise OperatorError("--profile and --org belong together: entitlements are a profile's in an org")
    question: dict[str, Any] = {"method": method, "url": url, "client": client}
    if profile:
        question["principal"] = {"profile": profile, "org": org}
    listener = os.environ.get("CATALYST_SIDECAR_OPS_LISTEN") or "127.0.0.1:9787"
    answer = ask_sidecar(listener, "/explain", question)
    decision = answer["explanation"]["decision"]
    if as_json:
        print(json.dumps(answer))
    else:
        _print_explanation(answer["explanation"])
    raise typer.Exit(0 if decision["effect"] == "allow" else 1)


def _path(application: str, what: str) -> str:
    return f"/v1/applications/{application}/policy/{what}"


def _body(file: Path) -> dict[str, Any]:
    """A document as the body of a request. Raises OperatorError where the file cannot be read."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}") from error
    media_type = "application/json" if file.suffix == ".json" else "application/yaml"
    return {"content": content, "headers": {"content-type": media_type}}


def _validation(application: str, file: Path) -> Any:
    with Api.from_environ() as api:
        return api.call("POST", _path(application, "validate"), **_body(file)).json()


def _print_problems(file: Path, problems: Iterable[Mapping[str, Any]]) -> None:
    """One line each, as compilers write them, so that editors can jump there."""
    for problem in problems:
        print(f"{file}:{problem.get('line') or 1}:{problem.get('column') or 1}: {problem['message']} ({problem['code']})")


def _print_explanation(explanation: Mapping[str, Any]) -> None:
    decision = explanation["decision"]
    print(f"{decision['effect']}: {decision['reason']}")
    for rule in explanation["rules"]:
        mark = "decided" if rule["decided"] else "matched" if rule["matched"] else "       "
        print(f"  {mark}  {rule['id']} ({rule['effect']})")
        for unmet in rule["unmet"]:
            print(f"             {unmet['what']}: {unmet['detail']}")
