"""`catalyst webhooks tail`: every attempt at a delivery, as it is made."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from control_plane.cli.moments import moment
from control_plane.errors import OperatorError

if TYPE_CHECKING:
    from rich.text import Text

_ROUND_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 20.0
_PAGE: Final = 200
_SHOWN_ANSWER: Final = 200
_SLOW_MILLISECONDS: Final = 1000
_UNBROKEN: Final = 100_000

Webhook = Mapping[str, Any]
Attempt = Mapping[str, Any]


def tail(
    webhooks: Annotated[
        list[str] | None, typer.Argument(help="Ids, or how they begin. Without: every webhook in reach.", metavar="[WEBHOOK]...")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only attempts that failed.")] = False,
    since: Annotated[
        str, typer.Option("--since", help="From then on: 30s, 15m, 2h, 1d ago, or a time such as 2026-11-01T00:00:00Z.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each attempt.")] = False,
) -> None:
    """Show each attempt at a delivery as it is made, until Ctrl-C. Webhooks that are made meanwhile join.

    CATALYST_URL says where the control plane is, CATALYST_API_KEY who asks; it takes catalyst:webhooks:read.
    """
    from control_plane.cli.api import Api

    begin = moment("--since", since) if since else None
    with Api.from_environ() as api, suppress(KeyboardInterrupt):
        following = Following(api, webhooks or [], failed=failed)
        following.begin(begin)
        try:
            _show(following, as_json=as_json)
        except BrokenPipeError:
            # Whoever read it has gone. What Python would still flush at its end goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Following:
    """Several webhooks, and up to which of its attempts each was seen.

    A webhook's list names its newest attempt: those that have a new one are asked for it, and no others.
    """

    def __init__(self, api: Any, names: Sequence[str], *, failed: bool) -> None:
        self._api, self._names, self._failed = api, names, failed
        self._seen: dict[str, int] = {}
        # What was read and not given yet: a look that fails half way loses nothing.
        self._read_already: list[Attempt] = []
        self.webhooks: dict[str, Webhook] = {}

    def begin(self, since: datetime | None) -> None:
        """Start from now, or from some time ago. OperatorError where a name is that of no webhook, or of several."""
        self._read()
        for name in self._names:
            found = [one for one in self.webhooks if one.startswith(name)]
            if len(found) != 1:
                what = "is how several ids begin: write more of it" if found else "is no webhook in reach"
                raise OperatorError(f"{name} {what}; `catalyst webhooks list` shows them")
        for webhook in self.webhooks.values():
            self._seen[webhook["id"]] = _newest(webhook)
        if since is not None:
            self._read_already = [attempt for one in self.webhooks for attempt in self._back_to(one, since)]

    def look(self) -> tuple[list[Attempt], bool]:
        """What came since the last look, in its order; and whether there is more already."""
        more = False
        self._read()
        for webhook in self.webhooks.values():
            if _newest(webhook) > self._seen.setdefault(webhook["id"], 0):
                page = self._page(webhook)
                self._read_already += page["items"]
                more = more or page["next"] is not None
        came, self._read_already = self._read_already, []
        return sorted(came, key=lambda one: (datetime.fromisoformat(one["at"]), one["id"])), more

    def _read(self) -> None:
        """The webhooks as they are now."""
        every = self._api.pages("/v1/webhooks", limit=str(_PAGE))
        self.webhooks = {one["id"]: one for one in every if not self._names or one["id"].startswith(tuple(self._names))}

    def _page(self, webhook: Webhook) -> dict[str, Any]:
        """A webhook's attempts after those that were seen; none of one that was deleted meanwhile."""
        from control_plane.cli.api import ApiProblem

        asked = {"after_id": str(self._seen[webhook["id"]]), "limit": str(_PAGE), "failed": str(self._failed).lower()}
        try:
            page: dict[str, Any] = self._api.get(f"/v1/webhooks/{webhook['id']}/attempts", **asked)
        except ApiProblem as problem:
            if problem.status != HTTPStatus.NOT_FOUND:
                raise
            return {"items": [], "next": None}
        page["items"] = [{"webhook": webhook["id"], **item} for item in page["items"]]
        # Where there is no more, those that were left out for having succeeded are behind us too.
        last = page["items"][-1]["id"] if page["items"] else 0
        self._seen[webhook["id"]] = last if page["next"] is not None else max(last, _newest(webhook))
        return page

    def _back_to(self, webhook: str, since: datetime) -> Iterator[Attempt]:
        """A webhook's attempts up to where it is followed from, newest first."""
        path = f"/v1/webhooks/{webhook}/attempts"
        for item in self._api.pages(path, limit=str(_PAGE), failed=str(self._failed).lower()):
            if datetime.fromisoformat(item["at"]) < since:
                return
            if item["id"] <= self._seen[webhook]:
                yield {"webhook": webhook, **item}


