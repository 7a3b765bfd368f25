"""Parts that no stage has trained yet, drawn anew from a run's seed: whatever drew them first, the run is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..modeling_llink.lora import lora_modules


def draw_anew(model: Any, seed: int, parts: Sequence[str]) -> None:
    """Draws parts of a llink model as a new model draws them; the random numbers of the process stay where they were.

    Args:
        model: A [`LlinkForCausalLM`], changed in place.
        seed: Of the run.
        parts: Of `projector`, `slots` and `lora`. A dictionary that was learned stays, and so does the slots' scale,
            which is measured and not drawn.
    """
    with torch.random.fork_rng():
        for part in parts:
            torch.manual_seed(seed)  # for each: a part's numbers do not depend on which others are drawn
            _DRAW[part](model)


def _draw_projector(model: Any) -> None:
    model.projector.apply(model._init_weights)


def _draw_slots(model: Any) -> None:
    slots = model.slot_embedder
    if slots.learned:
        return
    fresh = type(slots)(model.config)  # on the CPU, so that every device starts alike
    fresh.apply(model._init_weights)
    slots.load_state_dict({**fresh.state_dict(), "scale": slots.scale})


def _draw_lora(model: Any) -> None:
    for _, module in lora_modules(model.decoder):
        for adapter in module.active_adapters:
            module.reset_lora_parameters(adapter, init_lora_weights=True)


_DRAW = {"projector": _draw_projector, "slots": _draw_slots, "lora": _draw_lora}
