"""Answers of llink and of its base decoder to the same prompts, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm.auto import tqdm

from ..modeling_llink.processing_llink import DEFAULT_PROMPT
from .tokens import raw_message
from .translation import translation_metrics


def side_by_side(
    model: Any,
    foreign: Sequence[str],
    references: Sequence[str],
    prompt: str = DEFAULT_PROMPT,
    batch_size: int = 32,
    max_new_tokens: int = 64,
    show_progress: bool = False,
) -> list[dict[str, str]]:
    """Generates greedily from slots, and with the base decoder (LoRA off) from the raw foreign text.

    Args:
        model: A [`LlinkForCausalLM`].
        foreign: N passages.
        references: N English references.
        prompt: The instruction for both.
        batch_size: Passages in one generation.
        max_new_tokens: Length of an answer at most.
        show_progress: Whether to show a bar.

    Returns:
        N rows of `foreign`, `reference`, `base`, `llink`.
    """
    processor = model.processor
    options = {"max_new_tokens": max_new_tokens, "do_sample": False, "pad_token_id": processor.pad_token_id}
    rows = []
    for start in tqdm(range(0, len(foreign), batch_size), desc="Generating", disable=not show_progress):
        texts = list(foreign[start : start + batch_size])
        raw = processor.render_batch([[raw_message(prompt, text)] for text in texts]).to(model.device)
        tokens = model.generate(**raw, **options)[:, raw["input_ids"].shape[1] :]
        base = processor.batch_decode(tokens, skip_special_tokens=True)
        tokens = model.generate(foreign_text=texts, prompt=prompt, **options)
        own = processor.batch_decode(tokens, skip_special_tokens=True)
        columns = zip(texts, references[start : start + batch_size], base, own, strict=True)
        rows += [{"foreign": f, "reference": r, "base": b, "llink": o} for f, r, b, o in columns]
    return rows


def translation_scores(samples: Sequence[dict[str, str]]) -> dict[str, dict[str, float]]:
    """chrF++ and BLEU of the base decoder and of llink over [`side_by_side`] rows."""
    references = [row["reference"] for row in samples]
    return {name: translation_metrics([row[name] for row in samples], references) for name in ("base", "llink")}
