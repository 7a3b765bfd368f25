"""The canary: what a model makes of three fixed texts, kept beside its weights so that every reload can be checked.

A canary holds the slots and first-token logits of three texts, how both tokenizers cut them, the bases' commits and the
libraries' versions: when a reloaded model differs, it says in what.

This file imports nothing of llink: `python canary.py FOLDER OUT OPTIONS` loads a checkpoint as a stranger does, by the
code that lies in it, in a process where llink cannot be imported, and writes what that model makes of the texts.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

CANARY_FOLDER = "canary"
TENSORS, FACTS = "expected.safetensors", "facts.json"
#: In three scripts, so that a tokenizer that knows only one of them still shows a difference.
TEXTS = ("សួស្តីពិភពលោក។ នេះជាសត្វឆ្មាមួយ។", "船は正午に戻ってきた。", "The boat came back at noon.")
PROMPT = "Translate to English."
LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "huggingface_hub")


@dataclass(frozen=True)
class Canary:
    """`tensors`: slots (3, K, d), or of all texts (ΣK, d) where K differs, logits (3, V); `facts`: plain JSON."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


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
            slots.append(output.foreign_slots[0, 0].float().cpu())  # (K, d)
            logits.append(output.logits[0, -1].cpu())  # (V,)
    facts = {
        "prompt": PROMPT,
        "texts": list(TEXTS),
        "tokens": tokens,
        "vocabularies": {name: _vocabulary(getattr(processor, name)) for name in tokens},
        "bases": {kind: _base_facts(model, kind) for kind in ("encoder", "decoder")},
        "versions": installed_versions(),
    }
    alike = len({len(rows) for rows in slots}) == 1
    return Canary({"slots": (torch.stack if alike else torch.cat)(slots), "logits": torch.stack(logits)}, facts)


def write_canary(canary: Canary, directory: Path) -> None:
    """Writes the two files of a checkpoint's canary into its folder."""
    folder = directory / CANARY_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in canary.tensors.items()}, folder / TENSORS)
    text = json.dumps(canary.facts, ensure_ascii=False, sort_keys=True) + "\n"
    (folder / FACTS).write_text(text, "utf-8")


def installed_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that a model's numbers depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


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


def _take_as_a_stranger(folder: str, out: str, options: dict[str, Any]) -> None:
    """Loads a folder through the Auto classes, with its own code alone, and writes its canary to `out`."""
    from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    for name, place in (("tokenizer", ""), ("encoder_tokenizer", "encoder_tokenizer")):
        alone = AutoTokenizer.from_pretrained(folder, subfolder=place, trust_remote_code=True)
        if alone.get_vocab() != getattr(processor, name).get_vocab():
            raise SystemExit(f"the {name} loads as another one by itself")
    write_canary(take_canary(model), Path(out))


if __name__ == "__main__":
    vars(sys)["modules"]["llink"] = None  # it cannot be imported
    _take_as_a_stranger(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
