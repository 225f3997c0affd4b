"""`catalyst audit`: what was done, and the proof that nobody rewrote it."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from control_plane.cli.api import Api, fetch
from control_plane.cli.local import owner_alone
from control_plane.errors import OperatorError

if TYPE_CHECKING:
    from jwt import PyJWK

group = typer.Typer(
    name="audit",
    help="The audit log. CATALYST_URL says where the control plane is, CATALYST_API_KEY who asks.",
    no_args_is_help=True,
)

_EVENTS: Final = "/v1/audit-events"
_CHECKPOINTS: Final = f"{_EVENTS}/checkpoints"
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_COLUMNS: Final = ("at", "type", "actor", "resource", "org", "seq")

Org = Annotated[str, typer.Option("--org", help="Of this org: its id, or its slug while it is there.")]
Type = Annotated[str, typer.Option("--type", help="What: grant.created, or grant.* for all of a kind.")]
Actor = Annotated[str, typer.Option("--actor", help="Who: a profile's or an API key's id.")]
Resource = Annotated[str, typer.Option("--resource", help="Which: the id of what was changed.")]
Since = Annotated[str, typer.Option("--since", help="From this time on, as 2026-11-01T00:00:00Z.")]
Until = Annotated[str, typer.Option("--until", help="Before this time.")]
RequestId = Annotated[str, typer.Option("--request-id", help="The x-request-id of the call.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@group.command("list")
def list_(  # noqa: PLR0913, PLR0917  (filters)
    org: Org = "",
    type: Type = "",  # noqa: A002  (its name outside)
    actor: Actor = "",
    resource: Resource = "",
    since: Since = "",
    until: Until = "",
    request_id: RequestId = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show events, newest first."""
    from itertools import islice

    from control_plane.cli.printing import print_items

    with Api.from_environ() as api:
        filters = _filters(api, org, type, actor, resource, since, until, request_id)
        items = list(islice(api.pages(_EVENTS, limit=str(min(limit, 200)), **filters), limit))
    if as_json:
        print(json.dumps(items))
    else:
        shown = [item | {"actor": f"{item['actor']['kind']} {item['actor']['id']}"} for item in items]
        print_items(_COLUMNS, shown)


@group.command()
def export(  # noqa: PLR0917  (filters)
    file: Annotated[Path | None, typer.Argument(help="Where to; without: standard output.", metavar="[FILE]")] = None,
    org: Org = "",
    type: Type = "",  # noqa: A002  (its name outside)
    actor: Actor = "",
    resource: Resource = "",
    since: Since = "",
    until: Until = "",
    request_id: RequestId = "",
) -> None:
    """Write the log as NDJSON, one event a line, chain by chain: what `catalyst audit verify` reads.

    A file is in place only when it is whole, and its owner's alone: it holds addresses. With filters it holds a part:
    `catalyst audit verify --part`.
    """
    with Api.from_environ() as api:
        filters = _filters(api, org, type, actor, resource, since, until, request_id)
        lines = _counted(api.lines(f"{_EVENTS}/export", **filters))
        if file is None:
            for line in lines:
                sys.stdout.write(f"{line}\n")
            return
        unfinished = file.with_name(f"{file.name}.part")
        with open(unfinished, "w", encoding="utf-8", opener=owner_alone) as out:
            out.writelines(f"{line}\n" for line in lines)
        unfinished.replace(file)


@group.command()
def checkpoint(as_json: AsJson = False) -> None:
    """Sign where each chain ends now, and print the checkpoints, one a line: keep them where nobody of the operators can write.

    Later, `catalyst audit verify --checkpoint` finds whatever was changed or removed since.
    """
    with Api.from_environ() as api:
        api.post(_CHECKPOINTS)
        items = list(api.pages(_CHECKPOINTS, latest="true", limit="200"))
    print(json.dumps(items) if as_json else "\n".join(item["jws"] for item in reversed(items)))


@group.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="An export. Without: the control plane verifies itself.", metavar="[FILE]")
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoint", help="Checkpoints that were kept elsewhere, one a line.")
    ] = None,
    key: Annotated[
        str, typer.Option("--key", help="The keys that sign them: a file, or the URL of /.well-known/audit-jwks.json.")
    ] = "",
    part: Annotated[bool, typer.Option("--part", help="The export has filters: what is left out is no fault.")] = False,
    as_json: AsJson = False,
) -> None:
    """Verify an export, offline, and name the first event that does not hold. Exit code 1 where one does not.

    An export alone shows that nothing in it was changed or removed from its middle. That nothing is missing at its end, and that
    it was not written anew as a whole, is shown by checkpoints that were kept elsewhere.
    """
    if file is None:
        with Api.from_environ() as api:
            found = api.get(f"{_EVENTS}/verify", timeout=None)
    else:
        found = _verified(file, checkpoints, key, part)
    if as_json:
        print(json.dumps(found))
    else:
        _print_report(found, compared=checkpoints is not None or file is None)
    raise typer.Exit(0 if found["holds"] else 1)


def _verified(file: Path, checkpoints: Path | None, key: str, part: bool) -> dict[str, Any]:
    from control_plane.audit import chain

    keys = _keys(key) if key else None
    tokens = [line.strip() for line in checkpoints.read_text("utf-8").splitlines()] if checkpoints else []
    with _opened(file) as lines:
        report = chain.verify(lines, [token for token in tokens if token], keys, part=part)
    return {"holds": report.holds, **asdict(report)}


def _print_report(found: Mapping[str, Any], *, compared: bool) -> None:
    from control_plane.audit.chain import Broken

    if found["broken"] is not None:
        print(Broken(**found["broken"]))
        return
    print(f"{found['events']} events in {found['chains']} chains hold; {found['checkpoints']} checkpoints agree.")
    if not compared:
        print(
            "That no events are missing at the end is not shown: compare with checkpoints that were kept elsewhere, --checkpoint."
        )
    if found.get("signatures") is False:
        print("The checkpoints were taken as they stand: --key verifies their signatures.")


def _keys(place: str) -> "dict[str, PyJWK]":
    """The keys of a JWKS in a file or at a URL. OperatorError where it is none."""
    from control_plane.audit import chain

    try:
        text = fetch(place) if place.startswith(("http://", "https://")) else Path(place).read_text("utf-8")
        return chain.read_keys(json.loads(text))
    except ValueError as problem:
        raise OperatorError(
            f"--key {place}: write a file or a URL that holds what /.well-known/audit-jwks.json says"
        ) from problem


@contextmanager
def _opened(file: Path) -> Iterator[Iterable[bytes]]:
    """A file's lines, with a bar on a terminal while they are read; "-" is standard input."""
    from rich.console import Console
    from rich.progress import open as open_with_bar

    if str(file) == "-":
        yield sys.stdin.buffer
        return
    console = Console(stderr=True)
    with open_with_bar(file, "rb", description="Verifying", console=console, disable=not console.is_terminal) as lines:
        yield lines


def _counted(lines: Iterable[str]) -> Iterator[str]:
    """The lines, counted on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} events"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("export", total=None)
        for line in lines:
            progress.advance(task)
            yield line


def _filters(api: Api, org: str, *rest: str) -> dict[str, str]:
    """What is given, as parameters of the API. An org's slug becomes its id: events are kept by that."""
    if org and not _UUID.fullmatch(org):
        org = api.get(f"/v1/orgs/{org}")["id"]
    names = ("org", "type", "actor", "resource", "since", "until", "request_id")
    return {name: value for name, value in zip(names, (org, *rest), strict=True) if value}
