"""Generation that outlives one call: streams of new tokens, and caches that a conversation goes on from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.generation.streamers import BaseStreamer

#: Where a cache keeps what was read into it; transformers' own caches do not know.
_READ = "_llink_read"


class NewTokens(BaseStreamer):
    """Passes on a streamer's tokens without the prompt, whether or not the streamer itself would skip it."""

    def __init__(self, streamer: Any) -> None:
        self.streamer = streamer
        self.prompt_is_next = True

    def put(self, value: Tensor) -> None:
        """Tokens of the prompt first, then each new one."""
        if not self.prompt_is_next or getattr(self.streamer, "skip_prompt", False):
            self.streamer.put(value)
        self.prompt_is_next = False

    def end(self) -> None:
        """No token follows."""
        self.streamer.end()


def cached_length(cache: Any) -> int:
    """Tokens that a cache holds; 0 without one, 1 where it holds some and counts none."""
    if cache is None:
        return 0
    try:
        return int(cache.get_seq_length())
    except ValueError:  # state-space layers alone
        return int(cache.has_previous_state())


def empty(cache: Any, config: PretrainedConfig) -> None:
    """Makes a cache of a decoder with this configuration hold nothing."""
    if isinstance(cache, DynamicCache):  # which some versions of transformers reset to zeros, of the same length
        cache.__init__(config=config, offloading=getattr(cache, "offloading", False))
    else:
        cache.reset()


def holds_beginning(cache: Any, inputs: dict[str, Tensor]) -> bool:
    """Whether a cache is empty or holds the beginning of these inputs.

    It may also be of another conversation, or of an answer whose text is tokenised otherwise than it was generated.

    Args:
        cache: One that [`remember`] was told of, if it is not empty.
        inputs: `input_ids` and `attention_mask` (B, S), `foreign_input_ids` (B, T, L) if there are passages.
    """
    length, ids, read = cached_length(cache), inputs["input_ids"], getattr(cache, _READ, None)
    if length == 0:
        return True
    if read is None or length >= ids.shape[1] or len(read["input_ids"]) != len(ids):
        return False
    rows = zip(read["passages"], _passages(inputs), strict=True)
    return all(old == new[: len(old)] for old, new in rows) and all(
        torch.equal(read[name][:, :length], inputs[name][:, :length]) for name in ("input_ids", "attention_mask")
    )


def remember(cache: Any, inputs: dict[str, Tensor], sequences: Tensor | None) -> None:
    """Notes beside a cache what it holds after generation: prompts and new tokens (B, S'); None if not known."""
    read = None
    if sequences is not None:
        mask = inputs["attention_mask"]
        new = mask.new_ones(len(mask), sequences.shape[1] - mask.shape[1])
        masks = torch.cat([mask, new], dim=1)
        read = {"input_ids": sequences, "attention_mask": masks, "passages": _passages(inputs)}
    setattr(cache, _READ, read)


def _passages(inputs: dict[str, Tensor]) -> list[list[list[int]]]:
    """Each row's passages as encoder tokens without padding."""
    rows = inputs["input_ids"].shape[0]
    if inputs.get("foreign_input_ids") is None:
        return [[] for _ in range(rows)]
    ids, mask = inputs["foreign_input_ids"], inputs["foreign_attention_mask"].bool()
    return [[i[m].tolist() for i, m in zip(*row, strict=True) if m.any()] for row in zip(ids, mask, strict=True)]
