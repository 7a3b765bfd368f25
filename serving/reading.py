"""What is read of requests, whatever runs the decoder: checked, rendered, its passages made into slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.errors import SlotMismatchError
from ..modeling_llink.passages import Passage, check_passage
from ..modeling_llink.prompts import FOREIGN_PART
from ..modeling_llink.slots import injected
from ..modeling_llink.tokenizing import encode_literal
from .engine import ChatRequest, Limits
from .errors import ApiError
from .slot_cache import SlotCache


@dataclass(frozen=True)
class Prompt:
    """A conversation as the decoder reads it.

    Attributes:
        ids: Its S tokens, with a slot id for each slot.
        passages: Those whose slots stand there, in their order.
        max_tokens: Length of an answer at most.
    """

    ids: list[int]
    passages: list[Passage]
    max_tokens: int


class Reader:
    """Reads requests for a model. Checking is for any thread, what makes slots and vectors for one.

    Args:
        model: An llink model.
        limits: What is taken at most.

    Attributes:
        positions: What the decoder reads, prompt and answer together; None where nothing bounds it.
    """

    def __init__(self, model: LlinkForCausalLM, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.processor = model.processor  # loaded now, not by several threads at once
        self.cache = SlotCache(model, limits.cache_bytes)
        self.positions = getattr(model.decoder.config.get_text_config(), "max_position_embeddings", None)

    # ------------------------------------------------------------------ checking, in any thread

    def chat(self, request: ChatRequest) -> Prompt:
        """A request's prompt.

        Raises:
            ApiError, LlinkError: If it cannot be answered.
        """
        parts = [part for message in request.messages for part in _parts(message)]
        texts = [part.get("text") for part in parts if part.get("type") == FOREIGN_PART]
        if len(texts) > self.limits.max_passages:
            most = self.limits.max_passages
            raise ApiError(400, f"{len(texts)} passages are more than {most}: give fewer.", "too_many_passages")
        self._check_lengths(texts)
        config = self.model.config
        if texts and config.stage != "inject":
            raise ApiError(
                400,
                f"This model's stage is {config.stage!r}: its decoder has not learned to read foreign text. It makes "
                "vectors (/v1/embeddings); for answers serve a model that Stage B trained (`llink inject`).",
                "model_not_trained",
            )
        if not texts and config.lora_merged:
            raise lora_is_merged("serve the model as it was before merging")
        ids, passages = self.processor.render(request.messages)
        if cut := [passage for passage in passages if self.processor.read(passage).cut]:
            raise self._too_long(cut[0])
        return Prompt(ids, passages, self._max_tokens(request, len(ids)))

    def _max_tokens(self, request: ChatRequest, prompt_tokens: int) -> int:
        room = self.limits.max_tokens if self.positions is None else self.positions - prompt_tokens
        max_tokens = request.max_tokens or min(self.limits.max_tokens, room)
        if room < max_tokens or room < 1:
            raise ApiError(
                400,
                f"The prompt has {prompt_tokens} tokens and the answer may have {max(max_tokens, 1)}: the "
                f"decoder reads {self.positions} together. Shorten the conversation, or ask for fewer tokens.",
                "context_length_exceeded",
                "messages",
            )
        return max_tokens

    def _check_lengths(self, texts: Sequence[Any]) -> None:
        """Refuses, before any is tokenised, texts that are longer than the model reads whole."""
        processor = self.processor
        pieces = processor.max_pieces if processor.long_passages == "split" else 1
        for text in texts:
            if isinstance(text, str) and len(text) > processor.max_foreign_chars * pieces:
                raise self._too_long(text)

    def _too_long(self, text: str) -> ApiError:
        chars, tokens = self.processor.max_foreign_chars, self.processor.max_foreign_tokens
        pieces = self.processor.max_pieces if self.processor.long_passages == "split" else 1
        return ApiError(
            400,
            f"The passage that begins with {text[:30]!r} is too long: it has {len(text)} characters, and the model "
            f"reads {pieces} piece(s) of up to {chars} characters and {tokens} tokens. Give it in several parts.",
            "passage_too_long",
        )

    def decode(self, ids: list[int]) -> str:
        """The text of an answer's tokens."""
        return self.processor.decode(ids, skip_special_tokens=True)

    # ------------------------------------------------------------------ what the model makes of them, in one thread

    def batch(
        self, prompts: Sequence[Prompt], beginning: int = 0
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]:
        """B prompts as a model's inputs, on its device.

        Args:
            prompts: All of them.
            beginning: So many tokens, which are in a cache, stand before the padding.

        Returns:
            `input_ids` and `attention_mask` (B, S), padded on the left; slots (B, T, K, d) and which of them are real
            (B, T, K), or None where no prompt has any.
        """
        longest, pad = max(len(prompt.ids) for prompt in prompts), self.processor.pad_token_id
        gaps, rows = [longest - len(prompt.ids) for prompt in prompts], [prompt.ids for prompt in prompts]
        inputs = {
            "input_ids": [ids[:beginning] + [pad] * gap + ids[beginning:] for gap, ids in zip(gaps, rows, strict=True)],
            "attention_mask": [[1] * beginning + [0] * gap + [1] * (longest - gap - beginning) for gap in gaps],
        }
        tensors = {name: torch.tensor(rows, device=self.model.device) for name, rows in inputs.items()}
        made = iter(self.cache.slots([passage for prompt in prompts for passage in prompt.passages]))
        passages = [[next(made) for _ in prompt.passages] for prompt in prompts]
        if not any(passages):
            return tensors, None, None
        slots, mask = self.model.stack_slots(passages)  # (B, T, K, d), (B, T, K)
        return tensors, slots, mask.to(slots.device)

    def embeddings(self, prompt: Prompt) -> Tensor:
        """What the decoder's layers read of a prompt (S, d): its tokens' embeddings, and slots in their places."""
        inputs, slots, mask = self.batch([prompt])
        rows = torch.zeros(0, self.model.config.hidden_size) if slots is None else slots[mask]  # (M, d)
        return embedded(self.model, inputs["input_ids"], rows)

    def vectors(self, texts: Sequence[str], side: str) -> tuple[list[list[float]], int]:
        """N texts → their vectors (N, d) of length one, and how many tokens they have.

        Raises:
            ApiError: If one is too long.
            LlinkError: If one is unusable, or the model is not trained.
        """
        if side == "foreign":
            self._check_lengths(texts)
            read = [self.processor.read(check_passage(text, row)) for row, text in enumerate(texts)]
            if any(one.cut for one in read):
                raise self._too_long(next(text for text, one in zip(texts, read, strict=True) if one.cut))
            tokens = sum(len(piece.ids) for one in read for piece in one.pieces)
        elif self.model.config.lora_merged:
            raise ApiError(
                400,
                "LoRA is merged into this model's decoder, whose vectors of English texts are no longer those that "
                "passages were aligned with: serve the model as it was before merging.",
                "lora_merged",
            )
        else:
            tokenizer = self.processor.tokenizer
            lengths = [len(encode_literal(tokenizer, check_passage(text, row))) for row, text in enumerate(texts)]
            most = self.model.config.teacher_max_tokens
            if max(lengths) > most:
                raise ApiError(400, f"An English text has {max(lengths)} tokens, and {most} are read: shorten it.")
            tokens = sum(lengths)
        return self.model.encode(list(texts), side).tolist(), tokens


