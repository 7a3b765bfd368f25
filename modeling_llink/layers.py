"""One layer's hidden states of a base; the layers above it are not run."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .checkpoint import input_device

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
