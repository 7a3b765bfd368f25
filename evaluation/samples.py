"""Answers of several systems to the same rows, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.target import ENGLISH
from .outputs import output_rows, output_samples
from .systems import System
from .translation import translation_metrics


def side_by_side(
    systems: Mapping[str, System],
    rows: Sequence[Mapping[str, Any]],
    batch_size: int = 32,
    max_new_tokens: int = 64,
    show_progress: bool = False,
) -> list[dict[str, str]]:
    """Lets each system answer the same instruction rows greedily.

    Args:
        systems: By name.
        rows: N instruction rows.
        batch_size: Rows in one generation.
        max_new_tokens: Length of an answer at most.
        show_progress: Whether to show a bar a system.

    Returns:
        N rows of `foreign`, `reference`, and each system's answer under its name.
    """
    rows = list(rows)
    answers = {name: system.answer(rows, batch_size, max_new_tokens, show_progress) for name, system in systems.items()}
    return output_samples({name: output_rows(rows, texts) for name, texts in answers.items()})


def translation_scores(samples: Sequence[Mapping[str, str]], language: str = ENGLISH) -> dict[str, dict[str, Any]]:
    """chrF++ and BLEU, with intervals, of each system over [`side_by_side`] rows of translations into a language."""
    names = [name for name in samples[0] if name not in ("foreign", "reference")] if samples else []
    references = [row["reference"] for row in samples]
    return {name: translation_metrics([row[name] for row in samples], references, language=language) for name in names}
