"""`catalyst secrets`: what CATALYST_SECRET_KEY wraps in the database, and a new key for it."""

import json
import os
from collections import Counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

group = typer.Typer(
    name="secrets",
    help="What CATALYST_SECRET_KEY wraps in the database. It and CATALYST_DATABASE_URL are as for the control plane, or those of "
    "the `catalyst up` that runs in this folder.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_UNNAMED = "unnamed"


@group.command()
def status(as_json: AsJson = False) -> None:
    """Say which key wraps how much. Exit code 1 where something is wrapped by a key that CATALYST_SECRET_KEY does not hold."""
    from control_plane.cli.database import sealed_values
    from control_plane.cli.local import with_local

    ring, found = sealed_values(with_local(os.environ))
    held = [key.id for key in ring.keys]
    keys: dict[str, Counter[str]] = {key: Counter() for key in held}
    for sealed in found:
        keys.setdefault(sealed.key or _UNNAMED, Counter())[sealed.kind] += sealed.values
    missing = [key for key in keys if key not in held and key != _UNNAMED]
    if as_json:
        print(json.dumps({"wraps": held[0], "unwrap": held, "values": keys, "missing": missing}))
    else:
        _draw(keys, held)
    raise typer.Exit(1 if missing else 0)


@group.command()
def rewrap(as_json: AsJson = False) -> None:
    """Wrap everything anew under the first key of CATALYST_SECRET_KEY, in one transaction. What is done already is left alone."""
    from control_plane.cli.database import rewrap_values
    from control_plane.cli.local import with_local

    ring, counts = rewrap_values(with_local(os.environ))
    if as_json:
        print(json.dumps({"key": ring.first.id, "rewrapped": counts}))
        return
    listed = ", ".join(f"{count} of {kind.replace('_', ' ')}" for kind, count in counts.items())
    print(f"Wrapped anew under the key {ring.first.id}: {listed}.")
    if others := [key.id for key in ring.keys[1:]]:
        print(
            f"Nothing in the database needs {' or '.join(others)} now. Once {ring.first.id} stands first for every control plane,"
        )
        print("take the rest out of CATALYST_SECRET_KEY. Backups from before this need it still.")


def _draw(keys: dict[str, Counter[str]], held: list[str]) -> None:
    """A line for each key: the first, the others that are held, those that are not."""
    table = Table("key", "", "values", "what", box=None, pad_edge=False)
    for key, counts in keys.items():
        what = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(counts.items()))
        table.add_row(key, _role(key, held), str(counts.total()), what)
    Console().print(table)


def _role(key: str, held: list[str]) -> str:
    """What CATALYST_SECRET_KEY makes of a key."""
    if key == _UNNAMED:
        return "from before values named their key"
    if key not in held:
        return "not in CATALYST_SECRET_KEY"
    return "wraps and unwraps" if key == held[0] else "unwraps"
