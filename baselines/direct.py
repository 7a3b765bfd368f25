"""The direct baselines' prompt: the foreign text itself stands where llink's slots would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..configuration_llink import FOREIGN_TOKEN
from ..modeling_llink.foreign_text import check_passages, cut_text
from ..modeling_llink.processing_llink import LlinkProcessor
from ..modeling_llink.rendering import FOREIGN_PART


def raw_text_message(processor: LlinkProcessor, row: Mapping[str, Any]) -> dict[str, Any]:
    """An instruction row's user message for a decoder without slots.

    Its passages are cut to as many characters as llink's (paper 5.1), and are plain text otherwise: the same chat
    template, and no control token can come out of them.

    Args:
        processor: Tells the cut and splits the prompt at its placeholders.
        row: `foreign` (a list of strings) and `prompt`, which holds `<foreign_emb>` once for each of them.

    Raises:
        ForeignTextError: If a passage is no usable text.
        PromptError: If placeholders and passages differ in number.
    """
    (passages,) = check_passages([list(row["foreign"])])
    message = processor.template_message(row["prompt"], passages, FOREIGN_TOKEN)
    content = []
    for part in message["content"]:
        text = part["text"]
        if part["type"] == FOREIGN_PART:
            text = cut_text(text.strip(), processor.max_foreign_chars).rstrip()
        content.append({"type": "text", "text": text})
    return {**message, "content": content}
