"""What a prompt costs the decoder: raw foreign text against slots (paper figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..modeling_llink.processing_llink import DEFAULT_PROMPT, LlinkProcessor


def prompt_tokens(
    processor: LlinkProcessor, foreign: Sequence[str], prompt: str = DEFAULT_PROMPT
) -> dict[str, float | int]:
    """Mean prompt tokens with the foreign text written out, and with slots in its place, chat template included.

    Args:
        processor: The model's processor.
        foreign: N passages.
        prompt: The instruction.

    Returns:
        `raw`, `slotted` (tokens a prompt, means over the passages), `ratio` (raw / slotted), `n`.
    """
    raw = [len(processor.render([raw_message(prompt, text)])[0]) for text in foreign]
    slotted = [len(processor.render([processor.user_message(prompt, [text])])[0]) for text in foreign]
    means = sum(raw) / len(raw), sum(slotted) / len(slotted)
    return {"raw": means[0], "slotted": means[1], "ratio": means[0] / means[1], "n": len(foreign)}


def raw_message(prompt: str, text: str) -> dict[str, Any]:
    """The same prompt for a decoder without llink: the foreign text stands where the slots would."""
    return {"role": "user", "content": f"{prompt}\n{text}"}
