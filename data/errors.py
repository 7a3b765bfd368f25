"""What data can be wrong with."""

from __future__ import annotations

from ..errors_llink import LlinkError


class DataError(LlinkError, ValueError):
    """Rows, files or vectors that cannot be used: unreadable, incomplete, or not what they are given as."""


class ServerError(LlinkError, RuntimeError):
    """A language model's server that cannot be reached, refuses, or answers with something else than an answer.

    Attributes:
        about_message: Whether it refused this one message, and may take another; never of what passes with time.
    """

    def __init__(self, text: str, about_message: bool = False) -> None:
        super().__init__(text)
        self.about_message = about_message
