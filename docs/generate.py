"""Writes docs/reference/ from the code: `python docs/generate.py`. With `--check`, says which pages are out of date and exits 1.

So is control_plane/cli/operations.json, from which the command line makes the commands of the API's resources. Nothing here knows a name, a default or a code of its own: what the pages say is read from what runs.
"""

import argparse
import base64
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from prometheus_client import generate_latest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import refusals

import control_plane.injector.settings
import control_plane.settings
import sidecar.metrics
import sidecar.settings
from control_plane import events, telemetry
from control_plane.app import create_app
from control_plane.changes import Resource
from control_plane.cli_description import describe
from control_plane.delivery.metrics import DeliveryMetrics
from control_plane.errors import OperatorError
from control_plane.injector.metrics import InjectorMetrics
from control_plane.injector.wishes import ANNOTATIONS, PREFIX
from control_plane.login.catalogue import CATALOGUES
from control_plane.login.reasons import said_for
from control_plane.oidc import Code
from sidecar import contract
from sidecar.dialects.routes import NOWHERE, ROUTES
from sidecar.policy import document, match
from sidecar.policy.patterns import OPENABLE
from sidecar.replica.live import Replica
from sidecar.samples import Samples

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
OPERATIONS = ROOT / "control_plane" / "cli" / "operations.json"
_NO_DATABASE = {
    "CATALYST_DATABASE_URL": "postgresql:///not-connected-to",
    "CATALYST_SECRET_KEY": base64.b64encode(bytes(32)).decode(),
}
NOTE = "<!-- Written by docs/generate.py from the code. Change the code, then run `make docs`. -->\n"


def main() -> int:
    """Write or check every page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page does not say what the code does")
    check = parser.parse_args().check
    REFERENCE.mkdir(exist_ok=True)
    outdated = []
    for path, text in _pages():
        if not path.exists() or path.read_text() != text:
            outdated.append(path.relative_to(ROOT))
            if not check:
                # At once: the page of the command line is made from what stands in the file before it.
                path.write_text(text)
    stray = sorted({path.name for path in REFERENCE.glob("*")} - set(PAGES))
    for page in outdated if check else ():
        print(f"{page} does not say what the code does: run `make docs`", file=sys.stderr)
    for name in stray:
        print(f"docs/reference/{name} is written by nothing: remove it", file=sys.stderr)
    return 1 if (outdated and check) or stray else 0


def _pages() -> Iterator[tuple[Path, str]]:
    yield OPERATIONS, operations()
    for name, page in PAGES.items():
        yield REFERENCE / name, NOTE + page() + "\n"


@cache
def _openapi() -> dict[str, Any]:
    return create_app(control_plane.settings.Settings.from_environ(_NO_DATABASE), None, telemetry.Metrics()).openapi()


def operations() -> str:
    """The commands of the API's resources. Ends where an operation has none."""
    try:
        return json.dumps(describe(_openapi()), indent=1) + "\n"
    except OperatorError as error:
        raise SystemExit(str(error)) from None


def table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(value: object) -> str:
    """A value in code type, or nothing where there is none."""
    return f"`{value}`" if value not in ("", None) else ""


def settings() -> str:
    """Environment variables of every program."""
    side = table(
        ("variable", "default", "meaning"),
        ((code(v.name), code(v.default), v.meaning) for v in sidecar.settings.VARIABLES),
    )
    control, injector = (
        table(
            ("variable", "default", "meaning"),
            ((code(v.name), code(v.default) if v.default is not None else "required", v.meaning) for v in variables),
        )
        for variables in (control_plane.settings.VARIABLES, control_plane.injector.settings.VARIABLES)
    )
    passed_on = ", ".join(code(name) for name in control_plane.injector.settings.PASSED_ON)
    annotations = table(("annotation", "meaning"), ((code(PREFIX + name), a.meaning) for name, a in ANNOTATIONS.items()))
    return (
        "# Settings\n\nRead from the environment at the start. All problems are reported at once, with exit code 2; the\n"
        f"value of a secret is never shown.\n\n## Sidecar\n\n{side}\n\n## Control plane\n\n{control}\n\n## Injector\n\n{injector}\n\n"
        f"Where these settings of sidecars are set for the injector, every sidecar that it injects has them too:\n{passed_on}.\n\n"
        f"### Annotations of pods\n\n{annotations}"
    )


