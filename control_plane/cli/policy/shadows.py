"""Shadows: a draft that sidecars evaluate beside the policy in force."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from control_plane.cli.api import Api
from control_plane.cli.policy.shared import Application, AsJson, path_of, refusals
from control_plane.cli.printing import print_items

group = typer.Typer(
    name="shadow", help="A draft that sidecars evaluate beside the policy in force; it decides nothing.", no_args_is_help=True
)


@group.command()
def start(application: Application, as_json: AsJson = False) -> None:
    """Shadow the draft as it is now. Exit code 1 where it has problems."""
    with Api.from_environ() as api, refusals(None, as_json=as_json):
        shadow = api.call("PUT", path_of(application, "shadow")).json()
    print(json.dumps(shadow) if as_json else f"{application}: the draft {shadow['etag']} is shadowed")


@group.command()
def show(
    application: Application,
    limit: Annotated[int, typer.Option("--limit", help="How many differences to list.", min=0, max=200)] = 20,
    as_json: AsJson = False,
) -> None:
    """Say what came of the shadow. Exit code 0 where nothing differs, 1 where a decision would come out otherwise or failed."""
    with Api.from_environ() as api:
        shadow = api.get(path_of(application, "shadow"))
        where = path_of(application, "shadow/differences")
        items = api.get(where, limit=str(limit))["items"] if limit else []
    if as_json:
        print(json.dumps({**shadow, "differences": items}))
    else:
        _print(shadow, items)
    raise typer.Exit(1 if shadow["differing"] or shadow["failed"] else 0)


@group.command()
def stop(application: Application, as_json: AsJson = False) -> None:
    """End the shadow."""
    with Api.from_environ() as api:
        api.call("DELETE", path_of(application, "shadow"))
    print(json.dumps({"stopped": True}) if as_json else f"{application}: nothing is shadowed any more")


def _print(shadow: Mapping[str, Any], items: list[Mapping[str, Any]]) -> None:
    changed = "" if shadow["is_draft"] else " (the draft is another one by now)"
    print(f"{shadow['etag']} since {shadow['started_at']}{changed}: {shadow['seen']} decisions seen")
    for name, meaning in (("differing", "it would make otherwise"), ("failed", "it could not make"), ("lost", "were not kept")):
        print(f"  {shadow[name]:>8}  {meaning}")
    if items:
        print_items(("at", "method", "path", "profile", "in force", "shadow"), [_row(one) for one in items])


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    request = {"method": one["request"]["method"], "path": f"{one['request']['host']}{one['request']['path']}"}
    told = {"in force": one["published"]["reason"], "shadow": one["shadow"]["reason"]}
    return {"at": one["at"], **request, "profile": one["principal"]["profile"] or "nobody", **told}