@torch.no_grad()
def embedded(model: LlinkForCausalLM, input_ids: Tensor, slots: Tensor) -> Tensor:
    """Ids (1, S) of which M are those of slots, and slots (M, d) → embeddings (S, d).

    Raises:
        SlotMismatchError: If there are not as many slots as places.
    """
    embed, config = model.get_input_embeddings(), model.config
    input_ids = input_ids.to(model.device)
    places = input_ids >= config.reserved_token_start  # (1, S)
    if int(places.sum()) != len(slots):
        raise SlotMismatchError(f"{len(slots)} slots do not fit a prompt with places for {int(places.sum())}.")
    with injected(embed, places, slots):
        return embed(input_ids.masked_fill(places, config.filler_token_id))[0]


def lora_is_merged(remedy: str) -> ApiError:
    """A prompt without foreign text would not get the base decoder's answer."""
    return ApiError(
        400,
        "LoRA is merged into this model's decoder, which therefore no longer answers prompts without foreign text as "
        f"the base does: give a foreign_text part, or {remedy}.",
        "lora_merged",
    )


def _parts(message: Any) -> list[dict[str, Any]]:
    """The parts of a message that are dictionaries; rendering refuses what is none."""
    content = message.get("content") if isinstance(message, dict) else None
    return [part for part in content if isinstance(part, dict)] if isinstance(content, (list, tuple)) else []
