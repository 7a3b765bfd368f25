"""A hash of what a frozen base makes of texts, for cache keys."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedTokenizerBase

from ..modeling_llink import LlinkForCausalLM


@torch.no_grad()
def fingerprint(model: nn.Module, tokenizer: PreTrainedTokenizerBase, samples: int = 257) -> str:
    """A hash of a base's content, for cache keys: it changes when any tensor is retrained, not when a folder moves.

    The tokenizer counts too: the same weights read other tokens otherwise.

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
