"""The canary: what a model makes of three fixed texts, kept beside its weights so that every reload can be checked.

A canary holds the slots and first-token logits of three texts, how both tokenizers cut them, evenly spaced samples of
every tensor, the bases' commits and the libraries' versions: when a reloaded model differs, it says in what.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils.hub import cached_file

from .checkpoint import BASES, BRIDGE, CANARY_FOLDER
from .errors import LlinkCheckpointError

TENSORS, FACTS = "expected.safetensors", "facts.json"
#: In three scripts, so that a tokenizer that knows only one of them still shows a difference.
TEXTS = ("សួស្តីពិភពលោក។ នេះជាសត្វឆ្មាមួយ។", "船は正午に戻ってきた。", "The boat came back at noon.")
PROMPT = "Translate to English."
SAMPLES = 16
LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "huggingface_hub")
_FLOATS = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)}
#: Largest relative error of slots and logits that is rounding: other machines, devices and attention kernels.
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2


@dataclass(frozen=True)
class Canary:
    """`tensors`: slots (3, K, d), logits (3, V), samples (all, 1-D); `facts`: everything else, plain JSON."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One comparison with a canary; what is `harmless` may differ without making the model another one."""

    what: str
    equal: bool
    detail: str
    harmless: bool = False


def take_canary(model: Any) -> Canary:
    """What the model makes of the canary's texts now; the model is left as it was.

    Raises:
        LlinkCheckpointError: If the model has no processor.
    """
    processor = model.processor
    slots, logits = [], []
    tokens: dict[str, list[Any]] = {"tokenizer": [], "encoder_tokenizer": []}
    with _as_loaded(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small max_foreign_chars cuts the texts
        for text in TEXTS:
            inputs = dict(processor(PROMPT, text))
            tokens["tokenizer"].append(inputs["input_ids"][0].tolist())
            tokens["encoder_tokenizer"].append(inputs["foreign_input_ids"][0, 0].tolist())
            inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            output = model(**inputs, use_cache=False, logits_to_keep=1)
            slots.append(output["foreign_slots"][0, 0].float().cpu())  # (K, d)
            logits.append(output.logits[0, -1].cpu())  # (V,)
    names, samples = _sampled(model)
    facts = {
        "prompt": PROMPT,
        "texts": list(TEXTS),
        "tokens": tokens,
        "vocabularies": {name: _vocabulary(getattr(processor, name)) for name in tokens},
        "bases": {kind: _base_facts(model, kind) for kind in BASES},
        "tensors": names,
        "versions": installed_versions(),
    }
    return Canary({"slots": torch.stack(slots), "logits": torch.stack(logits), "samples": samples}, facts)


def write_canary(canary: Canary, directory: Path) -> None:
    """Writes the two files of a checkpoint's canary."""
    folder = directory / CANARY_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in canary.tensors.items()}, folder / TENSORS)
    text = json.dumps(canary.facts, ensure_ascii=False, sort_keys=True) + "\n"
    (folder / FACTS).write_text(text, "utf-8")


def read_canary(name_or_path: str, subfolder: str = "", **hub: Any) -> Canary | None:
    """The canary of a checkpoint, in a folder or on the Hub; None if it has none.

    Raises:
        LlinkCheckpointError: If it is damaged.
    """
    place = "/".join(part for part in (subfolder, CANARY_FOLDER) if part)
    paths = [
        cached_file(name_or_path, file, subfolder=place, _raise_exceptions_for_missing_entries=False, **hub)
        for file in (FACTS, TENSORS)
    ]
    if None in paths:
        return None
    try:
        canary = Canary(load_file(paths[1]), json.loads(Path(paths[0]).read_text("utf-8")))
        missing = {"slots", "logits", "samples"} - canary.tensors.keys()
        missing |= {"tokens", "bases", "tensors", "versions"} - canary.facts.keys()
    except Exception as error:
        raise LlinkCheckpointError(f"The canary of {name_or_path} is damaged ({error}). Download it again.") from error
    if missing:
        raise LlinkCheckpointError(f"The canary of {name_or_path} lacks {sorted(missing)}. Save the model again.")
    return canary


