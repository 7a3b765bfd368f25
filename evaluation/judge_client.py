"""Asks a language model for verdicts, through any OpenAI-compatible server.

Judgements are kept as they come (`judge_store`): a run whose server died, or that was killed, goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from tqdm.auto import tqdm

from ..data.chat_client import ChatClient, work_through
from ..data.errors import ServerError
from .judge import UNPARSED, parse_verdict
from .judge_questions import JudgePrompt
from .judge_store import (
    VERDICT_SCHEMA,
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
        LlinkConfigError: If the key is missing, or if Hugging Face's offline mode forbids calls.
        DataError: As [`JudgementFile`].
        ServerError: If the server refuses or stops answering; says how many judgements are kept.
    """
    missing = missing_messages(messages, prompt, settings, path)
    client = ChatClient(settings) if missing else None
    with JudgementFile(path) as kept:
        if client:
            total = len(set(messages))
            with tqdm(total=total, initial=total - len(missing), desc="judge", disable=not show_progress) as bar:
                await _ask_all(missing, kept, client, bar)
        return [kept.records[judgement_key(message, prompt, settings)] for message in messages]


async def _ask_all(missing: dict[str, str], kept: JudgementFile, client: ChatClient, bar: tqdm) -> None:
    remaining = iter(missing.items())

    async def judge(question: tuple[str, str]) -> None:
        await _judge(*question, kept, client)
        bar.update()

    try:
        await work_through(lambda: next(remaining, None), judge, client)
    except ServerError as error:
        left = sum(not kept.finished(key, client.settings.attempts) for key in missing)
        raise ServerError(
            f"{error} {bar.total - left} of {bar.total} judgements are kept in {kept.path}; repeat the command to ask "
            "for the rest."
        ) from error


async def _judge(key: str, message: str, kept: JudgementFile, client: ChatClient) -> None:
    """Asks until a verdict can be read, going on after the attempts that were made before; keeps each at once."""
    before = kept.records.get(key)
    answers = list(before.answers) if before else []
    tokens = [before.prompt_tokens, before.completion_tokens] if before else [0, 0]
    verdict = before.verdict if before else UNPARSED
    while verdict == UNPARSED and len(answers) < client.settings.attempts:
        attempt = len(answers)
        reminder = REMINDERS[(attempt - 1) % len(REMINDERS)] if attempt else ""
        reply = await client.ask([{"role": "user", "content": message + reminder}], VERDICT_SCHEMA, attempt)
        answers.append(reply.text)
        tokens[0] += reply.prompt_tokens
        tokens[1] += reply.completion_tokens
        verdict, model = parse_verdict(reply.text), client.settings.server_model
        kept.add(Judgement(key, model, message, verdict, list(answers), reply.response_format, *tokens))