def contract_page() -> str:
    """Routes, headers, reasons and statuses of the check listener."""
    routes = table(
        ("path", "answers 400 as", "redirects browsers"),
        (
            (code(route.name), route.statuses[contract.Reason.MALFORMED_REQUEST], "yes" if route.redirects else "no")
            for route in ROUTES
            if route is not NOWHERE
        ),
    )
    reasons = table(
        ("reason", "status", ""),
        ((code(reason), status, HTTPStatus(status).phrase) for reason, status in contract.STATUS.items()),
    )
    headers = ", ".join(code(name) for name in contract.IDENTITY_HEADERS)
    said = CATALOGUES["en"]
    login_codes = table(("code", "what the page says"), ((code(one), said.text(f"reason.{said_for(one)}.title")) for one in Code))
    return f"""# What the outside sees

## Where to ask

{routes}

## Headers of an allowed request

Each of these is on every allow, empty where there is nothing, so that the proxy replaces whatever the client sent:
{headers}.

A list that would pass {contract.MAX_LIST_HEADER_BYTES:,} bytes is sent empty; for entitlements, `{
        contract.ENTITLEMENTS_OMITTED
    }` then says how many there were.

## Headers of a refused one

`{contract.AUTH_ERROR}` holds the reason, `{contract.REVISION}` the revision it was decided at. `{
        contract.STALE
    }` marks answers of a replica that
is stale and serves nevertheless.

A script's request with an expired session token is answered 401 with `{
        contract.REFRESH
    }`: where it gets a new one and is sent on by 307, unchanged. Where
nobody is logged in, that place answers 401 with `{
        contract.LOGIN
    }`: where a person has to log in, to come back to what was asked for.

## Paths of the login on every application's host

The sidecar answers these, and everything else below `{contract.LOGIN_PATH}` with 404; no application sees a request for one:
{", ".join(code(contract.LOGIN_PATH + action) for action in contract.LOGIN_ACTIONS)}.
Cookies there: `CATALYST_SESSION_COOKIE` and {code(contract.BINDING_COOKIE)} (over https with `{contract.OF_THIS_HOST}`), {
        code(contract.REFRESH_COOKIE)
    } (over https with `{contract.OVER_TLS}`, only for `{contract.LOGIN_PATH}`).

## Reasons

{reasons}

A deny rule may give a reason of its own; its status is {contract.STATUS[contract.Reason.POLICY_DENIED]}.

## Codes of a refused login

In the event `login.refused`, in `refused_logins_total` and in the log, what a provider was not believed for, or could not be asked for, and what
the person is told:

{login_codes}

## Limits

{
        table(
            ("what", "limit"),
            (
                ("head of a request", f"{contract.MAX_HEAD_BYTES:,} bytes"),
                ("headers", contract.MAX_HEADERS),
                ("path and query", f"{contract.MAX_URL_BYTES:,} bytes"),
                (f"`{contract.MIN_REVISION_HEADER}` waits", f"{contract.MIN_REVISION_WAIT_SECONDS * 1000:.0f} ms"),
            ),
        )
    }"""


