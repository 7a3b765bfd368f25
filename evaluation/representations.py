"""What the decoder's layers make of foreign text, its transliteration, its translation and its slots (paper figure 3).

Every *reading* of a sentence stands in the same prompt at the same place and is followed by the same answer, so that
readings differ in nothing else. The base decoder (LoRA off), or one that was fine-tuned on them, reads texts; with
slots, LoRA is on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..data.errors import DataError
from ..data.examples import training_example
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.prompts import DEFAULT_PROMPT
from ..modeling_llink.tokenizing import encode_literal
from .usage import answer_losses

SLOTS = "slots"


@dataclass
class Reading:
    """What the decoder made of N passages, each averaged over its own positions.

    Attributes:
        states: (L + 1, N, d) mean hidden states: the embeddings, then every layer; the last is after the final norm.
        norms: (L + 1, N) mean norms of the hidden states.
        residuals: (L - 1, N) mean norms of what a layer adds, relative to what it is added to; without the last layer,
            whose own output the final norm hides.
        tokens: (N,) positions of each passage.
        text_losses: (N,) summed loss of the passage's own tokens in nats; None of slots, which are no tokens.
        answer_losses: (N,) summed loss of the answer in nats.
        answer_tokens: (N,) tokens of the answer.
    """

    states: Tensor
    norms: Tensor
    residuals: Tensor
    tokens: Tensor
    text_losses: Tensor | None
    answer_losses: Tensor
    answer_tokens: Tensor


# ------------------------------------------------------------------ pure functions of states


def paired_cosines(states: Tensor, others: Tensor) -> dict[str, float]:
    """Cosine of matched pairs, and of mismatched ones: the baseline, as the space is anisotropic.

    Args:
        states: (N, d).
        others: (N, d); row i belongs to row i of `states`.

    Returns:
        `matched`, the mean over the N pairs; `mismatched`, the mean over the N (N - 1) other ones.

    Raises:
        DataError: If the shapes differ, there are fewer than two rows, or a value is NaN or infinite.
    """
    if states.dim() != 2 or states.shape != others.shape or len(states) < 2:
        raise DataError(
            f"States of shapes {tuple(states.shape)} and {tuple(others.shape)}: both must be (N, d) with the same "
            "N > 1 and d, for a baseline of mismatched pairs."
        )
    for given in (states, others):
        bad = (~torch.isfinite(given)).any(dim=1).nonzero().flatten()
        if len(bad):
            raise DataError(f"{len(bad)} states are NaN or infinite, the first is row {bad[0].item()}.")
    one, two = F.normalize(states.double(), dim=1), F.normalize(others.double(), dim=1)
    matched = (one * two).sum()
    everything = one.sum(dim=0) @ two.sum(dim=0)
    n = len(states)
    return {"matched": (matched / n).item(), "mismatched": ((everything - matched) / (n * (n - 1))).item()}


def layer_cosines(reading: Reading, reference: Reading) -> dict[str, list[float]]:
    """`matched`, `mismatched` and `gap`, their difference, of each layer; see [`paired_cosines`]."""
    found = [paired_cosines(one, two) for one, two in zip(reading.states, reference.states, strict=True)]
    return {
        "matched": [layer["matched"] for layer in found],
        "mismatched": [layer["mismatched"] for layer in found],
        "gap": [layer["matched"] - layer["mismatched"] for layer in found],
    }


def passage_means(hidden: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Averages of one batch's hidden states over each row's passage.

    Args:
        hidden: L + 1 tensors (B, S, d).
        mask: (B, S) true at the passage.

    Returns:
        States (L + 1, B, d), norms (L + 1, B) and residual changes (L - 1, B), float32; see [`Reading`].
    """
    rows = mask.nonzero()[:, 0]  # (M,) the row of each of the passages' M positions
    counts = mask.sum(dim=1)  # (B,)

    def means(values: Tensor) -> Tensor:
        """(M, …) → (B, …)."""
        sums = values.new_zeros(len(mask), *values.shape[1:]).index_add(0, rows, values)
        return sums / counts.view(-1, *[1] * (values.dim() - 1))

    states, norms, residuals = [], [], []
    before = None
    for layer, whole in enumerate(hidden):
        values = whole[mask].float()  # (M, d)
        states.append(means(values))
        norms.append(means(values.norm(dim=-1)))
        if before is not None and layer < len(hidden) - 1:
            residuals.append(means((values - before).norm(dim=-1) / before.norm(dim=-1).clamp(min=1e-12)))
        before = values
    empty = norms[0].new_zeros(0, len(mask))
    return torch.stack(states), torch.stack(norms), torch.stack(residuals) if residuals else empty


