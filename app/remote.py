"""A page's questions to a model that `llink serve` serves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from ..data.chat_client import ChatClient, read_api_key
from ..data.chat_client import Reply as ServersReply
from ..data.chat_settings import ServerSettings
from ..data.errors import DataError, ServerError
from ..evaluation.tokens import raw_message
from ..modeling_llink.prompts import DEFAULT_PROMPT, user_message
from .asking import NO_TEXT, Reply

#: Seconds that a server may take to say what it serves.
_PATIENCE = 10


@dataclass(frozen=True, kw_only=True)
class ModelServer(ServerSettings):
    """A server of `llink serve`, and what it serves there.

    Attributes:
        model: The model's name on it.
        url: Its address, with `/v1`.
    """

    model: str
    url: str
    response_format: str = "text"
    retries: int = field(default=1)


def find_server(address: str, api_key_env: str | None = None, max_tokens: int = 256) -> ModelServer:
    """Asks a server what it serves.

    Args:
        address: With or without `/v1`.
        api_key_env: Environment variable of its key.
        max_tokens: Length of an answer at most.

    Raises:
        LlinkConfigError: If the address is none, or the key is missing.
        ServerError: If it does not answer as a server of models does.
    """
    url = address.rstrip("/").removesuffix("/v1") + "/v1"
    server = ModelServer(model="model", url=url, api_key_env=api_key_env, max_tokens=max_tokens)
    key = read_api_key(server)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        found = httpx.get(f"{url}/models", headers=headers, timeout=_PATIENCE).raise_for_status().json()
        return replace(server, model=str(found["data"][0]["id"]))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ServerError(f"No model is served at {url} ({reason}): start `llink serve`, or correct it.") from error


class RemoteAsker:
    """What a page asks where the model is on a server: it knows the answer and its tokens, and no usage.

    Args:
        server: From [`find_server`].
    """

    default_question, answers = DEFAULT_PROMPT, True

    def __init__(self, server: ModelServer) -> None:
        self.server = server

    def ask(self, text: str, question: str = "", with_base: bool = False) -> Iterator[Reply]:
        """Answers, yielding what is known after each step.

        Args:
            text: The foreign text.
            question: English; the default question when empty.
            with_base: Whether the base decoder answers, too.

        Raises:
            DataError: If there is no text, or the server does not answer, which then says why.
        """
        text, question = text.strip(), question.strip() or DEFAULT_PROMPT
        if not text:
            raise DataError(NO_TEXT)
        try:
            found = self._asked(user_message(question, [text]))
        except (ServerError, ValueError) as error:
            raise DataError(str(error)) from error
        reply = Reply(found.text, slot_tokens=found.prompt_tokens)
        yield reply
        if with_base:
            try:
                written = self._asked(raw_message(question, text))
                yield replace(reply, base=written.text, raw_tokens=written.prompt_tokens)
            except ServerError as error:  # such as one whose decoder is no longer the base
                yield replace(reply, base=f"(None: {error})")

    def _asked(self, message: dict[str, Any]) -> ServersReply:
        async def one() -> ServersReply:
            async with ChatClient(self.server) as client:
                return await client.ask([message], {})

        return asyncio.run(one())
