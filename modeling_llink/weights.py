"""Evenly spaced samples of every tensor, kept beside the weights: a checkpoint that loads as another model is noticed.

The bases of a light checkpoint come from elsewhere, and a newer transformers may initialise anew what it does not
recognise. Comparing samples costs milliseconds and runs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import LlinkCheckpointError
from .sources import Source

BRIDGE = ("projector", "teacher_space", "slot_embedder")
#: The folders in which a self-contained checkpoint holds its bases, each an ordinary checkpoint of its own.
BASES = ("encoder", "decoder")
SAMPLES_FILE = "weight_samples.safetensors"
#: Where llink 0.1 kept the samples.
OLD_SAMPLES, OLD_FACTS = "canary/expected.safetensors", "canary/facts.json"
SAMPLES = 16
_FLOATS = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)}


@dataclass(frozen=True)
class Finding:
    """One comparison of a loaded model with what was saved; what is `harmless` does not make it another model."""

    what: str
    equal: bool
    detail: str
    harmless: bool = False


@dataclass(frozen=True)
class WeightSamples:
    """Name → [dtype, shape] of each tensor, up to 16 values of each one after another, which bases are quantised."""

    tensors: Mapping[str, list]
    values: Tensor
    quantized: Mapping[str, bool]

    def by_name(self) -> dict[str, tuple[str, list, Tensor]]:
        """Name → dtype, shape, samples."""
        found, start = {}, 0
        for name, (dtype, shape) in sorted(self.tensors.items()):  # as they were sampled
            count = min(SAMPLES, torch.Size(shape).numel())
            found[name] = (dtype, shape, self.values[start : start + count])
            start += count
        return found


def sample_weights(model: nn.Module) -> WeightSamples:
    """Samples of every tensor of a model that lies in memory, but those of quantised bases, which are not compared."""
    names, values = {}, []
    quantized = {kind: bool(getattr(getattr(model, kind), "is_quantized", False)) for kind in BASES}
    left_out = tuple(f"{kind}." for kind, is_quantized in quantized.items() if is_quantized)
    tensors = {name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items()}
    for name, tensor in sorted(tensors.items()):
        base = name.startswith(left_out) and "lora_" not in name
        if base or tensor.device.type == "meta" or not tensor.numel():
            continue
        flat = tensor.detach().reshape(-1)
        places = torch.linspace(0, flat.numel() - 1, min(SAMPLES, flat.numel()), dtype=torch.float64).long()
        names[name] = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        values.append(flat[places.to(flat.device)].float().cpu())
    return WeightSamples(names, torch.cat(values), quantized)


def write_samples(samples: WeightSamples, directory: Path) -> None:
    """Writes the samples beside a checkpoint's weights."""
    facts = {"tensors": dict(samples.tensors), "quantized": dict(samples.quantized)}
    save_file({"samples": samples.values}, directory / SAMPLES_FILE, metadata={"facts": json.dumps(facts)})


def read_samples(source: Source) -> WeightSamples | None:
    """The samples of a checkpoint, in a folder or on the Hub; None if it was saved without.

    Raises:
        LlinkCheckpointError: If they are damaged.
    """
    try:
        if (path := source.file(SAMPLES_FILE)) is not None:
            with safe_open(path, framework="pt") as file:
                facts, values = json.loads(file.metadata()["facts"]), file.get_tensor("samples")
        else:
            path, facts = source.file(OLD_SAMPLES), source.read_json(OLD_FACTS)
            if path is None or facts is None or "tensors" not in facts:
                return None
            facts["quantized"] = {kind: base["quantized"] for kind, base in facts["bases"].items()}
            with safe_open(path, framework="pt") as file:
                values = file.get_tensor("samples")
        return WeightSamples(facts["tensors"], values, facts["quantized"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise LlinkCheckpointError(
            f"The samples of the weights of {source.name} are damaged ({error!r}). Download them again."
        ) from error


def compare_weights(stored: WeightSamples, found: WeightSamples) -> list[Finding]:
    """Part by part: which tensors have other names, shapes or values. A quantised base is not compared."""
    old, new = stored.by_name(), found.by_name()
    findings = []
    part_of = {key: "LoRA" if "lora_" in key else key.partition(".")[0] for key in sorted(old.keys() | new.keys())}
    for part in (*BRIDGE, "LoRA", *BASES):
        keys = [key for key, own in part_of.items() if own == part]
        if part in BASES and (stored.quantized[part] or found.quantized[part]):
            findings.append(Finding(f"{part} weights", False, "quantised: not compared", harmless=True))
            continue
        different = [key for key in keys if key not in old or key not in new or not _same_values(old[key], new[key])]
        detail = f"{len(keys)} tensors, the same samples"
        if different:
            detail = f"{len(different)} of {len(keys)} tensors differ, such as {different[0]}"
        if keys:
            findings.append(Finding(f"{part} weights", not different, detail))
    return findings


def _same_values(one: tuple[str, list, Tensor], two: tuple[str, list, Tensor]) -> bool:
    if one[1] != two[1] or one[2].shape != two[2].shape:
        return False
    if one[0] == two[0]:
        return torch.equal(one[2].nan_to_num(), two[2].nan_to_num())
    coarsest = max(torch.finfo(_FLOATS[side[0]]).eps if side[0] in _FLOATS else 0.0 for side in (one, two))
    return torch.allclose(one[2], two[2], rtol=coarsest, atol=1e-7, equal_nan=True)
