"""Documents: drafts that are stored, and what stands against a file before it is."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from control_plane.cli.api import Api
from control_plane.cli.policy.cases import Results, offline, online
from control_plane.cli.policy.junit import write_junit
from control_plane.cli.policy.shared import (
    Application,
    AsJson,
    Document,
    body_of,
    path_of,
    print_problems,
    refusals,
)
from control_plane.errors import OperatorError

drafts = typer.Typer(name="draft", help="The stored draft: what would be published.", no_args_is_help=True)

IfMatch = Annotated[str, typer.Option("--if-match", help="Only where the draft still has this ETag.", metavar="ETAG")]


@drafts.command("get")
def get_draft(
    application: Application,
    output: Annotated[Path | None, typer.Option("--output", help="Write it to this file.", metavar="FILE")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the draft as it was written. With --json: its `etag`, `media_type` and `source`."""
    with Api.from_environ() as api:
        answer = api.document(path_of(application, "draft"))
    etag, media_type = answer.headers["etag"].strip('"'), answer.headers["content-type"].partition(";")[0]
    if output is not None:
        output.write_bytes(answer.content)
    if as_json:
        print(json.dumps({"etag": etag, "media_type": media_type, "source": answer.text}))
    elif output is not None:
        print(f"{output}: the draft {etag}")
    else:
        sys.stdout.write(answer.text)


@drafts.command("put")
def put_draft(application: Application, file: Document, if_match: IfMatch = "", as_json: AsJson = False) -> None:
    """Store a document as the draft. Exit code 1 where it has problems, or where the draft was changed meanwhile."""
    condition = {"if-match": f'"{if_match}"'} if if_match else {}
    with Api.from_environ() as api, refusals(file, as_json=as_json):
        draft = api.call("PUT", path_of(application, "draft"), **body_of(file, **condition)).json()
    if as_json:
        print(json.dumps(draft))
        return
    print_problems(file, draft["failed_tests"])
    print(f"{application}: the draft is {draft['etag']}")


@drafts.command("delete")
def delete_draft(application: Application, if_match: IfMatch = "", as_json: AsJson = False) -> None:
    """Throw the draft away, and every approval of it. What is in force stays."""
    condition = {"if-match": f'"{if_match}"'} if if_match else {}
    with Api.from_environ() as api, refusals(None, as_json=as_json):
        api.call("DELETE", path_of(application, "draft"), headers=condition)
    print(json.dumps({"deleted": True}) if as_json else f"{application}: there is no draft any more")


def validate(application: Application, file: Document, as_json: AsJson = False) -> None:
    """Say what is wrong with a document, all of it at once, with line and column. Exit code 1 where anything is."""
    found = _validation(application, file)
    if as_json:
        print(json.dumps(found))
    else:
        print_problems(file, found["problems"])
        print_problems(file, found["failed_tests"])
        print(f"{file}: {'valid' if found['valid'] else 'not valid'}")
    raise typer.Exit(0 if found["valid"] else 1)


def run_tests(
    subject: Annotated[str, typer.Argument(help="The application's slug or id; or the FILE itself.", metavar="[APPLICATION]")],
    file: Annotated[Path | None, typer.Argument(help="The policy document.", metavar="FILE")] = None,
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Without an application: a host that it has (repeatable).")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write the results as JUnit XML.", metavar="FILE")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a document's own tests with the engine that enforces. Exit code 1 where one fails.

    With an application's name, the control plane runs them. With a file alone they run right here, without a control plane;
    --host then says what hosts the application has, without it hosts are not checked.
    """
    if file is not None and host:
        raise OperatorError("name the application, or its hosts with --host: not both")
    document = file or Path(subject)
    results = offline(document, host or None) if file is None else online(document, _validation(subject, document))
    if junit is not None:
        write_junit(junit, document, results)
    if as_json:
        print(json.dumps(results.shown()))
    else:
        _print_results(document, results)
    raise typer.Exit(0 if results.passed else 1)


def _print_results(file: Path, results: Results) -> None:
    print_problems(file, results.problems)
    print_problems(file, results.failures)
    if results.passed:
        print(f"{file}: all tests passed ({len(results.cases)})")


def _validation(application: str, file: Path) -> Any:
    with Api.from_environ() as api:
        return api.call("POST", path_of(application, "validate"), **body_of(file)).json()
