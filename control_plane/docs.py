"""/docs: the operations of the API on one page, made from its OpenAPI description. It loads nothing from anywhere."""

import base64
import hashlib
from html import escape
from typing import Any, Final

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h2{margin-top:2rem}code{font-size:.95em}dt{margin-top:.7rem}dd{margin:0 0 0 1.5rem;color:#555}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(openapi: dict[str, Any]) -> str:
    """HTML with every operation, by tag."""
    sections: dict[str, list[str]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            sections.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    body = "".join(f"<h2>{escape(tag)}</h2><dl>{''.join(entries)}</dl>" for tag, entries in sections.items())
    title = escape(openapi["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'<h1>{title}</h1><p>{escape(openapi["info"]["description"])} The whole description: <a href="/openapi.json">'
        f"openapi.json</a>.</p>{body}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    needs = operation.get("x-permission")
    needed = f" Needs <code>{escape(needs)}</code>." if needs else ""
    return f"<dt><code>{method.upper()} {escape(path)}</code></dt><dd>{escape(operation['description'])}{needed}</dd>"
