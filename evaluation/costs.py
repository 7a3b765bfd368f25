"""What a prompt costs: work and cache of raw text against slots, the encoder included (paper section 3).

A prompt of S tokens, a multiplication and an addition being two operations:

- weights: 2 · P a token, with P the parameters of all matrices but embeddings and output layer (LoRA's too, for slots);
- attention: 4 · layers · heads · head width for each pair of positions: S (S + 1) / 2 pairs in a decoder, S² in an
  encoder; windows of local attention are not counted as a saving;
- output layer: 2 · vocabulary · width, once: only the last token is predicted from; so is an encoder's pooler;
- key-value cache: 2 · layers · key-value heads · head width numbers a token.

P is counted on the model itself; a model without weights (`torch.device("meta")`) will do. Of a mixture of experts only
the chosen ones count. Attention and cache follow from the configuration, which describes only layers that are all alike
and all attend: what is known to differ is refused, not guessed.

Both prompts hold the passage as llink and the baselines read it: the first `max_foreign_chars` characters. What a
decoder would pay for the whole of it stands apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PretrainedConfig

from ..configuration_llink import LlinkConfig
from ..data.errors import DataError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.bases import base_config
from ..modeling_llink.layers import LlinkProjector
from ..modeling_llink.passages import check_passage
from ..modeling_llink.prompts import DEFAULT_PROMPT
from ..modeling_llink.slots import SLOTS, TokenSlots
from .tokens import prompt_lengths

#: Layers whose attention and cache are as above; a window is not counted as a saving.
_ATTENTION = {"attention", "full_attention", "sliding_attention", "chunked_attention"}
#: Settings of attention whose cache is compressed, shared between layers, or of another width in some of them.
_OTHER_SHAPES = ("kv_lora_rank", "num_kv_shared_layers", "global_head_dim")
_EXPERTS = re.compile(r"(?:^|\.)experts(?:\.(\d+))?(?=\.|$)")


@dataclass(frozen=True)
class StackCost:
    """What one forward pass through a transformer costs.

    Attributes:
        weights: P, parameters that each token passes.
        adapters: LoRA's parameters that each token passes when it is on.
        attention: Operations for a pair of positions, over all layers.
        output: Parameters that only one position passes: of a decoder's output layer, of an encoder's pooler.
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
        model: A model of transformers, with or without weights.
        causal: Whether it is a decoder.

    Raises:
        DataError: If its configuration names no layers or attention heads, or layers that do not all hold attention of
            one shape, or its experts cannot be told apart.
    """
    config = model.config.get_text_config()
    layers = getattr(config, "num_hidden_layers", None)
    heads = getattr(config, "num_attention_heads", None)
    if not layers or not heads:
        raise DataError(
            f"The configuration of {type(model).__name__} (model_type {config.model_type!r}) names no "
            "num_hidden_layers or num_attention_heads: only transformers with attention in every layer are counted."
        )
    _check_layers(model, config, causal)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    cached_heads = getattr(config, "num_key_value_heads", None) or heads
    head = model.get_output_embeddings() if causal else getattr(model, "pooler", None)
    weights, adapters = matrix_parameters(model, head)
    return StackCost(
        weights=weights,
        adapters=adapters,
        attention=4 * layers * heads * width,
        output=0 if head is None else matrix_parameters(head)[0],
        cache_bytes=2 * layers * cached_heads * width * model.dtype.itemsize if causal else 0,
        causal=causal,
    )


def _check_layers(model: nn.Module, config: PretrainedConfig, causal: bool) -> None:
    kinds = {kind for name in ("layer_types", "layers_block_type") for kind in getattr(config, name, None) or ()}
    causes = sorted(f"{kind} layers" for kind in kinds - _ATTENTION)
    causes += [f"{name}={getattr(config, name)}" for name in _OTHER_SHAPES if getattr(config, name, None)]
    if causal and any(isinstance(part, nn.Conv1d) for part in model.modules()):
        causes.append("convolutions over the positions, as state-space layers have")
    if causes:
        raise DataError(
            f"{type(model).__name__} (model_type {config.model_type!r}) has {', '.join(causes)}: its cache and its "
            f"work do not follow from heads and layers. Choose a model whose layers all hold {_listed(_ATTENTION)} "
            "of one shape."
        )


def _listed(words: set[str]) -> str:
    return " or ".join(sorted(words))


def matrix_parameters(model: nn.Module, head: nn.Module | None = None) -> tuple[int, int]:
    """Parameters of the matrices that each token is multiplied with: the model's own, and LoRA's.

    Args:
        model: Any module.
        head: Its output layer or pooler, which is not counted; embeddings are not either.

    Raises:
        DataError: If there are experts of which the configuration does not say how many a token passes, or that are
            neither in one tensor nor in a list.
    """
    config = getattr(model, "config", None)
    text_config = config.get_text_config() if isinstance(config, PretrainedConfig) else None
    chosen = getattr(text_config, "num_experts_per_tok", None)
    left_out = set() if head is None else set(head.modules())
    own = adapters = 0
    for name, part in model.named_modules():
        if isinstance(part, nn.Embedding) or part in left_out:
            continue
        for key, parameter in part.named_parameters(recurse=False):
            if parameter.dim() < 2 or key.endswith("bias"):
                continue  # biases, also of all experts in one tensor, and norms
            size = _passed(name, part, parameter, chosen)
            if ".lora_" in name:
                adapters += size
            else:
                own += size
    return own, adapters


def _passed(name: str, part: nn.Module, parameter: nn.Parameter, chosen: Any) -> int:
    """Numbers of a matrix that each token passes; experts are of one size, so that the first ones stand for any."""
    packed = hasattr(part, "in_features")  # quantised weights are
    size = int(part.in_features * part.out_features) if packed else parameter.numel()
    experts = _EXPERTS.search(name)
    stacked = parameter.dim() == 3 and not packed and not isinstance(part, nn.Conv1d)
    if not experts and not stacked:
        return size
    if isinstance(chosen, int) and chosen > 0:
        if experts and experts[1]:
            return size if int(experts[1]) < chosen else 0
        if stacked and parameter.shape[0] >= chosen:
            return size // parameter.shape[0] * chosen
    raise DataError(
        f"{name} ({type(part).__name__}) holds a matrix of shape {list(parameter.shape)}, of which "
        f"num_experts_per_tok={chosen} does not tell what a token passes: experts must be in a list or in one tensor "
        "of three axes, and the configuration must say how many are chosen."
    )


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
        bridge included) and `flops`, `slots` also with `encoder_tokens`; `raw_uncut`, as `raw`, of the whole texts,
        which no other number is over; `decoder` with `flops_per_token` and
        `cache_bytes_per_token`, `encoder` with `flops_per_token`; `ratio` of `tokens`, `cache_bytes` and `flops`, raw
        over slots; `template_tokens`, what a prompt holds beside the slots; `reuses`, after how many questions the
        encoder has paid off at these means; `at_once`, the share of passages where one question is enough; `cut`, the
        passages of which the slots hold only the beginning; `n`.

    Raises:
        DataError: If there are no passages.
        ForeignTextError: If a passage is unusable.
        DataError: As [`stack_cost`].
    """
    processor = model.processor
    passages = [check_passage(text, row) for row, text in enumerate(foreign)]  # each is read once
    lengths = prompt_lengths(processor, passages, prompt)
    readings = [processor.read(passage) for passage in passages]
    pieces = [[len(piece.ids) for piece in reading.pieces] for reading in readings]
    decoder, encoder = stack_cost(model.decoder, True), stack_cost(model.encoder, False)
    bridge = {length: bridge_flops(model, length) for length in {length for row in pieces for length in row}}
    reading_flops = [sum(encoder.flops(length) + bridge[length] for length in row) for row in pieces]
    rows = {
        **{name: [_row(decoder, tokens, False, 0, 0) for tokens in lengths[name]] for name in ("raw", "raw_uncut")},
        "slots": [
            _row(decoder, tokens, True, sum(row), flops)
            for tokens, row, flops in zip(lengths["slotted"], pieces, reading_flops, strict=True)
        ],
    }
    found = {name: {key: _mean([row[key] for row in of]) for key in of[0]} for name, of in rows.items()}
    at_once = [one["flops"] <= other["flops"] for one, other in zip(rows["slots"], rows["raw"], strict=True)]
    costs = found["slots"]["encoder_flops"], found["raw"]["decoder_flops"], found["slots"]["decoder_flops"]
    for name in ("raw", "raw_uncut"):
        del found[name]["encoder_tokens"], found[name]["encoder_flops"]
    return {
        **found,
        "decoder": {"flops_per_token": decoder.flops_per_token, "cache_bytes_per_token": decoder.cache_bytes},
        "encoder": {"flops_per_token": encoder.flops_per_token},
        "ratio": {key: found["raw"][key] / found["slots"][key] for key in ("tokens", "cache_bytes", "flops")},
        "template_tokens": lengths["slotted"][0] - len(processor.prompt_tokens(passages[0])),
        "reuses": reuses_to_pay_off(*costs),
        "at_once": _mean(at_once),
        "cut": sum(reading.cut for reading in readings),
        "n": len(foreign),
    }


def bridge_flops(model: LlinkForCausalLM, tokens: int) -> int:
    """Floating-point operations from what the encoder gives of one passage to its slots, as torch counts them.

    Args:
        model: Only its configuration is used.
        tokens: L, the passage's encoder tokens, whose states some slots are made of.
    """
    config = model.config
    d_e, d = config.encoder_hidden_size, config.hidden_size
    with torch.device("meta"), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        slots = SLOTS[config.slot_expander](config)
        if isinstance(slots, TokenSlots):
            slots.directions(torch.empty(tokens, slots.state_width))
        else:
            slots(LlinkProjector(d_e, config.projector_hidden_size, d, 0.0)(torch.empty(1, d_e)))
    return counter.get_total_flops()


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
