"""What training can fail with."""

from __future__ import annotations

from collections.abc import Sequence

from ..configuration_llink import LlinkError

_SHOWN_IDS = 10


class TrainingError(LlinkError, RuntimeError):
    """Training cannot go on, or not from where it is told to: a loss that is not finite, a checkpoint of another run.

    Attributes:
        step: Of a loss that is not finite: the global step (optimiser steps done before this batch).
        example_ids: Of the same, the `id`s of the examples that caused it, or of the whole batch if no single row did.
    """

    step: int | None = None
    example_ids: Sequence[str] = ()

    @classmethod
    def of_loss(cls, value: float, step: int, example_ids: Sequence[str]) -> TrainingError:
        """The error of a loss that is NaN or infinite."""
        more = f" and {len(example_ids) - _SHOWN_IDS} more" if len(example_ids) > _SHOWN_IDS else ""
        error = cls(
            f"The loss is {value} at global step {step}, on the examples {list(example_ids[:_SHOWN_IDS])}{more}. "
            "Look at these examples; if they are sound, lower the learning rate or train in float32. "
            "The last checkpoint is unharmed: go on from it with resume_from_checkpoint."
        )
        error.step, error.example_ids = step, list(example_ids)
        return error
