"""What the frozen bases make of pairs: computed once, cached on disk, so that later epochs touch neither of them.

Both bases are frozen and deterministic in Stage A (paper 4.1), so z_F and the teacher's states are functions of a text
and of a spec, which names all else that they depend on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedTokenizerBase

from ..arguments_llink import checked
from ..errors_llink import LlinkConfigError
from ..modeling_llink import LlinkForCausalLM
from .errors import DataError
from .feature_cache import FeatureCache
from .pairs import check_pairs, sentences
from .shapes import pair_dataset

#: Config fields on which z_F depends, and those on which the teacher's states depend.
ENCODER_FIELDS = ("pooling", "encoder_layer", "long_passages", "max_foreign_chars", "max_foreign_tokens")
TEACHER_FIELDS = ("teacher_template", "teacher_state", "teacher_layer", "teacher_max_tokens")

#: Part of every spec: raise it when the code between a text and its features changes what they are.
FEATURES_VERSION = 1

_CONDITION_CHUNK = 8192


@dataclass(frozen=True)
class FrozenFeatures:
    """Pairs with what the frozen bases make of them; see [`compute_features`].

    Attributes:
        pairs: N rows with `id`, `english`, `foreign`.
        pooled: z_F, (N, d_e) float32: pooled encoder states of the foreign side.
        teacher_states: raw h_E, (N, d) float32: decoder states of the English side, not conditioned.
        specs: What the vectors depend on besides the texts: the bases' contents, layers, pooling, template, cuts.
    """

    pairs: Dataset
    pooled: Tensor
    teacher_states: Tensor
    specs: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.pooled)

    def select(self, rows: list[int]) -> FrozenFeatures:
        """Some of the rows."""
        return FrozenFeatures(self.pairs.select(rows), self.pooled[rows], self.teacher_states[rows], self.specs)

    def check_made_by(self, model: Any) -> None:
        """Refuses features of other bases, or of other layers, poolings or templates.

        Raises:
            DataError: If `model` would make others; it names what differs.
        """
        own = _specs(model)
        wrong = [
            f"{side} {name} {self.specs[side].get(name)!r} (the model: {value!r})"
            for side, spec in own.items()
            for name, value in spec.items()
            if self.specs[side].get(name) != value
        ]
        if wrong:
            raise DataError(f"These features were made by another model: {'; '.join(wrong)}. Compute them again.")


@checked
def compute_features(
    model: Any,
    pairs: Dataset,
    cache_dir: str | Path | None = None,
    batch_size: int = 32,
    show_progress: bool = True,
    chunk_size: int = 256,
) -> FrozenFeatures:
    """Computes, or reads from a cache, what the frozen bases make of pairs (paper 4.1); no trainer is needed.

    ```python
    features = compute_features(model, pairs, cache_dir="cache")
    AlignTrainer(model, AlignConfig("out/a"), train_dataset=features).train()
    ```

    Args:
        model: A [`LlinkForCausalLM`].
        pairs: N rows, as [`pair_dataset`] takes them.
        cache_dir: Folder of the [`FeatureCache`]; None computes without keeping.
        batch_size: Texts in one forward of a base.
        show_progress: Whether to show a bar over the texts that are missing.
        chunk_size: Texts between two commits to the cache.

    Raises:
        LlinkConfigError: If it is no model.
        DataError: If the pairs are unusable, a base returns NaN, infinite or misshapen vectors, or the cache file
            cannot be used.
    """
    if not hasattr(model, "get_pooled_features"):
        raise LlinkConfigError(f"model={model!r:.60} is no LlinkForCausalLM, whose features these would be.")
    pairs = pair_dataset(pairs, name="pairs")
    check_pairs(pairs, "pairs")
    cache, specs = FeatureCache(cache_dir), _specs(model)

    def side(column: str, spec: dict[str, Any], method: str, label: str) -> Tensor:
        compute = partial(getattr(model, method), batch_size=batch_size)
        return cache.get(spec, sentences(pairs, column), compute, chunk_size, label if show_progress else None)

    pooled = side("foreign", specs["encoder"], "get_pooled_features", "Encoding the foreign side")
    states = side("english", specs["teacher"], "get_teacher_states", "Encoding the English side")
    return FrozenFeatures(pairs, pooled, states, specs)


def _specs(model: Any) -> dict[str, Any]:
    return {"encoder": encoder_spec(model), "teacher": teacher_spec(model)}


class PairTensors(torch.utils.data.Dataset):
    """What Stage A runs on: N rows of frozen vectors. An item is its row number; `collate` gathers a batch.

    Args:
        features: (N, d_e) float32 z_F.
        targets: (N, d) float32 h_E, conditioned.
        groups: (N,) int64 group ids.
    """

    def __init__(self, features: Tensor, targets: Tensor, groups: Tensor) -> None:
        self.features, self.targets, self.groups = features, targets, groups

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, row: int) -> int:
        return row

    def collate(self, rows: list[int]) -> dict[str, Tensor]:
        """B row numbers → features (B, d_e), targets (B, d), groups (B,), rows (B,)."""
        index = torch.tensor(rows)
        return {
            "features": self.features[index],
            "targets": self.targets[index],
            "groups": self.groups[index],
            "rows": index,
        }


@torch.no_grad()
def condition(space: nn.Module, states: Tensor) -> Tensor:
    """Raw teacher states (N, d) → conditioned (N, d) on the CPU, chunk by chunk on the device of `space`."""
    device = next((tensor.device for tensor in space.buffers()), torch.device("cpu"))
    return torch.cat([space(chunk.to(device)).float().cpu() for chunk in states.split(_CONDITION_CHUNK)])


# ---------------------------------------------------------------------- what features depend on besides the text


def encoder_spec(model: Any) -> dict[str, Any]:
    """What z_F depends on besides the text: the encoder's content, its layer, pooling and cuts."""
    fields = {name: getattr(model.config, name) for name in ENCODER_FIELDS}
    return {"kind": "pooled", "version": FEATURES_VERSION, "base": base_fingerprint(model, "encoder"), **fields}