def _show(following: Following, *, as_json: bool) -> None:
    """Print what comes, for ever. What is said beside it goes to stderr."""
    from rich.console import Console

    _say(f"Following {_counted(len(following.webhooks))}. Ctrl-C ends it.")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_UNBROKEN)
    quiet_since = time.monotonic()
    for came, more in _rounds(following):
        for attempt in came:
            if as_json:
                print(json.dumps(attempt), flush=True)
            else:
                console.print(_line(attempt, following.webhooks.get(attempt["webhook"])), soft_wrap=True)
                sys.stdout.flush()
        if came:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > _QUIET_SECONDS:
            _say(*_why_quiet(following.webhooks.values()))
            quiet_since = time.monotonic()
        if not more:
            time.sleep(_ROUND_SECONDS)


def _rounds(following: Following) -> Iterator[tuple[list[Attempt], bool]]:
    """Look again and again. While the control plane does not answer, that is said once; a refusal ends it."""
    from control_plane.cli.api import ApiProblem

    away = False
    while True:
        try:
            found = following.look()
        except OperatorError as problem:
            if isinstance(problem, ApiProblem) and problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            if not away:
                _say(f"{problem}. Asking again every second.")
            away = True
            yield [], False
            continue
        if away:
            _say("The control plane answers again.")
        away = False
        yield found


def _why_quiet(webhooks: Any) -> Iterator[str]:
    """What is waited for where nothing comes."""
    waiting = [one for one in webhooks if one["health"]["pending"]]
    if not webhooks:
        yield "Nothing came: there is no webhook. `catalyst webhooks create` makes one."
    elif not waiting:
        yield f"Nothing came: {_counted(len(webhooks))}, and nothing waits for any. What comes is shown."
    for webhook in waiting:
        yield f"Nothing came: {_name(webhook)}: {webhook['health']['pending']} wait, {_state(webhook)}."


def _state(webhook: Webhook) -> str:
    """Why deliveries wait."""
    held, retrying = webhook["health"]["held_until"], webhook["health"]["retrying"]
    if webhook["status"] != "active":
        return f"and it is {webhook['status']}"
    if held is not None and datetime.fromisoformat(held) > datetime.now(UTC):
        return f"and it is held until {datetime.fromisoformat(held):%H:%M:%S} UTC"
    if retrying == webhook["health"]["pending"]:
        return "all for their next attempt"
    return "and none is sent: see that `catalyst worker` runs"


def _line(attempt: Attempt, webhook: Webhook | None) -> "Text":
    """One attempt: when, where, what, how it went; how the answer of a failed one begins."""
    from rich.text import Text

    from control_plane.cli.printing import cell

    failed = attempt["error"] is not None
    style, mark = ("red", "✗") if failed else ("green", "✓")
    code = attempt["status_code"]
    said = str(code) if not failed else attempt["error"] if code is None else f"{code} {attempt['error']}"
    at = datetime.fromisoformat(attempt["at"]).astimezone(UTC)
    slow = attempt["milliseconds"] >= _SLOW_MILLISECONDS
    line = Text.assemble(
        (f"{at:%H:%M:%S.%f}"[:-3], "dim"),
        " ",
        (_name(webhook) if webhook else attempt["webhook"][:8], "bold"),
        " ",
        (attempt["type"], "cyan"),
        " ",
        (f"{mark} {said}", style),
        (f" {attempt['milliseconds']:.0f} ms", "yellow" if slow else "dim"),
        f" attempt {attempt['number']} ",
        (attempt["delivery"], "dim"),
    )
    if failed and attempt["answer"]:
        line.append_text(Text("\n    ")).append_text(Text(cell(attempt["answer"][:_SHOWN_ANSWER]).plain, style="dim"))
    return line


def _name(webhook: Webhook) -> str:
    """How an id begins, and the host: the rest of a URL may be what lets a message in."""
    from control_plane.cli.printing import cell

    return f"{webhook['id'][:8]} {cell(urlsplit(webhook['url']).netloc)}"


def _newest(webhook: Webhook) -> int:
    return webhook["health"]["last_attempt"] or 0


def _counted(webhooks: int) -> str:
    return "1 webhook" if webhooks == 1 else f"{webhooks} webhooks"


def _say(*lines: str) -> None:
    for line in lines:
        print(f"catalyst: {line}", file=sys.stderr, flush=True)
