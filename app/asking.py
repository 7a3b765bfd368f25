"""What a page shows about one question: the answer as it grows, and whether it needed the foreign text.

This file travels with a Space, where llink is not installed: of llink it imports only `evaluation/usage.py`, and it
takes the model as the Auto classes load it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import StoppingCriteriaList, TextIteratorStreamer

from ..data.errors import DataError
from ..evaluation.usage import usage_losses, usage_metrics

MAX_QUESTION = 2000
NO_TEXT = "There is no text yet: type or paste a foreign text, or choose an example."
#: Other texts whose slots stand in for the asked one's.
CONTROLS = 3
NEAREST = 5


@dataclass(frozen=True)
class Reply:
    """What is known so far; None is not known yet.

    Attributes:
        answer: The model's answer.
        raw_tokens: Tokens of the prompt with the text written out.
        slot_tokens: Tokens of the prompt with slots in its place.
        usage: `usage_metrics` of the answer, in nats a token: with its slots, without any, with other texts' slots.
        nearest: English sentences with their cosines, the nearest first.
        base: The answer of the base decoder, which reads the text itself.
    """

    answer: str | None = None
    raw_tokens: int | None = None
    slot_tokens: int | None = None
    usage: dict[str, float] | None = None
    nearest: tuple[tuple[float, str], ...] = ()
    base: str | None = None


class Asker:
    """A model with the texts that its answers are compared with.

    Args:
        model: An llink model.
        sentences: English sentences among which the nearest are shown. Without any, or for a model whose teacher space
            was never fitted, none are.
        others: Foreign texts, at least two: the slots of those that were not asked about are the control.
        max_new_tokens: Length of an answer at most.

    Raises:
        DataError: If there are fewer than two distinct other texts.
    """

    def __init__(self, model: Any, sentences: Sequence[str], others: Sequence[str], max_new_tokens: int = 256) -> None:
        self.model, self.sentences, self.max_new_tokens = model.eval(), list(sentences), max_new_tokens
        self.others = list(dict.fromkeys(text.strip() for text in others))
        if len(self.others) < 2:
            raise DataError(f"The usage meter needs two other texts or more, and has {len(self.others)}.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the beginning of a long text is another text, too
            self.other_slots = model.encode_foreign(self.others)  # O of (K, d)
        shows = bool(sentences) and bool(model.teacher_space.fitted)
        self.teachers = F.normalize(model.get_teacher_features(self.sentences), dim=-1) if shows else None  # (N, d)

    @property
    def max_characters(self) -> int:
        """The longest text that the model reads whole."""
        processor = self.model.processor
        return processor.max_foreign_chars * (processor.max_pieces if processor.long_passages == "split" else 1)

    @property
    def default_question(self) -> str:
        """What is asked when no question is given."""
        return self.model.processor.default_prompt

    @property
    def answers(self) -> bool:
        """Whether the decoder has learned to read slots."""
        return self.model.config.stage == "inject"

    def ask(self, text: str, question: str = "", with_base: bool = False) -> Iterator[Reply]:
        """Answers, yielding what is known after each step and each word.

        Args:
            text: The foreign text.
            question: English; the default question when empty.
            with_base: Whether the base decoder answers, too.

        Raises:
            DataError: If the text or the question is unusable, before anything is computed.
        """
        text, question = text.strip(), question.strip() or self.default_question
        inputs = self._checked(text, question)
        message = self.model.processor.user_message(question, [text])
        written = {"role": "user", "content": "".join(part["text"] for part in message["content"])}
        raw_tokens = len(self.model.processor.render([written])[0])
        reply = Reply("", raw_tokens, inputs["input_ids"].shape[1], nearest=self._nearest(text))
        yield reply
        new: list[Tensor] = []
        for answer in self._stream(reply.slot_tokens, new, foreign_text=[text], prompt=question):
            reply = replace(reply, answer=answer)
            yield reply
        reply = replace(reply, usage=self._usage(question, inputs, new[0], text))
        yield reply
        if with_base:
            for answer in self._base(written, raw_tokens):
                reply = replace(reply, base=answer)
                yield reply

    def _checked(self, text: str, question: str) -> Any:
        """The model's inputs.

        Raises:
            DataError: If the text or the question is empty, too long, or holds what cannot be read.
        """
        processor = self.model.processor
        if not text:
            raise DataError(NO_TEXT)
        if len(text) > self.max_characters:
            raise DataError(
                f"The text is too long: the model reads up to {self.max_characters} characters, and it has "
                f"{len(text)}. Shorten it."
            )
        if len(question) > MAX_QUESTION:
            raise DataError(f"The question is too long: {len(question)} characters of up to {MAX_QUESTION}.")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*max_foreign_tokens")
                inputs = processor(question, text)
        except UserWarning as warning:
            raise DataError(
                f"The text is too long: it has more than {processor.max_foreign_tokens} of the encoder's tokens. "
                "Shorten it."
            ) from warning
        except ValueError as error:
            raise DataError(str(error)) from error
        if self._room(length := inputs["input_ids"].shape[1]) < 1:
            raise DataError(f"The question is too long: with it, the prompt has {length} tokens. Shorten it.")
        return inputs.to(self.model.device)

    def _room(self, tokens: int) -> int:
        """The new tokens that fit behind a prompt, as far as the decoder's configuration names its positions."""
        positions = getattr(self.model.decoder.config.get_text_config(), "max_position_embeddings", None)
        return self.max_new_tokens if positions is None else min(self.max_new_tokens, positions - tokens)

    def _stream(self, tokens: int, new: list[Tensor], **prompt: Any) -> Iterator[str]:
        """The answer to a prompt of so many tokens as it grows, word by word; closing the iterator ends it.

        At the end `new` holds its tokens (1, n).
        """
        streamer = TextIteratorStreamer(self.model.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        left, answer = Event(), ""
        stopping = StoppingCriteriaList([lambda ids, scores, **_: torch.full_like(ids[:, 0], left.is_set()).bool()])
        options = {"max_new_tokens": self._room(tokens), "do_sample": False, "stopping_criteria": stopping}
        with ThreadPoolExecutor(1) as pool:
            answering = pool.submit(self.model.generate, **prompt, **options, streamer=streamer)
            answering.add_done_callback(lambda _: streamer.end())  # also when it fails
            try:
                for piece in filter(None, streamer):
                    answer += piece
                    yield answer
            finally:
                left.set()
        new.append(answering.result())

    def _base(self, written: dict[str, str], tokens: int) -> Iterator[str]:
        """The base decoder's answer: prompts without slots run with LoRA off."""
        if self._room(tokens) < 1:
            yield f"(None: written out, the prompt takes {tokens} tokens, more than the decoder can read.)"
        else:
            yield from self._stream(tokens, [], messages=[written])

    def _usage(self, question: str, inputs: Any, new: Tensor, text: str) -> dict[str, float]:
        """Whether the answer (1, n) to a prompt (1, S) about one passage needed that passage's slots."""
        others = [(other, row) for other, row in zip(self.others, self.other_slots, strict=True) if other != text]
        texts, controls = zip(*others[:CONTROLS], strict=True)  # C each
        rows, prompt, processor = len(texts), inputs["input_ids"], self.model.processor
        conversation = [processor.user_message(question, 1)]
        asked = processor.render_batch([conversation] * rows, [[len(slots)] for slots in controls])  # (C, S')
        asked = asked.to(prompt.device)
        slots, mask = self.model.resolve_slots(**{name: inputs[name] for name in inputs if name.startswith("foreign_")})
        batch = {
            **_answered(prompt.expand(rows, -1), torch.ones_like(prompt).expand(rows, -1), new),
            "foreign": {
                "foreign_slots": slots.expand(rows, -1, -1, -1),
                "foreign_mask": mask.expand(rows, -1, -1),
            },
            "shuffled": {
                **_answered(asked["input_ids"], asked["attention_mask"], new),
                **dict(zip(("foreign_slots", "foreign_mask"), self.model.stack_slots(controls), strict=True)),
            },
        }
        losses, tokens = usage_losses(self.model, batch)
        return usage_metrics(losses.cpu(), tokens.cpu())

    def _nearest(self, text: str) -> tuple[tuple[float, str], ...]:
        """The sentences nearest to a text by the cosine of their vectors."""
        if self.teachers is None:
            return ()
        cosines = self.teachers @ F.normalize(self.model.get_foreign_features([text])[0], dim=-1)  # (N,)
        best = cosines.topk(min(NEAREST, len(cosines)))
        return tuple((float(value), self.sentences[i]) for value, i in zip(best.values, best.indices, strict=True))


def _answered(ids: Tensor, mask: Tensor, new: Tensor) -> dict[str, Tensor]:
    """Prompts (C, S), masked, and one answer (1, n) after each: (C, S + n), with labels at the answers."""
    answers = new.to(ids).expand(len(ids), -1)  # (C, n)
    return {
        "input_ids": torch.cat([ids, answers], dim=1),
        "attention_mask": torch.cat([mask, torch.ones_like(answers)], dim=1),
        "labels": torch.cat([torch.full_like(ids, -100), answers], dim=1),
    }
