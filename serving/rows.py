"""Rows of a batch that is being generated: each ends by rules of its own, and tells its reader what is new."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from ..modeling_llink import LlinkForCausalLM
from .engine import Answer, ChatRequest, Delta

#: What a decoder writes for bytes that are no character yet.
_TORN = "\ufffd"


class Row:
    """One answer of a request.

    Args:
        request, answer: Whose it is.
        index: Which of the request's answers.
        max_tokens: Its length at most.
        decode: Token ids → text.
    """

    def __init__(
        self, request: ChatRequest, answer: Answer, index: int, max_tokens: int, decode: Callable[[list[int]], str]
    ) -> None:
        self._request, self._answer, self._index = request, answer, index
        self._max_tokens, self._decode = max_tokens, decode
        self._ids: list[int] = []
        self._sent, self._tokens = "", 0
        self.done = False

    def put(self, token: int, ends: bool) -> None:
        """Takes the next token; `ends` where it is one that ends answers. After the end, whatever pads the row."""
        if self.done or self._answer.cancelled:
            self.done = True
            return
        self._tokens += 1
        self._ids += [] if ends else [token]
        finish = "stop" if ends else "length" if self._tokens >= self._max_tokens else None
        if finish or self._request.stream or self._request.stop:
            self._tell(self._decode(self._ids), finish)

    def end(self, finish: str) -> None:
        """The answer has ended, and this is why."""
        if not self.done:
            self._tell(self._decode(self._ids), finish)

    def _tell(self, text: str, finish: str | None) -> None:
        stops = self._request.stop
        if places := [place for stop in stops if (place := text.find(stop)) >= 0]:
            text, finish = text[: min(places)], "stop"
        elif finish is None:
            text = _settled(text, stops)
        if finish or (self._request.stream and text.startswith(self._sent) and text != self._sent):
            new = text[len(self._sent) :] if text.startswith(self._sent) else ""
            self._answer.put(Delta(self._index, new, finish, self._tokens if finish else 0))
            self._sent = text
        self.done = finish is not None


def _settled(text: str, stops: Sequence[str]) -> str:
    """The beginning of a text that stays as it is, whatever follows: a character or a stop may be half there."""
    text = text.rstrip(_TORN)
    held = [length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])]
    return text[: len(text) - max(held, default=0)]


class Rows(StoppingCriteria):
    """Hands each new token to its row, and tells transformers' `generate` which rows have ended.

    Args:
        rows: Those of the batch.
        end_ids: Tokens that end an answer.
    """

    def __init__(self, rows: Sequence[Row], end_ids: Collection[int]) -> None:
        self.rows, self.end_ids = rows, end_ids

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """(B, S) ids → (B,) true at the rows that have ended."""
        for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True):
            row.put(token, token in self.end_ids)
        return torch.tensor([row.done for row in self.rows], device=input_ids.device)


def end_ids(model: LlinkForCausalLM) -> set[int]:
    """Tokens that end a model's answers."""
    ids = model.generation_config.eos_token_id
    ids = model.processor.tokenizer.eos_token_id if ids is None else ids
    return set(ids) if isinstance(ids, (list, tuple)) else {ids}