def compare(stored: Canary, found: Canary) -> list[Finding]:
    """Everything in which a reloaded model could differ from the one that was saved, equal or not."""
    bases = [fact for canary in (stored, found) for fact in canary.facts["bases"].values()]
    half = any(fact["dtype"] != "float32" for fact in bases)
    quantized = any(fact["quantized"] for fact in bases)
    return [
        _compare_versions(stored.facts["versions"], found.facts["versions"]),
        *_compare_bases(stored.facts["bases"], found.facts["bases"]),
        *(_compare_tokens(kind, stored.facts, found.facts) for kind in ("tokenizer", "encoder_tokenizer")),
        *_compare_weights(stored, found),
        *(_compare_outputs(name, stored, found, half, quantized) for name in ("slots", "logits")),
    ]


def differing_weights(model: Any, stored: Canary) -> list[Finding]:
    """The parts whose tensors are not those that the canary was taken on; nothing runs."""
    names, samples = _sampled(model)
    found = Canary(
        {"samples": samples}, {"tensors": names, "bases": {kind: _base_facts(model, kind) for kind in BASES}}
    )
    return [finding for finding in _compare_weights(stored, found) if not finding.equal and not finding.harmless]


def installed_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that a model's numbers depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


# ------------------------------------------------------------------ taking


