"""The bridge's small layers, and one layer's hidden states of a base.

Shapes: N passages, L encoder tokens, K slots, d_e and d widths.
"""

from __future__ import annotations

from contextvars import ContextVar
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


class StateAttention(nn.Module):
    """Slots attend to the encoder's states of their passage's tokens."""

    def __init__(self, width: int, state_width: int) -> None:
        super().__init__()
        self.num_heads = max(heads for heads in range(1, max(1, width // 64) + 1) if width % heads == 0)
        self.slot_norm = nn.LayerNorm(width)
        self.state_norm = nn.LayerNorm(state_width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(state_width, width, bias=False)  # it would add the same to all of a slot's scores
        self.value = nn.Linear(state_width, width)
        self.out = nn.Linear(width, width)

    def forward(self, slots: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """(N, K, d), (N, L, d_e), (N, L) true at tokens → (N, K, d)."""
        states = self.state_norm(states.to(self.key.weight.dtype))  # (N, L, d_e)
        heads = lambda x: x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # noqa: E731 - (N, ·, d) → (N, H, ·, d/H)
        read = F.scaled_dot_product_attention(
            heads(self.query(self.slot_norm(slots))),
            heads(self.key(states)),
            heads(self.value(states)),
            attn_mask=mask.bool()[:, None, None, :],
        )  # (N, H, K, d/H)
        return self.out(read.transpose(1, 2).flatten(2))  # (N, K, d)


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pools the encoder's states over the tokens of each passage (paper 4.1: the masked mean).

    Args:
        states: (N, L, d_e) hidden states of one layer.
        mask: (N, L), 1 where a token stands, 0 at padding.
        pooling: `mean`, `cls` (the first token) or `max`.

    Returns:
        (N, d_e) float32: sums over long texts lose digits in half precision.
    """
    states = states.float()
    if pooling == "cls":
        return states[:, 0]
    keep = mask.bool().unsqueeze(-1)  # (N, L, 1)
    if pooling == "max":
        return states.masked_fill(~keep, torch.finfo(states.dtype).min).amax(dim=1)
    if pooling == "mean":
        return (states * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
    raise ValueError(f"pooling={pooling!r} is not one of mean, cls, max.")


def pool_segments(states: Tensor, mask: Tensor, count: int) -> Tensor:
    """Averages the encoder's states over `count` stretches of each passage, as even as its tokens allow.

    Stretches overlap where a passage has no multiple of `count` tokens (adaptive average pooling), so that none is
    empty.

    Args:
        states: (N, L, d_e) hidden states of one layer.
        mask: (N, L), 1 where a token stands, 0 at padding.
        count: K.

    Returns:
        (N, K, d_e) float32, in reading order.
    """
    keep = mask.bool()  # (N, L)
    lengths = keep.sum(dim=1, keepdim=True)  # (N, 1)
    order = (keep.cumsum(dim=1) - 1).unsqueeze(1)  # (N, 1, L): a token's place among its passage's
    number = torch.arange(count, device=states.device)  # (K,)
    start = (number * lengths // count).unsqueeze(-1)  # (N, K, 1)
    end = (((number + 1) * lengths + count - 1) // count).unsqueeze(-1)  # (N, K, 1), rounded up
    inside = ((order >= start) & (order < end) & keep.unsqueeze(1)).float()  # (N, K, L)
    return inside @ states.float() / inside.sum(dim=-1, keepdim=True).clamp(min=1)  # (N, K, d_e)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's first parameter lives."""
    return next(module.parameters()).device


def input_device(module: nn.Module) -> torch.device:
    """Where a module's inputs belong: with its first weights; on the CPU where those are offloaded."""
    device = device_of(module)
    return torch.device("cpu") if device.type == "meta" else device


#: The block at which this thread's forward pass ends.
_last: ContextVar[nn.Module | None] = ContextVar("last", default=None)


class _ReachedError(Exception):
    """Ends a forward pass, with what would have gone into the next block."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def hidden_states(model: PreTrainedModel, layer: int, **inputs: Any) -> Tensor:
    """The hidden states (B, L, d) of one layer, as `output_hidden_states=True` numbers them.

    The pass ends there: layer 8 of 12 costs two thirds. A model whose blocks are not found is run whole.

    Args:
        model: A base without its head.
        layer: 0 is the embeddings, -1 the last layer with its final norm.
        inputs: As the model takes them.
    """
    if layer == -1:
        return model(**inputs).last_hidden_state
    blocks = _blocks(model)
    following = layer % (len(blocks) + 1)  # what this block reads is the layer's output
    if following == len(blocks):
        return model(**inputs, output_hidden_states=True).hidden_states[layer]
    hook = blocks[following].register_forward_pre_hook(_stop, with_kwargs=True)
    before = _last.set(blocks[following])
    try:
        model(**inputs)
    except _ReachedError as reached:
        return reached.states
    finally:
        _last.reset(before)
        hook.remove()
    raise RuntimeError(f"{type(model).__name__} never ran its block {following}.")


@torch.no_grad()
def encoder_states(encoder: PreTrainedModel, layer: int, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Encoder tokens (N, L) of any device → a frozen encoder's states (N, L, d_e) of one layer, without gradient."""
    place = input_device(encoder)
    return hidden_states(encoder, layer, input_ids=input_ids.to(place), attention_mask=attention_mask.to(place))


def _stop(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if _last.get() is block:  # another thread may be running the whole model
        raise _ReachedError(args[0] if args else kwargs["hidden_states"])


def _blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The model's transformer blocks, in order: its one list of as many modules as it has layers; none if unclear."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return list(found[0]) if len(found) == 1 else []
