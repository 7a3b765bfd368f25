"""Is what lies in a folder or on the Hub, loaded here and now, the model that was saved?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..evaluation.report import table
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.errors import LlinkCheckpointError
from ..modeling_llink.sources import Source
from ..modeling_llink.weights import BASES, Finding, compare_weights, read_samples, sample_weights
from . import canary as canary_module
from .canary import CANARY_FOLDER, FACTS, TENSORS, TEXTS, Canary, take_canary, write_canary
from .upload import LlinkPushError

#: Largest relative error of slots and logits that is rounding: other machines, devices and attention kernels.
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2


def verify(
    name_or_path: str | os.PathLike,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    fresh_process: bool = False,
) -> list[Finding]:
    """Compares a model with the canary that was saved with it.

    Args:
        name_or_path: A folder or repository.
        revision, token, cache_dir: As in `from_pretrained`.
        fresh_process: Run the code that lies beside the weights, in a fresh offline process that cannot import llink,
            instead of the installed llink. Only for a folder, and only for code that is trusted.

    Returns:
        What was compared, equal or not; [`passed`] tells whether it is the same model.

    Raises:
        LlinkCheckpointError, BaseModelError: If it cannot be loaded, or has no canary.
        LlinkPushError: If it cannot be loaded in a fresh process.
    """
    if fresh_process:
        if not Path(name_or_path).is_dir():
            raise LlinkCheckpointError(f"{name_or_path} is no folder: download it first, and look at its code.")
        return reload(name_or_path, cache_dir)
    options = {"revision": revision, "token": token, "cache_dir": cache_dir}
    options = {name: value for name, value in options.items() if value is not None}
    # Every difference shall be named, also those that loading would raise at.
    model = LlinkForCausalLM.from_pretrained(name_or_path, allow_other_bases=True, **options)
    return check_canary(model)


def check_canary(model: LlinkForCausalLM) -> list[Finding]:
    """Compares a model with the canary of the checkpoint it was loaded from: equal and different, one by one.

    Raises:
        LlinkCheckpointError: If it was not loaded from a checkpoint, or from one without a canary.
    """
    source = model.source
    if source is None:
        raise LlinkCheckpointError("This model was not loaded from a checkpoint: there is no canary to compare.")
    stored = read_canary(source)
    if stored is None:
        raise LlinkCheckpointError(f"{source.name} was saved without a canary: load it, check it, and save it again.")
    samples = read_samples(source)
    weights = [] if samples is None else compare_weights(samples, sample_weights(model))
    return compare(stored, take_canary(model), weights)


def save_canary(model: LlinkForCausalLM, directory: str | os.PathLike) -> None:
    """Takes a model's canary and writes it beside the checkpoint that was just saved.

    A model without a processor, or one for whose forward pass no memory is left, is warned of and has none.
    """
    try:
        write_canary(take_canary(model), Path(directory))
    except (LlinkCheckpointError, RuntimeError) as error:
        warnings.warn(f"The checkpoint is saved without a canary: {error}", stacklevel=2)


def read_canary(source: Source | str | os.PathLike) -> Canary | None:
    """The canary of a checkpoint, in a folder or on the Hub; None if it has none.

    Raises:
        LlinkCheckpointError: If it is damaged.
    """
    source = source if isinstance(source, Source) else Source(str(source), {})
    facts, tensors = (source.file(f"{CANARY_FOLDER}/{name}") for name in (FACTS, TENSORS))
    if facts is None or tensors is None:
        return None
    try:
        canary = Canary(load_file(tensors), json.loads(facts.read_text("utf-8")))
        missing = {"slots", "logits"} - canary.tensors.keys()
        missing |= {"tokens", "bases", "versions"} - canary.facts.keys()
    except Exception as error:
        raise LlinkCheckpointError(f"The canary of {source.name} is damaged ({error}). Download it again.") from error
    if missing:
        raise LlinkCheckpointError(f"The canary of {source.name} lacks {sorted(missing)}. Save the model again.")
    return canary


def reload(folder: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> list[Finding]:
    """Loads a checkpoint in a fresh offline process that cannot import llink, and compares it with its canary.

    The loading itself compares the weights with their samples, and refuses others.

    Raises:
        LlinkCheckpointError: If the folder has no canary.
        LlinkPushError: If it does not load there.
    """
    stored = read_canary(folder)
    if stored is None:
        raise LlinkCheckpointError(f"{folder} was saved without a canary: load it, check it, and save it again.")
    precisions = {fact["dtype"] for fact in stored.facts["bases"].values()}
    options = {"cache_dir": str(cache_dir)} if cache_dir is not None else {}
    if len(precisions) == 1:
        options["dtype"] = precisions.pop()
    with tempfile.TemporaryDirectory(prefix="llink-reload-") as work:
        script = Path(canary_module.__file__).resolve()
        command = [sys.executable, str(script), str(Path(folder).resolve()), work, json.dumps(options)]
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": str(Path(work) / "modules"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": "",  # a training run may fill the accelerator
            "PYTHONSAFEPATH": "1",  # nothing beside the script is imported
        }
        done = subprocess.run(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        found = None if done.returncode else read_canary(work)
    if found is None:
        tail = done.stderr.strip().splitlines()[-1:] or ["it wrote nothing"]
        raise LlinkPushError(f"{folder} cannot be loaded in a fresh offline process without llink: {tail[0]}")
    return compare(stored, found)


def passed(findings: Sequence[Finding]) -> bool:
    """Whether nothing differs that makes it another model."""
    return all(finding.equal or finding.harmless for finding in findings)


def findings_table(findings: Sequence[Finding]) -> str:
    """The findings for people: equal, differs, or differs without harm."""
    words = {
        (True, True): "equal",
        (True, False): "equal",
        (False, True): "differs, harmless",
        (False, False): "DIFFERS",
    }
    return table(["part", "", "detail"], [(f.what, words[f.equal, f.harmless], f.detail) for f in findings])


# ------------------------------------------------------------------ comparing


def compare(stored: Canary, found: Canary, weights: Sequence[Finding] = ()) -> list[Finding]:
    """Everything in which a reloaded model could differ from the one that was saved, equal or not."""
    bases = [fact for canary in (stored, found) for fact in canary.facts["bases"].values()]
    half = any(fact["dtype"] != "float32" for fact in bases)
    quantized = any(fact["quantized"] for fact in bases)
    return [
        _compare_versions(stored.facts["versions"], found.facts["versions"]),
        *_compare_bases(stored.facts["bases"], found.facts["bases"]),
        *(_compare_tokens(kind, stored.facts, found.facts) for kind in ("tokenizer", "encoder_tokenizer")),
        *weights,
        *(_compare_outputs(name, stored, found, half, quantized) for name in ("slots", "logits")),
    ]


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
