"""LoRA in the frozen decoder, through PEFT, and the rows of a batch that it acts on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
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


#: Of the forward pass that this thread runs; nothing outside one, as when gradient checkpointing runs a layer again.
_current: ContextVar[_Rows | None] = ContextVar("lora_rows", default=None)


@contextmanager
def lora_rows(rows: bool | Sequence[bool], length: int | None = None) -> Iterator[None]:
    """Runs the block's decoder passes with LoRA on in these rows, and as the base decoder in the others.

    Args:
        rows: One for each row of the batch, or one for all.
        length: S, tokens of a row, for decoders whose layers take all tokens of a batch in one line.
    """
    chosen = [bool(rows)] if isinstance(rows, bool) else list(rows)
    names = [ADAPTER if on else BASE for on in chosen] if any(chosen) else [BASE]
    token = _current.set(_Rows(None if all(chosen) else names, length))
    try:
        yield
    finally:
        _current.reset(token)


def add_lora(decoder: PreTrainedModel, config: LlinkConfig) -> None:
    """Puts LoRA into the decoder, in float32 as the bridge, whatever the base's dtype (paper 4.2).

    Raises:
        LlinkCheckpointError: If the configured targets name none of the decoder's layers, or PEFT cannot adapt them.
    """
    if config.lora_target_modules is None:
        config.lora_target_modules = projection_names(decoder)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
    )
    try:
        inject_adapter_in_model(lora, decoder, ADAPTER)
    except ValueError as error:
        raise LlinkCheckpointError(
            f"LoRA does not fit {type(decoder).__name__}: lora_target_modules={config.lora_target_modules} ({error}). "
            "Name linear layers of this decoder, or load the decoder that the checkpoint was trained on."
        ) from error
    for _, module in lora_modules(decoder):
        module.register_forward_pre_hook(_by_row, with_kwargs=True)
    for parameter in lora_parameters(decoder):
        parameter.data = parameter.data.float()


def _by_row(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Tells a LoRA layer, in PEFT's own words, which rows of its input it acts on."""
    rows = _current.get()
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
        LlinkCheckpointError: If the decoder is quantised: its weights could not hold the sum.
    """
    if getattr(decoder, "is_quantized", False):
        raise LlinkCheckpointError(
            "LoRA cannot be merged into a quantised decoder: load the model without quantisation."
        )
    for name, module in list(lora_modules(decoder)):
        module.merge(safe_merge=True)
        decoder.set_submodule(name, module.get_base_layer())
    del decoder.peft_config


def projection_names(decoder: nn.Module) -> list[str]:
    """Names of the linear layers that LoRA adapts when none are configured (paper 4.2: attention and MLP projections).

    q, k, v, o, up and down, the released code's list, where the decoder has these names, else every linear layer of the
    decoder but its output layer.

    Raises:
        LlinkCheckpointError: If there is none.
    """
    head = decoder.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in decoder.named_modules()
        if module is not head and (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
    }
    usual = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    names = usual if linear.issuperset(usual) else sorted(linear)
    if not names:
        raise LlinkCheckpointError(f"{type(decoder).__name__} has no linear layers for LoRA: set lora_target_modules.")
    return names
