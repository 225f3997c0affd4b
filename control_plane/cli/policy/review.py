"""What is looked at before a policy goes out: who gains and loses what, and what sampled decisions would have been."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from control_plane.cli.api import Api
from control_plane.cli.policy.shared import LONG_SECONDS, Application, AsJson, path_of, refusals, sent
from control_plane.cli.printing import print_items
from control_plane.errors import OperatorError

File = Annotated[Path | None, typer.Argument(help="A document that stands in for the draft; it is not stored.", metavar="FILE")]


def diff(
    application: Application,
    file: File = None,
    before: Annotated[str, typer.Option("--before", help="`published`, `draft` or a version.")] = "published",
    after: Annotated[str, typer.Option("--after", help="`published`, `draft` or a version.")] = "draft",
    *,
    amr: Annotated[str, typer.Option("--amr", help="How users are taken to have logged in, with commas.")] = "pwd,otp",
    client: Annotated[str, typer.Option("--client", help="The address that they are taken to come from.")] = "192.0.2.1",
    people: Annotated[int, typer.Option("--people", help="How many people to list of each group.", min=0, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """Say what differs between two policies: in rules, and in people who gain or lose routes.

    Exit code 0 where nothing differs, 1 where something does.
    """
    with Api.from_environ() as api:
        assume = {"amr": [method for method in amr.split(",") if method], "client": client}
        body = {"before": _which(before), "after": _which(after), "assume": assume, "people": people}
        found = _post(api, application, "diff", file, body)
    if as_json:
        print(json.dumps(found))
    else:
        _print_diff(found)
    raise typer.Exit(1 if found["differs"] else 0)


def replay(
    application: Application,
    file: File = None,
    against: Annotated[str, typer.Option("--against", help="`draft` or a version.")] = "draft",
    since: Annotated[str, typer.Option("--since", help="Only decisions since then (RFC 3339).")] = "",
    limit: Annotated[int, typer.Option("--limit", help="The newest decisions: how many.", min=1, max=50_000)] = 10_000,
    as_json: AsJson = False,
) -> None:
    """Make the decisions that sidecars sampled again, by a policy that is not in force yet.

    Exit code 0 where each would come out the same, 1 where one would not.
    """
    with Api.from_environ() as api:
        body = {"against": _which(against), "limit": limit, **({"since": since} if since else {})}
        found = _post(api, application, "replay", file, body)
    if as_json:
        print(json.dumps(found))
    else:
        _print_replay(found)
    raise typer.Exit(1 if found["differs"] else 0)


def _post(api: Api, application: str, call: str, file: Path | None, body: Mapping[str, Any]) -> Any:
    document = {} if file is None else {"document": sent(file)}
    with refusals(file, code=2):
        return api.call("POST", path_of(application, call), json={**body, **document}, timeout=LONG_SECONDS).json()


def _which(name: str) -> str | int:
    """A policy as the API names it."""
    if name in {"published", "draft"}:
        return name
    if name.isascii() and name.isdigit():
        return int(name)
    raise OperatorError("name a policy as published, draft or the number of a version")


def _print_diff(found: Mapping[str, Any]) -> None:
    rules, people = found["rules"], found["people"]
    print(f"{_side(found['before'])} -> {_side(found['after'])}, revision {found['revision']}")
    for mark, names in (("+", rules["added"]), ("-", rules["removed"])):
        for name in names:
            print(f"  {mark} rule {name}")
    for rule in rules["changed"]:
        print(f"  ~ rule {rule['id']}")
        for key in rule["keys"]:
            print(f"      {key['key']}: {_value(key['before'])} -> {_value(key['after'])}")
    for move in rules["moved"]:
        print(f"  > rule {move['id']} moved past {', '.join(move['past'])}")
    assumed = f"a login just now by {'+'.join(found['assumed']['amr']) or 'nothing'}, from {found['assumed']['client']}"
    print(f"Of {people['members']} members, {people['gaining']} gain and {people['losing']} lose something ({assumed}).")
    if people["routes"]:
        print_items(("methods", "path", "own", "gain", "lose", "depends on", "perhaps"), [_row(r) for r in people["routes"]])
        for route in people["routes"]:
            _print_who(route)
    if people["more_routes"]:
        print(f"{people['more_routes']} more routes: --json lists up to 200.")
    for reason in found["truncated"]:
        print(f"Not everything was looked at: {reason}.")


def _row(route: Mapping[str, Any]) -> dict[str, Any]:
    own = [f"{one['segment']}={one['attribute']}" for one in route["own"]]
    counts = {name: _count(route[name]) for name in ("gain", "lose")}
    told = {"depends on": route["depends_on"], "perhaps": _count(route["conditional"])}
    return {"methods": route["methods"], "path": route["path"], "own": own, **counts, **told}


def _count(group: Mapping[str, Any]) -> str:
    return f"{group['count']} and anyone" if group["anonymous"] else str(group["count"])


def _print_who(route: Mapping[str, Any]) -> None:
    """Who gains and who loses a route, one a line."""
    for mark, verb, group in (("+", "gains", route["gain"]), ("-", "loses", route["lose"])):
        for person in group["people"]:
            print(f"  {mark} {person['profile']} in {person['org']} {verb} {'/'.join(route['methods'])} {route['path']}")
        if group["more"]:
            print(f"  {mark} and {group['more']} more {verb[:-1]} it")


def _side(side: Mapping[str, Any]) -> str:
    if side["version"] is not None:
        return f"version {side['version']}"
    return f"{side['name']} {side['etag']}" if side["etag"] else f"nothing {side['name']}"


def _value(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _print_replay(found: Mapping[str, Any]) -> None:
    span = found["span"]
    when = f", {span['first_at']} to {span['last_at']}" if span else ""
    print(f"{found['sampled']} sampled decisions{when}; {found['lost']} were lost.")
    print(f"{_side(found['published'])} -> {_side(found['candidate'])}, {found['replayed']} made again:")
    for name in ("same", "would_be_allowed", "would_be_denied", "other_reason"):
        print(f"  {found[name]:>8}  {name.replace('_', ' ')}")
    for out in found["left_out"]:
        print(f"  {out['count']:>8}  left out: {out['reason'].replace('_', ' ')}")
    if found["drifted"]:
        print(f"  {found['drifted']:>8}  are answered otherwise today already: people or the policy changed since")
    if found["decisions"]:
        print_items(("change", "method", "path", "profile", "now", "then"), [_decision(one) for one in found["decisions"]])
    if found["more"]:
        print(f"{found['more']} more.")


def _decision(one: Mapping[str, Any]) -> dict[str, Any]:
    request = {"method": one["request"]["method"], "path": f"{one['request']['host']}{one['request']['path']}"}
    told = {"now": one["published"]["reason"], "then": one["candidate"]["reason"]}
    return {"change": one["change"], **request, "profile": one["principal"]["profile"] or "nobody", **told}
