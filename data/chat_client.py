"""Asks a language model through any OpenAI-compatible server: retries, a rate limit, and the format of its answers.

The judge (`evaluation/judge_client.py`) and the synthesis of instructions (`synthesis/`) ask through it.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import math
import os
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

from huggingface_hub import AsyncInferenceClient, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from ..errors_llink import LlinkConfigError
from .chat_settings import RESPONSE_FORMATS, WARMER, ServerSettings
from .errors import ServerError

#: UTF-8 bytes that one token stands for, on average over English text.
BYTES_PER_TOKEN = 4
_LONGEST_WAIT = 60.0
#: Client errors that go away by waiting: timeout, too early, too many requests.
_PASSING = (408, 425, 429)
#: Codes with which servers refuse a request that they do not understand.
_NOT_UNDERSTOOD = (400, 422)
#: Codes that can be about one message alone: its content, or its length.
_ABOUT_MESSAGE = (400, 413, 422)
#: How they say that it is the message that they refuse, and not its form.
_TOO_LONG = re.compile(r"context[ _-]?(window|size)|length|too long|\btokens\b", re.IGNORECASE)
#: What a call can fail with: the connection, the clock, or a body that is not what it should be.
_FAILURES = (HTTPError, ValueError, TypeError, AttributeError, TimeoutError, RecursionError)
#: Bytes of an answer's body, beside its tokens, at most; and characters of a text in which objects are looked for.
_LARGEST_BODY, _LONGEST_TEXT = 16 * 2**20, 2**20
_MOST_STARTS = 1_000
Messages = Sequence[Mapping[str, str]]
Job = TypeVar("Job")


@dataclass(frozen=True)
class Reply:
    """What a call gave.

    Attributes:
        text: Of the answer.
        response_format: One of `RESPONSE_FORMATS` that the server did not refuse; it may have ignored it.
        prompt_tokens: As the server counted them; 0 where it does not say.
        completion_tokens: Likewise.
    """

    text: str
    response_format: str
    prompt_tokens: int
    completion_tokens: int


def read_api_key(settings: ServerSettings) -> str | None:
    """The key for the server, from the environment; None when it is to be asked without one.

    Raises:
        LlinkConfigError: If the named variable is not set, if Hugging Face's servers would be asked without a token,
            or if huggingface_hub is offline: it then makes no calls at all, not even to one's own server.
    """
    if constants.is_offline_mode():
        raise LlinkConfigError("HF_HUB_OFFLINE is set, and huggingface_hub then calls no server: set it to 0.")
    if settings.api_key_env is not None:
        key = os.environ.get(settings.api_key_env)
        if not key:
            raise LlinkConfigError(f"The environment variable {settings.api_key_env} of --api-key-env is not set.")
        return key
    if settings.server_url is not None:
        return None
    token = get_token() or ""
    if not token.startswith("hf_"):
        raise LlinkConfigError(
            f"Hugging Face's providers need a token: set HF_TOKEN, or give the {settings.flag('url')} of a server."
        )
    return token


class ChatClient:
    """Makes the calls, within `async with client:`.

    Args:
        settings: The server, sampling, and patience.

    Attributes:
        stopped: Set it when the work is given up: a call that fails then is not repeated.

    Raises:
        LlinkConfigError: As [`read_api_key`].
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings, self.stopped = settings, False
        self._key = read_api_key(settings)
        automatic = settings.response_format == "auto"
        self._format = RESPONSE_FORMATS[0] if automatic else settings.response_format
        self._format_is_settled = not automatic
        self._turn, self._next_start = asyncio.Lock(), 0.0
        # A client without a key sends a saved Hugging Face token to whatever server it calls, unless told not to.
        headers: Any = {"authorization": None} if self._key is None else {}
        self._client = AsyncInferenceClient(
            base_url=settings.server_url, api_key=self._key, timeout=settings.timeout, headers=headers
        )

    async def __aenter__(self) -> ChatClient:
        await self._client.__aenter__()
        http = await self._client._get_async_client()  # huggingface_hub's own settings trust a server more than we do
        http.follow_redirects = False  # what is asked is for this server alone
        http.event_hooks = {**http.event_hooks, "response": [*http.event_hooks["response"], _bound_body]}
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)

    async def ask(self, messages: Messages, schema: Mapping[str, Any], attempt: int = 0) -> Reply:
        """One answer.

        Args:
            messages: Turns of a chat, the last of them the user's.
            schema: JSON schema of the answer, with a `title`; sent where the response format is `json_schema`.
            attempt: Number of the repeated question: changes the seed and warms the temperature.

        Raises:
            ServerError: If the server refuses, or does not answer after all retries.
        """
        tries = 0
        while True:
            form = self._format
            await self._wait_for_turn()
            try:
                reply = await asyncio.wait_for(self._call(messages, schema, attempt, form), self.settings.timeout)
            except _FAILURES as error:
                status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
                if status in _NOT_UNDERSTOOD and not _is_about_length(error) and self._loosen(form):
                    continue
                tries += 1
                refused = status is not None and status < 500 and status not in _PASSING
                if refused or tries > self.settings.retries or self.stopped:
                    raise self._failure(error, refused, tries, refused and status in _ABOUT_MESSAGE) from error
                await asyncio.sleep(self._wait(error, tries))
            else:
                self._format_is_settled = True
                return reply

    async def _call(self, messages: Messages, schema: Mapping[str, Any], attempt: int, form: str) -> Reply:
        found = await self._client.chat_completion(
            [dict(message) for message in messages],
            model=self.settings.server_model,
            max_tokens=self.settings.max_tokens,
            response_format=_response_format(form, schema),
            seed=self.settings.seed + attempt,
            temperature=self.settings.temperature + WARMER * attempt,
        )
        if not found.choices or found.choices[0].message is None:
            raise ValueError(f"no chat completion: {found}")
        text, usage = found.choices[0].message.content or "", found.usage
        if not isinstance(text, str):
            raise ValueError(f"no chat completion: the content is {text!r}")
        counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        known = [count if type(count) is int and 0 <= count < 2**40 else 0 for count in counts]
        return Reply(redacted(text, self._key), form, *known)

    async def _wait_for_turn(self) -> None:
        """Starts calls no closer together than the rate limit allows, repeated ones too."""
        if self.settings.requests_per_minute is None:
            return
        async with self._turn:
            await asyncio.sleep(max(0.0, self._next_start - time.monotonic()))
            self._next_start = time.monotonic() + 60 / self.settings.requests_per_minute

    def _loosen(self, refused: str) -> bool:
        """Goes to the next response format after a server refused one; False when that cannot be the reason."""
        if self._format != refused:
            return True  # another call has gone on already
        if self._format_is_settled or refused == RESPONSE_FORMATS[-1]:
            return False
        self._format = RESPONSE_FORMATS[RESPONSE_FORMATS.index(refused) + 1]
        return True

    def _wait(self, error: Exception, tries: int) -> float:
        headers = error.response.headers if isinstance(error, HfHubHTTPError) else {}
        asked = headers.get("retry-after", "")
        grown = self.settings.retry_wait * 2 ** (tries - 1) * random.uniform(0.5, 1)
        return min(max(grown, float(asked) if asked.isdecimal() else 0), _LONGEST_WAIT)

    def _failure(self, error: Exception, refused: bool, tries: int, about_message: bool) -> ServerError:
        reason = redacted(" ".join(f"{type(error).__name__}: {error}".split()), self._key)
        server = self.settings.server_url or "Hugging Face's inference providers"
        how = "refuses the calls" if refused else f"did not answer ({tries} tries)"
        return ServerError(f"{server} {how}: {reason[:400]}.", about_message)


