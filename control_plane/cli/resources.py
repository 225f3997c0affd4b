"""The API's resources as commands: `catalyst orgs create`, `catalyst grants list`, and so on for every operation.

They are made at the start from operations.json, which `make docs` writes from the API's own description (description.py).
"""

import getpass
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import quote

import typer
from typer.core import TyperGroup

from control_plane.cli.moments import ago
from control_plane.errors import OperatorError

_REVISION: Final = "x-catalyst-revision"
_WAIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.2
_FORMATS: Final = {
    "date-time": "A time with its offset (RFC 3339).",
    "uuid": "An id.",
}
_FLAGS: Final = frozenset({"flag", "null"})
"""Forms of options that take no value: yes or no, or null in a field."""


Operation = Mapping[str, Any]


@cache
def description() -> dict[str, Any]:
    """What operations.json says: groups, and in them commands."""
    read: dict[str, Any] = json.loads(files("control_plane.cli").joinpath("operations.json").read_text())
    return read


class Resource(TyperGroup):
    """The commands of one resource, made when they are first asked for, beside those that somebody wrote."""

    _made = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return super().list_commands(self._filled(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them, or None."""
        return super().get_command(self._filled(ctx), cmd_name)

    def _filled(self, ctx: Any) -> Any:
        if not self._made:
            name = str(self.name)
            made: Any = typer.main.get_command(_assembled(name, description()[name]["commands"]))
            self.commands = {**made.commands, **self.commands}
            self._made = True
        return ctx


def groups() -> Iterator[typer.Typer]:
    """One group of commands for each resource."""
    for name, group in description().items():
        yield typer.Typer(name=name, cls=Resource, help=group["help"], no_args_is_help=True)


def _assembled(group: str, commands: Mapping[str, Operation]) -> typer.Typer:
    made = typer.Typer(rich_markup_mode=None)
    made.callback()(lambda: None)
    for name, operation in commands.items():
        made.command(name, help=operation["help"])(_function(f"{group} {name}", operation))
    return made


def _function(name: str, operation: Operation) -> Callable[..., None]:
    """What runs an operation, with a signature from which options and arguments are made."""

    def command(**given: Any) -> None:
        _Call(name, operation, given).run()

    command.__signature__ = inspect.Signature(list(_parameters(operation)))  # type: ignore[attr-defined]
    command.__annotations__ = {}
    return command


def _parameters(operation: Operation) -> Iterator[inspect.Parameter]:
    for argument in operation["arguments"]:
        yield _parameter(argument["name"], str, typer.Argument(help=argument["help"] or None), inspect.Parameter.empty)
    for option in sorted(operation["options"], key=lambda option: not option["required"]):
        yield _option(option)
    if operation["unset"]:
        wording = f"Empty a field (repeatable): {', '.join(operation['unset'])}."
        yield _parameter("unset", list[str] | None, typer.Option("--unset", metavar="FIELD", help=wording))
    if operation["page"]:
        yield _parameter("all_", bool, typer.Option("--all", help="Every page, not only the first."), False)
    if operation["confirm"]:
        yield _parameter("yes", bool, typer.Option("--yes", help="Do not ask."), False)
    if operation["method"] != "GET":
        wording = f"Return when every live sidecar has it; exit code 1 after {_WAIT_SECONDS:.0f} s."
        yield _parameter("wait", bool, typer.Option("--wait", help=wording), False)
    yield _parameter("as_json", bool, typer.Option("--json", help="Print JSON, as the API answers it."), False)


def _parameter(name: str, kind: Any, about: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, about])


def _option(option: Mapping[str, Any]) -> inspect.Parameter:
    flag = _flag(option)
    is_flag = option["form"] in _FLAGS
    kind: Any = bool if is_flag else list[str] if option["many"] else str
    spelling = f"{flag}/--no-{flag[2:]}" if option["form"] == "flag" else flag
    about = typer.Option(spelling, metavar=None if is_flag else _metavar(option), help=_option_help(option))
    default = inspect.Parameter.empty if option["required"] else None
    return _parameter(f"{option['in']}_{_identifier(option)}", kind if option["required"] else kind | None, about, default)


def _identifier(option: Mapping[str, Any]) -> str:
    return str(option.get("flag", option["name"])).replace("-", "_").lower()


def _flag(option: Mapping[str, Any]) -> str:
    """The option's name: the field's, or that of saying null in it."""
    return "--" + _identifier(option).replace("_", "-")


def _metavar(option: Mapping[str, Any]) -> str:
    forms = {"map": "KEY=VALUE", "integer": "NUMBER", "text": "TEXT"}
    if option["form"] == "pair":
        return ":".join(option["properties"]).upper()
    if option["form"] == "object":
        return ",".join(f"{name}={name.upper()}" for name in option["properties"])
    if option.get("format") == "pem":
        return "@FILE"
    return "|".join(option["enum"]) if "enum" in option else forms[option["form"]]


def _option_help(option: Mapping[str, Any]) -> str | None:
    parts = [option["help"] or _FORMATS.get(option.get("format", ""), "")]
    if _is_past(option):
        parts.append("15m, 2h, 1d ago, or a time such as 2026-11-01T00:00:00Z.")
    if option.get("format") == "pem":
        parts.append("Write @ and the name of a file.")
    if option["many"]:
        parts.append("Repeatable.")
    if "secret" in option:
        dash = "KEY=-" if option["form"] == "map" else "-"
        parts.append(f"Write {dash} to be asked for it, or to give it on standard input: others see what stands in a command.")
    if "default" in option:
        parts.append(f"Default: {json.dumps(option['default']).strip(chr(34))}.")
    return " ".join(filter(None, parts)).replace("`", "") or None


class _Call:
    """One run of a command."""

    def __init__(self, name: str, operation: Operation, given: Mapping[str, Any]) -> None:
        self._name, self._operation, self._given = name, operation, given

    def run(self) -> None:
        """Ask, call, print. ApiProblem and OperatorError as they come; exit code 1 where what is to be shown does not exist."""
        from control_plane.cli.api import Api, ApiProblem

        request = self._request()
        self._confirm()
        with Api.from_environ() as api:
            try:
                answer = self._pages(api, request) if self._given.get("all_") else api.call(**request)
            except ApiProblem as problem:
                self._refused(problem)
            self._print(answer if isinstance(answer, dict) else answer.json() if answer.content else None)
            if not isinstance(answer, dict):
                self._traces(api, answer.headers)

    def _request(self) -> dict[str, Any]:
        """Method, path, parameters, headers and body. OperatorError with every value that cannot be read."""
        path, problems = self._operation["path"], []
        for argument in self._operation["arguments"]:
            text = self._given[argument["name"]]
            if text in {"", ".", ".."}:
                problems.append(f"{argument['name'].upper()}: {text!r} names nothing")
            path = path.replace("{" + argument["name"] + "}", quote(text, safe=""))
        parts: dict[str, dict[str, Any]] = {"body": {}, "query": {}, "header": {}}
        for option in self._operation["options"]:
            given = self._given[f"{option['in']}_{_identifier(option)}"]
            if given is None or given == []:
                continue
            if "secret" in option:
                given = _asked_for(option, given)
            if option["form"] == "null" and option["name"] in parts["body"]:
                problems.append(f"{_flag(option)} and --{option['name']} stand against each other")
                continue
            try:
                parts[option["in"]][option["name"]] = _value(option, given)
            except ValueError as error:
                problems.append(f"{_flag(option)}: {error}")
        problems += self._empty(parts["body"])
        if problems:
            raise OperatorError(*problems)
        body = {"json": parts["body"]} if self._operation["has_body"] else {}
        return {"method": self._operation["method"], "path": path, "params": parts["query"], "headers": parts["header"], **body}

    def _empty(self, body: dict[str, Any]) -> Iterator[str]:
        """Put what --unset names into the body as nothing; what stands against it."""
        for name in self._given.get("unset") or ():
            field = name.replace("-", "_")
            if field not in self._operation["unset"]:
                yield f"--unset: write one of {', '.join(self._operation['unset'])}"
            elif field in body:
                yield f"--unset {field} and --{field.replace('_', '-')} stand against each other"
            else:
                body[field] = self._operation["unset"][field]

    def _confirm(self) -> None:
        if not self._operation["confirm"] or self._given["yes"]:
            return
        if not sys.stdin.isatty():
            raise OperatorError(f"`catalyst {self._name}` cannot be taken back, and nobody is here to ask: add --yes")
        what = self._operation["help"].partition("\n")[0]
        typer.confirm(f"{what} It cannot be taken back. Go on?", abort=True, err=True)

    def _traces(self, api: Any, headers: Mapping[str, str]) -> None:
        """Say which version was shown, for --if-match, and which revision a change took; wait for it where that was asked."""
        if "etag" in headers:
            print(f"etag {headers['etag'].strip(chr(34))}", file=sys.stderr)
        if self._operation["method"] != "GET" and _REVISION in headers:
            print(f"revision {headers[_REVISION]}", file=sys.stderr)
            if self._given["wait"]:
                _wait(api, int(headers[_REVISION]))

    def _pages(self, api: Any, request: Mapping[str, Any]) -> dict[str, Any]:
        """Every page as one."""
        parameters = dict(request["params"])
        most = next(o["maximum"] for o in self._operation["options"] if o["name"] == "limit")
        parameters.setdefault("limit", most)
        return {"items": list(api.pages(request["path"], **parameters)), "next": None}

    def _print(self, answer: Any) -> None:
        from control_plane.cli.printing import print_items, print_record

        if self._given["as_json"]:
            if answer is not None:
                print(json.dumps(answer))
        elif answer is None:
            print("Done.")
        elif not self._operation["page"]:
            print_record(answer)
        else:
            print_items(self._operation["columns"], answer["items"])
            if answer["next"]:
                print(f"There are more: --all lists all, --after {answer['next']} the next ones.", file=sys.stderr)
        if self._operation["verdict"] and not answer[self._operation["verdict"]]:
            raise typer.Exit(1)
        for name in self._operation["shown_once"] if answer else ():
            print(f"The {name} is shown this once: keep it where secrets are kept.", file=sys.stderr)

    def _refused(self, problem: Any) -> NoReturn:
        """The refusal with this command's words for the fields. Exit code 1 where what was to be shown does not exist."""
        names = {argument["name"]: argument["name"].upper() for argument in self._operation["arguments"]}
        names |= {option["name"]: _flag(option) for option in self._operation["options"] if option["in"] != "body"}
        body = [option for option in self._operation["options"] if option["in"] == "body" and option["form"] != "null"]
        names |= {"/" + option["name"]: _flag(option) for option in body}
        said = problem.worded(lambda field: names.get("/".join(field.split("/")[:2]), field))
        if self._operation["operation"].startswith("read_") and problem.status == HTTPStatus.NOT_FOUND:
            print("\n".join(f"catalyst: {line}" for line in said.problems), file=sys.stderr)
            raise typer.Exit(1)
        raise said


def _asked_for(option: Mapping[str, Any], given: Any) -> Any:
    """What was given, with the secrets in the place of each -."""
    flag, whole = _flag(option), option.get("format") == "pem"
    if option["form"] != "map":
        return _secret(flag, whole=whole) if given == "-" else given
    return [f"{text[:-1]}{_secret(f'{flag} {text[:-2]}', whole=whole)}" if text.endswith("=-") else text for text in given]


def _secret(flag: str, *, whole: bool) -> str:
    """A secret that does not stand in the command: typed without being shown, or a line (all, if `whole`) of standard input."""
    if whole:
        return sys.stdin.read()
    said = getpass.getpass(f"{flag}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not said:
        raise OperatorError(f"{flag} is - and nothing was given on standard input: write it there, on one line")
    return said


def _value(option: Mapping[str, Any], given: Any) -> Any:
    """What was written as the API takes it. ValueError says what to write instead, never what was written."""
    if option["form"] == "map":
        return dict(_split(text, "=", "write key=value") for text in given)
    return [_one(option, text) for text in given] if option["many"] else _one(option, given)


def _one(option: Mapping[str, Any], text: Any) -> Any:
    if option["form"] == "null":
        return None
    if option.get("format") == "pem" and text.startswith("@"):
        return _file(text[1:])
    if option["form"] == "integer":
        if not text.lstrip("-").isdecimal():
            raise ValueError("write a whole number")
        return int(text)
    if _is_past(option) and (before := ago(text)) is not None:
        return before.isoformat()
    if option["in"] == "header" and not (text.isascii() and text.isprintable() and text == text.strip()):
        raise ValueError("write printable ASCII, without spaces around it")
    if option["form"] not in {"pair", "object"}:
        # What is printed as `etag` stands in quotes in the header (RFC 9110 section 8.8.3).
        return f'"{text}"' if option["name"] == "If-Match" and text.isalnum() else text
    return _object(option, text)


def _object(option: Mapping[str, Any], text: str) -> Any:
    how = f"write {_metavar(option)}, or the object as JSON"
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError(how) from None
    if option["form"] == "pair":
        return dict(zip(option["properties"], _split(text, ":", how), strict=True))
    return dict(_split(part, "=", how) for part in text.split(","))


def _is_past(option: Mapping[str, Any]) -> bool:
    """Whether an option is a time after or before which something happened."""
    return option.get("format") == "date-time" and option["name"].endswith(("since", "until"))


def _file(name: str) -> str:
    try:
        return Path(name).read_text()
    except (OSError, ValueError):
        raise ValueError("there is no such file of text, or you may not read it") from None


def _split(text: str, mark: str, how: str) -> tuple[str, str]:
    first, found, second = text.partition(mark)
    if not found or not first:
        raise ValueError(how)
    return first, second


def _wait(api: Any, revision: int) -> None:
    """Until every live sidecar has a revision. Exit code 1 where one has not within the time."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while behind := [one["id"] for one in api.pages("/v1/sidecars") if one["live"] and one["revision"] < revision]:
        if time.monotonic() > deadline:
            print(f"catalyst: after {_WAIT_SECONDS:.0f} s not at revision {revision}: {', '.join(behind)}", file=sys.stderr)
            raise typer.Exit(1)
        time.sleep(_POLL_SECONDS)
