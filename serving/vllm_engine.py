"""The engine in another process: a stock vLLM, which is handed each prompt's embeddings."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import torch
from torch import Tensor

from ..errors_llink import LlinkError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.lora import lora_rows
from ..modeling_llink.prompts import FOREIGN_PART
from ..store.slot_store import Answer as StoreAnswer
from ..store.slot_store import SlotStore
from .engine import Answer, ChatRequest, Engine, Limits
from .errors import ApiError, no_store
from .reading import Prompt, Reader, embedded, lora_is_merged
from .rows import Row, end_ids

logger = logging.getLogger(__name__)

#: Seconds to a connection, and between two tokens.
CONNECT, READ = 5, 600
#: A prompt to which an engine's log-probabilities are compared with the model's, of so many tokens; more is another
#: decoder. What rounding in half precision does is a tenth of it.
_SAMPLE = [{"role": "user", "content": [{"type": FOREIGN_PART, "text": "ក្មេងទៅសាលា"}]}]
_COMPARED, FAR = 8, 1.0


class _Followed(Answer):
    """An answer that a task of the event loop brings; without a reader the task ends, and vLLM with it."""

    task: asyncio.Task | None = None

    def cancel(self) -> None:
        super().cancel()
        if self.task is not None:
            self.task.cancel()


class VllmEngine(Engine):
    """Encodes here and lets vLLM answer, which gathers, caches beginnings, and is spread over devices by itself.

    vLLM holds the decoder that `llink export` wrote, and is started with `--enable-prompt-embeds`. When it is first
    reached, and after each time that it was not, its log-probabilities must be this model's. LoRA is merged there, so
    prompts without foreign text are refused; digits of translations are not held to those of the text.

    Args:
        model: The model whose decoder vLLM holds.
        url: vLLM's address, such as `http://127.0.0.1:8000`.
        limits: What is taken at most.
        store: A store of this model, which `ask` asks.
    """

    def __init__(
        self, model: LlinkForCausalLM, url: str, limits: Limits | None = None, store: SlotStore | None = None
    ) -> None:
        self.model, self.limits, self.store = model.eval(), limits or Limits(), store
        self.reader = Reader(self.model, self.limits)
        self.url = url.rstrip("/").removesuffix("/v1")
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=httpx.Timeout(READ, connect=CONNECT),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,  # it is reached directly, whatever proxy the environment names
        )
        self._thread = ThreadPoolExecutor(1, "llink-reader")
        self._known, self._closing = False, False
        self._places: set[object] = set()  # of requests that wait for their first token
        self._endings: set[asyncio.Future] = set()  # responses that are being closed
        self._recognising = asyncio.Lock()
        if "number" in model.config.literals:
            logger.warning("vLLM does not hold digits of translations to those of the text, as `generate` does.")

    # ------------------------------------------------------------------ requests

    async def generate(self, request: ChatRequest) -> Answer:
        with self._place() as place:
            prompt = await asyncio.to_thread(self.reader.chat, request)
            if not prompt.passages:
                raise lora_is_merged("ask a server whose engine is transformers'")
            await self._recognise()
            embeddings = await self._read(lambda: self.reader.embeddings(prompt))
            return await self._answer(request, prompt, embeddings, place)

    async def embed(self, texts: Sequence[str], side: str) -> tuple[list[list[float]], int]:
        with self._place() as place:
            made = await self._read(lambda: self.reader.vectors(texts, side))
            self._places.discard(place)
        return made

    async def ask(self, question: str, max_new_tokens: int = 256, **options: Any) -> StoreAnswer:
        if self.store is None:
            raise no_store()
        store, request = self.store, ChatRequest([], max_new_tokens, temperature=0)
        with self._place() as place:
            await self._recognise()
            reading = await self._read(lambda: store.reading(question, **options))
            embeddings = await self._read(lambda: embedded(self.model, reading.input_ids, torch.cat(reading.slots)))
            prompt = Prompt(reading.input_ids[0].tolist(), [], max_new_tokens)
            answer = await self._answer(request, prompt, embeddings, place)
        try:
            return StoreAnswer("".join([delta.text async for delta in answer]).strip(), reading.found)
        finally:
            answer.cancel()

    @property
    def waiting(self) -> int:
        return len(self._places)

    async def healthy(self) -> bool:
        try:
            return not self._closing and (await self._http.get("/health", timeout=CONNECT)).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self._closing = True
        self._thread.shutdown(cancel_futures=True)

    @contextlib.contextmanager
    def _place(self) -> Iterator[object]:
        """A place among those who wait; whoever's block ends well leaves it when the first token is there."""
        if self._closing:
            raise ApiError(503, "The server is stopping: ask another one.", "engine_down", retry_after=5)
        if self.waiting >= self.limits.max_waiting:
            raise ApiError(429, f"{self.waiting} requests wait already: try again later.", "queue_full", retry_after=1)
        place = object()
        self._places.add(place)
        try:
            yield place
        except BaseException:
            self._places.discard(place)
            raise

    async def _read(self, work: Callable[[], Any]) -> Any:
        """What the model makes, in the thread that is its own."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # ------------------------------------------------------------------ vLLM

    async def _answer(self, request: ChatRequest, prompt: Prompt, embeddings: Tensor, place: object) -> Answer:
        """The answer to a prompt (S, d), as it comes."""
        body = {
            **_asked(embeddings),
            **self._sampling(request),
            "max_tokens": prompt.max_tokens,
            "n": request.n,
            "stop": list(request.stop),
            "seed": request.seed,
            "stream": True,
        }
        response = await self._send(body)
        answer = _Followed(len(prompt.ids), request.n)
        rows = [Row(request, answer, index, prompt.max_tokens, self.reader.decode) for index in range(request.n)]
        answer.task = asyncio.ensure_future(self._follow(response, answer, rows, place))

        def over(_: Any) -> None:  # also if it was cancelled before it began
            self._places.discard(place)
            ending = asyncio.ensure_future(response.aclose())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

        answer.task.add_done_callback(over)
        return answer

    async def _follow(self, response: httpx.Response, answer: Answer, rows: list[Row], place: object) -> None:
        """Hands each token to its row; what goes wrong on the way ends the answer."""
        ends = end_ids(self.model)
        try:
            async for event in _events(response):
                self._places.discard(place)
                for choice in event["choices"]:
                    row = rows[choice["index"]]
                    for token in choice["token_ids"] or ():
                        row.put(token, token in ends)
                    if (reason := choice["finish_reason"]) in ("stop", "length"):
                        row.end(reason)
                    elif reason is not None:
                        raise _broken_off(f"finish_reason {reason}")
                if all(row.done for row in rows):
                    return
            raise _broken_off("its stream ended")
        except LlinkError as error:
            answer.put(error)
        except httpx.HTTPError as error:
            answer.put(self._lost(error))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            answer.put(self._strange(error))

    async def _send(self, body: dict[str, Any]) -> httpx.Response:
        """The engine's response, whose body is still to come.

        Raises:
            ApiError: If the engine is down, or refuses.
        """
        request = self._http.build_request("POST", "/v1/completions", json=body)
        try:
            response = await self._http.send(request, stream=True)
            if response.status_code != 200:
                await response.aread()
                await response.aclose()
        except httpx.HTTPError as error:
            raise self._lost(error) from error
        if response.status_code == 200:
            return response
        try:
            told = response.json()["error"]["message"]
        except (KeyError, TypeError, ValueError):
            told = response.text[:200] or response.reason_phrase
        if response.status_code in (400, 422, 429):
            raise ApiError(response.status_code, f"The engine refuses this request: {told}", "engine_refused")
        raise ApiError(503, f"The engine at {self.url} failed ({response.status_code}: {told}).", "engine_failed")

    def _lost(self, error: httpx.HTTPError) -> ApiError:
        self._known = False
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        return ApiError(503, f"The engine at {self.url} does not answer ({reason}).", "engine_down", retry_after=5)

    def _strange(self, error: Exception) -> ApiError:
        return ApiError(
            503,
            f"The engine at {self.url} answers in a shape that is not vLLM's ({type(error).__name__}: {error}): serve "
            "the exported decoder with a vLLM that knows prompt_embeds and return_token_ids (0.32 does).",
            "engine_failed",
        )

    def _sampling(self, request: ChatRequest) -> dict[str, Any]:
        """How tokens are chosen, in vLLM's words: all of it, as its own defaults are of the folder that it holds."""
        config = self.model.generation_config
        temperature, top_p = request.temperature, request.top_p
        if temperature is None and top_p is None:
            temperature, top_p = (config.temperature, config.top_p) if config.do_sample else (0.0, None)
        return {
            "temperature": 1.0 if temperature is None else temperature,
            "top_p": 1.0 if top_p is None else top_p,
            "top_k": config.top_k or 0,
        }

    # ------------------------------------------------------------------ is it this model's decoder?

    async def _recognise(self) -> None:
        """Refuses an engine whose log-probabilities are not this model's, once after each time that it was down.

        Raises:
            ApiError: If it is another decoder's, or does not answer.
        """
        async with self._recognising:
            if self._known:
                return
            prompt = Prompt(*self.reader.processor.render(_SAMPLE), _COMPARED)
            embeddings = await self._read(lambda: self.reader.embeddings(prompt))
            body = {"max_tokens": _COMPARED, "temperature": 0, "logprobs": 0, "ignore_eos": True}
            response = await self._send({**_asked(embeddings), **body})
            try:
                choice = json.loads(await response.aread())["choices"][0]
                tokens, theirs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
                own = await self._read(lambda: self._log_probabilities(embeddings, tokens))
                distance = max(abs(one - other) for one, other in zip(own, theirs, strict=True))
            except httpx.HTTPError as error:
                raise self._lost(error) from error
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise self._strange(error) from error
            finally:
                await response.aclose()
            if not distance <= FAR:  # which NaN is not
                raise ApiError(
                    503,
                    f"The engine at {self.url} holds another decoder than this model's: its log-probabilities are off "
                    f"by up to {distance:.1f}. Serve what `llink export` writes of this model.",
                    "engine_mismatch",
                )
            self._known = True

    @torch.no_grad()
    def _log_probabilities(self, embeddings: Tensor, tokens: list[int]) -> list[float]:
        """Log-probabilities of an answer's tokens behind a prompt (S, d), by the model here."""
        ids = torch.tensor(tokens, device=embeddings.device)
        rows = torch.cat([embeddings, self.model.get_input_embeddings()(ids)])[None]  # (1, S + tokens, d)
        with lora_rows(True, rows.shape[1]):
            logits = self.model.decoder(inputs_embeds=rows).logits[0, len(embeddings) - 1 : -1]  # (tokens, V)
        chosen = logits.float().log_softmax(dim=-1).gather(1, ids.to(logits.device)[:, None])[:, 0]
        return [value if math.isfinite(value) else math.nan for value in chosen.tolist()]


def _asked(embeddings: Tensor) -> dict[str, Any]:
    """A prompt (S, d) as vLLM's completions take it: base64 of what `torch.save` writes."""
    file = io.BytesIO()
    torch.save(embeddings.cpu().contiguous(), file)
    return {"prompt_embeds": base64.b64encode(file.getvalue()).decode(), "return_token_ids": True}


async def _events(response: httpx.Response) -> AsyncIterator[Any]:
    """What a stream of server-sent events holds, until its end.

    Raises:
        ApiError: If one of them is an error.
    """
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            return
        if line.startswith("data: "):
            event = json.loads(line[6:])
            if "error" in event:
                raise _broken_off(event["error"].get("message"))
            yield event


def _broken_off(reason: str | None) -> ApiError:
    return ApiError(503, f"The engine broke its answer off ({reason}): try again.", "engine_failed", retry_after=1)
