"""`catalyst webhooks replay`: send again what a webhook missed, and see what becomes of it."""

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from control_plane.cli.moments import moment
from control_plane.errors import OperatorError

if TYPE_CHECKING:
    from control_plane.cli.watching import Moments

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
_PATIENCE: Final = timedelta(minutes=1)
"""A webhook that is left alone for longer is not waited for."""
_QUIET_SECONDS: Final = 15.0
_ROUND_SECONDS: Final = 0.5

Webhook = Mapping[str, Any]
Replayed = Mapping[str, Any]

Time = Annotated[str, typer.Option(help="15m, 2h, 1d ago, or a time such as 2026-11-01T00:00:00Z.", metavar="TIME")]


def replay(  # noqa: PLR0913  (its options)
    webhook: Annotated[str, typer.Argument(help="Its id, or how it begins.", metavar="WEBHOOK")],
    *,
    delivery: Annotated[str, typer.Option("--delivery", help="One event: its id, or its webhook-id.", metavar="ID")] = "",
    dead: Annotated[bool, typer.Option("--dead", help="All dead letters; so without any of these.")] = False,
    undelivered: Annotated[bool, typer.Option("--undelivered", help="These, and what it missed while it was disabled.")] = False,
    every: Annotated[bool, typer.Option("--all", help="What was delivered as well; what waits is tried at once.")] = False,
    since: Time = "",
    until: Time = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Ask for it, and do not see what becomes of it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as the API answers it.")] = False,
) -> None:
    """Send dead letters, or other deliveries, once more, and wait until each was tried. They keep their webhook-id.

    --since and --until say of events from when and before when. CATALYST_URL says where the control plane is, CATALYST_API_KEY
    who asks; it takes catalyst:webhooks:write, and to wait catalyst:webhooks:read.

    Exit codes: 0 all were delivered (with --no-wait: will be queued), 1 some failed again or wait, 2 it could not be carried out.
    """
    from control_plane.cli.api import Api

    which = [name for name, wanted in (("dead", dead), ("undelivered", undelivered), ("all", every)) if wanted]
    if len(which) + bool(delivery) > 1:
        raise OperatorError("say what to send again: one of --dead, --undelivered, --all and --delivery ID")
    if delivery and not _ID.fullmatch(delivery):
        raise OperatorError(f"--delivery {delivery} is no id of an event: `catalyst webhooks deliveries` shows them")
    if delivery and (since or until):
        raise OperatorError("--since and --until belong to --dead, --undelivered and --all: --delivery names its one event")
    body = None if delivery else {"which": (which or ["dead"])[0], **_range(since, until)}
    with Api.from_environ() as api:
        path = f"/v1/webhooks/{_id_of(api, webhook)}"
        started = api.post(f"{path}/deliveries/{f'{delivery}/' if delivery else ''}replay", body)
        if no_wait:
            _print(started, f"Asked for: `{_show(started)}` says how far it is.", as_json=as_json)
            return
        raise typer.Exit(_see_through(Following(api, path, started), as_json=as_json))


class Following:
    """A replay that is waited for."""

    def __init__(self, api: Any, path: str, started: Replayed) -> None:
        self._api, self._path = api, path
        self.replay = started
        self.webhook: Webhook = {}
        self.goes_on = f"the replay goes on; `{_show(started)}` says how far it is"

    def moments(self) -> "Moments":
        """What there is to see, when it changes, until nothing more is to be expected soon."""
        from rich.text import Text

        from control_plane.cli.watching import bar

        shown = ""
        for line in self._lines():
            if line != shown:
                shown = line
                done = self.replay["delivered"] + self.replay["dead"] + self.replay["retrying"]
                yield Text.assemble(bar(done, max(self.replay["total"], 1), "green"), f" {line}"), line

    def _lines(self) -> Iterator[str]:
        """How it stands, again and again."""
        began = time.monotonic()
        while self._look():
            quiet = self.replay["total"] == 0 and time.monotonic() - began > _QUIET_SECONDS
            yield "no worker has begun: see that `catalyst worker` runs" if quiet else _standing(self.replay)
            time.sleep(_ROUND_SECONDS)

    def _look(self) -> bool:
        """Ask how it stands. Whether more is to be expected soon."""
        self.replay = self._api.get(f"{self._path}/replays/{self.replay['id']}")
        self.webhook = self._api.get(self._path)
        untried = self.replay["pending"] - self.replay["retrying"]
        return self.replay["finished_at"] is None or (untried > 0 and _why_not(self.webhook) is None)


