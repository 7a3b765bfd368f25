"""Does an answer say what the text says? Measures by likelihood and by the encoder, which need no large judge.

A small language model that is asked which answer is better reads neither. These ask it, and the encoder, only what they
can do; [`content_scores`] says what each of them cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sacrebleu.metrics import CHRF
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from ..characters_llink import SHAPELESS
from ..data.errors import DataError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.layers import device_of
from ..modeling_llink.tokenizing import encode_literal
from .bootstrap import percentile_ends, resampled_sums
from .numeric import compare
from .outputs import OutputRow
from .usage import answer_losses, answer_reach

#: What the decoder is asked with an answer, so that the reference follows.
RESTATE = "Say the same in other words."
#: Columns of a row's scores, in the order of tables.
MEASURES = ("reference_gain", "finds_source", "nearness", "chrf", "literals")


def content_scores(
    model: LlinkForCausalLM,
    answered: Mapping[str, Sequence[OutputRow]],
    batch_size: int = 8,
    resamples: int = 1000,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Scores of several systems' answers to the same N rows, and how the measures agree.

    - `reference_gain`: by how many nats a token the reference is likelier for the base decoder after this answer than
      after the next row's. It tells whether the answer says what the reference says, as far as the decoder understands
      English; it does not notice a wrong number much.
    - `finds_source`: whether the answer, by the encoder's vectors, is nearer to its own passages than to those of any
      other row; `nearness`: its cosine with them, less the mean with the others'. No reference is read, so they tell
      of a right answer in other words; they tell the topic, and no detail.
    - `chrf`: chrF++ of the one answer, 0 to 100: its letters, right or wrong in meaning.
    - `literals`: F1 of its numbers, dates, names and the like; None where neither holds any. Nothing else is looked at.

    Args:
        model: Its encoder and, with LoRA off, its decoder measure; whose answers they are does not matter.
        answered: N rows a system, as [`named_outputs`] reads them.
        batch_size: Rows in one forward pass.
        resamples: Draws of the 95 % intervals, over rows; 0 leaves them out.
        show_progress: Whether to show bars.

    Returns:
        `systems`: for each the mean of every measure, `n` and `intervals`; `agreement`: Spearman's correlation of every
        two measures over all rows of all systems; None where one of them is the same everywhere.

    Raises:
        DataError: If there are fewer than two rows: each is compared with another.
    """
    rows = next(iter(answered.values()))
    if len(rows) < 2:
        raise DataError(f"{len(rows)} row(s) of answers: give two at least, as each is compared with another.")
    sources = _vectors(model, ["\n".join(row.foreign) for row in rows], batch_size)  # (N, d_e)
    found = {name: _row_scores(model, name, own, sources, batch_size, show_progress) for name, own in answered.items()}
    joined = np.concatenate([np.stack([scores[m] for m in MEASURES], axis=1) for scores in found.values()])
    return {
        "systems": {name: _summary(scores, resamples) for name, scores in found.items()},
        "agreement": agreement(joined),
    }


def _row_scores(
    model: LlinkForCausalLM, name: str, rows: Sequence[OutputRow], sources: Tensor, batch_size: int, progress: bool
) -> dict[str, np.ndarray]:
    """Every measure (N,) of one system's answers; NaN where there is none."""
    answers = [row.output.replace("\0", " ") for row in rows]  # which a decoder may write, and no model can be given
    references = [row.reference for row in rows]
    own = reference_losses(model, answers, references, batch_size, f"{name}: own" if progress else None)
    others = [*answers[1:], answers[0]]
    other = reference_losses(model, others, references, batch_size, f"{name}: another's" if progress else None)
    said = [place for place, answer in enumerate(answers) if SHAPELESS.sub("", answer).strip()]
    cosines = torch.full((len(rows), len(rows)), float("nan"))  # (N answers, N sources)
    if said:
        cosines[said] = _vectors(model, [answers[place] for place in said], batch_size) @ sources.T
    diagonal = cosines.diag()
    nearest = (cosines >= diagonal.unsqueeze(1)).sum(dim=1) == 1
    elsewhere = (cosines.sum(dim=1) - diagonal) / (len(rows) - 1)
    chrf = CHRF(word_order=2)
    return {
        "reference_gain": (other - own).numpy(),
        "finds_source": nearest.float().numpy(),
        "nearness": torch.nan_to_num(diagonal - elsewhere).numpy(),
        "chrf": np.array([chrf.sentence_score(a, [r]).score for a, r in zip(answers, references, strict=True)]),
        "literals": np.array([_literals(a, r) for a, r in zip(answers, references, strict=True)]),
    }


