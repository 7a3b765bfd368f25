"""What a prompt costs: work and cache of raw text against slots, the encoder included (paper section 3).

A prompt of S tokens, a multiplication and an addition being two operations:

- weights: 2 · P a token, with P the parameters of all matrices but embeddings and output layer (LoRA's too, for slots);
- attention: 4 · layers · heads · head width for each pair of positions: S (S + 1) / 2 pairs in a decoder, S² in an
  encoder; windows of local attention are not counted as a saving;
- output layer: 2 · vocabulary · width, once: only the last token is predicted from;
- key-value cache: 2 · layers · key-value heads · head width numbers a token.

P is counted on the model itself, so that every architecture is measured and none is guessed; a model without weights
(`torch.device("meta")`) will do. Of a mixture of experts only the chosen ones count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..configuration_llink import LlinkConfig
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.bases import base_config
from ..modeling_llink.foreign_text import check_passages, fit_passage
from ..modeling_llink.processing_llink import DEFAULT_PROMPT
from .tokens import prompt_lengths


class CostError(ValueError):
    """A model whose cost cannot be told from its shape."""


@dataclass(frozen=True)
class StackCost:
    """What one forward pass through a transformer costs.

    Attributes:
        weights: P, parameters that each token passes.
        adapters: LoRA's parameters that each token passes when it is on.
        attention: Operations for a pair of positions, over all layers.
        output: Parameters of the output layer.
        cache_bytes: Bytes of the key-value cache a token.
        causal: Whether a position sees only those before it.
    """

    weights: int
    adapters: int
    attention: int
    output: int
    cache_bytes: int
    causal: bool

    @property
    def flops_per_token(self) -> int:
        """Operations a token, without attention and output layer."""
        return 2 * self.weights

    def flops(self, tokens: int, adapted: bool = False) -> int:
        """Operations of reading `tokens` tokens, with LoRA on if `adapted`."""
        pairs = tokens * (tokens + 1) // 2 if self.causal else tokens * tokens
        weights = self.weights + self.adapters * adapted
        return 2 * weights * tokens + self.attention * pairs + 2 * self.output


def stack_cost(model: nn.Module, causal: bool) -> StackCost:
    """Counts a decoder or an encoder.

    Args:
        model: A model of the library, with or without weights.
        causal: Whether it is a decoder.

    Raises:
        CostError: If its configuration names no layers or attention heads.
    """
    config = model.config.get_text_config()
    layers = getattr(config, "num_hidden_layers", None)
    heads = getattr(config, "num_attention_heads", None)
    if not layers or not heads:
        raise CostError(
            f"The configuration of {type(model).__name__} (model_type {config.model_type!r}) names no "
            "num_hidden_layers or num_attention_heads: only transformers with attention in every layer are counted."
        )
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    cached_heads = getattr(config, "num_key_value_heads", None) or heads
    head = model.get_output_embeddings() if causal else None
    weights, adapters = matrix_parameters(model, head)
    return StackCost(
        weights=weights,
        adapters=adapters,
        attention=4 * layers * heads * width,
        output=0 if head is None else head.weight.shape[0] * head.weight.shape[1],
        cache_bytes=2 * layers * cached_heads * width * model.dtype.itemsize if causal else 0,
        causal=causal,
    )


def matrix_parameters(model: nn.Module, head: nn.Module | None = None) -> tuple[int, int]:
    """Parameters of the matrices that each token is multiplied with: the model's own, and LoRA's.

    Args:
        model: Any module.
        head: Its output layer, which is not counted; embeddings are not either.
    """
    config = getattr(model, "config", None)
    chosen = getattr(config, "num_experts_per_tok", None)
    own = adapters = 0
    for name, part in model.named_modules():
        if isinstance(part, nn.Embedding) or part is head:
            continue
        for parameter in part.parameters(recurse=False):
            if parameter.dim() < 2:
                continue  # biases and norms
            size = parameter.numel()
            if hasattr(part, "in_features"):  # quantised weights are packed
                size = part.in_features * part.out_features
            elif parameter.dim() == 3 and chosen:  # all experts in one tensor
                size = size // parameter.shape[0] * chosen
            if ".lora_" in name:
                adapters += size
            else:
                own += size
    return own, adapters


def shape_model(encoder: str, decoder: str, **config: Any) -> LlinkForCausalLM:
    """An llink model without weights: what a pair of bases would cost, before any of it is downloaded or trained.

    Args:
        encoder, decoder: Repositories, or folders that hold a config.json.
        config: Fields of [`LlinkConfig`], such as `num_slots`.

    Raises:
        BaseModelError: If a configuration cannot be read, or is of the wrong kind.
        LlinkConfigError: If a field is invalid.
    """
    bases = {
        "encoder_config": base_config("encoder", encoder, None),
        "decoder_config": base_config("decoder", decoder, None),
    }
    with torch.device("meta"):
        return LlinkForCausalLM(LlinkConfig(**bases, **config))


def reuses_to_pay_off(encoding: float, raw: float, slotted: float) -> int | None:
    """How many questions about one text make slots cheaper than reading the raw text with each of them.

    Args:
        encoding: Cost of making the slots, once.
        raw: Cost of a prompt with the raw text.
        slotted: Cost of a prompt with the slots.

    Returns:
        The smallest n ≥ 1 with `encoding + n · slotted ≤ n · raw`; None if there is none.
    """
    if slotted >= raw:
        return None
    return max(1, math.ceil(encoding / (raw - slotted)))


def prompt_costs(model: LlinkForCausalLM, foreign: Sequence[str], prompt: str = DEFAULT_PROMPT) -> dict[str, Any]:
    """Tokens, operations and cache of prompts about foreign texts, written out or as slots.

    The chat template, the instruction and what separates it from the passage are in both. A text that is asked about
    again is read again; its slots are kept.

    Args:
        model: With a processor; its weights are not used.
        foreign: N passages.
        prompt: The instruction.

    Returns:
        Means over the passages: `raw` and `slots` with `tokens`, `cache_bytes`, `decoder_flops`, `encoder_flops` (the
        bridge included) and `flops`, `slots` also with `encoder_tokens`; `decoder` with `flops_per_token` and
        `cache_bytes_per_token`, `encoder` with `flops_per_token`; `ratio` of `tokens`, `cache_bytes` and `flops`, raw
        over slots; `template_tokens`, what a prompt holds beside the slots; `reuses`, after how many questions the
        encoder has paid off at these means; `at_once`, the share of passages where one question is enough; `cut`, the
        passages of which the slots hold only the beginning; `n`.

    Raises:
        TokenizationError: If there are no passages.
        ForeignTextError: If a passage is unusable.
        CostError: As [`stack_cost`].
    """
    processor, config = model.processor, model.config
    raw, slotted = prompt_lengths(processor, foreign, prompt)
    limits = config.max_foreign_chars, config.max_foreign_tokens
    check_passages(list(foreign))
    fitted = [fit_passage(processor.encoder_tokenizer, text, *limits) for text in foreign]
    decoder, encoder = stack_cost(model.decoder, True), stack_cost(model.encoder, False)
    bridge = 2 * sum(matrix_parameters(part)[0] for part in (model.projector, model.slot_embedder))
    rows = {
        "raw": [_row(decoder, tokens, False, 0, 0) for tokens in raw],
        "slots": [
            _row(decoder, tokens, True, len(ids), encoder.flops(len(ids)) + bridge)
            for tokens, (ids, _) in zip(slotted, fitted, strict=True)
        ],
    }
    found = {name: {key: _mean([row[key] for row in of]) for key in of[0]} for name, of in rows.items()}
    at_once = [one["flops"] <= other["flops"] for one, other in zip(rows["slots"], rows["raw"], strict=True)]
    costs = found["slots"]["encoder_flops"], found["raw"]["decoder_flops"], found["slots"]["decoder_flops"]
    del found["raw"]["encoder_tokens"], found["raw"]["encoder_flops"]
    return {
        **found,
        "decoder": {"flops_per_token": decoder.flops_per_token, "cache_bytes_per_token": decoder.cache_bytes},
        "encoder": {"flops_per_token": encoder.flops_per_token},
        "ratio": {key: found["raw"][key] / found["slots"][key] for key in ("tokens", "cache_bytes", "flops")},
        "template_tokens": slotted[0] - config.num_slots,
        "reuses": reuses_to_pay_off(*costs),
        "at_once": _mean(at_once),
        "cut": sum(was_cut for _, was_cut in fitted),
        "n": len(raw),
    }


def _row(decoder: StackCost, tokens: int, adapted: bool, encoder_tokens: int, encoding: int) -> dict[str, int]:
    work = decoder.flops(tokens, adapted)
    return {
        "tokens": tokens,
        "cache_bytes": tokens * decoder.cache_bytes,
        "decoder_flops": work,
        "encoder_tokens": encoder_tokens,
        "encoder_flops": encoding,
        "flops": work + encoding,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
