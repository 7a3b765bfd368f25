"""Dialogues about demo pairs for the tiny English-only decoder: instructions, repetitions and small talk."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from llink.data.demo_corpus import TASK_MIX, DemoPair, distinct_instructions

from .chat import CHAT

REPEAT_PHRASINGS = (
    "Repeat the text.",
    "Say the text again.",
    "Copy this text.",
    "Read the text aloud.",
    "Write the text again.",
)
REPEAT_SHARE, CHAT_SHARE = 0.15, 0.05


def english_instruction_dialogues(pairs: Sequence[DemoPair], seed: int = 0, per_pair: int = 1) -> list[dict[str, str]]:
    """Training rows for an English-only decoder: instructions with the English text in the place of the foreign text.

    The decoder so learns to read a text in the prompt and to act on it; a translation into English of an English text
    is the text. About one row in twenty is small talk without a text. No row holds a Khmer character.

    Args:
        pairs: pairs that know their facts.
        seed: seed of tasks and phrasings.
        per_pair: number of different instructions for each pair, 1 to 12.

    Returns:
        Rows `prompt, completion`.

    Raises:
        LlinkConfigError: `per_pair` is out of range.
    """
    rng, rows = Random(seed), []
    for pair in pairs:
        for _, instruction, answer in distinct_instructions(pair, per_pair, TASK_MIX, rng):
            if rng.random() < CHAT_SHARE:
                prompt, completion = CHAT[int(rng.random() * len(CHAT))]
                rows.append({"prompt": prompt, "completion": completion})
            if rng.random() < REPEAT_SHARE:
                instruction, answer = REPEAT_PHRASINGS[int(rng.random() * len(REPEAT_PHRASINGS))], pair["english"]
            rows.append({"prompt": f"{instruction}\n{pair['english']}", "completion": answer})
    return rows
