"""What a model, its checkpoint or its input can be wrong with."""

from __future__ import annotations

from ..configuration_llink import LlinkError


class LlinkCheckpointError(LlinkError, OSError):
    """A checkpoint is missing, incomplete, damaged, or does not fit its bases."""


class BaseModelError(LlinkError, ValueError):
    """A base cannot serve: it is missing, cannot be read, or is not of the asked kind."""


class ForeignTextError(LlinkError, ValueError):
    """Foreign text that cannot be encoded: empty, not a string, or holding NUL."""


class PromptError(LlinkError, ValueError):
    """A prompt, chat message or instruction template that cannot be rendered."""


class SlotMismatchError(LlinkError, ValueError):
    """The slot tokens of a prompt and the passages given for them do not fit."""


class NotFittedError(LlinkError, RuntimeError):
    """Something that training must have fitted is used before: the teacher's space, or a lexicon's words."""
