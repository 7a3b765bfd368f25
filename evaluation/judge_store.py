"""The judge's settings, and its judgements on disk: what it answered is never asked twice.

Every answer is appended at once, under a hash of the model, the prompt's template, the message, the
sampling, and the response format if it is forced.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ..data.chat_settings import ServerSettings
from ..data.journal import Journal
from .judge import UNPARSED, VERDICTS
from .judge_questions import JudgePrompt

#: What a judge may answer.
VERDICT_SCHEMA = {
    "title": "verdict",
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": list(VERDICTS)}},
    "required": ["verdict"],
    "additionalProperties": False,
}


@dataclass(frozen=True, kw_only=True)
class JudgeSettings(ServerSettings):
    """The judge and how it is asked; each field is a flag of `llink eval judge`."""

    MODEL: ClassVar[str] = "judge_model"
    URL: ClassVar[str] = "judge_url"

    judge_model: str = field(
        metadata={"help": "The judge's name on its server, such as meta-llama/Llama-3.1-70B-Instruct."}
    )
    judge_url: str | None = field(
        default=None,
        metadata={"help": "An OpenAI-compatible server, http://…/v1. Default: Hugging Face's inference providers."},
    )
    seed: int = field(default=0, metadata={"help": "Of the examples that --limit picks, the orders, and the judge."})


@dataclass(frozen=True)
class Judgement:
    """What the judge said about one message.

    Attributes:
        key: Hash of everything that it depends on.
        model: The judge's name.
        message: What was asked.
        verdict: `A`, `B`, `tie`, or `unparsed` so far.
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


class JudgementFile(Journal[Judgement]):
    """Judgements on disk; see [`Journal`].

    Args:
        path: Need not exist.

    Raises:
        DataError: If a line is no judgement; names it.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(path, Judgement)

    def finished(self, key: str, attempts: int) -> bool:
        """Whether this needs no further asking: a verdict was read, or that many attempts were made."""
        found = self.records.get(key)
        return found is not None and (found.verdict != UNPARSED or len(found.answers) >= attempts)


def missing_messages(
    messages: Sequence[str], prompt: JudgePrompt, settings: JudgeSettings, path: str | os.PathLike
) -> dict[str, str]:
    """The messages that must still be asked, by key.

    Raises:
        DataError: As [`JudgementFile`].
    """
    kept = JudgementFile(path)
    keys = {judgement_key(message, prompt, settings): message for message in messages}
    return {key: message for key, message in keys.items() if not kept.finished(key, settings.attempts)}