POLICY_KEYS = {
    "version": "Always `1`.",
    "rules": "The rules, in order. None: everything is denied.",
    "tests": "Run before a publish; one that fails refuses it.",
}
RULE_KEYS = {
    "id": "Required, unique in the document.",
    "effect": "Required: `allow` or `deny`. Deny beats allow.",
    "methods": "`[GET, HEAD]`, in capitals. Absent: any.",
    "hosts": "Hosts of the application; `*.example.com` is one label. Absent: all of them.",
    "paths": "Required. `*` is one segment, `{name}` one that `bind` can look at, `**` the rest and only at the end.",
    "when": "Conditions, all of which must hold. Absent: any valid credential for an allow rule, everybody for a deny rule.",
    "reason": "The reason code. Absent: `policy.rule.<id>.<effect>`.",
    "obligations": "JSON for the application, in `x-policy-obligations`. Allow rules only.",
    "headers": "Headers for the application. Allow rules only.",
    "allow_ambiguous": "Ambiguous sequences that this rule accepts in its paths. Allow rules only.",
}
WHEN_KEYS = {
    "anonymous": "`true`: no credential needed (a valid one matches too).",
    "entitlements": "`{all: [...], any: [...]}`: every one of `all`, and one of `any`.",
    "roles": "The same, of roles.",
    "groups": "The same, of groups, those above the own ones included.",
    "scopes": "The same, of the API key's scopes.",
    "labels": "`{require: {plan: pro}, forbid: {frozen: true}}`, of the profile.",
    "bind": "`{org: org.slug}`: the path's `{org}` equals that attribute of the principal, and it is not empty.",
    "mfa": "`true`: the login used a second factor.",
    "acr": "A list: the login reached one of these classes.",
    "max_auth_age": "`15m`, `1h`, `2d` or seconds: the login is no older.",
    "source": "A list of CIDRs: the client's address is in one.",
    "time": "`{after, before, tz, days}`: the clock of that time zone is in the window.",
}


def policy() -> str:
    """Keys of a policy document. Fails where the engine knows a key that is not explained here, or the other way round."""
    known = ((POLICY_KEYS, POLICY_KEYS), (document._RULE, RULE_KEYS), (document._WHEN, WHEN_KEYS))
    for keys, meanings in known:
        if set(keys) != set(meanings):
            raise SystemExit(f"docs/generate.py explains other keys than the policy engine knows: {set(keys) ^ set(meanings)}")
    top, rule, when = (table(("key", "meaning"), ((code(key), text) for key, text in meanings.items())) for _, meanings in known)
    return f"""# The policy document

What the keys are for is in the [policy guide](../guides/policy.md). An unknown key is a problem, and so is a rule that can never
decide anything.

## Document

{top}

## Rule

{rule}

## `when`

{when}

`bind` can look at: {", ".join(code(name) for name in match.ATTRIBUTES)}.

`mfa` holds where `amr` says `mfa` or names methods of two kinds (RFC 8176):
{", or ".join(" ".join(code(name) for name in sorted(kind)) for kind in match.FACTORS)}.

`allow_ambiguous` can open: {", ".join(code(name) for name in OPENABLE)}. Nothing else can be opened."""


def metrics() -> str:
    """Every metric of each program."""
    side = _families(sidecar.metrics.Metrics(Replica(), samples=Samples(0)).text().decode())
    control = _families(generate_latest(telemetry.Metrics().registry).decode())
    injector = _families(generate_latest(InjectorMetrics().registry).decode())
    worker = _families(generate_latest(DeliveryMetrics().registry).decode())
    return (
        "# Metrics\n\nPrometheus' text format, at `/metrics` of each program's operations listener. No label holds a user,\n"
        "an org, a path or a host. With several workers every metric of the sidecar has a label `worker`.\n\n"
        f"## Sidecar\n\n{side}\n\n## Control plane\n\n{control}\n\n## Worker\n\n"
        "Counters are each worker's own: add them up. What waits is the same at every worker: take `max()`, never `sum()`.\n\n"
        f"{worker}\n\n## Injector\n\n{injector}"
    )


