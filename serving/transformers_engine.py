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
from ..modeling_llink.bases import CACHE
from ..modeling_llink.continuing import cached_length
from ..store.slot_store import Answer as StoreAnswer
from ..store.slot_store import SlotStore
from .beginnings import Beginnings
from .engine import Answer, ChatRequest, Engine, Limits
from .errors import ApiError, no_store
from .reading import Prompt, Reader
from .rows import Row, Rows, end_ids

logger = logging.getLogger(__name__)

#: Seconds that a request waits for others to share its batch: at least, and while others are being checked.
GATHER, LONGEST_GATHER = 0.004, 0.05


@dataclass(eq=False)
class _Chat:
    """A request that waits; those of one `key` can share a batch."""

    request: ChatRequest
    answer: Answer
    prompt: Prompt
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
        self.reader = Reader(self.model, self.limits)
        self.beginnings = Beginnings(self.model, self.limits.cache_bytes)
        self._jobs: list[_Chat | _Call] = []
        self._entering, self._closing = 0, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="llink-engine", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ taking requests, in the event loop

    async def generate(self, request: ChatRequest) -> Answer:
        with self._place():
            prompt = await asyncio.to_thread(self.reader.chat, request)
            options = self._options(request)
            sampled = options.get("do_sample", self.model.generation_config.do_sample)
            alone = object() if sampled and request.seed is not None else None
            key = (bool(prompt.passages), *sorted(options.items()), alone)
            chat = _Chat(request, Answer(len(prompt.ids), request.n), prompt, key, options)
            self._enter(chat)
        return chat.answer

    async def embed(self, texts: Sequence[str], side: str) -> tuple[list[list[float]], int]:
        return await self._call(lambda: self.reader.vectors(texts, side))

    async def ask(self, question: str, **options: Any) -> StoreAnswer:
        store = self.store
        if store is None:
            raise no_store()
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
                self._changed.notify_all()

    def _enter(self, job: _Chat | _Call) -> None:
        with self._changed:
            if not self.alive:
                raise ApiError(503, "The server is stopping: ask another one.", "engine_down", retry_after=5)
            self._jobs.append(job)
            self._changed.notify_all()

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

    async def healthy(self) -> bool:
        return self.alive

    @property
    def alive(self) -> bool:
        """Whether its thread runs and takes requests."""
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
            since = 0.0
            while True:
                self._jobs = [job for job in self._jobs if not job.gone]
                jobs = self._companions()
                since = since or (time.monotonic() if jobs else 0.0)
                left = since + (LONGEST_GATHER if self._entering else GATHER) - time.monotonic()
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
            length = max(one.answer.prompt_tokens for one in together) + max(one.prompt.max_tokens for one in together)
            fits = self.reader.positions is None or length <= self.reader.positions
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
        decode, prompts = self.reader.decode, [chat.prompt for chat, _ in pairs]
        rows = [Row(chat.request, chat.answer, index, chat.prompt.max_tokens, decode) for chat, index in pairs]
        seed = chats[0].request.seed
        with torch.no_grad(), torch.random.fork_rng() if seed is not None else contextlib.nullcontext():
            if seed is not None:
                torch.manual_seed(seed)
            cache = self.beginnings.of([prompt.ids for prompt in prompts], bool(prompts[0].passages))
            inputs, slots, mask = self.reader.batch(prompts, cached_length(cache))
            settings = {
                "max_new_tokens": max(prompt.max_tokens for prompt in prompts),
                "num_beams": 1,
                "num_return_sequences": 1,
                "stopping_criteria": StoppingCriteriaList([Rows(rows, end_ids(self.model))]),
                **({} if mask is None else {"foreign_mask": mask}),
                **({} if cache is None else {CACHE: cache}),
                **chats[0].options,
                **inputs,
            }
            # What `generate(messages=…)` does when it has rendered them and encoded their passages.
            self.model._string_defaults(settings)
            self.model._generate(None, slots, None, settings)


def _fail(jobs: Sequence[_Chat | _Call], error: Exception) -> None:
    for job in jobs:
        job.fail(error)


def _rows_of(jobs: Sequence[_Chat | _Call]) -> int:
    return sum(job.request.n if isinstance(job, _Chat) else 1 for job in jobs)