def representation_report(
    readings: Mapping[str, Reading], reference: str, texts: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Everything that `llink eval representations` reports, as plain numbers.

    Args:
        readings: Name → [`Reading`].
        reference: The name of the English one, with which the others are compared.
        texts: Name → the texts of those readings that are of text, for losses a character.

    Returns:
        `reference`, `n`; `readings`: name → `tokens` (a passage), `embedding_norm`, `norms` and `residuals` (a layer),
        `text_nll` (nats a token) and `text_nll_per_char` (which compares across scripts, as a token does not) where it
        is of text, `answer_nll` (nats a token); `cosines`: name → [`layer_cosines`] with the reference.
    """
    found = {}
    for name, reading in readings.items():
        norms = reading.norms.mean(dim=1).tolist()
        found[name] = {
            "tokens": reading.tokens.float().mean().item(),
            "embedding_norm": norms[0],
            "norms": norms,
            "residuals": reading.residuals.mean(dim=1).tolist(),
            "answer_nll": (reading.answer_losses.sum() / reading.answer_tokens.sum()).item(),
        }
        if reading.text_losses is not None:
            total = reading.text_losses.sum()
            found[name]["text_nll"] = (total / reading.tokens.sum()).item()
            found[name]["text_nll_per_char"] = (total / sum(map(len, texts[name]))).item()
    others = [name for name in readings if name != reference]
    return {
        "reference": reference,
        "n": len(readings[reference].tokens),
        "readings": found,
        "cosines": {name: layer_cosines(readings[name], readings[reference]) for name in others},
    }


# ------------------------------------------------------------------ running a model


@torch.no_grad()
def read_passages(
    model: LlinkForCausalLM,
    texts: Sequence[str],
    answers: Sequence[str],
    prompt: str = DEFAULT_PROMPT,
    as_slots: bool = False,
    batch_size: int = 4,
    show_progress: bool = False,
    decoder: PreTrainedModel | None = None,
) -> Reading:
    """Reads passages in a prompt, with the answers after them.

    Args:
        model: A [`LlinkForCausalLM`].
        texts: N passages; texts are read whole, slots hold what the model's limits leave of them.
        answers: N answers, whose loss tells how well the passage was understood.
        prompt: The instruction.
        as_slots: Whether the passages are read as slots, with LoRA on, or as tokens of the base decoder.
        batch_size: Passages in one forward pass.
        show_progress: Whether to show a bar.
        decoder: What reads texts in place of the model's own base decoder, such as one that `llink finetune` trained.

    Raises:
        DataError: If there are not as many answers as passages, or none, or the decoder is of another vocabulary.
        ForeignTextError: If a passage is unusable.
    """
    if len(texts) != len(answers) or not texts:
        raise DataError(f"{len(texts)} passages and {len(answers)} answers: give one answer for each.")
    reader = model if decoder is None else decoder
    if decoder is not None and decoder.config.vocab_size != model.decoder.config.vocab_size:
        raise DataError("The decoder is of another vocabulary than the model's: give one that was tuned from its base.")
    slots = model.encode_foreign(list(texts), batch_size) if as_slots else None  # N of (K, d)
    rows = [_example(model, text, prompt, answer, as_slots) for text, answer in zip(texts, answers, strict=True)]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]), reverse=True)
    was_training = model.training
    model.eval()
    batches = []
    try:
        label = "Reading slots" if as_slots else "Reading text"
        for start in tqdm(range(0, len(rows), batch_size), desc=label, disable=not show_progress):
            chosen = order[start : start + batch_size]
            given = {}
            if slots is not None:
                stacked, mask = model.stack_slots([slots[row] for row in chosen])  # (B, 1, K, d), (B, 1, K)
                given = {"foreign_slots": stacked, "foreign_mask": mask}
            batches.append(_read_batch(reader, model.processor.pad_token_id, [rows[row] for row in chosen], given))
    finally:
        model.train(was_training)
    back = torch.tensor(order).argsort()
    states, norms, residuals = (torch.cat([batch[i] for batch in batches], dim=1)[:, back] for i in range(3))
    tokens, text, answer, length = (torch.cat([batch[i] for batch in batches])[back] for i in range(3, 7))
    return Reading(states, norms, residuals, tokens, None if as_slots else text, answer, length)


def _example(model: LlinkForCausalLM, text: str, prompt: str, answer: str, as_slots: bool) -> dict[str, list[int]]:
    """A rendered training example, with the text's tokens in place of its slots unless `as_slots`."""
    processor = model.processor
    example = training_example(processor, [processor.user_message(prompt, [text])], answer)
    ids, labels = example["input_ids"], example["labels"]
    own, slot = processor.prompt_tokens(text), processor.slot_token_ids[0]
    start = ids.index(slot) - own.index(slot)
    end = start + len(own)
    # What is written out is among the slots that `encode_foreign` makes.
    body = [slot] * len(own) if as_slots else encode_literal(processor.tokenizer, text.strip())
    return {
        "input_ids": ids[:start] + body + ids[end:],
        "labels": labels[:start] + [-100] * len(body) + labels[end:],
        "passage": [0] * start + [1] * len(body) + [0] * (len(ids) - end),
    }


def _read_batch(
    model: PreTrainedModel, pad: int, rows: list[dict[str, list[int]]], given: dict[str, Tensor]
) -> list[Tensor]:
    """States, norms, residual changes, passage tokens, their losses, answer losses and lengths; on the CPU."""
    device = model.device
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, value: int) -> Tensor:
        columns = [row[name] + [value] * (longest - len(row[name])) for row in rows]
        return torch.tensor(columns, device=device)  # (B, S)

    ids, labels = padded("input_ids", pad), padded("labels", -100)
    mask = padded("passage", 0).bool()
    lengths = torch.tensor([len(row["input_ids"]) for row in rows], device=device)
    attention = (torch.arange(longest, device=device) < lengths.unsqueeze(1)).long()
    output = model(input_ids=ids, attention_mask=attention, output_hidden_states=True, use_cache=False, **given)
    hidden = tuple(states.to(device) for states in output.hidden_states)  # of a decoder that is spread over devices
    states, norms, residuals = passage_means(hidden, mask)
    text = ids.masked_fill(~mask, -100) if not given else torch.full_like(ids, -100)
    text_losses, _ = answer_losses(output.logits, text)
    losses, tokens = answer_losses(output.logits, labels)
    return [t.cpu() for t in (states, norms, residuals, mask.sum(dim=1), text_losses, losses, tokens)]
