"""What a request can be answered with instead of an answer."""

from __future__ import annotations

from typing import Any

from ..errors_llink import LlinkError

#: Status → OpenAI's name for that kind of error.
_TYPES = {401: "authentication_error", 404: "not_found_error", 413: "invalid_request_error", 429: "rate_limit_error"}


class EngineStartError(LlinkError):
    """An engine of the server's own that does not start."""


class ApiError(LlinkError):
    """A request that is refused or fails, with the HTTP status that says so.

    Args:
        status: The HTTP status.
        message: What is wrong, what would be valid, what to do.
        code: A word for programs, such as `model_not_found`.
        param: The field of the request that is wrong.
        retry_after: Seconds after which the same request may work.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The error in OpenAI's shape."""
        return error_body(self.status, str(self), self.code, self.param)


def error_body(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """What a failed request is answered with, in OpenAI's shape."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


def no_store() -> ApiError:
    """A question to a server without a collection."""
    return ApiError(404, "This server has no store: start it with --store.", "no_store")
