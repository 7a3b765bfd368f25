"""Asks a language model for verdicts, through any OpenAI-compatible server.

Judgements are kept as they come (`judge_store`): a run whose server died, or that was killed, goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from huggingface_hub import AsyncInferenceClient, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from tqdm.auto import tqdm

from .judge import UNPARSED, JudgeError, parse_verdict
from .judge_questions import JudgePrompt
from .judge_store import (
    RESPONSE_FORMATS,
    WARMER,
    Judgement,
    JudgementFile,
    JudgeSettings,
    judgement_key,
    missing_messages,
)

#: Added to the message of repeated attempts, in turn: some servers ignore seed and temperature.
REMINDERS = (
    '\n\nWrite only JSON: {"verdict": "A"}, {"verdict": "B"} or {"verdict": "tie"}.',
    "\n\nWrite one word and nothing else: A, B or tie.",
)
_LONGEST_WAIT = 60.0
#: Client errors that go away by waiting: timeout, too early, too many requests.
_PASSING = (408, 425, 429)
#: Codes with which servers refuse a request that they do not understand.
_NOT_UNDERSTOOD = (400, 422)
#: How they say that it is the message that they refuse, and not its form.
_TOO_LONG = re.compile(r"context[ _-]?(window|size)|length|too long|\btokens\b", re.IGNORECASE)


class JudgeServerError(RuntimeError):
    """The judge's server refused, or stopped answering; finished judgements are kept."""


def ask_judge(
    messages: Sequence[str],
    prompt: JudgePrompt,
    settings: JudgeSettings,
    path: str | os.PathLike,
    show_progress: bool = False,
) -> list[Judgement]:
    """Judges N messages; see [`ask_judge_async`], which a notebook awaits instead."""
    return asyncio.run(ask_judge_async(messages, prompt, settings, path, show_progress))


async def ask_judge_async(
    messages: Sequence[str],
    prompt: JudgePrompt,
    settings: JudgeSettings,
    path: str | os.PathLike,
    show_progress: bool = False,
) -> list[Judgement]:
    """Judges N messages; those that `path` already holds are not asked again.

    Args:
        messages: Of [`make_questions`].
        prompt: The template that they were made with.
        settings: The judge, its server, sampling, and patience.
        path: JSONL file of judgements, appended to.
        show_progress: Whether to show a bar.

    Returns:
        N judgements.

    Raises:
        JudgeError: If the key is missing, if Hugging Face's offline mode forbids calls, or as [`JudgementFile`].
        JudgeServerError: If the server refuses or stops answering; says how many judgements are kept.
    """
    missing = missing_messages(messages, prompt, settings, path)
    caller = _Caller(settings, read_api_key(settings)) if missing else None
    with JudgementFile(path) as kept:
        if caller:
            total = len(set(messages))
            with tqdm(total=total, initial=total - len(missing), desc="judge", disable=not show_progress) as bar:
                await _ask_all(missing, kept, caller, bar)
        return [kept.judgements[judgement_key(message, prompt, settings)] for message in messages]


def read_api_key(settings: JudgeSettings) -> str | None:
    """The key for the judge's server, from the environment; None when it is to be asked without one.

    Raises:
        JudgeError: If the named variable is not set, if Hugging Face's servers would be asked without a token, or if
            huggingface_hub is offline: it then makes no calls at all, not even to one's own server.
    """
    if constants.is_offline_mode():
        raise JudgeError("HF_HUB_OFFLINE is set, and huggingface_hub then calls no server: set HF_HUB_OFFLINE=0.")
    if settings.api_key_env is not None:
        key = os.environ.get(settings.api_key_env)
        if not key:
            raise JudgeError(f"The environment variable {settings.api_key_env} of --api-key-env is not set.")
        return key
    if settings.judge_url is not None:
        return None
    token = get_token() or ""
    if not token.startswith("hf_"):
        raise JudgeError("Hugging Face's providers need a token: set HF_TOKEN, or give the --judge-url of a server.")
    return token