def redacted(text: str, key: str | None) -> str:
    """A text of a server without the key, which it may repeat: as it is, quoted, escaped, or in base64."""
    if not key:
        return text
    encoded = base64.b64encode(key.encode()).decode()
    forms = {key, quote(key, safe=""), quote_plus(key), json.dumps(key)[1:-1], html.escape(key), encoded}
    forms |= {encoded.rstrip("="), key.encode().hex(), key[::-1]}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


class _Bounded:
    """A body that is given up where it is larger than any answer."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            if (size := size + len(chunk)) > _LARGEST_BODY:
                raise ValueError(f"its answer is larger than {_LARGEST_BODY >> 20} MiB")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound_body(response: Any) -> None:
    # Of httpx, or of whichever successor huggingface_hub uses: it takes subclasses alone.
    kind = next(base for base in type(response.stream).__mro__ if base.__name__ == "AsyncByteStream")
    response.stream = type("BoundedStream", (_Bounded, kind), {})(response.stream)


def _response_format(form: str, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    if form == "json_schema":
        name, members = schema["title"], {key: value for key, value in schema.items() if key != "title"}
        return {"type": form, "json_schema": {"name": name, "schema": members}}
    return {"type": form} if form == "json_object" else None


def _is_about_length(error: HfHubHTTPError) -> bool:
    """Whether a refusal speaks of the message's length; one that names the format may repeat the whole request."""
    text = f"{error} {error.response.text}"
    return "response_format" not in text and _TOO_LONG.search(text) is not None


