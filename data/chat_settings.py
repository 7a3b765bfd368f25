"""How a language model behind a server is asked; what asks adds its own fields and flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit

from ..errors_llink import LlinkConfigError

#: How an answer is asked for, from the strictest on; `auto` takes the first that the server accepts.
RESPONSE_FORMATS = ("json_schema", "json_object", "text")
#: What a repeated attempt adds to the temperature, so that it can differ.
WARMER = 0.3


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """A server and how it is asked; each field is a flag.

    Subclasses hold the model's name and the server's address in the two fields that `MODEL` and `URL` name.

    Raises:
        LlinkConfigError: If a value is out of its range.
    """

    MODEL: ClassVar[str] = "model"
    URL: ClassVar[str] = "url"

    api_key_env: str | None = field(
        default=None,
        metadata={"help": "Environment variable of the key. Default: HF_TOKEN without a server's address, else none."},
    )
    seed: int = field(default=0, metadata={"help": "Of every choice that is made here, and of the model."})
    temperature: float = field(default=0.0, metadata={"help": f"Of the model; each repeated attempt adds {WARMER}."})
    max_tokens: int = field(default=256, metadata={"help": "Length of an answer at most."})
    attempts: int = field(default=3, metadata={"help": "Times that a question is asked until the answer can be read."})
    response_format: str = field(
        default="auto",
        metadata={"help": f"auto, {', '.join(RESPONSE_FORMATS)}. auto: the strictest that the server accepts."},
    )
    concurrency: int = field(default=8, metadata={"help": "Calls at once."})
    requests_per_minute: float | None = field(
        default=None, metadata={"help": "Calls that may begin in a minute, repeated ones too; no limit when not given."}
    )
    timeout: float = field(default=300.0, metadata={"help": "Seconds that a call may take."})
    retries: int = field(default=5, metadata={"help": "Repeated calls after 429, 5xx, timeouts, broken connections."})
    retry_wait: float = field(default=1.0, metadata={"help": "Seconds before the first of them; doubled every time."})

    @property
    def server_model(self) -> str | None:
        """The model's name on its server; None where no server is to be asked."""
        return getattr(self, self.MODEL)

    @property
    def server_url(self) -> str | None:
        """The server's address; None for Hugging Face's inference providers."""
        return getattr(self, self.URL)

    def flag(self, kind: str) -> str:
        """The flag of the model (`model`) or of the server (`url`)."""
        return "--" + {"model": self.MODEL, "url": self.URL}[kind].replace("_", "-")

    def __post_init__(self) -> None:
        if self.server_model == "":
            raise LlinkConfigError(f"The model needs a name: give {self.flag('model')}.")
        if self.server_url is not None:
            parts, flag = urlsplit(self.server_url), self.flag("url")
            if parts.username or parts.password:
                raise LlinkConfigError(
                    f"{flag} holds a name or password; put the key into the variable of --api-key-env."
                )
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise LlinkConfigError(
                    f"{flag} {self.server_url!r} is no address; give one such as http://localhost:8000/v1."
                )
        for name, least in (("attempts", 1), ("concurrency", 1), ("max_tokens", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise LlinkConfigError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("temperature", "timeout", "retry_wait"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise LlinkConfigError(f"{name} is {getattr(self, name)}; it must be a number that is not negative.")
        if self.requests_per_minute is not None and not 0 < self.requests_per_minute < float("inf"):
            raise LlinkConfigError(f"requests_per_minute is {self.requests_per_minute}; it must be above 0.")
        if self.response_format not in ("auto", *RESPONSE_FORMATS):
            valid = ", ".join(("auto", *RESPONSE_FORMATS))
            raise LlinkConfigError(f"response_format is {self.response_format!r}; choose from {valid}.")
