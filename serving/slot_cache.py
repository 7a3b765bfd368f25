"""Slots of passages that come again: the encoder reads each once."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from ..modeling_llink import LlinkForCausalLM


class SlotCache:
    """Slots by the text of their passage; those that were asked for longest ago go first. One thread uses it.

    Args:
        model: The model that makes them.
        max_bytes: What all of them and their texts take at most; with 0 none are kept.

    Attributes:
        hits, misses: Passages that were kept, and that the encoder read.
        bytes: What is kept.
    """

    def __init__(self, model: LlinkForCausalLM, max_bytes: int) -> None:
        self.model, self.max_bytes = model, max_bytes
        self.hits, self.misses, self.bytes = 0, 0, 0
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    @torch.no_grad()
    def slots(self, passages: Sequence[str]) -> list[Tensor]:
        """N passages → the slots (M, d) of each, without what is written out between them; M differs.

        Raises:
            ForeignTextError: If a passage is unusable.
        """
        texts = [str(text) for text in passages]  # not what reading a `Passage` left behind in it
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        self.misses += len(missing)
        self.hits += len(texts) - len(missing)
        found = {text: self._kept[text] for text in texts if text in self._kept} | self._read(missing)
        for text, slots in found.items():
            self._keep(text, slots)
        return [found[text] for text in texts]

    def _read(self, texts: list[str]) -> dict[str, Tensor]:
        if not texts:
            return {}
        processor = self.model.processor
        inputs = processor.pad_passages(processor.read_passages(texts))  # (N, T, L)
        slots, mask = self.model.resolve_slots(**{name: given.to(self.model.device) for name, given in inputs.items()})
        if slots is None:  # nothing but what is written out
            return {text: torch.zeros(0, self.model.config.hidden_size, device=self.model.device) for text in texts}
        return {text: slots[row][mask[row]].to(self.model.device) for row, text in enumerate(texts)}  # (M, d)

    def _keep(self, text: str, slots: Tensor) -> None:
        """Keeps slots as those that were asked for last."""
        if text in self._kept:
            self._kept.move_to_end(text)
            return
        self._kept[text] = slots
        self.bytes += _size(text, slots)
        while self.bytes > self.max_bytes:
            self.bytes -= _size(*self._kept.popitem(last=False))


def _size(text: str, slots: Tensor) -> int:
    return sys.getsizeof(text) + slots.nbytes