async def work_through(
    next_job: Callable[[], Job | None], work: Callable[[Job], Awaitable[None]], client: ChatClient
) -> None:
    """Does jobs, `concurrency` at once; after a failure nothing new is begun, and what is under way is finished.

    Args:
        next_job: Gives a job; None when there is none now. It is asked again whenever a job is done.
        work: Does one.
        client: Opened, and closed at the end.

    Raises:
        Exception: The first that `work` raised.
    """
    failures: list[BaseException] = []

    async def guarded(job: Job) -> None:
        try:
            await work(job)
        except BaseException as error:
            client.stopped = True
            failures.append(error)

    async with client:
        running: set[asyncio.Task] = set()
        while True:
            while not client.stopped and len(running) < client.settings.concurrency and (job := next_job()) is not None:
                running.add(asyncio.create_task(guarded(job)))
            if not running:
                break
            _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    if failures:
        raise failures[0]


def json_objects(text: str) -> list[list[tuple[str, Any]]]:
    """The members of the outermost JSON objects in an answer, repeated names included.

    What stands before `</think>` is not read; after a `<think>` that does not end, nothing.
    """
    text = text.rpartition("</think>")[2][:_LONGEST_TEXT]
    if "<think>" in text:
        return []
    decoder, found, start, failures = json.JSONDecoder(object_pairs_hook=list), [], text.find("{"), 0
    while start >= 0 and failures < _MOST_STARTS:
        try:
            members, end = decoder.raw_decode(text, start)
        except RecursionError:  # nested deeper than any answer: every start within it would be tried in vain
            break
        except ValueError:
            end, failures = start + 1, failures + 1
        else:
            found.append(members)
        start = text.find("{", end)
    return found


def estimated_tokens(text: str) -> int:
    """Tokens of a text, without any tokenizer: one is 4 UTF-8 bytes."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN)


def cost_of(prompt: int, completion: int, price_input: float | None, price_output: float | None) -> float | None:
    """What tokens cost at prices of a million each, in any currency; None where a price is not given."""
    if price_input is None or price_output is None:
        return None
    return (prompt * price_input + completion * price_output) / 1e6


def estimate_cost(
    messages: Sequence[str], max_tokens: int, price_input: float | None = None, price_output: float | None = None
) -> dict[str, Any]:
    """What asking these messages once may cost, without any tokenizer (see [`estimated_tokens`]).

    The chat template's tokens and repeated attempts are not in it.

    Args:
        messages: What would be asked.
        max_tokens: The most that the model may answer.
        price_input: Of a million prompt tokens, in any currency.
        price_output: Of a million completion tokens.

    Returns:
        `calls`, `prompt_tokens`, `completion_tokens_at_most`, and `cost_at_most` where both prices are given.
    """
    prompt, completion = sum(map(estimated_tokens, messages)), max_tokens * len(messages)
    result = {"calls": len(messages), "prompt_tokens": prompt, "completion_tokens_at_most": completion}
    cost = cost_of(prompt, completion, price_input, price_output)
    return result if cost is None else result | {"cost_at_most": cost}
