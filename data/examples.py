"""Instruction rows as messages, and as supervised examples: the prompt as inference renders it, then the answer."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from ..configuration_llink import FOREIGN_TOKEN
from ..modeling_llink import LlinkProcessor
from ..modeling_llink.errors import PromptError
from ..modeling_llink.passages import encode, encode_literal
from ..modeling_llink.prompts import FOREIGN_PART


def instruction_message(template: str, passages: Sequence[str]) -> dict[str, Any]:
    """A user message from an instruction row's prompt, in which `<foreign_emb>` marks where each passage stands.

    Raises:
        PromptError: If the number of placeholders is not the number of passages.
    """
    pieces = template.split(FOREIGN_TOKEN)
    if len(pieces) - 1 != len(passages):
        raise PromptError(
            f"The prompt {template!r} holds {len(pieces) - 1} {FOREIGN_TOKEN} placeholder(s) for {len(passages)} "
            "passage(s). Give exactly one passage for each placeholder."
        )
    content: list[dict[str, str]] = []
    for index, piece in enumerate(pieces):
        if index:
            content.append({"type": FOREIGN_PART, "text": passages[index - 1]})
        if piece:
            content.append({"type": "text", "text": piece})
    return {"role": "user", "content": content}


def training_example(processor: LlinkProcessor, messages: Sequence[dict], completion: str) -> dict[str, Any]:
    """One supervised example.

    Args:
        processor: The model's, or a baseline's.
        messages: The conversation up to the answer.
        completion: The answer.

    Returns:
        `input_ids`, `labels` (-100 up to the answer: masked by length, not by searching for text) and `passages`.
    """
    prompt_ids, passages = processor.render(messages)
    # The paper's format has a space after "Assistant:", which byte-level tokenizers keep with the word.
    glue = "" if processor.chat_template else " "
    answer_ids = encode_literal(processor.tokenizer, glue + completion) + _end_of_turn(processor)
    return {
        "input_ids": prompt_ids + answer_ids,
        "labels": [-100] * len(prompt_ids) + answer_ids,
        "passages": passages,
    }


def _end_of_turn(processor: LlinkProcessor) -> list[int]:
    """The ids with which the chat template closes the assistant's turn, or the end-of-sequence id."""
    mark = secrets.token_hex(8)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
    ids = encode(processor.tokenizer, processor.rendered_text(turns, False).rpartition(mark)[2].rstrip())
    return ids or [processor.tokenizer.eos_token_id]
