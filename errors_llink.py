"""The root of llink's errors and the one about settings, where a command can name them without importing torch."""

from __future__ import annotations


class LlinkError(Exception):
    """The root of every error that llink raises itself: its message names the value, the valid set and the remedy."""


class LlinkConfigError(LlinkError, ValueError):
    """A setting that cannot work: of a model, a trainer, a study or a command."""
