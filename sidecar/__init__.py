"""The sidecar: answers from memory whether a request may pass."""

__version__ = "0.1.0"
