"""Named queries out of .sql files: each follows a line `-- name: <name>` and is reached as an attribute."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class Queries:
    """The queries of one file. A name that is not there raises AttributeError."""

    def __init__(self, queries: Mapping[str, str]) -> None:
        self._queries = dict(queries)

    def __getattr__(self, name: str) -> str:
        try:
            return self._queries[name]
        except KeyError:
            raise AttributeError(f"there is no query named {name}") from None


def load(path: Path) -> Queries:
    """Read a file of named queries. ValueError where a name stands twice or SQL stands before the first name."""
    before, *parts = _NAME.split(path.read_text())
    names = parts[::2]
    if len(set(names)) != len(names) or any(line.strip() and not line.startswith("--") for line in before.splitlines()):
        raise ValueError(f"{path.name}: a query's name stands twice, or SQL stands before the first name")
    return Queries({name: text.strip() for name, text in zip(names, parts[1::2], strict=True)})
