"""LoRA in the frozen decoder, through PEFT, and the rows of a batch that it acts on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..configuration_llink import LlinkConfig
from .errors import LlinkCheckpointError, SlotMismatchError

#: PEFT's names of the one adapter, and of no adapter.
ADAPTER, BASE = "default", "__base__"


@dataclass(frozen=True)
class _Rows:
    """Which rows of the batch have LoRA, and how many tokens a row holds; None: all rows have it."""

    names: list[str] | None
    length: int | None = None


class _Pass(threading.local):
    """The forward pass that this thread runs; nothing outside one, as when gradient checkpointing runs a layer again.

    torch.compile traces it; a `ContextVar` would break its graph in every LoRA layer.
    """

    rows: _Rows | None = None


_current = _Pass()


@contextmanager
def lora_rows(rows: bool | Sequence[bool], length: int | None = None) -> Iterator[None]:
    """Runs the block's decoder passes with LoRA on in these rows, and as the base decoder in the others.

    Args:
        rows: One for each row of the batch, or one for all.
        length: S, tokens of a row, for decoders whose layers take all tokens of a batch in one line.
    """
    chosen = [bool(rows)] if isinstance(rows, bool) else list(rows)
    names = [ADAPTER if on else BASE for on in chosen] if any(chosen) else [BASE]
    before = _current.rows
    _current.rows = _Rows(None if all(chosen) else names, length)
    try:
        yield
    finally:
        _current.rows = before


def add_lora(decoder: PreTrainedModel, config: LlinkConfig) -> None:
    """Puts LoRA into the decoder's text part, in float32 as the bridge, whatever the base's dtype (paper 4.2).

    Raises:
        LlinkCheckpointError: If the configured targets name none of its linear layers, or PEFT cannot adapt them.
    """
    linear = linear_layers(decoder)
    if config.lora_target_modules is None:
        config.lora_target_modules = projection_names(decoder)
    wanted = tuple(f".{name}" for name in config.lora_target_modules)
    targets = [name for name in linear if f".{name}".endswith(wanted)]
    if not targets:
        known = ", ".join(sorted({short_name(name) for name in linear}))
        raise LlinkCheckpointError(
            f"lora_target_modules={config.lora_target_modules} are no linear layers of {type(decoder).__name__}. Its "
            f"own are {known}: name some of them, or leave lora_target_modules out."
        )
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
    )
    try:
        inject_adapter_in_model(lora, _Plain(decoder), ADAPTER)
    except ValueError as error:
        raise LlinkCheckpointError(
            f"PEFT cannot put LoRA into {type(decoder).__name__} ({error}). Name others of its linear layers with "
            "lora_target_modules (`--lora_target_modules`)."
        ) from error
    decoder.peft_config = {ADAPTER: lora}  # type: ignore[dict-item]
    for _, module in lora_modules(decoder):
        module.register_forward_pre_hook(_by_row, with_kwargs=True)
    for parameter in lora_parameters(decoder):
        parameter.data = parameter.data.float()


class _Plain(nn.Module):
    """A decoder as PEFT sees it: its layers' names as they are, without rules for architectures.

    PEFT knows what experts were called before transformers 5 and translates targets of those names; here each target
    is a layer that stands in the decoder.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self._modules = decoder._modules  # the same dict: what is replaced, is replaced in the decoder


def linear_layers(decoder: PreTrainedModel) -> list[str]:
    """Names of the linear layers that LoRA can act on: of the text part, without its output layer.

    Left out are towers for images and sound, routers, whose choice has no gradient, and in state-space layers what
    fused kernels read without calling it.
    """
    part, names = text_part(decoder), {module: name for name, module in decoder.named_modules()}
    head, found = decoder.get_output_embeddings(), []
    waiting: list[nn.Module] = [part]
    while waiting:
        module = waiting.pop()
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) or type(child).__name__ == "Conv1D":
                fused = hasattr(module, "A_log") and not name.startswith("in_proj")
                plain = getattr(decoder, "is_quantized", False) or _gives_products(child)
                found += [names[child]] if plain and not fused and child is not head else []
            elif name == "router":
                continue
            elif not isinstance(child, PreTrainedModel) or type(child.config) is type(part.config):
                waiting.append(child)
    return found


@torch.no_grad()
def _gives_products(layer: nn.Module) -> bool:
    """Whether a layer gives one vector for each token, to which LoRA can be added.

    A router or a projection in groups can be a Linear with a pass of its own, to which PEFT would add its product all
    the same. Falcon's linear layers have one too, and are as others: what comes out tells.
    """
    if not isinstance(layer, nn.Linear) or type(layer).forward is nn.Linear.forward:
        return True
    tokens = torch.zeros(5, 7, layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device)
    try:
        found = layer(tokens)
    except Exception:
        return False
    return isinstance(found, Tensor) and found.shape == (5, 7, layer.out_features)


