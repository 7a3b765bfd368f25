"""Instruction rows as messages, and as supervised examples: the prompt as inference renders it, then the answer."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..modeling_llink import LlinkProcessor
from ..modeling_llink.tokenizing import encode, encode_literal


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
    end = _end_of_turn(processor, processor.chat_template)
    answer_ids = encode_literal(processor.tokenizer, glue + completion) + end
    return {
        "input_ids": prompt_ids + answer_ids,
        "labels": [-100] * len(prompt_ids) + answer_ids,
        "passages": passages,
    }


@lru_cache(maxsize=8)  # of all rows of a data set
def _end_of_turn(processor: LlinkProcessor, chat_template: str | None) -> list[int]:
    """The ids with which the chat template closes the assistant's turn, or the end-of-sequence id."""
    mark = secrets.token_hex(8)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
    ids = encode(processor.tokenizer, processor.rendered_text(turns, False).rpartition(mark)[2].rstrip())
    return ids or [processor.tokenizer.eos_token_id]
