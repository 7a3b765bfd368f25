"""What data can be wrong with."""

from __future__ import annotations

from ..configuration_llink import LlinkError


class DataError(LlinkError, ValueError):
    """Rows, files or vectors that cannot be used: unreadable, incomplete, or not what they are given as."""


class ServerError(LlinkError, RuntimeError):
    """A language model's server that cannot be reached, refuses, or answers with something else than an answer."""
