"""Direct fine-tuning: the same LoRA in the same decoder, which reads the foreign text as its own tokens.

The paper's main baseline. What differs from llink is only how the text comes in.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import PeftConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file

from ..arguments_llink import checked
from ..configuration_llink import LlinkConfig
from ..modeling_llink import LlinkForCausalLM, LlinkProcessor
from ..modeling_llink.bases import load_base
from ..modeling_llink.checkpoint import read_bridge
from ..modeling_llink.errors import LlinkCheckpointError
from ..modeling_llink.lora import lora_modules, lora_parameters
from ..modeling_llink.passages import Passage, check_passage
from ..modeling_llink.pieces import cut_text
from ..modeling_llink.prompts import FOREIGN_PART

Processor = TypeVar("Processor", bound=LlinkProcessor)

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
#: What PEFT's own models, in which the base lies two modules deep, put before the names of the weights.
_PEFT_PREFIX = "base_model.model."


class RawTextProcessor(LlinkProcessor):
    """llink's processor for a decoder without slots: each passage is written out where its slots would stand.

    Everything else is llink's: the chat template, how much of a long passage is read, the answer's labels, and
    that nothing in a passage becomes a control token. It returns no `foreign_input_ids`.
    """

    def render(
        self, messages: Sequence[dict], add_generation_prompt: bool = True, row: int = 0, **template_kwargs: Any
    ) -> tuple[list[int], list[Passage]]:
        """As [`LlinkProcessor.render`]; no passage is left over for an encoder.

        Raises:
            ForeignTextError: If a passage is no usable text.
            PromptError: If a message or part is malformed.
        """
        written = [self._written_out(message, row) for message in messages]
        return super().render(written, add_generation_prompt, row, **template_kwargs)

    def _written_out(self, message: Any, row: int) -> Any:
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, (list, tuple)):
            return message
        parts = []
        for part in content:
            if isinstance(part, dict) and part.get("type") == FOREIGN_PART:
                text = check_passage(part.get("text"), row)
                part = {"type": "text", "text": text_read(text, self.long_passages, self.max_foreign_chars)}
            parts.append(part)
        return {**message, "content": parts}


def text_read(text: str, long_passages: str, max_foreign_chars: int) -> str:
    """As much of a passage as is read, as far as its characters say."""
    text = text.strip()
    return text if long_passages == "split" else cut_text(text, max_foreign_chars).rstrip()


def like(processor_class: type[Processor], processor: LlinkProcessor, **changes: Any) -> Processor:
    """A processor of another class with the tokenizers and limits of a given one.

    Args:
        processor_class: Such as [`RawTextProcessor`].
        processor: An llink model's.
        changes: Arguments of [`LlinkProcessor`] that differ.
    """
    same = ["chat_template", "num_slots", "reserved_token_start", "max_foreign_chars", "max_foreign_tokens"]
    settings = {name: getattr(processor, name) for name in [*same, "long_passages", "max_pieces"]} | changes
    return processor_class(processor.tokenizer, processor.encoder_tokenizer, **settings)


def base_of(folder: str | os.PathLike, config: LlinkConfig, kind: str) -> tuple[str, str | None]:
    """Name and revision from which a base of an llink checkpoint is loaded by itself.

    Args:
        folder: The checkpoint: a folder or a repository.
        config: Its configuration.
        kind: `encoder` or `decoder`.
    """
    if config.self_contained:
        return str(Path(cached_file(str(folder), CONFIG_NAME, subfolder=kind)).resolve().parent), None
    return getattr(config, f"{kind}_name_or_path"), getattr(config, f"{kind}_revision")


@checked
def new_direct(
    folder: str | os.PathLike, dtype: str | torch.dtype = "auto", **loading: Any
) -> tuple[PreTrainedModel, RawTextProcessor]:
    """The decoder of an llink model with untrained LoRA of the same rank, scale, dropout and targets.

    Args:
        folder: A folder or repository of an llink model, of any stage.
        dtype: Of the decoder; LoRA is in float32.
        loading: As `from_pretrained` takes it: `attn_implementation`, `device_map`, … .

    Returns:
        The decoder and its processor, for [`FinetuneTrainer`].

    Raises:
        LlinkCheckpointError, BaseModelError: If there is no llink model, or a base is missing.
    """
    model = LlinkForCausalLM.from_pretrained(folder, dtype=dtype, **loading)
    decoder: Any = model.decoder
    name, revision = base_of(folder, model.config, "decoder")
    for _, module in lora_modules(decoder):
        for adapter in module.active_adapters:
            module.reset_lora_parameters(adapter, init_lora_weights=True)
    for adapter in decoder.peft_config.values():  # how PEFT finds the base again
        adapter.base_model_name_or_path, adapter.revision, adapter.task_type = name, revision, "CAUSAL_LM"
    _tell_transformers(decoder)
    return decoder, like(RawTextProcessor, model.processor)


@checked
def load_direct(
    folder: str | os.PathLike, dtype: str | torch.dtype = "auto", **loading: Any
) -> tuple[PreTrainedModel, RawTextProcessor]:
    """Loads what `llink finetune` wrote: a PEFT adapter on its base, and the processor.

    Args:
        folder: A local folder.
        dtype: Of the base; the adapter is in float32.
        loading: As `from_pretrained` takes it: `attn_implementation`, `device_map`, … .

    Raises:
        LlinkCheckpointError: If the adapter is missing, damaged or does not fit its base.
        BaseModelError: If the base cannot be loaded.
    """
    config = read_adapter_config(folder)
    decoder, _ = load_base("decoder", config.base_model_name_or_path, config.revision, dtype=dtype, **loading)
    add_saved_adapter(decoder, folder)
    decoder.requires_grad_(False)
    return decoder.eval(), RawTextProcessor.from_pretrained(folder)


def read_adapter_config(folder: str | os.PathLike) -> PeftConfig:
    """The adapter's settings, with the name and revision of its base.

    Raises:
        LlinkCheckpointError: If there are none.
    """
    if not (Path(folder) / ADAPTER_CONFIG).is_file():
        raise LlinkCheckpointError(f"{folder} holds no {ADAPTER_CONFIG}: give a folder that `llink finetune` wrote.")
    return PeftConfig.from_pretrained(str(folder))


def add_saved_adapter(decoder: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Puts a saved adapter onto its base, in float32 whatever the base's dtype.

    Raises:
        LlinkCheckpointError: If it is missing, damaged or does not fit.
    """
    config = read_adapter_config(folder)
    name, revision = config.base_model_name_or_path, config.revision
    decoder.requires_grad_(False)
    inject_adapter_in_model(config, decoder)
    config.base_model_name_or_path, config.revision = name, revision  # adding has overwritten them
    for parameter in lora_parameters(decoder):
        parameter.data = parameter.data.float()
    _tell_transformers(decoder)
    load_adapter(decoder, folder)


