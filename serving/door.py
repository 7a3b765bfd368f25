"""What every request passes: the key, the size of its body, and the count of what became of it."""

from __future__ import annotations

import hmac
import json
import time
from collections import Counter, defaultdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .engine import Engine
from .errors import ApiError


class Metrics:
    """Counts of a server's life, as Prometheus reads them."""

    def __init__(self) -> None:
        self.requests = Counter[tuple[str, int]]()
        self.seconds = defaultdict[str, float](float)
        self.tokens = Counter[str]()

    def text(self, engine: Engine, healthy: bool) -> str:
        """All of them, in Prometheus' text format."""
        lines = _head("requests_total", "counter", "Requests by path and status.")
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'llink_requests_total{{path="{path}",status="{status}"}} {count}')
        lines += _head("request_seconds", "summary", "Time of requests.")
        for path, seconds in sorted(self.seconds.items()):
            count = sum(number for (one, _), number in self.requests.items() if one == path)
            lines.append(f'llink_request_seconds_sum{{path="{path}"}} {seconds:.6f}')
            lines.append(f'llink_request_seconds_count{{path="{path}"}} {count}')
        lines += _head("tokens_total", "counter", "Tokens read and written.")
        lines += [f'llink_tokens_total{{kind="{kind}"}} {self.tokens[kind]}' for kind in ("prompt", "completion")]
        cache = engine.reader.cache
        lines += _head("passages_total", "counter", "Foreign passages whose slots were kept, and those encoded.")
        lines += [f'llink_passages_total{{slots="kept"}} {cache.hits}']
        lines += [f'llink_passages_total{{slots="encoded"}} {cache.misses}']
        lines += [*_head("cache_bytes", "gauge", "Bytes of kept slots."), f"llink_cache_bytes {cache.bytes}"]
        lines += [
            *_head("waiting_requests", "gauge", "Requests that wait."),
            f"llink_waiting_requests {engine.waiting}",
        ]
        lines += [*_head("up", "gauge", "Whether the engine answers."), f"llink_up {int(healthy)}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, described: str) -> list[str]:
    return [f"# HELP llink_{name} {described}", f"# TYPE llink_{name} {kind}"]


class Door:
    """Counts requests, and lets those to `/v1` in that bring the key.

    Args:
        app: What answers them.
        metrics: Where they are counted.
        key: What `Authorization: Bearer …` must hold; None lets everybody in.
        paths: Those that there are; all others are counted as one.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, key: str | None, paths: frozenset[str]) -> None:
        self.app, self.metrics, self.key, self.paths = app, metrics, key, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start = 499, time.monotonic()  # 499: the client was gone before there was an answer

        async def counting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if scope["path"].startswith("/v1") and not self._knows_key(scope):
                message = "The API key is missing or wrong: give it as `Authorization: Bearer KEY`."
                await error_response(ApiError(401, message, "invalid_api_key"))(scope, receive, counting)
            else:
                await self.app(scope, receive, counting)
        except Exception:
            status = 500  # which is said further out
            raise
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.requests[path, status] += 1
            self.metrics.seconds[path] += time.monotonic() - start

    def _knows_key(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return self.key is None or hmac.compare_digest(given, f"Bearer {self.key}".encode())


async def read_json(request: Request, most: int) -> Any:
    """The JSON of a request's body of up to so many bytes.

    Raises:
        ApiError: If it is longer, or no JSON.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise ApiError(413, f"The body is longer than {most} bytes: send less at once.", "body_too_long")
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON ({error}).", "invalid_json") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def error_response(error: ApiError) -> Response:
    """An error as HTTP says it."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    return JSONResponse(error.body, error.status, headers)
