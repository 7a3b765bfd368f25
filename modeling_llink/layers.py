"""The bridge's small layers, and one layer's hidden states of a base.

Shapes: N passages, L encoder tokens, K slots, d_e and d widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel


class LlinkProjector(nn.Module):
    """g: Linear d_e → h, GELU, dropout, Linear h → d, LayerNorm (paper 4.1: 768 → 3072 → 2048, 8,659,968 parameters).

    Args:
        in_features: d_e, the encoder's width.
        hidden_features: h, the hidden layer's width.
        out_features: d, the decoder's width.
        dropout: Probability of dropping a hidden unit in training.
    """

    def __init__(self, in_features: int, hidden_features: int, out_features: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(in_features, hidden_features)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden_features, out_features)
        self.norm = nn.LayerNorm(out_features)

    def forward(self, pooled: Tensor) -> Tensor:
        """z_F (…, d_e) → p_F (…, d)."""
        hidden = self.dropout(self.activation(self.up(pooled.to(self.up.weight.dtype))))  # (…, h)
        return self.norm(self.down(hidden))  # (…, d)


class GatedAdapter(nn.Module):
    """A gated residual: x + tanh(g)·W2·GELU(W1·LN(x)), with g₀ = 0.5 (released code)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.gate = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(N, d) → (N, d)."""
        return x + torch.tanh(self.gate) * self.down(F.gelu(self.up(self.norm(x))))


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pools the encoder's states over the tokens of each passage (paper 4.1: the masked mean).

    Args:
        states: (N, L, d_e) hidden states of one layer.
        mask: (N, L), 1 where a token stands, 0 at padding.
        pooling: `mean`, `cls` (the first token), `max` or `last` (the last token).

    Returns:
        (N, d_e) float32: sums over long texts lose digits in half precision.
    """
    states = states.float()
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        places = torch.arange(mask.shape[1], device=mask.device)  # (L,)
        return states[torch.arange(len(states)), (mask.bool() * places).amax(dim=1)]
    keep = mask.bool().unsqueeze(-1)  # (N, L, 1)
    if pooling == "max":
        return states.masked_fill(~keep, torch.finfo(states.dtype).min).amax(dim=1)
    if pooling == "mean":
        return (states * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
    raise ValueError(f"pooling={pooling!r} is not one of mean, cls, max, last.")


def device_of(module: nn.Module) -> torch.device:
    """Where a module's first parameter lives."""
    return next(module.parameters()).device


def input_device(module: nn.Module) -> torch.device:
    """Where a module's inputs belong: with its first weights; on the CPU where those are offloaded."""
    device = device_of(module)
    return torch.device("cpu") if device.type == "meta" else device


class _ReachedError(Exception):
    """Ends a forward pass: all that was asked for is known."""


#: What this thread's forward pass has read so far, by layer, and the number of the last that it is to read.
_reading: ContextVar[tuple[dict[int, Tensor], int] | None] = ContextVar("reading", default=None)


def _one_stream(state: Tensor, length: int) -> Tensor:
    """A hidden state as (B, L, d); of one that runs in several streams (Gemma 3n, hyper-connections) their mean."""
    return state if state.dim() == 3 else state.mean(dim=2 if state.shape[1] == length else 0)


def hidden_states(model: PreTrainedModel, layers: Sequence[int], **inputs: Any) -> list[Tensor]:
    """The hidden states (B, L, d) of some layers, as `output_hidden_states=True` numbers them, in one pass.

    The pass ends at the highest of them: layer 8 of 12 costs two thirds. A model whose blocks are not found is run
    whole.

    Args:
        model: A base without its head.
        layers: Of each, 0 is the embeddings, -1 the last layer with its final norm.
        inputs: As the model takes them, `input_ids` (B, L) among them.
    """
    if set(layers) == {-1}:
        return [model(**inputs).last_hidden_state] * len(layers)
    blocks = _blocks(model)
    numbers = [layer % (len(blocks) + 1) for layer in layers]  # what the block of this number reads is the layer's
    length = inputs["input_ids"].shape[1]
    if max(numbers) == len(blocks):
        found = model(**inputs, output_hidden_states=True).hidden_states
        return [_one_stream(found[layer], length) for layer in layers]
    hooks = [blocks[n].register_forward_pre_hook(partial(_read, n), with_kwargs=True) for n in set(numbers)]
    read: dict[int, Tensor] = {}
    before = _reading.set((read, max(numbers)))
    try:
        model(**inputs)
    except _ReachedError:
        return [_one_stream(read[number], length) for number in numbers]
    finally:
        _reading.reset(before)
        for hook in hooks:
            hook.remove()
    raise RuntimeError(f"{type(model).__name__} never ran its block {max(numbers)}.")


@torch.no_grad()
def encoder_states(
    encoder: PreTrainedModel, layers: Sequence[int], input_ids: Tensor, attention_mask: Tensor
) -> list[Tensor]:
    """Encoder tokens (N, L) of any device → a frozen encoder's states (N, L, d_e) of some layers, without gradient."""
    place = input_device(encoder)
    return hidden_states(encoder, layers, input_ids=input_ids.to(place), attention_mask=attention_mask.to(place))


def _read(number: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    reading = _reading.get()
    if reading is None:  # another thread is running the whole model
        return
    read, last = reading
    read[number] = args[0] if args else kwargs["hidden_states"]
    if number == last:
        raise _ReachedError


def _blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The model's transformer blocks, in order: its one list of as many modules as it has layers; none if unclear."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return list(found[0]) if len(found) == 1 else []