def _see_through(following: Following, *, as_json: bool) -> int:
    """Wait, then tell what became of it; the exit code."""
    from rich.console import Console

    from control_plane.cli.watching import watch

    try:
        watch(Console(stderr=True), following.moments(), None)
    except KeyboardInterrupt:
        print(f"\ncatalyst: {following.goes_on}", file=sys.stderr)
        return 1
    except OperatorError as problem:
        raise OperatorError(*problem.problems, following.goes_on) from problem
    replay, webhook = following.replay, following.webhook
    _print(replay, " ".join(_told(replay, webhook)), as_json=as_json)
    # What waits for somebody to resume the webhook has not failed.
    waits = replay["retrying"] if webhook["status"] == "paused" else replay["pending"]
    return 1 if replay["dead"] or waits or replay["queued"] < replay["total"] else 0


def _told(replay: Replayed, webhook: Webhook) -> Iterator[str]:
    """What became of it, in sentences."""
    if replay["total"] == 0:
        yield "There is nothing to send again."
        return
    yield f"{_standing(replay)}."
    if replay["retrying"]:
        yield f"{replay['retrying']} failed again: they are tried on their schedule."
    if (why := _why_not(webhook)) and (replay["pending"] or replay["queued"] < replay["total"]):
        yield why


def _standing(replay: Replayed) -> str:
    """How it stands, in a line."""
    waiting = f", {replay['pending']} wait" if replay["pending"] else ""
    return f"{replay['queued']} of {replay['total']} queued, {replay['delivered']} delivered, {replay['dead']} dead{waiting}"


def _why_not(webhook: Webhook) -> str | None:
    """Why nothing is sent to a webhook for longer than one waits; None where it is."""
    held, failures = webhook["health"]["held_until"], webhook["health"]["failures"]
    if webhook["status"] == "paused":
        return f"It is paused: `catalyst webhooks update {webhook['id']} --status active` has them sent."
    if webhook["status"] == "disabled":
        return f"It was disabled meanwhile ({webhook['disabled_reason']}): make it active, then replay --undelivered."
    if held is not None and (until := datetime.fromisoformat(held)) > datetime.now(UTC) + _PATIENCE:
        return (
            f"It is left alone until {until.astimezone(UTC):%H:%M:%S} UTC, after {failures} failures in a row; then it goes on."
        )
    return None


def _id_of(api: Any, name: str) -> str:
    """The id that is meant. OperatorError where none begins like this, or several do."""
    with suppress(ValueError):
        return str(UUID(name))
    found = [one["id"] for one in api.pages("/v1/webhooks", limit="200") if one["id"].startswith(name.lower())]
    if len(found) != 1:
        what = "is how several ids begin: write more of it" if found else "is no webhook in reach"
        raise OperatorError(f"{name} {what}; `catalyst webhooks list` shows them")
    return str(found[0])


def _range(since: str, until: str) -> dict[str, str]:
    given = {"since": since, "until": until}
    return {name: moment(f"--{name}", text).isoformat() for name, text in given.items() if text}


def _show(replay: Replayed) -> str:
    return f"catalyst webhooks show-replay {replay['webhook']} {replay['id']}"


def _print(replay: Replayed, sentence: str, *, as_json: bool) -> None:
    print(json.dumps(replay) if as_json else sentence)
