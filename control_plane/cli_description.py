"""What the command line needs to know of the API, made from its OpenAPI description.

docs/generate.py writes the result into operations.json beside this file: a command that starts must not load the web framework to
learn its own name. A route that cannot become a command, or for which no command was written, is an error there.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from control_plane.errors import OperatorError

BY_HAND: Final = {
    "read_draft": "policy draft get",
    "put_draft": "policy draft put",
    "validate_policy": "policy validate",
    "explain_policy": "policy explain",
    "publish_policy": "policy publish",
    "rollback_policy": "policy rollback",
    "delete_draft": "policy draft delete",
    "diff_policies": "policy diff",
    "replay_decisions": "policy replay",
    "approve_policy": "policy approve",
    "start_shadow": "policy shadow start",
    "read_shadow": "policy shadow show",
    "list_shadow_differences": "policy shadow show",
    "stop_shadow": "policy shadow stop",
    "list_policy_versions": "policy versions",
    "read_policy_version": "policy versions",
    "list_audit_events": "audit list",
    "export_audit_events": "audit export",
    "verify_audit_events": "audit verify",
    "list_audit_checkpoints": "audit checkpoint",
    "make_audit_checkpoints": "audit checkpoint",
    "read_audit_jwks": "audit verify",
    "read_revision": "",
    "list_sidecars": "fleet",
    "list_workers": "fleet",
    "import_profiles": "import profiles",
    "import_memberships": "import memberships",
    "import_grants": "import grants",
    "replay_webhook_deliveries": "webhooks replay",
    "replay_webhook_delivery": "webhooks replay",
}
"""The command that somebody wrote for an operation, for all of the tags below; empty where there is none yet."""

_BY_HAND_TAGS: Final = frozenset({"policies", "audit", "fleet", "imports"})
_GROUPS: Final = {
    "orgs": "Tenants.",
    "profiles": "People and services.",
    "memberships": "Profiles in an org, with their roles and groups.",
    "groups": "Groups of an org's members; they nest.",
    "roles": "Named sets of entitlements of an org.",
    "grants": "Entitlements of an org, role, group, membership or profile.",
    "api-keys": "Long-lived credentials.",
    "sessions": "Logins of profiles.",
    "applications": "What is protected: hosts under one policy.",
    "identity-providers": "What people of an org log in with (OpenID Connect).",
    "signing-keys": "The keys that sign session tokens.",
    "webhooks": "Endpoints that are told of events.",
}
_NAMES: Final = {
    "effective_entitlements": "effective",
    "read_jwks": "jwks",
    "list_webhook_deliveries": "deliveries",
    "read_webhook_delivery": "delivery",
    "list_webhook_attempts": "attempts",
    "list_webhook_replays": "replays",
}
"""Commands whose name the rule below would make worse."""

_VERBS: Final = {"read": "show", "patch": "update"}
_SHOWN_ONCE: Final = ("secret", "token")
_VERDICTS: Final = ("passed", "delivered")
"""What an answer says went well or did not, and so the command's exit code."""

_CONFIRMED: Final = frozenset({"delete_org", "delete_profile", "erase_profile", "delete_application"})
"""What cannot be taken back and takes much with it."""


def describe(openapi: Mapping[str, Any]) -> dict[str, Any]:
    """The commands of each resource. OperatorError with every operation that is neither made here nor written by hand."""
    groups: dict[str, Any] = {}
    problems = []
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            tag, name = operation["tags"][0], operation["operationId"]
            if tag in _BY_HAND_TAGS:
                if name not in BY_HAND:
                    problems.append(f"{name}: write its command, and name it in BY_HAND of control_plane/cli_description.py")
            elif name in BY_HAND:
                continue
            elif tag not in _GROUPS:
                problems.append(f"{name}: say in _GROUPS of control_plane/cli_description.py what {tag!r} are")
            else:
                group = groups.setdefault(tag, {"help": _GROUPS[tag], "commands": {}})
                command = _command(tag, name)
                if command in group["commands"]:
                    problems.append(f"{name}: `catalyst {tag} {command}` is another operation; name it in _NAMES")
                group["commands"][command] = _Operation(openapi, path, method, operation).described()
    if problems:
        raise OperatorError(*problems)
    return groups


def _command(tag: str, operation_id: str) -> str:
    """`create_org` of orgs is `create`, `revoke_sessions_of_profile` of sessions `revoke-of-profile`."""
    if operation_id in _NAMES:
        return _NAMES[operation_id]
    plural = tag.replace("-", "_")
    verb, _, rest = re.sub(rf"_(?:{plural}|{plural.removesuffix('s')})(?=_|$)", "", operation_id, count=1).partition("_")
    return "-".join(filter(None, (_VERBS.get(verb, verb), rest.replace("_", "-"))))