def _vectors(model: LlinkForCausalLM, texts: Sequence[str], batch_size: int) -> Tensor:
    """The encoder's vectors of texts in any language, of length one (N, d_e)."""
    return F.normalize(model.get_pooled_features(texts, batch_size=batch_size), dim=-1)


@torch.no_grad()
def reference_losses(
    model: LlinkForCausalLM,
    answers: Sequence[str],
    references: Sequence[str],
    batch_size: int = 8,
    desc: str | None = None,
) -> Tensor:
    """Nats a token (N,) of each reference for the base decoder, after an answer that it is asked to restate.

    Args:
        model: Prompts without slots run with LoRA off.
        answers: N texts; may be empty.
        references: N texts.
        batch_size: Rows in one forward pass.
        desc: Of a bar; none is shown without it.
    """
    processor, device = model.processor, device_of(model)
    losses = torch.zeros(len(references))
    for start in tqdm(range(0, len(references), batch_size), desc=desc, disable=desc is None):
        pairs = list(zip(answers, references, strict=True))[start : start + batch_size]
        prompts = [processor.render([{"role": "user", "content": f"{a}\n\n{RESTATE}"}])[0] for a, _ in pairs]
        ends = [encode_literal(processor.tokenizer, reference) for _, reference in pairs]
        rows = [torch.tensor(prompt + end) for prompt, end in zip(prompts, ends, strict=True)]
        ids = pad_sequence(rows, batch_first=True, padding_value=processor.pad_token_id)  # (B, S)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)  # (B, S)
        told = [torch.tensor([-100] * len(prompt) + end) for prompt, end in zip(prompts, ends, strict=True)]
        labels = pad_sequence(told, batch_first=True, padding_value=-100).to(device)  # (B, S)
        inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        logits = model(**inputs, logits_to_keep=answer_reach(labels)).logits  # (B, L, V)
        sums, tokens = answer_losses(logits, labels)  # (B,), (B,)
        losses[start : start + len(rows)] = (sums / tokens).cpu()
    return losses


def _literals(answer: str, reference: str) -> float:
    found = compare(answer, reference)
    kept, lost, added = len(found.kept), len(found.lost), len(found.added)
    return 2 * kept / (2 * kept + lost + added) if kept + lost + added else float("nan")


def _summary(scores: Mapping[str, np.ndarray], resamples: int) -> dict[str, Any]:
    """Means over the rows that have a score, with intervals."""
    values = np.stack([scores[name] for name in MEASURES], axis=1)  # (N, M)
    known = ~np.isnan(values)
    counted = np.stack([np.where(known, values, 0), known], axis=1)  # (N, 2, M)
    means: dict[str, Any] = {}
    for name, (total, count) in zip(MEASURES, counted.sum(axis=0).T, strict=True):
        means[name] = total / count if count else None
    means["n"] = len(values)
    if resamples:
        drawn = resampled_sums(counted, resamples, seed=0)  # (R, 2, M)
        ends = percentile_ends(drawn[:, 0] / np.maximum(drawn[:, 1], 1))  # (2, M)
        means["intervals"] = {
            name: ends[:, place].tolist() for place, name in enumerate(MEASURES) if means[name] is not None
        }
    return means


def agreement(values: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Spearman's rank correlation of every two of M measures (N, M), over the rows that have both."""
    ranked = pd.DataFrame(values, columns=list(MEASURES)).corr("spearman", min_periods=2)
    return {
        name: {other: None if np.isnan(value) else float(value) for other, value in row.items()}
        for name, row in ranked.iterrows()
    }
