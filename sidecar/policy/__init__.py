"""The policy engine: documents read, compiled, decided, explained. Pure: no input or output, no clock, no logging, no globals."""

from sidecar.policy.compile import CompiledPolicy, compile
from sidecar.policy.decide import decide
from sidecar.policy.document import PolicyInvalid, parse
from sidecar.policy.places import Problem

__all__ = ["CompiledPolicy", "PolicyInvalid", "Problem", "compile", "decide", "parse"]
