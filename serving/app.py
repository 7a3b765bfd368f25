"""The server: OpenAI's addresses over an engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..errors_llink import LlinkError
from .door import Door, Metrics, error_response, read_json
from .engine import Answer, Engine
from .errors import ApiError, error_body
from .protocol import Completion, embeddings_body, read_chat, read_embedding, read_question

#: Seconds that answers have left when the server is told to stop.
GRACE = 30


def build(engine: Engine, name: str, key: str | None = None, created: int = 0) -> FastAPI:
    """The server's application.

    Args:
        engine: What answers; it is closed with the application.
        name: What the model is called.
        key: The API key; None lets everybody in.
        created: When the model was made, in seconds since 1970.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(engine.close)

    app, metrics = FastAPI(openapi_url=None, lifespan=lifespan), Metrics()
    _answer_errors(app)
    routes = _Routes(engine, name, metrics, created)
    app.add_api_route("/v1/chat/completions", routes.chat, methods=["POST"])
    app.add_api_route("/v1/embeddings", routes.embeddings, methods=["POST"])
    app.add_api_route("/v1/models", routes.models, methods=["GET"])
    app.add_api_route("/v1/models/{model:path}", routes.model, methods=["GET"])
    if engine.store is not None:
        app.add_api_route("/v1/ask", routes.ask, methods=["POST"])
    app.add_api_route("/health", routes.health, methods=["GET"])
    app.add_api_route("/metrics", routes.metrics_page, methods=["GET"])
    paths = frozenset(path for route in app.routes if "{" not in (path := getattr(route, "path", "{")))
    app.add_middleware(Door, metrics=metrics, key=key, paths=paths)
    return app


def serve(app: FastAPI, host: str, port: int, started: Callable[[], Any] = lambda: None) -> None:
    """Serves an application until the process is told to stop; answers that have begun get `GRACE` seconds.

    Args:
        app: From [`build`].
        host, port: Where it listens.
        started: Called when it can be asked.
    """

    class Server(uvicorn.Server):
        async def startup(self, *args: Any, **kwargs: Any) -> None:
            await super().startup(*args, **kwargs)
            started()

    config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=GRACE)
    Server(config).run()


class _Routes:
    """What each address does."""

    def __init__(self, engine: Engine, name: str, metrics: Metrics, created: int) -> None:
        self._engine, self._name, self._limits, self._metrics = engine, name, engine.limits, metrics
        self._card = {"id": name, "object": "model", "created": created, "owned_by": "llink"}

    async def chat(self, request: Request) -> Response:
        wanted, with_usage = read_chat(await read_json(request, self._limits.max_body), self._name, self._limits)
        answer = await _unless_gone(request, self._engine.generate(wanted))
        completion = Completion(self._name, answer.prompt_tokens, wanted.n)
        if wanted.stream:
            return _Stream(answer, self._events(answer, completion, with_usage))
        try:
            await _unless_gone(request, _collect(answer, completion))
        finally:
            answer.cancel()
        self._count(completion)
        return JSONResponse(completion.whole)

    async def _events(self, answer: Answer, completion: Completion, with_usage: bool) -> AsyncIterator[str]:
        """Server-sent events of an answer; one that fails on its way says so in its place."""
        yield _event(completion.opening)
        try:
            async for delta in answer:
                completion.add(delta)
                yield _event(completion.chunk(delta))
        except LlinkError as error:
            yield _event(_as_api_error(error).body)
            return
        self._count(completion)
        if with_usage:
            yield _event(completion.closing)
        yield "data: [DONE]\n\n"

    def _count(self, completion: Completion) -> None:
        self._metrics.tokens["prompt"] += completion.prompt_tokens
        self._metrics.tokens["completion"] += completion.completion_tokens

    async def embeddings(self, request: Request) -> Response:
        body = await read_json(request, self._limits.max_body)
        texts, side, as_base64 = read_embedding(body, self._name, self._limits)
        vectors, tokens = await _unless_gone(request, self._engine.embed(texts, side))
        self._metrics.tokens["prompt"] += tokens
        return JSONResponse(embeddings_body(self._name, vectors, tokens, as_base64))

    async def ask(self, request: Request) -> Response:
        options = read_question(await read_json(request, self._limits.max_body), self._name, self._limits)
        return JSONResponse(asdict(await _unless_gone(request, self._engine.ask(**options))))

    async def models(self) -> Response:
        return JSONResponse({"object": "list", "data": [self._card]})

    async def model(self, model: str) -> Response:
        if model != self._name:
            raise ApiError(404, f"There is no model {model!r} here: {self._name!r} is served.", "model_not_found")
        return JSONResponse(self._card)

    async def health(self) -> Response:
        alive = await self._engine.healthy()
        return JSONResponse({"status": "ok" if alive else "stopped"}, 200 if alive else 503)

    async def metrics_page(self) -> Response:
        return PlainTextResponse(
            self._metrics.text(self._engine, await self._engine.healthy()), media_type="text/plain; version=0.0.4"
        )


class _Stream(StreamingResponse):
    """An answer as it grows, whose place is free when the client is gone."""

    def __init__(self, answer: Answer, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancel()


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def _collect(answer: Answer, completion: Completion) -> None:
    async for delta in answer:
        completion.add(delta)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """What the work gives; it is cancelled when the client hangs up.

    Raises:
        ApiError: If the client hung up; nobody reads it.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "The client is gone.", "client_gone")
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# ---------------------------------------------------------------------- errors


def _as_api_error(error: LlinkError) -> ApiError:
    """llink's own errors are about what was given."""
    return error if isinstance(error, ApiError) else ApiError(400, str(error), type(error).__name__)


def _answer_errors(app: FastAPI) -> None:
    """Every error has OpenAI's shape."""

    @app.exception_handler(LlinkError)
    async def ours(_: Request, error: LlinkError) -> Response:
        return error_response(_as_api_error(error))

    @app.exception_handler(HTTPException)
    async def theirs(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}."
        return JSONResponse(error_body(error.status_code, message), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def faults(_: Request, error: Exception) -> Response:
        return JSONResponse(error_body(500, f"The server has a fault ({type(error).__name__})."), 500)