class _Operation:
    """One operation of an OpenAPI description, read with its references resolved."""

    def __init__(self, openapi: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> None:
        self._schemas = openapi["components"]["schemas"]
        self._path, self._method, self._operation = path, method, operation
        self._body = self._content(operation.get("requestBody", {}))
        success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        self._answer = self._content(success)

    def described(self) -> dict[str, Any]:
        """Everything that the command needs."""
        properties = self._answer.get("properties", {})
        is_page = set(properties) == {"items", "next"}
        shown = self._resolved(properties["items"]["items"])["properties"] if is_page else properties
        return {
            "operation": self._operation["operationId"],
            "method": self._method.upper(),
            "path": self._path,
            "help": self._help(),
            "arguments": [_argument(p) for p in self._parameters("path")],
            "options": [*self._body_options(), *self._parameter_options()],
            "unset": self._unset(properties),
            "has_body": bool(self._body),
            "page": is_page,
            "columns": list(shown),
            "shown_once": [name for name in _SHOWN_ONCE if name in shown],
            "verdict": next((name for name in _VERDICTS if properties.get(name, {}).get("type") == "boolean"), False),
            "confirm": self._operation["operationId"] in _CONFIRMED,
        }

    def _help(self) -> str:
        """What it does, what its body is, what it takes to be allowed."""
        parts = [self._operation["description"], self._body.get("description", "")]
        if permission := self._operation.get("x-permission"):
            parts.append(f"Needs {permission}.")
        return "\n\n".join(" ".join(part.replace("`", "").split()) for part in parts if part)

    def _parameters(self, place: str) -> list[Any]:
        return [p for p in self._operation.get("parameters", ()) if p["in"] == place]

    def _body_options(self) -> Iterator[dict[str, Any]]:
        required = self._body.get("required", ())
        for name, schema in self._body.get("properties", {}).items():
            yield {"in": "body", **self._option(name, schema, required=name in required)}
            if "x-null" in schema:
                yield {"in": "body", "name": name, "form": "null", "many": False, "required": False, **schema["x-null"]}

    def _parameter_options(self) -> Iterator[dict[str, Any]]:
        for place in ("query", "header"):
            for p in self._parameters(place):
                schema = {"description": p.get("description", ""), **p["schema"]}
                yield {"in": place, **self._option(p["name"], schema, required=p.get("required", False))}

    def _option(self, name: str, schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
        """One option: what may be written there, and what help says of it."""
        value = self._value(schema)
        many = value.get("type") == "array"
        one = self._value(value["items"]) if many else value
        about: dict[str, Any] = {
            "name": name,
            "form": _form(name, one),
            "many": many or _form(name, one) == "map",
            "required": required,
            "help": schema.get("description") or one.get("description", ""),
        }
        about |= {key: schema[key] for key in ("default",) if schema.get(key) not in (None, "", [], {})}
        about |= {key: one[key] for key in ("enum", "format", "maximum") if key in one}
        written = (schema, one, *one.get("patternProperties", {}).values())
        about |= {"secret": True} if any(each.get("writeOnly") for each in written) else {}
        if about["form"] in {"pair", "object"}:
            about["properties"] = list(one["properties"])
            about["help"] = one.get("description", "")
        return about

    def _unset(self, shown: Mapping[str, Any]) -> dict[str, Any]:
        """What empties a field: [] and {} where it holds several things, null where the resource may be without it."""
        empties: dict[str, Any] = {}
        if self._method != "patch":
            return empties
        for name, schema in self._body.get("properties", {}).items():
            kind = self._value(schema)
            if kind.get("type") == "array" and not kind.get("minItems"):
                empties[name] = []
            elif kind.get("type") == "object":
                empties[name] = {}
            elif {"type": "null"} in shown.get(name, {}).get("anyOf", ()):
                empties[name] = None
        return empties

    def _content(self, holder: Mapping[str, Any]) -> dict[str, Any]:
        """The schema of a JSON body, without null as an alternative; empty where there is none."""
        content = holder.get("content", {})
        return self._value(content["application/json"]["schema"]) if "application/json" in content else {}

    def _value(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """A schema resolved, without the alternative null."""
        alternatives = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
        return self._resolved(alternatives[0] if len(alternatives) == 1 else schema)

    def _resolved(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if "$ref" not in schema:
            return dict(schema)
        return {**self._schemas[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}


def _argument(parameter: Mapping[str, Any]) -> dict[str, Any]:
    what = parameter.get("description") or ("Its id." if parameter["schema"].get("format") == "uuid" else "")
    return {"name": parameter["name"], "help": what}


def _form(name: str, schema: Mapping[str, Any]) -> str:
    """How a value is written: a text, a number, yes or no, key=value, kind:id, or an object's fields."""
    kind = schema.get("type")
    if kind in {"string", "integer", "boolean"}:
        return {"string": "text", "integer": "integer", "boolean": "flag"}[kind]
    if kind == "object" and "properties" not in schema:
        return "map"
    if kind == "object":
        first, *others = schema["properties"].values()
        return "pair" if "enum" in first and len(others) == 1 else "object"
    raise OperatorError(f"{name}: the command line knows no way to write {dict(schema)}; see control_plane/cli_description.py")
