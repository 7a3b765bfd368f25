"""The engine in this process: transformers' `generate`, with requests gathered into batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import StoppingCriteriaList

from ..errors_llink import LlinkError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.passages import check_passage
from ..modeling_llink.prompts import FOREIGN_PART
from ..modeling_llink.tokenizing import encode_literal
from ..store.slot_store import Answer as StoreAnswer
from ..store.slot_store import SlotStore
from .engine import Answer, ChatRequest, Engine, Limits
from .errors import ApiError
from .rows import Row, Rows

logger = logging.getLogger(__name__)

#: Seconds that a request waits for others to share its batch.
GATHER = 0.004


@dataclass(eq=False)
class _Chat:
    """A request that waits; those of one `key` can share a batch."""

    request: ChatRequest
    answer: Answer
    max_tokens: int
    key: tuple
    options: dict[str, Any]

    @property
    def gone(self) -> bool:
        return self.answer.cancelled

    def fail(self, error: Exception) -> None:
        self.answer.put(error)


@dataclass(eq=False)
class _Call:
    """Something else that the model shall do, alone."""

    work: Callable[[], Any]
    result: Future = field(default_factory=Future)

    @property
    def gone(self) -> bool:
        return self.result.cancelled()

    def fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class TransformersEngine(Engine):
    """Runs a model in one thread, for whoever comes first and up to `max_batch` answers that can go with it.

    Requests share a batch where they choose tokens alike and all have foreign text or none has, so that text-only ones
    get the base decoder's answers exactly; a seed asks for a batch of its own. Each row ends by itself.

    Args:
        model: An llink model.
        limits: What is taken at most.
        store: A store of this model, which `ask` asks.
    """

    def __init__(self, model: LlinkForCausalLM, limits: Limits | None = None, store: SlotStore | None = None) -> None:
        self.model, self.limits, self.store = model.eval(), limits or Limits(), store
        self.processor = model.processor  # loaded now, not by several threads at once
        self._positions = getattr(model.decoder.config.get_text_config(), "max_position_embeddings", None)
        self._jobs: list[_Chat | _Call] = []
        self._entering, self._closing = 0, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="llink-engine", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ taking requests, in the event loop

    async def generate(self, request: ChatRequest) -> Answer:
        with self._place():
            prompt_tokens, foreign = await asyncio.to_thread(self._check, request)
            room = self.limits.max_tokens if self._positions is None else self._positions - prompt_tokens
            max_tokens = request.max_tokens or min(self.limits.max_tokens, room)
            if room < max_tokens or room < 1:
                raise ApiError(
                    400,
                    f"The prompt has {prompt_tokens} tokens and the answer may have {max(max_tokens, 1)}: the "
                    f"decoder reads {self._positions} together. Shorten the conversation, or ask for fewer tokens.",
                    "context_length_exceeded",
                    "messages",
                )
            options = self._options(request)
            sampled = options.get("do_sample", self.model.generation_config.do_sample)
            alone = object() if sampled and request.seed is not None else None
            key = (foreign, *sorted(options.items()), alone)
            chat = _Chat(request, Answer(prompt_tokens, request.n), max_tokens, key, options)
            self._enter(chat)
        return chat.answer

    async def embed(self, texts: Sequence[str], side: str) -> tuple[list[list[float]], int]:
        return await self._call(lambda: self._embed(texts, side))

    async def ask(self, question: str, **options: Any) -> StoreAnswer:
        """An answer from the store, with the passages that it was read from.

        Args:
            question, options: As `SlotStore.ask` takes them.

        Raises:
            ApiError: If there is no store; 429 and 503 as `generate`.
            LlinkError: If the question cannot be asked.
        """
        store = self.store
        if store is None:
            raise ApiError(404, "This server has no store: start it with --store.", "no_store")
        return await self._call(lambda: store.ask(question, **options))

    async def _call(self, work: Callable[[], Any]) -> Any:
        call = _Call(work)
        with self._place():
            self._enter(call)
        return await asyncio.wrap_future(call.result)

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """A place among those who wait, kept while a request is checked."""
        with self._changed:
            if not self.alive:
                raise ApiError(503, "The server is stopping: ask another one.", "engine_down", retry_after=5)
            if self.waiting >= self.limits.max_waiting:
                raise ApiError(
                    429, f"{self.waiting} requests wait already: try again later.", "queue_full", retry_after=1
                )
            self._entering += 1
        try:
            yield
        finally:
            with self._changed:
                self._entering -= 1

    def _enter(self, job: _Chat | _Call) -> None:
        with self._changed:
            if not self.alive:
                raise ApiError(503, "The server is stopping: ask another one.", "engine_down", retry_after=5)
            self._jobs.append(job)
            self._changed.notify_all()

    def _check(self, request: ChatRequest) -> tuple[int, bool]:
        """Tokens of a request's prompt, and whether it holds foreign text.

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
            raise ApiError(
                400,
                "LoRA is merged into this model's decoder, which therefore no longer answers prompts without foreign "
                "text as the base does: give a foreign_text part, or serve the model as it was before merging.",
                "lora_merged",
            )
        ids, passages = self.processor.render(request.messages)
        if cut := [passage for passage in passages if self.processor.read(passage).cut]:
            raise self._too_long(cut[0])
        return len(ids), bool(passages)

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

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        """How tokens are chosen, in the words of transformers' `generate`."""
        if request.temperature is None and request.top_p is None:
            return {}
        if request.temperature == 0:
            return {"do_sample": False}
        return {
            "do_sample": True,
            "temperature": 1.0 if request.temperature is None else request.temperature,
            "top_p": 1.0 if request.top_p is None else request.top_p,
            "top_k": self.model.generation_config.top_k or 0,  # transformers' own 50 is nobody's wish
        }

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closing

    @property
    def waiting(self) -> int:
        return self._entering + len(self._jobs)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    # ------------------------------------------------------------------ the model's own thread

    def _work(self) -> None:
        while jobs := self._next():
            try:
                self._run(jobs)
            except LlinkError as error:
                _fail(jobs, error)
            except Exception as error:  # whatever fails on a device: these requests are told, and the next are tried
                logger.exception("A batch of %d requests failed.", len(jobs))
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                _fail(jobs, ApiError(503, f"The engine failed ({reason}): try again.", "engine_failed", retry_after=1))

    def _next(self) -> list[_Chat | _Call]:
        """The oldest request and what can go with it; nothing when the engine closes."""
        with self._changed:
            jobs: list[_Chat | _Call] = []
            deadline = 0.0
            while True:
                self._jobs = [job for job in self._jobs if not job.gone]
                jobs = self._companions()
                deadline = deadline or (time.monotonic() + GATHER if jobs else 0.0)
                left = deadline - time.monotonic()
                if self._closing:
                    stopped = ApiError(503, "The server is stopping: ask another one.", "engine_down", retry_after=5)
                    _fail(self._jobs, stopped)
                    return []
                if jobs and (left <= 0 or isinstance(jobs[0], _Call) or _rows_of(jobs) >= self.limits.max_batch):
                    self._jobs = [job for job in self._jobs if job not in jobs]
                    return jobs
                self._changed.wait(left if jobs else None)

    def _companions(self) -> list[_Chat | _Call]:
        """The oldest job that waits and those that can share its batch.

        A row that has ended is padded until the last one ends: it must not pass the decoder's last position.
        """
        if not self._jobs or isinstance(self._jobs[0], _Call):
            return self._jobs[:1]
        first, chosen = self._jobs[0], list[_Chat]()
        for job in self._jobs:
            if isinstance(job, _Call) or job.key != first.key:
                continue
            together = [*chosen, job]
            length = max(one.answer.prompt_tokens for one in together) + max(one.max_tokens for one in together)
            fits = self._positions is None or length <= self._positions
            if not chosen or (fits and _rows_of(together) <= self.limits.max_batch):
                chosen = together
        return [*chosen]

    def _run(self, jobs: list[_Chat | _Call]) -> None:
        if isinstance(jobs[0], _Call):
            call = jobs[0]
            if call.result.set_running_or_notify_cancel():
                call.result.set_result(call.work())
            return
        chats = [job for job in jobs if isinstance(job, _Chat)]
        pairs = [(chat, index) for chat in chats for index in range(chat.request.n)]
        rows = [Row(chat.request, chat.answer, index, chat.max_tokens, self._decode) for chat, index in pairs]
        seed = chats[0].request.seed
        with torch.random.fork_rng() if seed is not None else contextlib.nullcontext():
            if seed is not None:
                torch.manual_seed(seed)
            self.model.generate(
                messages=[chat.request.messages for chat, _ in pairs],
                max_new_tokens=max(chat.max_tokens for chat in chats),
                num_beams=1,
                num_return_sequences=1,
                stopping_criteria=StoppingCriteriaList([Rows(rows, self._end_ids())]),
                **chats[0].options,
            )

    def _decode(self, ids: list[int]) -> str:
        return self.processor.decode(ids, skip_special_tokens=True)

    def _end_ids(self) -> set[int]:
        ids = self.model.generation_config.eos_token_id
        ids = self.processor.tokenizer.eos_token_id if ids is None else ids
        return set(ids) if isinstance(ids, (list, tuple)) else {ids}

    def _embed(self, texts: Sequence[str], side: str) -> tuple[list[list[float]], int]:
        if side == "foreign":
            self._check_lengths(texts)
            read = [self.processor.read(check_passage(text, row)) for row, text in enumerate(texts)]
            if any(one.cut for one in read):
                raise self._too_long(next(text for text, one in zip(texts, read, strict=True) if one.cut))
            tokens = sum(len(piece.ids) for one in read for piece in one.pieces)
        else:
            tokenizer = self.processor.tokenizer
            lengths = [len(encode_literal(tokenizer, check_passage(text, row))) for row, text in enumerate(texts)]
            most = self.model.config.teacher_max_tokens
            if max(lengths) > most:
                raise ApiError(400, f"An English text has {max(lengths)} tokens, and {most} are read: shorten it.")
            tokens = sum(lengths)
        return self.model.encode(list(texts), side).tolist(), tokens


def _fail(jobs: Sequence[_Chat | _Call], error: Exception) -> None:
    for job in jobs:
        job.fail(error)


def _rows_of(jobs: Sequence[_Chat | _Call]) -> int:
    return sum(job.request.n if isinstance(job, _Chat) else 1 for job in jobs)


def _parts(message: Any) -> list[dict[str, Any]]:
    """The parts of a message that are dictionaries; rendering refuses what is none."""
    content = message.get("content") if isinstance(message, dict) else None
    return [part for part in content if isinstance(part, dict)] if isinstance(content, (list, tuple)) else []
