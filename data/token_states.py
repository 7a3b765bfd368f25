"""The encoder's states of every token of many texts, computed once and kept on disk in 16 bits.

A text's states depend on the encoder and the layers alone, and epochs of learning read them again and again; they are
too large for memory (2.3 kB a token at three layers of 384).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .fingerprint import base_fingerprint

_VERSION = 1


class TokenStates:
    """States of N texts, one token after the other.

    Args:
        flat: (M, C) of all texts' tokens, half precision.
        counts: N numbers of tokens, whose sum is M.
    """

    def __init__(self, flat: Tensor, counts: Sequence[int]) -> None:
        self.flat, self.counts = flat, list(counts)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)]).tolist()

    def of(self, texts: Sequence[int]) -> Tensor:
        """The states (M', C) of some texts, one after the other."""
        return torch.cat([self.flat[self.starts[text] : self.starts[text + 1]] for text in texts])


def token_states(
    model: Any,
    encoded: Sequence[Sequence[int]],
    cache_dir: str | Path | None,
    batch_size: int = 32,
    desc: str | None = None,
) -> TokenStates:
    """The states of the tokens that have a slot, in the layers that slots read; computed, or read from their file.

    Args:
        model: A [`LlinkForCausalLM`] with a slot for each token.
        encoded: N texts as encoder tokens, framed.
        cache_dir: Folder of the files, made when needed; None keeps the states in memory.
        batch_size: Texts in one forward pass.
        desc: Of a bar; none is shown without it.
    """
    processor, layers = model.processor, model.config.slot_layers
    counts = [len(processor.slot_places(len(ids))) for ids in encoded]
    shape = sum(counts), len(layers) * model.config.encoder_hidden_size
    spec = {"version": _VERSION, "base": base_fingerprint(model, "encoder"), "layers": layers, "texts": list(encoded)}
    name = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:32]
    path = None if cache_dir is None else Path(cache_dir) / f"{name}.states"
    if path is not None and path.is_file():
        return TokenStates(torch.from_numpy(np.memmap(path, np.float16, "c", shape=shape)), counts)
    part = None
    if path is None:
        flat = np.empty(shape, np.float16)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        flat = np.memmap(part, np.float16, "w+", shape=shape)
    found = TokenStates(torch.from_numpy(flat), counts)
    order = sorted(range(len(encoded)), key=counts.__getitem__, reverse=True)
    with tqdm(total=len(order), desc=desc, unit="text", disable=desc is None) as bar, torch.no_grad():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            inputs = {key: value[:, 0] for key, value in processor.pad_passages([[encoded[i]] for i in chosen]).items()}
            ids, attention = inputs["foreign_input_ids"], inputs["foreign_attention_mask"]
            states = model.passage_states(ids, attention, layers).half().cpu()  # (n, L, C)
            for text, row, mask in zip(chosen, states, inputs["foreign_slot_mask"].bool(), strict=True):
                found.flat[found.starts[text] : found.starts[text + 1]] = row[mask]
            bar.update(len(chosen))
    if part is not None:
        flat.flush()
        os.replace(part, path)  # only a finished file is ever found under its name
    return found
