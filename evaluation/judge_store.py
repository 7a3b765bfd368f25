"""The judge's settings, and its judgements on disk: what it answered is never asked twice.

Every finished judgement is appended at once, under a hash of the model, the prompt's template, the message, the
sampling, and the response format if it is forced.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .judge import UNPARSED, VERDICTS, JudgeError
from .judge_questions import JudgePrompt

_SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": list(VERDICTS)}},
    "required": ["verdict"],
    "additionalProperties": False,
}
#: How an answer is asked for, from the strictest on; `auto` takes the first that the server accepts.
RESPONSE_FORMATS: dict[str, Any] = {
    "json_schema": {"type": "json_schema", "json_schema": {"name": "verdict", "schema": _SCHEMA}},
    "json_object": {"type": "json_object"},
    "text": None,
}
#: What a repeated attempt adds to the temperature, so that it can differ.
WARMER = 0.3


@dataclass(frozen=True)
class JudgeSettings:
    """The judge and how it is asked; each field is a flag of `llink eval judge`.

    Raises:
        JudgeError: If a value is out of its range.
    """

    judge_model: str = field(
        metadata={"help": "The judge's name on its server, such as meta-llama/Llama-3.1-70B-Instruct."}
    )
    judge_url: str | None = field(
        default=None,
        metadata={"help": "An OpenAI-compatible server, http://…/v1. Default: Hugging Face's inference providers."},
    )
    api_key_env: str | None = field(
        default=None,
        metadata={"help": "Environment variable of the key. Default: HF_TOKEN without --judge-url, no key with it."},
    )
    seed: int = field(default=0, metadata={"help": "Of the examples that --limit picks, the orders, and the judge."})
    temperature: float = field(default=0.0, metadata={"help": f"Of the judge; each repeated attempt adds {WARMER}."})
    max_tokens: int = field(default=256, metadata={"help": "Length of the judge's answer at most."})
    attempts: int = field(default=3, metadata={"help": "Times that a verdict is asked for until one can be read."})
    response_format: str = field(
        default="auto",
        metadata={"help": f"auto, {', '.join(RESPONSE_FORMATS)}. auto: the strictest that the server accepts."},
    )
    concurrency: int = field(default=8, metadata={"help": "Calls at once."})
    timeout: float = field(default=300.0, metadata={"help": "Seconds that a call may take."})
    retries: int = field(default=5, metadata={"help": "Repeated calls after 429, 5xx, timeouts, broken connections."})
    retry_wait: float = field(default=1.0, metadata={"help": "Seconds before the first of them; doubled every time."})

    def __post_init__(self) -> None:
        if not self.judge_model:
            raise JudgeError("The judge needs a name: give --judge-model.")
        if self.judge_url is not None:
            parts = urlsplit(self.judge_url)
            if parts.username or parts.password:
                raise JudgeError(
                    "--judge-url holds a name or password; put the key into the variable of --api-key-env."
                )
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise JudgeError(
                    f"--judge-url {self.judge_url!r} is no address; give one such as http://localhost:8000/v1."
                )
        for name, least in (("attempts", 1), ("concurrency", 1), ("max_tokens", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise JudgeError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("temperature", "timeout", "retry_wait"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise JudgeError(f"{name} is {getattr(self, name)}; it must be a number that is not negative.")
        if self.response_format not in ("auto", *RESPONSE_FORMATS):
            valid = ", ".join(("auto", *RESPONSE_FORMATS))
            raise JudgeError(f"response_format is {self.response_format!r}; choose from {valid}.")


@dataclass(frozen=True)
class Judgement:
    """What the judge said about one message.

    Attributes:
        key: Hash of everything that it depends on.
        model: The judge's name.
        message: What was asked.
        verdict: `A`, `B`, `tie`, or `unparsed` after the last attempt.
        answers: Every attempt's raw text.
        response_format: Key of `RESPONSE_FORMATS` that the server did not refuse; it may have ignored it.
        prompt_tokens: Over all attempts, as the server counted them; 0 where it does not say.
        completion_tokens: Likewise.
    """

    key: str
    model: str
    message: str
    verdict: str
    answers: list[str]
    response_format: str
    prompt_tokens: int
    completion_tokens: int


def judgement_key(message: str, prompt: JudgePrompt, settings: JudgeSettings) -> str:
    """SHA-256 of what a judgement depends on: a forced response format too, but not the server's address."""
    sampling = {name: getattr(settings, name) for name in ("seed", "temperature", "max_tokens")}
    if settings.response_format != "auto":
        sampling["response_format"] = settings.response_format
    content = {"model": settings.judge_model, "prompt": prompt.source, "message": message, "sampling": sampling}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class JudgementFile:
    """Judgements on disk, one JSON line each; of two with the same key the later holds.

    Args:
        path: Need not exist. A last line that a killed run left half-written is not read, and is removed when
            judgements are added.

    Raises:
        JudgeError: If another line is no judgement; names it.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.judgements: dict[str, Judgement] = {}
        content = self.path.read_bytes() if self.path.is_file() else b""
        self._whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[: self._whole].splitlines(), start=1):
            try:
                judgement = Judgement(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise JudgeError(f"{self.path}, line {number} is no judgement ({error}); remove the line.") from error
            self.judgements[judgement.key] = judgement

    def finished(self, key: str, attempts: int) -> bool:
        """Whether this needs no further asking: a verdict was read, or that many attempts were made."""
        found = self.judgements.get(key)
        return found is not None and (found.verdict != UNPARSED or len(found.answers) >= attempts)

    def __enter__(self) -> JudgementFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        self._file.truncate(self._whole)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, judgement: Judgement) -> None:
        """Appends a judgement; it is on disk when this returns."""
        self._file.write(json.dumps(asdict(judgement)).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.judgements[judgement.key] = judgement


def missing_messages(
    messages: Sequence[str], prompt: JudgePrompt, settings: JudgeSettings, path: str | os.PathLike
) -> dict[str, str]:
    """The messages that must still be asked, by key.

    Raises:
        JudgeError: As [`JudgementFile`].
    """
    kept = JudgementFile(path)
    keys = {judgement_key(message, prompt, settings): message for message in messages}
    return {key: message for key, message in keys.items() if not kept.finished(key, settings.attempts)}