class _Caller:
    """Makes the calls: retries with growing waits, repeated attempts, and the response format of this server."""

    def __init__(self, settings: JudgeSettings, key: str | None) -> None:
        self.settings = settings
        self.failed = False
        self._key = key
        automatic = settings.response_format == "auto"
        self._format = next(iter(RESPONSE_FORMATS)) if automatic else settings.response_format
        self._format_is_settled = not automatic
        # A client without a key sends a saved Hugging Face token to whatever server it calls, unless told not to.
        headers: Any = {"authorization": None} if key is None else {}
        self.client = AsyncInferenceClient(
            base_url=settings.judge_url, api_key=key, timeout=settings.timeout, headers=headers
        )

    async def judge(self, key: str, message: str, before: Judgement | None) -> Judgement:
        """Asks until a verdict can be read, going on after the attempts that were made before."""
        answers = list(before.answers) if before else []
        tokens = [before.prompt_tokens, before.completion_tokens] if before else [0, 0]
        verdict = UNPARSED
        while verdict == UNPARSED and len(answers) < self.settings.attempts:
            attempt = len(answers)
            reminder = REMINDERS[(attempt - 1) % len(REMINDERS)] if attempt else ""
            reply = await self._call(message + reminder, attempt)
            answers.append(reply.choices[0].message.content or "")
            usage = reply.usage
            tokens[0] += getattr(usage, "prompt_tokens", None) or 0
            tokens[1] += getattr(usage, "completion_tokens", None) or 0
            verdict = parse_verdict(answers[-1])
        return Judgement(key, self.settings.judge_model, message, verdict, answers, self._format, *tokens)

    async def _call(self, message: str, attempt: int) -> Any:
        tries = 0
        while True:
            form = self._format
            try:
                reply = await self.client.chat_completion(
                    [{"role": "user", "content": message}],
                    model=self.settings.judge_model,
                    max_tokens=self.settings.max_tokens,
                    response_format=RESPONSE_FORMATS[form],
                    seed=self.settings.seed + attempt,
                    temperature=self.settings.temperature + WARMER * attempt,
                )
                if not reply.choices or reply.choices[0].message is None:
                    raise ValueError(f"no chat completion: {reply}")
            except (HTTPError, ValueError) as error:
                status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
                if status in _NOT_UNDERSTOOD and not _is_about_length(error) and self._loosen(form):
                    continue
                tries += 1
                refused = status is not None and status < 500 and status not in _PASSING
                if refused or tries > self.settings.retries or self.failed:
                    raise self._failure(error, refused, tries) from error
                await asyncio.sleep(self._wait(error, tries))
            else:
                self._format_is_settled = True
                return reply

    def _loosen(self, refused: str) -> bool:
        """Goes to the next response format after a server refused one; False when that cannot be the reason."""
        names = list(RESPONSE_FORMATS)
        if self._format != refused:
            return True  # another call has gone on already
        if self._format_is_settled or refused == names[-1]:
            return False
        self._format = names[names.index(refused) + 1]
        return True

    def _wait(self, error: Exception, tries: int) -> float:
        headers = error.response.headers if isinstance(error, HfHubHTTPError) else {}
        asked = headers.get("retry-after", "")
        grown = self.settings.retry_wait * 2 ** (tries - 1) * random.uniform(0.5, 1)
        return min(max(grown, float(asked) if asked.isdecimal() else 0), _LONGEST_WAIT)

    def _failure(self, error: Exception, refused: bool, tries: int) -> JudgeServerError:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        if self._key:
            reason = reason.replace(self._key, "***")  # servers may repeat the key that they refuse
        server = self.settings.judge_url or "Hugging Face's inference providers"
        how = "refuses the judge's calls" if refused else f"did not answer ({tries} tries)"
        return JudgeServerError(f"{server} {how}: {reason}.")


def _is_about_length(error: HfHubHTTPError) -> bool:
    """Whether a refusal speaks of the message's length; one that names the format may repeat the whole request."""
    text = f"{error} {error.response.text}"
    return "response_format" not in text and _TOO_LONG.search(text) is not None


async def _ask_all(missing: dict[str, str], kept: JudgementFile, caller: _Caller, bar: tqdm) -> None:
    """Asks what is missing, some at once; after a failure nothing new is begun, and answers under way are kept."""
    remaining: Iterator[tuple[str, str]] = iter(missing.items())

    async def work() -> None:
        for key, message in remaining:
            if caller.failed:
                return
            try:
                kept.add(await caller.judge(key, message, kept.judgements.get(key)))
            except BaseException:
                caller.failed = True
                raise
            bar.update()

    async with caller.client:
        workers = (work() for _ in range(caller.settings.concurrency))
        results = await asyncio.gather(*workers, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if not errors:
        return
    if not isinstance(errors[0], JudgeServerError):
        raise errors[0]
    left = sum(not kept.finished(key, caller.settings.attempts) for key in missing)
    raise JudgeServerError(
        f"{errors[0]} {bar.total - left} of {bar.total} judgements are kept in {kept.path}; repeat the command to ask "
        "for the rest."
    ) from errors[0]
