"""The entity tag of a draft: the same text has the same, wherever it is worked out."""

import hashlib


def etag_of(source: str, media_type: str) -> str:
    """The tag of a document that is written like this, without quotes."""
    return hashlib.sha256(f"{media_type}\n{source}".encode()).hexdigest()[:32]