def teacher_spec(model: Any) -> dict[str, Any]:
    """What a raw h_E depends on besides the text: the decoder's content, template, state, layer and cut."""
    fields = {name: getattr(model.config, name) for name in TEACHER_FIELDS}
    return {"kind": "teacher", "version": FEATURES_VERSION, "base": base_fingerprint(model, "decoder"), **fields}


@torch.no_grad()
def fingerprint(model: nn.Module, tokenizer: PreTrainedTokenizerBase | None = None, samples: int = 257) -> str:
    """A hash of a module's content, for cache keys: it changes when any tensor is retrained, not when a folder moves.

    A base's tokenizer counts too: the same weights read other tokens otherwise.

    Each tensor contributes its name, shape, dtype, sum and evenly spaced samples: seconds, not minutes, at 1B.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if "lora_" in name:
            continue
        if is_traceable_wrapper_subclass(tensor):  # torchao's, which have no places of their own
            tensor = tensor.dequantize()
        flat = tensor.reshape(-1)
        flat = flat.cpu() if flat.device.type == "mps" else flat  # which knows no float64
        picked = flat[:: max(1, flat.numel() // samples)].float().cpu()
        total = flat.sum(dtype=torch.float64) if flat.is_floating_point() else flat.sum()
        key = name.replace(".base_layer.", ".")
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype} {total.item():.6e}".encode())
        digest.update(picked.numpy().tobytes())
    if tokenizer is None:
        return digest.hexdigest()
    fast = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(fast.to_str()) if fast is not None else sorted(tokenizer.get_vocab().items())
    if fast is not None:  # what the last call asked for, not what the tokenizer is
        rules = {name: rule for name, rule in rules.items() if name not in ("padding", "truncation")}
    digest.update(json.dumps(rules, sort_keys=True).encode())
    return digest.hexdigest()


def base_fingerprint(model: LlinkForCausalLM, kind: str) -> str:
    """The hash of a model's `encoder` or `decoder` with its tokenizer."""
    tokenizer = model.processor.encoder_tokenizer if kind == "encoder" else model.processor.tokenizer
    return fingerprint(getattr(model, kind), tokenizer)
