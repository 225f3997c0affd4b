"""The same running system and the same real proxies as in tests/proxies."""

from tests.proxies.conftest import door, realm, start_proxy

__all__ = ["door", "realm", "start_proxy"]