@contextmanager
def _as_loaded(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and none of the autocast that accelerate puts around `forward`; afterwards all is as before."""
    modes = {module: module.training for module in model.modules()}
    wrapped = {module: module.forward for module in modes if "_original_forward" in vars(module)}
    model.eval()
    for module in wrapped:
        module.forward = vars(module)["_original_forward"]
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for module, forward in wrapped.items():
            module.forward = forward


def _vocabulary(tokenizer: Any) -> dict[str, Any]:
    entries = sorted(tokenizer.get_vocab().items())
    return {"size": len(entries), "sha256": hashlib.sha256(json.dumps(entries).encode()).hexdigest()}


def _base_facts(model: Any, kind: str) -> dict[str, Any]:
    base, name = getattr(model, kind), getattr(model.config, f"{kind}_name_or_path")
    return {
        "name": None if name is None or Path(name).is_absolute() else name,  # a folder means nothing elsewhere
        "revision": getattr(model.config, f"{kind}_revision"),
        "dtype": str(base.dtype).removeprefix("torch."),
        "quantized": bool(getattr(base, "is_quantized", False)),
    }


def _sampled(model: nn.Module) -> tuple[dict[str, list], Tensor]:
    """Name → [dtype, shape] of every tensor in memory, by name, and up to 16 values of each, one after another."""
    names, values = {}, []
    tensors = {name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items()}
    for name, tensor in sorted(tensors.items()):
        if tensor.device.type == "meta" or not tensor.numel():
            continue
        flat = tensor.detach().reshape(-1)
        places = torch.linspace(0, flat.numel() - 1, min(SAMPLES, flat.numel()), dtype=torch.float64).long()
        names[name] = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        values.append(flat[places.to(flat.device)].float().cpu())
    return names, torch.cat(values)


# ------------------------------------------------------------------ comparing


def _compare_versions(stored: Mapping[str, str], found: Mapping[str, str]) -> Finding:
    different = [f"{name} {old} → {found.get(name)}" for name, old in stored.items() if found.get(name) != old]
    return Finding("library versions", not different, ", ".join(different) or "the same", harmless=True)


def _compare_bases(stored: Mapping[str, dict], found: Mapping[str, dict]) -> Iterator[Finding]:
    for kind in BASES:
        old, new = stored[kind], found[kind]
        for what, harmless, shown in (("revision", False, _revision), ("precision", True, _precision)):
            equal = shown(old) == shown(new)
            detail = shown(old) if equal else f"{shown(old)} → {shown(new)}"
            yield Finding(f"{kind} {what}", equal, detail, harmless)


def _revision(base: Mapping[str, Any]) -> str:
    return f"{base['name'] or 'a local base'} at {base['revision'] or 'no commit'}"


def _precision(base: Mapping[str, Any]) -> str:
    return base["dtype"] + ", quantised" * bool(base["quantized"])


def _compare_tokens(kind: str, stored: Mapping[str, Any], found: Mapping[str, Any]) -> Finding:
    what = {"tokenizer": "decoder tokenizer", "encoder_tokenizer": "encoder tokenizer"}[kind]
    for text, old, new in zip(TEXTS, stored["tokens"][kind], found["tokens"][kind], strict=True):
        if old != new:
            return Finding(what, False, f"with {text!r} the tokens are {new[:8]}… instead of {old[:8]}…")
    new = found["vocabularies"][kind]
    old = stored.get("vocabularies", found["vocabularies"])[kind]  # the first canaries have none
    if old != new:
        return Finding(what, False, f"another vocabulary: {new['size']} entries instead of {old['size']}, or others")
    return Finding(what, True, f"the same tokens, the same {old['size']} entries")


def _compare_weights(stored: Canary, found: Canary) -> list[Finding]:
    """Part by part: which tensors have other names, shapes or values. A quantised base is not compared."""
    old, new = _by_name(stored), _by_name(found)
    findings = []
    for part in (*BRIDGE, "LoRA", *BASES):
        keys = sorted(key for key in old.keys() | new.keys() if _part_of(key) == part)
        if part in BASES and any(canary.facts["bases"][part]["quantized"] for canary in (stored, found)):
            findings.append(Finding(f"{part} weights", False, "quantised: not compared", harmless=True))
            continue
        different = [key for key in keys if key not in old or key not in new or not _same_values(old[key], new[key])]
        detail = f"{len(keys)} tensors, the same samples"
        if different:
            detail = f"{len(different)} of {len(keys)} tensors differ, such as {different[0]}"
        if keys:
            findings.append(Finding(f"{part} weights", not different, detail))
    return findings


def _part_of(key: str) -> str:
    return "LoRA" if "lora_" in key else key.partition(".")[0]


def _by_name(canary: Canary) -> dict[str, tuple[str, list, Tensor]]:
    found, start = {}, 0
    for name, (dtype, shape) in sorted(canary.facts["tensors"].items()):  # as they were sampled
        count = min(SAMPLES, torch.Size(shape).numel())
        found[name] = (dtype, shape, canary.tensors["samples"][start : start + count])
        start += count
    return found


def _same_values(one: tuple[str, list, Tensor], two: tuple[str, list, Tensor]) -> bool:
    if one[1] != two[1] or one[2].shape != two[2].shape:
        return False
    if one[0] == two[0]:
        return torch.equal(one[2].nan_to_num(), two[2].nan_to_num())
    coarsest = max(torch.finfo(_FLOATS[side[0]]).eps if side[0] in _FLOATS else 0.0 for side in (one, two))
    return torch.allclose(one[2], two[2], rtol=coarsest, atol=1e-7, equal_nan=True)


def _compare_outputs(name: str, stored: Canary, found: Canary, half: bool, quantized: bool) -> Finding:
    what = {"slots": "slots of three texts", "logits": "first-token logits"}[name]
    old, new = stored.tensors[name].float(), found.tensors[name].float()
    if old.shape != new.shape:
        return Finding(what, False, f"shape {tuple(new.shape)} instead of {tuple(old.shape)}")
    if not torch.isfinite(new).all():
        return Finding(what, False, "NaN or infinite")
    if quantized:
        return Finding(what, False, "quantised: not compared", harmless=True)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    centred = old - old.mean(dim=-1, keepdim=True)
    error = ((old - new).norm() / centred.norm().clamp(min=1e-12)).item()
    return Finding(what, error <= tolerance, f"relative error {error:.1e}; up to {tolerance:.0e} is rounding")
