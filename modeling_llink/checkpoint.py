"""Checkpoints on disk: what a light one holds, how files get into place, how they are read back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from .errors import LlinkCheckpointError

BRIDGE = ("projector", "teacher_space", "slot_embedder")
#: The folders in which a self-contained checkpoint holds its bases, each an ordinary checkpoint of its own.
BASES = ("encoder", "decoder")
CANARY_FOLDER = "canary"


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


def bridge_keys(model: nn.Module) -> set[str]:
    """The state-dict keys that no base owns: projector, teacher statistics, slots, LoRA."""
    keys = set()
    for part in BRIDGE:
        keys |= {f"{part}.{key}" for key in getattr(model, part).state_dict()}
    for name, module in lora_modules(model.decoder):
        for adapter in module.adapter_layer_names:
            container = getattr(module, adapter, None)
            if isinstance(container, nn.Module):
                keys |= {f"decoder.{name}.{adapter}.{key}" for key in container.state_dict()}
    return keys


def read_bridge(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a light checkpoint's weights file.

    Raises:
        LlinkCheckpointError: If the file is missing, truncated or not safetensors.
    """
    if not path.is_file():
        raise LlinkCheckpointError(f"{path} does not exist: the folder holds no llink weights.")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise LlinkCheckpointError(
            f"{path} is truncated or damaged ({error}). Copy or download it again; its size is "
            f"{path.stat().st_size} bytes."
        ) from error


def load_bridge_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Puts a light checkpoint's tensors into a model; every key and every shape must fit.

    Raises:
        LlinkCheckpointError: If keys are missing or too many, or widths or K do not fit the model's bases.
    """
    own = model.state_dict()
    wanted = bridge_keys(model)
    state = {key: value for key, value in state.items() if key in wanted or key not in own}
    missing, unexpected = sorted(wanted - state.keys()), sorted(state.keys() - wanted)
    if missing or unexpected:
        raise LlinkCheckpointError(
            f"{source} does not fit this model: {len(missing)} tensors are missing (such as {missing[:1]}), "
            f"{len(unexpected)} are unknown (such as {unexpected[:1]}). The bases or LoRA targets differ from those "
            "it was trained with."
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise LlinkCheckpointError(
                f"{source} holds {key} of shape {tuple(value.shape)}, but its bases and configuration need "
                f"{tuple(own[key].shape)}: K, the widths or the bases differ from those it was trained with."
            )
    model.load_state_dict(state, strict=False)


def resolve_weights(name_or_path: str, subfolder: str, hub: dict[str, Any]) -> Path:
    """The path of a light checkpoint's weights file, in a folder or fetched from the Hub.

    Raises:
        LlinkCheckpointError: If there is none.
    """
    if Path(name_or_path).is_dir():
        return Path(name_or_path) / subfolder / SAFE_WEIGHTS_NAME
    try:
        return Path(cached_file(name_or_path, SAFE_WEIGHTS_NAME, subfolder=subfolder, **hub))
    except OSError as error:
        raise LlinkCheckpointError(f"{name_or_path} holds no {SAFE_WEIGHTS_NAME}: {error}") from error


def save_base(base: PreTrainedModel, directory: Path, max_shard_size: int | str, prefix: str = "") -> None:
    """Writes a base as its authors would, without LoRA.

    A model with an adapter saves only the adapter, so it is written as the model that it was before.
    """
    lora = {
        f"{name}.{key}"
        for name, module in lora_modules(base)
        for key in module.state_dict()
        if not key.startswith("base_layer.")
    }
    state = base.state_dict()
    state = {prefix + key.replace(".base_layer.", "."): value for key, value in state.items() if key not in lora}
    adapted = getattr(base, "_hf_peft_config_loaded", False)
    try:
        base._hf_peft_config_loaded = False
        base.save_pretrained(directory, state_dict=state, max_shard_size=max_shard_size)
    finally:
        base._hf_peft_config_loaded = adapted


@contextmanager
def staged(directory: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder beside `directory` whose files are moved into it only when the block ends well.

    Weights and canary of an earlier save that the new one does not replace are removed: old never mixes with new.
    """
    target = Path(directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield stage
        target.mkdir(exist_ok=True)
        written = {path.relative_to(stage) for path in stage.rglob("*") if path.is_file()}
        for relative in sorted(written):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / relative, target / relative)
        for folder in (target, *(target / kind for kind in BASES)):
            weights = [*folder.glob("model*.safetensors"), folder / SAFE_WEIGHTS_INDEX_NAME]
            for stale in [*weights, *folder.glob(f"{CANARY_FOLDER}/*")]:
                if stale.relative_to(target) not in written:
                    stale.unlink(missing_ok=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object, its fields sorted."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


#: One lock a decoder: whether LoRA is on is a state of its modules, which all threads share.
_SWITCHES: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_NEW_SWITCH = threading.Lock()


@contextmanager
def lora_switched(decoder: nn.Module, on: bool) -> Iterator[None]:
    """Runs the block with LoRA on, or with the decoder as its authors left it; other threads wait for its end.

    The library's own `disable_adapters` also switches off the gradients of the LoRA weights and leaves them so.
    """
    with _NEW_SWITCH:
        switch = _SWITCHES.setdefault(decoder, threading.RLock())
    with switch:
        modules = [] if on else [(module, module._disable_adapters) for _, module in lora_modules(decoder)]
        try:
            for module, _ in modules:
                module._disable_adapters = True
            yield
        finally:
            for module, before in modules:
                module._disable_adapters = before


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
    decoder._hf_peft_config_loaded = False
    del decoder.peft_config


def projection_names(decoder: nn.Module) -> list[str]:
    """Names of the linear layers that LoRA adapts: attention and MLP projections (paper 4.2).

    The released code's list (q, k, v, o, up, down) where the decoder has these names, else every linear layer of the
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


def device_of(module: nn.Module) -> torch.device:
    """Where a module's first parameter lives."""
    return next(module.parameters()).device


def input_device(module: nn.Module) -> torch.device:
    """Where a module's inputs belong: with its first weights; on the CPU where those are offloaded."""
    device = device_of(module)
    return torch.device("cpu") if device.type == "meta" else device
