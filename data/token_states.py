"""The encoder's states of every slot's tokens of many texts, computed once and kept on disk in 16 bits.

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

from ..modeling_llink.passages import Piece
from ..modeling_llink.slots import slot_means
from .features import base_fingerprint

_VERSION = 2


class TokenStates:
    """Mean states of the tokens of each slot of N texts, one slot after the other.

    Args:
        flat: (M, C) of all texts' slots, half precision.
        counts: N numbers of slots, whose sum is M.
    """

    def __init__(self, flat: Tensor, counts: Sequence[int]) -> None:
        self.flat, self.counts = flat, list(counts)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)]).tolist()

    def of(self, texts: Sequence[int]) -> Tensor:
        """The states (M', C) of some texts, one after the other."""
        return torch.cat([self.flat[self.starts[text] : self.starts[text + 1]] for text in texts])


def token_states(
    model: Any,
    texts: Sequence[Sequence[Piece]],
    cache_dir: str | Path | None,
    batch_size: int = 32,
    desc: str | None = None,
) -> TokenStates:
    """The states of the slots' tokens, in the layers that slots read; computed, or read from their file.

    Args:
        model: A [`LlinkForCausalLM`] with slots of tokens.
        texts: The pieces of N texts.
        cache_dir: Folder of the files, made when needed; None keeps the states in memory.
        batch_size: Texts in one forward pass.
        desc: Of a bar; none is shown without it.
    """
    processor, layers = model.processor, model.config.slot_layers
    counts = [sum(max(piece.slots) for piece in pieces) for pieces in texts]
    shape = sum(counts), model.config.states_width
    read = [[(piece.ids, piece.slots) for piece in pieces] for pieces in texts]
    spec = {"version": _VERSION, "base": base_fingerprint(model, "encoder"), "layers": layers, "texts": read}
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
    pieces = [piece for of_text in texts for piece in of_text]
    starts = np.concatenate([[0], np.cumsum([max(piece.slots) for piece in pieces])]).tolist()
    order = sorted(range(len(pieces)), key=lambda number: len(pieces[number].ids), reverse=True)
    with tqdm(total=len(order), desc=desc, unit="text", disable=desc is None) as bar, torch.no_grad():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            inputs = {key: value[:, 0] for key, value in processor.pad_passages([[pieces[i]] for i in chosen]).items()}
            states = model.passage_states(inputs["foreign_input_ids"], inputs["foreign_attention_mask"], layers)
            means, kept = slot_means(states, inputs["foreign_slot_index"])  # (n, K, C), (n, K)
            for number, row, real in zip(chosen, means.half().cpu(), kept.cpu(), strict=True):
                found.flat[starts[number] : starts[number + 1]] = row[real]
            bar.update(len(chosen))
    if part is not None:
        flat.flush()
        os.replace(part, path)  # only a finished file is ever found under its name
    return found
