"""Asks a language model for examples, and keeps every answer at once: nothing is asked, or paid for, twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tqdm.auto import tqdm

from ..chat_client import ChatClient, Messages, Reply, cost_of, estimated_tokens, json_objects, work_through
from ..errors import ServerError
from ..journal import Journal
from .config import SynthesisConfig, SynthesisServer
from .filters import REFUSED, UNREADABLE
from .plan import Job
from .prompts import Prompts
from .queues import Draft, Queue
from .tasks import answer_schema, read_example, reminder


@dataclass(frozen=True)
class Answer:
    """What the model said about one job.

    Attributes:
        key: Hash of everything that it depends on.
        id: Of the pair.
        task: Key of `TASK_TABLE`.
        answers: Every attempt's raw text.
        refused: Why the server takes the message at no try; empty if it does.
        response_format: That the server did not refuse; it may have ignored it.
        prompt_tokens: Over all attempts, as the server counted them, or estimated where it does not.
        completion_tokens: Likewise.
    """

    key: str
    id: str
    task: str
    answers: list[str]
    refused: str
    response_format: str
    prompt_tokens: int
    completion_tokens: int


class Asker:
    """The answers to all jobs, those of earlier runs too.

    Args:
        prompts: Of the tasks.
        server: The model, its server, sampling, and patience.
        config: Budget and prices.
        journal: The answers; only it writes them.

    Attributes:
        journal: The answers.
        tokens: Of all answers: prompt, completion.
    """

    def __init__(
        self, prompts: Prompts, server: SynthesisServer, config: SynthesisConfig, journal: Journal[Answer]
    ) -> None:
        self._prompts, self._server, self._config = prompts, server, config
        self.journal = journal
        self._reserved = self._spent_now = 0
        self.tokens = self._all_tokens()

    def _all_tokens(self) -> list[int]:
        found = self.journal.records.values()
        return [sum(answer.prompt_tokens for answer in found), sum(answer.completion_tokens for answer in found)]

    def messages(self, job: Job) -> list[dict[str, str]]:
        """What is asked first: turns of a chat."""
        return self._prompts.messages(job.task, job.english)

    def key(self, job: Job) -> str:
        """SHA-256 of what an answer depends on: the messages, the model and its sampling, not the server's address."""
        content = {"messages": self.messages(job), **self._server.content()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def is_answered(self, job: Job) -> bool:
        """Whether there is no more to ask: an answer was read, refused, or that many attempts were made."""
        return self.draft(job) is not None

    def draft(self, job: Job) -> Draft | None:
        """What the model wrote for a job; None while it is to be asked."""
        found = self.journal.records.get(self.key(job))
        if found is None:
            return None
        if found.refused:
            return None, REFUSED, found.refused
        read = self._read(job, found.answers)
        if read is None and len(found.answers) < self._server.attempts:
            return None
        return read or (None, UNREADABLE, found.answers[-1])

    @staticmethod
    def _read(job: Job, answers: Sequence[str]) -> tuple[str, str] | None:
        return read_example(job.task, json_objects(answers[-1]), job.english) if answers else None

    def client(self, queues: Sequence[Queue]) -> ChatClient | None:
        """What to ask with; None when every answer that is needed is there.

        Raises:
            LlinkConfigError: If the key is missing, or if Hugging Face's offline mode forbids calls.
        """
        for queue in queues:
            queue.judge(self.draft)
        return None if all(queue.is_done for queue in queues) else ChatClient(self._server)

    def fill(self, queues: Sequence[Queue], client: ChatClient, show_progress: bool) -> None:
        """Asks until every queue is full, its jobs are used up, or the budget is spent.

        Raises:
            ServerError: If the server refuses or stops answering; says how many answers are kept.
            DataError: If another run is writing the answers.
        """
        with self.journal:
            self.tokens = self._all_tokens()  # of what another run may have added meanwhile, too
            for queue in queues:
                queue.judge(self.draft)
            total, done = sum(queue.most for queue in queues), sum(len(queue.kept) for queue in queues)
            with tqdm(total=total, initial=done, desc="synthesize", unit="row", disable=not show_progress) as bar:
                asyncio.run(self._fill(queues, client, bar))

    async def _fill(self, queues: Sequence[Queue], client: ChatClient, bar: tqdm) -> None:
        started = time.monotonic()

        def next_job() -> tuple[Queue, Job] | None:
            # In turn by how much is there, so that a run that is stopped has some of every task.
            for queue in sorted(queues, key=lambda queue: len(queue.kept) / (queue.most or 1)):
                if (job := queue.next_job(self.is_answered, self._is_affordable)) is not None:
                    self._reserved += self._most_tokens(job)
                    return queue, job
            return None

        async def work(chosen: tuple[Queue, Job]) -> None:
            queue, job = chosen
            try:
                await self._answer(job, client)
            finally:
                self._reserved -= self._most_tokens(job)
            before = len(queue.kept)
            queue.judge(self.draft)
            bar.update(len(queue.kept) - before)
            bar.set_postfix(self._shown(queues, time.monotonic() - started))

        try:
            await work_through(next_job, work, client)
        except ServerError as error:
            raise ServerError(
                f"{error} {len(self.journal.records)} answers are kept in {self.journal.path}; repeat the command to "
                "go on."
            ) from error

    def _is_affordable(self, job: Job) -> bool:
        """Whether a job may be begun: not even its longest answers would pass the budget."""
        if self._config.token_budget is None:
            return True
        return sum(self.tokens) + self._reserved + self._most_tokens(job) <= self._config.token_budget

    def _most_tokens(self, job: Job) -> int:
        return self._server.attempts * (_estimated(self.messages(job)) + self._server.max_tokens)

    async def _answer(self, job: Job, client: ChatClient) -> None:
        """Asks until the answer can be read, going on after the attempts that were made before; keeps each at once."""
        key = self.key(job)
        found = self.journal.records.get(key) or Answer(key, job.id, job.task, [], "", "", 0, 0)
        while self._read(job, found.answers) is None and len(found.answers) < self._server.attempts:
            attempt = len(found.answers)
            asked = self.messages(job)
            asked[-1]["content"] += reminder(job.task) if attempt else ""
            try:
                reply = await client.ask(asked, answer_schema(job.task), attempt)
            except ServerError as error:
                if not error.about_message:
                    raise
                self.journal.add(replace(found, refused=str(error)))
                return
            found = self._with_reply(found, asked, reply)
            self.journal.add(found)

    def _with_reply(self, found: Answer, asked: Messages, reply: Reply) -> Answer:
        prompt = reply.prompt_tokens or _estimated(asked)
        completion = reply.completion_tokens or estimated_tokens(reply.text)
        self._spent_now += prompt + completion
        self.tokens[0] += prompt
        self.tokens[1] += completion
        return replace(
            found,
            answers=[*found.answers, reply.text],
            response_format=reply.response_format,
            prompt_tokens=found.prompt_tokens + prompt,
            completion_tokens=found.completion_tokens + completion,
        )

    def _shown(self, queues: Sequence[Queue], seconds: float) -> dict[str, str]:
        prompt, completion = self.tokens
        cost = cost_of(prompt, completion, self._config.price_per_million_input, self._config.price_per_million_output)
        shown = {
            "dropped": str(sum(queue.dropped.total() for queue in queues)),
            "tokens": str(prompt + completion),
            "tokens/s": f"{self._spent_now / seconds:.0f}",
        }
        return shown if cost is None else shown | {"cost": f"{cost:.4g}"}


def _estimated(messages: Messages) -> int:
    return estimated_tokens("".join(message["content"] for message in messages))
