"""Beginnings that prompts share, such as a system prompt and an instruction: the decoder reads each once."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.bases import CACHE

#: Tokens below which a beginning is not worth a pass of its own.
LEAST = 16
#: Batches whose beginnings are remembered, to see which come again.
REMEMBERED = 16
#: Whether LoRA is on, and the tokens.
Key = tuple[bool, tuple[int, ...]]


class Beginnings:
    """Keys and values of shared beginnings; those that were asked for longest ago go first. One thread uses it.

    Only decoders whose layers all keep every token are served: rows that share a beginning are padded behind it, which
    a sliding window or a state would count.

    Args:
        model: The model that reads them.
        max_bytes: What all of them take at most; with 0 none are kept.

    Attributes:
        hits: Rows whose beginning was kept.
        bytes: What is kept.
    """

    def __init__(self, model: LlinkForCausalLM, max_bytes: int) -> None:
        self.model, self.max_bytes = model, max_bytes
        self.hits, self.bytes = 0, 0
        self._kept: OrderedDict[Key, list[tuple[Tensor, Tensor]]] = OrderedDict()
        self._recent = deque[Key](maxlen=REMEMBERED)
        self._room: int | None = None  # tokens of one that fits; known when one was read
        layers = self._empty().layers if model._supports_default_dynamic_cache() else []
        self._usable = bool(layers) and all(type(layer) is DynamicLayer for layer in layers)

    def of(self, rows: Sequence[list[int]], lora: bool) -> DynamicCache | None:
        """What a batch begins with, to be generated from: a cache of B rows; None where nothing is kept for it.

        A beginning is kept when a later batch has it too, or three rows at once.

        Args:
            rows: B prompts (S,) with a reserved id for each slot: beginnings end before the first.
            lora: Whether LoRA is on in them.
        """
        if not self._usable or not self.max_bytes or self.model.generation_config.cache_implementation is not None:
            return None
        shared = self._shared(rows)
        own = [key for key in self._kept if key[0] == lora and shared[: len(key[1])] == key[1]]
        key = max(own, key=lambda one: len(one[1]), default=(lora, ()))
        again = [_common(shared, tokens) for was, tokens in self._recent if was == lora]
        best = (shared if len(rows) > 2 else shared[: max(again, default=0)])[: self._room]
        self._recent.append((lora, shared))
        if len(best) >= len(key[1]) + LEAST:
            key = (lora, best)
            self._keep(key)
        elif key in self._kept:
            self.hits += len(rows)
            self._kept.move_to_end(key)
        kept = self._kept.get(key)
        return None if kept is None else self._filled(kept, len(rows))

    def _shared(self, rows: Sequence[list[int]]) -> tuple[int, ...]:
        """What all rows begin with, up to the first slot; of each at least one token is left to be read."""
        first = rows[0][: min(map(len, rows)) - 1]
        start = self.model.config.reserved_token_start
        first = first[: next((place for place, token in enumerate(first) if token >= start), len(first))]
        return tuple(first[: min(_common(first, row) for row in rows)])

    @torch.no_grad()
    def _keep(self, key: Key) -> None:
        lora, tokens = key
        cache = self._empty()
        ids = torch.tensor([tokens], device=self.model.device)
        self.model(input_ids=ids, use_cache=True, logits_to_keep=1, reads_slots=[lora], **{CACHE: cache})
        self._kept[key] = [(layer.keys, layer.values) for layer in cache.layers]
        self.bytes += _size(self._kept[key])
        self._room = self.max_bytes * len(tokens) // _size(self._kept[key])
        while self.bytes > self.max_bytes:
            self.bytes -= _size(self._kept.popitem(last=False)[1])

    def _filled(self, kept: list[tuple[Tensor, Tensor]], rows: int) -> DynamicCache:
        cache = self._empty()
        for number, (keys, values) in enumerate(kept):  # (1, H, P, d), copied as the cache takes them
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)
        return cache

    def _empty(self) -> DynamicCache:
        return DynamicCache(config=self.model.decoder.config)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _size(kept: list[tuple[Tensor, Tensor]]) -> int:
    return sum(keys.nbytes + values.nbytes for keys, values in kept)
