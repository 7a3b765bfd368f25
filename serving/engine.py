"""What answers requests, whatever runs the decoder: the interface between the server and an engine."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..store.slot_store import Answer as StoreAnswer
    from ..store.slot_store import SlotStore
    from .reading import Reader


@dataclass(frozen=True)
class Limits:
    """What a server takes at most.

    Attributes:
        max_waiting: Requests that wait; one more is told to come again.
        max_batch: Answers that are generated together, and choices of one request.
        max_tokens: Length of an answer, and what it is when a request does not say.
        max_body: Bytes of a request.
        max_passages: Foreign passages of a request, and texts of one for vectors.
        cache_bytes: What slots of passages, kept for when these come again, take; and the keys and values of beginnings
            that prompts share take as much.
    """

    max_waiting: int = 64
    max_batch: int = 16
    max_tokens: int = 512
    max_body: int = 2**20
    max_passages: int = 64
    cache_bytes: int = 64 * 2**20


@dataclass(frozen=True)
class ChatRequest:
    """A conversation to be answered.

    Attributes:
        messages: As `processor.apply_chat_template` takes them.
        max_tokens: Length of an answer at most; the server's when not given.
        temperature, top_p: 0 is greedy; the model's own way of choosing tokens when neither is given.
        n: Answers.
        stop: Texts before which an answer ends.
        seed: The same seed gives the same answers.
        stream: Whether the answer is wanted as it grows.
    """

    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    seed: int | None = None
    stream: bool = False


@dataclass(frozen=True)
class Delta:
    """What is new of one answer of a request.

    Attributes:
        index: Which of its `n`.
        text: What follows the text of the deltas before.
        finish_reason: `stop` or `length` in its last delta.
        tokens: Then how many it has.
    """

    index: int
    text: str
    finish_reason: str | None = None
    tokens: int = 0


class Answer:
    """The answers to a request as they grow, made in one thread and read in the event loop's: `async for delta in …`.

    Args:
        prompt_tokens: Tokens of the request's prompt.
        n: Answers that are awaited.
    """

    def __init__(self, prompt_tokens: int, n: int) -> None:
        self.prompt_tokens, self._n = prompt_tokens, n
        self._loop, self._new = asyncio.get_running_loop(), asyncio.Queue[Delta | Exception]()
        self._cancelled = threading.Event()

    def put(self, item: Delta | Exception) -> None:
        """Adds what is new, or why nothing more comes; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._new.put_nowait, item)
        except RuntimeError:  # the loop is closed: nobody reads any more
            self.cancel()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        left = self._n
        while left:
            item = await self._new.get()
            if isinstance(item, Exception):
                raise item
            left -= item.finish_reason is not None
            yield item

    def cancel(self) -> None:
        """Nobody waits for it any more: its place is free from the next token on."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for it."""
        return self._cancelled.is_set()


class Engine(ABC):
    """Generates answers and makes vectors.

    Attributes:
        limits: What it takes at most.
        reader: What reads its requests.
        store: A store of its model, which `ask` asks.
    """

    limits: Limits
    reader: Reader
    store: SlotStore | None

    @abstractmethod
    async def generate(self, request: ChatRequest) -> Answer:
        """Checks a request and lets it wait for its turn.

        Raises:
            ApiError: If it cannot be answered: 400, 429 where too many wait, 503 where the engine is stopped.
            LlinkError: If a message or a passage is unusable.
        """

    @abstractmethod
    async def embed(self, texts: Sequence[str], side: str) -> tuple[list[list[float]], int]:
        """N texts → their vectors (N, d) of length one, and how many tokens they have.

        Args:
            texts: Foreign or English.
            side: `foreign` or `english`.

        Raises:
            ApiError: As `generate`.
            LlinkError: If a text is unusable, or the model is not trained.
        """

    @abstractmethod
    async def ask(self, question: str, **options: Any) -> StoreAnswer:
        """An answer from the store, with the passages that it was read from.

        Args:
            question, options: As `SlotStore.ask` takes them.

        Raises:
            ApiError: If there is no store; 429 and 503 as `generate`.
            LlinkError: If the question cannot be asked.
        """

    @abstractmethod
    async def healthy(self) -> bool:
        """Whether requests are answered."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Requests that wait for their turn."""

    @abstractmethod
    def close(self) -> None:
        """Takes no more requests, ends what runs, and returns when that is done."""