def _families(text: str) -> str:
    """The metrics that a text in Prometheus' format describes."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    meanings = re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE)
    rows = ((code(name), kinds[name], meaning) for name, meaning in meanings if not name.endswith("_created"))
    return table(("metric", "type", "meaning"), rows)


def command_line() -> str:
    """The help of every command."""
    from control_plane import cli  # noqa: PLC0415  (it reads operations.json, which is written before)

    group = typer.main.get_command(cli.app)
    return "# Command line\n\nWritten by `--help` of each command.\n\n" + "\n\n".join(_help(group, "catalyst"))


def _help(command: Any, name: str) -> Iterator[str]:
    context = command.context_class(command, info_name=name, terminal_width=100, max_content_width=100)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"## {name}\n\n```text\n{text}\n```"
    for child in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from _help(command.get_command(context, child), f"{name} {child}")


def api() -> str:
    """Every call of the control plane, from its OpenAPI description."""
    calls: dict[str, list[tuple[object, ...]]] = {}
    for path, operations in _openapi()["paths"].items():
        for method, operation in operations.items():
            call = (
                code(f"{method.upper()} {path}"),
                " ".join(operation["description"].split()),
                code(operation.get("x-permission")),
            )
            calls.setdefault(operation["tags"][0], []).append(call)
    sections = (f"## {tag}\n\n{table(('call', '', 'needs'), rows)}" for tag, rows in calls.items())
    return (
        "# The control plane's API\n\nThe whole description, with every body, is at `/openapi.json` of a running control plane.\n"
        "Callers send `Authorization: Bearer <session token>` or `X-Api-Key`. Refusals are `application/problem+json`\n"
        "(RFC 9457) with a [`code`](problems.md); changes answer `X-Catalyst-Revision`. An entitlement held in the system org reaches\n"
        "every org, held in another only that one.\n\n"
        "Every change takes an `Idempotency-Key`: a text of your own, new for each change. The same request with the same key changes\n"
        "nothing for 24 hours and is answered the same, with `Idempotent-Replayed: true`; after a lost answer, send it again.\n"
        "What shows one thing carries its `ETag`. PATCH, PUT, DELETE and verbs take it as `If-Match`: 412 where somebody was faster.\n"
        "A GET with `If-None-Match` is answered 304 where nothing changed. Unknown fields and parameters are refused.\n\n"
        + "\n\n".join(sections)
    )


def problems_page() -> str:
    """Every code of a refusal, found in the source."""
    rows = ((code(one.code), one.status, one.detail) for one in refusals.refusals())
    fields = ((code(name), message) for name, message in refusals.field_codes())
    return (
        "# Refusals of the control plane\n\nA refusal is `application/problem+json` (RFC 9457). Its `code` is stable; `detail` and messages are for\n"
        "people. `errors` names each field at fault: a JSON pointer into the body, or a parameter's name. With 503 and 429 comes\n"
        "`Retry-After`; the same request, with the same `Idempotency-Key`, may be sent again.\n\n"
        f"{table(('code', 'status', 'what it says'), rows)}\n\n## Codes of fields\n\nBeside these, the error types of pydantic.\n\n"
        f"{table(('code', 'what it says'), fields)}"
    )


def events_page() -> str:
    """Every event, what it tells, who hears of it."""
    resources = [value for module in _modules() for value in vars(module).values() if isinstance(value, Resource)]
    rows = []
    for kind, verbs in events.EVENTS.items():
        told = dict.fromkeys(name for one in resources if one.kind == kind for name in one.recorded)
        withheld = dict.fromkeys(name.removesuffix("_wrapped") for one in resources if one.kind == kind for name in one.withheld)
        heard = "the platform" if kind in events.OF_THE_PLATFORM else "the platform, the org"
        heard += "s it is a member of" if kind == "profile" else ""
        rows.append((code(kind), *(", ".join(map(code, names)) for names in (verbs, told, withheld)), heard))
    return (
        "# Events\n\nWhat [webhooks](../guides/webhooks.md) are told of and the audit log holds: `<thing>.<what happened>`, such as `grant.created`. An endpoint\n"
        "subscribes to `*`, to `grant.*` or to one of them. `data` holds `id` and `org`, and, in full payloads, `before` and `after`: all facts\n"
        "of what was created or deleted, of what was updated those that differ. What is withheld is never told: `withheld` names what of it\n"
        "there is, or changed. Whoever may know it asks the API. Some events tell something else, such as how many sessions they ended.\n\n"
        + table(("thing", "what happens to it", "facts", "withheld", "heard by endpoints of"), rows)
    )


def _modules() -> list[ModuleType]:
    """The control plane's, all that say what is recorded of something."""
    named = [path for path in (ROOT / "control_plane").rglob("*.py") if "Resource(" in path.read_text()]
    return [import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in named]


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "contract.md": contract_page,
    "policy.md": policy,
    "metrics.md": metrics,
    "cli.md": command_line,
    "api.md": api,
    "problems.md": problems_page,
    "events.md": events_page,
}


if __name__ == "__main__":
    sys.exit(main())
