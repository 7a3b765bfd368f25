"""OpenAI's requests, read field by field, and answers in OpenAI's shape.

A field that is not known, or asks for what is not done here, is refused: an answer that ignores it would be another.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..modeling_llink.encoding import SIDES
from .engine import ChatRequest, Delta, Limits
from .errors import ApiError

#: Fields that say nothing about the answer.
_SILENT = {"user", "metadata", "safety_identifier", "service_tier", "store"}
#: Fields that are taken where they ask for nothing: what they may hold.
_IDLE: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
_CHAT = ("messages", "model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop", "seed")
_STREAM = ("stream", "stream_options")
#: The least temperature that is not greedy: scores divided by less are no numbers any more.
LEAST_TEMPERATURE = 0.01
_MOST_STOPS = 16


class Fields:
    """The fields of a request's body, each read once with its check.

    Args:
        body: What its JSON holds.
        known: Names of fields that are read.

    Raises:
        ApiError: If the body is no object, or has a field that is not known or asks for what is not done.
    """

    def __init__(self, body: Any, known: Sequence[str]) -> None:
        if not isinstance(body, dict):
            raise ApiError(400, f"The body is {body!r:.60}: give a JSON object.", "invalid_body")
        self._body = {name: value for name, value in body.items() if value is not None}
        for name, value in self._body.items():
            if name in known or name in _SILENT or value in _IDLE.get(name, ()):
                continue
            taken = f" other than {_IDLE[name][0]!r}" if name in _IDLE else ""
            raise ApiError(
                400,
                f"{name}={value!r:.60} is not supported{taken}: leave it out. Known are {', '.join(known)}.",
                "unsupported_parameter",
                name,
            )

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number, or None where it is not given."""
        value = self._body.get(name)
        if value is None or (type(value) is int and least <= value <= most):
            return value
        raise _invalid(name, value, f"a whole number from {least} to {most}")

    def number(self, name: str, least: float, most: float, zero: bool = False) -> float | None:
        """A number, or None where it is not given; 0 too where `zero` says so."""
        value = self._body.get(name)
        fine = type(value) in (int, float) and (least <= value <= most or (zero and value == 0))
        if value is None or fine:
            return None if value is None else float(value)
        raise _invalid(name, value, f"{'0 or ' if zero else ''}a number from {least} to {most}")

    def truth(self, name: str) -> bool:
        """True or false; false where it is not given."""
        value = self._body.get(name, False)
        if type(value) is not bool:
            raise _invalid(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text that is not empty."""
        value = self._body.get(name, default)
        if not isinstance(value, str) or not value.strip():
            raise _invalid(name, value, "a text")
        return value

    def chosen(self, name: str, options: Sequence[str]) -> str:
        """One of several words, the first where it is not given."""
        value = self._body.get(name, options[0])
        if value not in options:
            raise _invalid(name, value, " or ".join(options))
        return value

    def texts(self, name: str, most: int, default: list[str] | None = None) -> list[str]:
        """A text or a list of them."""
        value: Any = self._body.get(name, default)
        value = [value] if isinstance(value, str) else value
        fine = isinstance(value, list) and all(isinstance(one, str) and one for one in value)
        if not fine or len(value) > most or (not value and default is None):
            raise _invalid(name, value, f"a text or a list of up to {most} texts, none of them empty")
        return value

    def raw(self, name: str) -> Any:
        """Whatever it holds."""
        return self._body.get(name)

    def check_model(self, served: str) -> None:
        """Refuses a request to another model.

        Raises:
            ApiError: If another one is named.
        """
        if (name := self._body.get("model", served)) != served:
            raise ApiError(404, f"There is no model {name!r} here: {served!r} is served.", "model_not_found", "model")


def _invalid(name: str, value: Any, wanted: str) -> ApiError:
    return ApiError(400, f"{name}={value!r:.60} is not {wanted}.", "invalid_value", name)


def read_chat(body: Any, served: str, limits: Limits) -> tuple[ChatRequest, bool]:
    """A request for an answer, and whether its stream ends with what was used.

    Raises:
        ApiError: If a field is unusable; what messages hold is checked by the engine.
    """
    fields = Fields(body, (*_CHAT, *_STREAM))
    fields.check_model(served)
    messages = fields.raw("messages")
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages", messages, "a list of one message or more")
    wanted = [fields.whole(name, 1, limits.max_tokens) for name in ("max_completion_tokens", "max_tokens")]
    stream, options = fields.truth("stream"), fields.raw("stream_options")
    if options is not None and not isinstance(options, dict):
        raise _invalid("stream_options", options, "an object")
    request = ChatRequest(
        messages=messages,
        max_tokens=next((number for number in wanted if number is not None), None),
        temperature=fields.number("temperature", LEAST_TEMPERATURE, 2, zero=True),
        top_p=fields.number("top_p", 0.01, 1),
        n=fields.whole("n", 1, limits.max_batch) or 1,
        stop=tuple(fields.texts("stop", _MOST_STOPS, default=[])),
        seed=fields.whole("seed", -(2**63), 2**63 - 1),
        stream=stream,
    )
    return request, stream and bool((options or {}).get("include_usage"))


def read_embedding(body: Any, served: str, limits: Limits) -> tuple[list[str], str, bool]:
    """Texts, their side, and whether vectors are wanted as base64.

    Raises:
        ApiError: If a field is unusable.
    """
    fields = Fields(body, ("input", "model", "side", "encoding_format"))
    fields.check_model(served)
    texts = fields.texts("input", limits.max_passages)
    return texts, fields.chosen("side", SIDES), fields.chosen("encoding_format", ("float", "base64")) == "base64"


def read_question(body: Any, served: str, limits: Limits) -> dict[str, Any]:
    """Arguments of `SlotStore.ask`.

    Raises:
        ApiError: If a field is unusable.
    """
    fields = Fields(body, ("question", "model", "k", "side", "prompt", "max_tokens"))
    fields.check_model(served)
    return {
        "question": fields.text("question"),
        "k": fields.whole("k", 1, limits.max_passages) or 3,
        "side": fields.chosen("side", SIDES[::-1]),  # a question is English unless it says otherwise
        "prompt": None if fields.raw("prompt") is None else fields.text("prompt"),
        "max_new_tokens": fields.whole("max_tokens", 1, limits.max_tokens) or min(256, limits.max_tokens),
    }


# ---------------------------------------------------------------------- answers


class Completion:
    """One request's answers in OpenAI's shape: whole, or chunk by chunk."""

    def __init__(self, model: str, prompt_tokens: int, n: int) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self.prompt_tokens, self.completion_tokens = prompt_tokens, 0
        self._texts, self._reasons = [""] * n, [""] * n

    def add(self, delta: Delta) -> None:
        """Takes what is new."""
        self._texts[delta.index] += delta.text
        self._reasons[delta.index] = delta.finish_reason or ""
        self.completion_tokens += delta.tokens

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and written."""
        read, written = self.prompt_tokens, self.completion_tokens
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    @property
    def whole(self) -> dict[str, Any]:
        """The answers when all are there."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": reason,
                "logprobs": None,
            }
            for index, (text, reason) in enumerate(zip(self._texts, self._reasons, strict=True))
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self.usage}

    @property
    def opening(self) -> dict[str, Any]:
        """The chunk that says who speaks."""
        return self._chunk([_choice(i, {"role": "assistant", "content": ""}, None) for i in range(len(self._texts))])

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """The chunk of what is new."""
        content = {"content": delta.text} if delta.text else {}
        return self._chunk([_choice(delta.index, content, delta.finish_reason)])

    @property
    def closing(self) -> dict[str, Any]:
        """The chunk that says what was used."""
        return {**self._chunk([]), "usage": self.usage}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk", "choices": choices}


def _choice(index: int, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}


def embeddings_body(model: str, vectors: list[list[float]], tokens: int, as_base64: bool) -> dict[str, Any]:
    """Vectors (N, d) in OpenAI's shape: lists of numbers, or base64 of little-endian float32."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode() if as_base64 else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
