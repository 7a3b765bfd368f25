"""Checkpoints on disk: what a light one holds, how files get into place, how they are read back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from .errors import LlinkCheckpointError
from .lora import lora_modules
from .sources import Source
from .weights import BASES, BRIDGE, SAMPLES_FILE


def bridge_keys(model: nn.Module) -> set[str]:
    """The state-dict keys that no base owns: projector, teacher statistics, slots, LoRA."""
    parts = [f"{part}." for part in BRIDGE]
    for name, module in lora_modules(model.decoder):
        parts += [f"decoder.{name}.{adapter}." for adapter in module.adapter_layer_names]
    return {key for key in model.state_dict() if key.startswith(tuple(parts))}


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


def bridge_path(source: Source) -> Path:
    """The path of a light checkpoint's weights file, in a folder or fetched from the Hub.

    Raises:
        LlinkCheckpointError: If there is none.
    """
    if Path(source.name).is_dir():
        return Path(source.name) / source.located.get("subfolder", "") / SAFE_WEIGHTS_NAME
    try:
        return Path(cached_file(source.name, SAFE_WEIGHTS_NAME, **source.located))
    except OSError as error:
        raise LlinkCheckpointError(f"{source.name} holds no {SAFE_WEIGHTS_NAME}: {error}") from error


def save_base(base: PreTrainedModel, directory: Path, max_shard_size: int | str, prefix: str = "") -> None:
    """Writes a base as its authors would, without LoRA.

    Raises:
        LlinkCheckpointError: If it is quantised: transformers then writes other tensors than those it is given.
    """
    if getattr(base, "is_quantized", False):
        raise LlinkCheckpointError(
            f"{type(base).__name__} is quantised and cannot be saved with the model: save a light checkpoint "
            "(self_contained=False), or load it without quantisation and save that."
        )
    lora = {
        f"{name}.{key}"
        for name, module in lora_modules(base)
        for key in module.state_dict()
        if not key.startswith("base_layer.")
    }
    state = base.state_dict()
    state = {prefix + key.replace(".base_layer.", "."): value for key, value in state.items() if key not in lora}
    base.save_pretrained(directory, state_dict=state, max_shard_size=max_shard_size)


@contextmanager
def staged(directory: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder beside `directory` whose files are moved into it only when the block ends well.

    What an earlier save wrote of its weights, and the canary beside them, is removed: old never mixes with new.
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
            for stale in [*weights, *folder.glob(SAMPLES_FILE), *folder.glob("canary/*")]:
                if stale.relative_to(target) not in written:
                    stale.unlink(missing_ok=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object, its fields sorted."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