def text_part(decoder: PreTrainedModel) -> PreTrainedModel:
    """The model below the head that reads token ids: all of most decoders, the language model of composite ones."""
    part, embedding = decoder.get_decoder(), decoder.get_input_embeddings()
    own = isinstance(part, PreTrainedModel) and any(module is embedding for module in part.modules())
    whole: Any = part if own else decoder.base_model
    return whole


def short_name(name: str) -> str:
    """The end of a layer's name that tells its kind: `q_proj`, and with its place in a list `adapters.0.1`."""
    parts = name.split(".")
    start = max(place for place, part in enumerate(parts) if not part.isdecimal())
    return ".".join(parts[start:])


def _by_row(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Tells a LoRA layer, in PEFT's own words, which rows of its input it acts on."""
    rows = _current.rows
    if module.training:  # gradient checkpointing runs the layer once more, outside the pass, even in another thread
        rows = vars(module).get("rows_in_training") if rows is None else rows
        vars(module)["rows_in_training"] = rows
    if rows is None or rows.names is None:
        return None
    names, count = rows.names, len(args[0])
    if len(names) == 1:
        names = names * count
    elif count != len(names):
        if rows.length is None or count != len(names) * rows.length:
            raise SlotMismatchError(
                f"A layer of this decoder takes {count} tokens of {len(names)} rows and mixes them: rows with and "
                "without foreign text cannot share a batch here. Give text-only rows in a batch of their own."
            )
        names = [name for name in names for _ in range(rows.length)]
    return args, {**kwargs, "adapter_names": names}


def lora_modules(decoder: nn.Module) -> Iterator[tuple[str, BaseTunerLayer]]:
    """The decoder's LoRA layers by name."""
    for name, module in decoder.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield name, module


def lora_parameters(decoder: nn.Module) -> list[nn.Parameter]:
    """The weights of a decoder's LoRA."""
    return [
        parameter
        for _, module in lora_modules(decoder)
        for adapter in module.adapter_layer_names
        for parameter in getattr(module, adapter).parameters()
    ]


def merge_lora(decoder: PreTrainedModel) -> None:
    """Adds LoRA to the weights that it adapts and takes its layers out; a tied embedding stays tied.

    Raises:
        LlinkCheckpointError: If the decoder is quantised, or some of its blocks share weights (Zamba): no weight could
            hold the sum.
    """
    if getattr(decoder, "is_quantized", False):
        raise LlinkCheckpointError(
            "LoRA cannot be merged into a quantised decoder: load the model without quantisation."
        )
    adapted = list(lora_modules(decoder))
    of_weight = {id(module.get_base_layer().weight): name for name, module in adapted}
    if len(of_weight) < len(adapted):
        name, module = next((n, m) for n, m in adapted if of_weight[id(m.get_base_layer().weight)] != n)
        raise LlinkCheckpointError(
            f"LoRA cannot be merged into {type(decoder).__name__}: {name} and "
            f"{of_weight[id(module.get_base_layer().weight)]} are one weight, and each has LoRA of its own. Use the "
            "model as it is."
        )
    for name, module in adapted:
        module.merge(safe_merge=True)
        decoder.set_submodule(name, module.get_base_layer())
    del decoder.peft_config


def projection_names(decoder: PreTrainedModel) -> list[str]:
    """Names of the linear layers that LoRA adapts when none are configured (paper 4.2: attention and MLP projections).

    q, k, v, o, up and down, the released code's list, where the decoder has these names and each block some of them,
    else every linear layer of its text part but the output layer.

    Raises:
        LlinkCheckpointError: If there is none.
    """
    layers = linear_layers(decoder)
    names = sorted({short_name(name) for name in layers})
    if not names:
        raise LlinkCheckpointError(
            f"{type(decoder).__name__} has no linear layers for LoRA. Choose a decoder that is made of them."
        )
    usual = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    blocks = {block(name) for name in layers}
    reached = {block(name) for name in layers if short_name(name) in usual}
    return usual if set(usual) <= set(names) and reached == blocks else names


def block(name: str) -> str:
    """The part of a layer's name that says in which block it stands."""
    parts = name.split(".")
    place = next((place for place, part in enumerate(parts) if part.isdecimal()), 0)
    return ".".join(parts[: place + 1])
