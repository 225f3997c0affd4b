"""Requests made from the API's own description in which every text is a canary: a word that is found again wherever it comes out."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

CANARY = re.compile(r"zqx(\d{5})zqx", re.IGNORECASE)
CREDENTIALS = (("authorization", "Bearer {}"), ("authorization", "{}"), ("x-api-key", "cak_{}"), ("cookie", "session={}"))


@dataclass(frozen=True)
class Place:
    """Where a canary was put in: `create_org` `body/slug`."""

    operation: str
    where: str


@dataclass
class Cage:
    """All canaries and where each was put."""

    places: list[Place] = field(default_factory=list)

    def new(self, operation: str, where: str) -> str:
        self.places.append(Place(operation, where))
        return f"zqx{len(self.places) - 1:05d}zqx"

    def seen(self, text: str) -> set[Place]:
        """The places whose canaries are in a text."""
        return {self.places[int(number)] for number in CANARY.findall(text)}


@dataclass(frozen=True)
class Ask:
    """One request."""

    method: str
    path: str
    more: dict[str, Any]


@dataclass
class Planter:
    """Makes the requests for one operation. `known`: what a reference of that name may hold, so that something is found."""

    openapi: Mapping[str, Any]
    known: Mapping[str, Any]
    cage: Cage

    def operations(self, last: list[str]) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Path, method and operation: what takes something away after what needs it, and `last` those, in that order."""
        every = [(path, method, one) for path, methods in self.openapi["paths"].items() for method, one in methods.items()]
        order = {name: number for number, name in enumerate(last, 1)}
        return sorted(every, key=lambda one: (order.get(one[2]["operationId"], 0), one[1] == "delete"))

    def asks(self, path: str, method: str, operation: Mapping[str, Any]) -> Iterator[Ask]:
        """As the description says; with texts where none fits; with what is no JSON; with names that nobody knows."""
        name = operation["operationId"]
        yield self._ask(path, method, operation, wild=False)
        yield self._ask(path, method, operation, wild=True)
        if "requestBody" in operation:
            url = self._path(path, name, wild=False)
            json = {"content-type": "application/json"}
            broken, key = self.cage.new(name, "body"), self.cage.new(name, "key")
            yield Ask(method, url, {"content": f'{{"{broken}": "{broken}', "headers": json})
            yield Ask(method, url, {"json": broken})
            yield Ask(method, url, {"json": {key: broken}})
            yield Ask(method, url, {"content": broken, "headers": {"content-type": f"text/{broken}"}})

    def stranger(self, path: str, method: str, operation: Mapping[str, Any]) -> Ask:
        """With a canary for a credential: each operation in another of the places where one could stand."""
        name = operation["operationId"]
        header, value = CREDENTIALS[len(self.cage.places) % len(CREDENTIALS)]
        return Ask(method, self._path(path, name, wild=True), {"headers": {header: value.format(self.cage.new(name, header))}})

    def _ask(self, path: str, method: str, operation: Mapping[str, Any], *, wild: bool) -> Ask:
        name = operation["operationId"]
        asked = {
            p["name"]: self._value(name, f"query/{p['name']}", p["schema"], p["name"], wild=wild)
            for p in operation.get("parameters", ())
            if p["in"] == "query" and (wild or p["name"] != "after")
        }
        headers = {
            header: self.cage.new(name, f"header/{header}") for header in ("user-agent", "referer", "x-unknown", "traceparent")
        }
        own = ("x-request-id", "idempotency-key", *(("if-match",) if wild else ()))
        headers |= {header: self.cage.new(name, f"header/{header}") + ("\t!" if wild else "") for header in own}
        content = operation.get("requestBody", {}).get("content", {})
        query = {key: value for key, value in asked.items() if value is not None}
        more: dict[str, Any] = {"params": query, "headers": headers}
        if "application/yaml" in content:
            more["content"] = self._document(name, wild=wild)
            headers["content-type"] = "application/yaml"
        elif content:
            more["json"] = self._value(name, "body", content["application/json"]["schema"], "", wild=wild)
        return Ask(method, self._path(path, name, wild=wild), more)

    def _path(self, path: str, name: str, *, wild: bool) -> str:
        def fill(part: re.Match[str]) -> str:
            if wild:
                return self.cage.new(name, f"path/{part[1]}")
            return str(self.known["another profile" if name == "delete_profile" else part[1]])

        return re.sub(r"\{(\w+)\}", fill, path)

    def _document(self, name: str, *, wild: bool) -> str:
        word = self.cage.new(name, "document")
        rule = f"{{id: a, effect: allow, paths: ['/{word}/**'], headers: {{x-tier: {word}}}, obligations: {{mask: {word}}}}}"
        return f"version: 1  # {word}\nrules:\n  - {rule}\n" + (f"{word}: [{word}]\n" if wild else "")

    def _value(self, name: str, where: str, schema: Mapping[str, Any], key: str, *, wild: bool) -> Any:
        schema = self._plain(schema)
        kind = schema.get("type")
        if kind == "object":
            return self._object(name, where, schema, wild=wild)
        if kind == "array":
            if not wild and where == "body/scopes" and "identity_provider" in name:
                return ["openid", self.cage.new(name, where)]
            if not wild and key in self.known:
                return self.known[key]
            return [self._value(name, where, schema["items"], key, wild=wild)]
        if wild or (kind == "string" and "enum" not in schema and key not in self.known):
            return self._text(name, where, schema, wild=wild)
        if name == "create_membership" and key == "profile":
            return self.known["another profile"]
        if key in self.known:
            return self.known[f"{key} id" if f"{key} id" in self.known and schema.get("format") == "uuid" else key]
        return schema["enum"][0] if "enum" in schema else {"integer": schema.get("minimum", 1), "boolean": True}.get(kind)

    def _object(self, name: str, where: str, schema: Mapping[str, Any], *, wild: bool) -> Any:
        if not wild and where.endswith("/subject"):
            return self.known["grant subject"]
        if "properties" in schema:
            return {
                key: self._value(name, f"{where}/{key}", value, key, wild=wild) for key, value in schema["properties"].items()
            }
        key = self.cage.new(name, f"{where}/key")
        if not wild and where.endswith("/group_mappings"):
            return {key: self.known["group"]}
        return {key: self.cage.new(name, f"{where}/value") + ("\n" if wild else "")}

    def _text(self, name: str, where: str, schema: Mapping[str, Any], *, wild: bool) -> Any:
        """A canary in a form that the description lets through; wild, one that nothing lets through."""
        word = self.cage.new(name, where)
        if wild:
            return f"{word} <&\t{word}"
        if schema.get("format") == "date-time":
            return "2099-01-01T00:00:00Z"
        forms = (word, f"{word}@private.example", f"{word}.example.com", f"https://{word}.example.com")
        return next((form for form in forms if re.search(schema.get("pattern", ""), form)), word)

    def _plain(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """A schema with its reference resolved and without null as an alternative."""
        for one in schema.get("anyOf", ()):
            if one != {"type": "null"}:
                return self._plain(one)
        if "$ref" in schema:
            return self._plain(self.openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        return schema
