"""Examples for the API's description: one for each body and answer, made from its schema.

A schema's own example comes first, then what stands here for a field of that name, then what its type allows. Ids and slugs are
the same everywhere, so that the examples of several calls fit together.
"""

from collections.abc import Mapping
from typing import Any, Final

_BY_FIELD: Final[Mapping[str, Any]] = {
    "slug": "acme",
    "name": "Acme",
    "org": "acme",
    "email": "ann@example.com",
    "display_name": "Ann",
    "issuer": "https://idp.example.com",
    "subject": "248289761001",
    "entitlement": "orders:read",
    "entitlements": ["orders:read"],
    "entitlement_prefixes": ["orders:"],
    "permissions": ["catalyst:orgs:read"],
    "scopes": ["orders"],
    "roles": ["buyer"],
    "groups": ["eu-team"],
    "parent": "eu-team",
    "reason": "Covers for Bob until he is back.",
    "note": "Orders may be read.",
    "labels": {"plan": "pro"},
    "amr": ["pwd", "otp"],
    "acr": "urn:example:gold",
    "acr_values": ["urn:example:gold"],
    "auth_time": "2025-01-15T08:00:00Z",
    "expires_at": "2035-01-31T00:00:00Z",
    "hosts": ["orders.example.com"],
    "secret": "cak_9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d_" + "0" * 64,
    "token": "eyJhbGciOiJFZERTQSIsInR5cCI6InNlc3Npb24rand0In0.e30.c2lnbmF0dXJl",
    "etag": "5f0c1d7e9a3b4c2d8e6f7a0b1c2d3e4f",
    "media_type": "application/yaml",
    "url": "https://orders.example.com/api/v1/orders/1",
    "method": "GET",
    "path": "/api/v1/orders/**",
    "host": "orders.example.com",
    "kid": "k3y0f0a1b2c3d4e5",
    "keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "k3y0f0a1b2c3d4e5"}],
    "next": None,
    "version": 1,
    "policy_version": 1,
    "revision": 42,
    "type": "org.created",
    "status": "active",
    "code": "unknown_key",
    "message": "There is no key `effct` here.",
    "field": "/rules/0/effct",
    "line": 3,
    "column": 7,
    "address": "192.0.2.1",
    "client": "192.0.2.1",
    "request_id": "0123456789abcdef0123456789abcdef",
}
_BY_FORMAT: Final[Mapping[str, str]] = {
    "uuid": "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
    "date-time": "2025-01-15T09:30:00Z",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_DOCUMENT: Final = 'version: 1\nrules:\n  - id: read-orders\n    effect: allow\n    paths: ["/api/v1/orders/**"]\n'
_RULE: Final = {"id": "read-orders", "effect": "allow", "paths": ["/api/v1/orders/**"]}
_DOCUMENTS: Final[Mapping[str, Any]] = {"application/yaml": _DOCUMENT, "application/json": {"version": 1, "rules": [_RULE]}}


class Examples:
    """Makes examples for one description."""

    def __init__(self, openapi: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Any] = openapi["components"]["schemas"]

    def add(self, operation: dict[str, Any]) -> None:
        """Put one beside each body and answer that has none."""
        for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
            for media_type, content in holder.get("content", {}).items():
                document = _DOCUMENTS.get(media_type) if content["schema"].get("title") == "PolicyDocument" else None
                content.setdefault("example", document or self.of(content["schema"]))

    def of(self, schema: Mapping[str, Any], field: str = "") -> Any:
        """An example of a schema. `field`: the name that it goes by."""
        whole = self._whole(schema)
        if "examples" in whole:
            return whole["examples"][0]
        if (known := _BY_FIELD.get(field, whole)) is not whole and _fits(known, whole):
            return known
        if "properties" in whole:
            return {name: self.of(one, name) for name, one in whole["properties"].items()}
        if whole.get("type") == "array":
            return [self.of(whole["items"], field.removesuffix("s"))]
        return _plain(whole)

    def _whole(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """A schema with its reference resolved and its first alternative taken."""
        own = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
        if "$ref" in schema:
            return {**self._whole(self._schemas[schema["$ref"].rpartition("/")[2]]), **own}
        if "anyOf" in schema:
            return {**self._whole(schema["anyOf"][0]), **own}
        return own


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether what stands for a name is of the kind that the schema asks for."""
    kinds = {"string": str, "array": list, "object": dict, "integer": int, "boolean": bool, "number": int}
    if "enum" in schema:
        return value in schema["enum"]
    if value is None or ("format" in schema and schema["format"] != "date-time" and schema["format"] not in ("ipv4", "ipv6")):
        return value is None
    plain = "properties" not in schema and "$ref" not in schema.get("items", {})
    return plain and isinstance(value, kinds.get(schema.get("type", ""), object))


def _plain(schema: Mapping[str, Any]) -> Any:
    """The least that a schema without fields allows."""
    kind = schema.get("type")
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "string":
        return _BY_FORMAT.get(schema.get("format", ""), schema.get("default") or "text")
    least: Mapping[Any, Any] = {"integer": schema.get("default", schema.get("minimum", 0)), "number": 0.0, "boolean": False}
    return least.get(kind, {})