def _tell_transformers(decoder: Any) -> None:
    """Says, as transformers' own `add_adapter` does, that there is an adapter.

    Its Trainer then takes a quantised decoder, and checkpointing lets gradients into frozen embeddings.
    """
    decoder._hf_peft_config_loaded = True


def adapter_state(decoder: nn.Module) -> dict[str, Tensor]:
    """The weights of a decoder's LoRA, under the names that they have in an adapter's file."""
    state = get_peft_model_state_dict(decoder, save_embedding_layers=False)
    return {f"{_PEFT_PREFIX}{key}": value for key, value in state.items()}


def save_adapter(decoder: nn.Module, folder: str | os.PathLike) -> None:
    """Writes a decoder's LoRA as an ordinary PEFT adapter, which `PeftModel.from_pretrained` loads."""
    config: Any = copy.copy(decoder.peft_config["default"])
    config.inference_mode = True
    config.save_pretrained(str(folder))
    state = {key: value.detach().cpu().contiguous() for key, value in adapter_state(decoder).items()}
    save_file(state, Path(folder) / ADAPTER_WEIGHTS, metadata={"format": "pt"})


@torch.no_grad()
def load_adapter(decoder: nn.Module, folder: str | os.PathLike) -> None:
    """Loads saved adapter weights into a decoder that has the adapter, in place; every tensor must fit.

    Raises:
        LlinkCheckpointError: If the weights are missing, damaged or do not fit.
    """
    path = Path(folder) / ADAPTER_WEIGHTS
    saved = read_bridge(path)
    own = adapter_state(decoder)
    wrong = sorted(saved.keys() ^ own.keys()) or [k for k in own if saved[k].shape != own[k].shape]
    if wrong:
        raise LlinkCheckpointError(
            f"{path} does not fit this decoder: {len(wrong)} tensors differ, such as {wrong[0]}. The base, or the rank "
            "or targets of LoRA, differ from those it was trained with."
        )
    for key, value in own.items():
        value.copy_(saved[key])
