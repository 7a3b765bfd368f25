"""The examples of one split and task: what was kept, what was dropped, and what is still to be asked.

Examples are judged in the order of the plan, never in that of the answers: an example is looked at when everything
before it has been answered. So a run that was stopped and went on keeps exactly what an unbroken one keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..instructions import bucket_of
from ..target import is_english, task_in
from .filters import REPEATED, Example, FilterRules, Wordings, first_fault
from .plan import Job

EXAMPLES = 5
#: Instruction and answer; or the reason for which there are none, and what the model said instead.
Draft = tuple[str, str] | tuple[None, str, str]


class Queue:
    """Jobs of one split and task.

    Args:
        split, task: Names.
        quota: Examples that are wanted; -1 for all.
        jobs: In order.
        rules: Of the filters.

    Attributes:
        kept: Rows for Stage B, with the `rank` of their pairs.
        dropped: Reason → number.
        examples: Reason → the first of what was dropped for it.
        judged: Jobs that were looked at.
    """

    def __init__(self, split: str, task: str, quota: int, jobs: Sequence[Job], rules: FilterRules) -> None:
        self.split, self.task, self.quota, self.jobs = split, task, quota, jobs
        self.kept: list[tuple[int, dict[str, Any]]] = []
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, str]]] = {}
        self.judged = self._begun = 0
        self._rules, self._wordings = rules, Wordings(rules.max_repeats)

    @property
    def most(self) -> int:
        """Examples that it can give at most."""
        return len(self.jobs) if self.quota == -1 else min(self.quota, len(self.jobs))

    @property
    def is_full(self) -> bool:
        """Whether no more are wanted."""
        return self.quota != -1 and len(self.kept) >= self.quota

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to ask or look at."""
        return self.is_full or self.judged == len(self.jobs)

    def next_job(self, is_answered: Callable[[Job], bool], may_begin: Callable[[Job], bool]) -> Job | None:
        """Begins the next job; None while those under way may be enough, when none is left, or when it may not."""
        while self._begun < len(self.jobs) and (
            self.quota == -1 or len(self.kept) + self._begun - self.judged < self.quota
        ):
            job = self.jobs[self._begun]
            answered = is_answered(job)
            if not answered and not may_begin(job):
                return None
            self._begun += 1
            if not answered:
                return job
        return None

    def judge(self, draft_of: Callable[[Job], Draft | None]) -> None:
        """Looks at every job whose turn it is, until one has no draft yet or no more are wanted."""
        while self.judged < len(self.jobs) and not self.is_full:
            job = self.jobs[self.judged]
            draft = draft_of(job)
            if draft is None:
                break
            self.judged += 1
            self._begun = max(self._begun, self.judged)
            if draft[0] is None:
                self._drop(job, draft[1], {"said": draft[2]})
                continue
            instruction, answer = draft
            example = Example(job.id, job.english, job.foreign, job.task, instruction, answer)
            fault = first_fault(example, self._rules)
            if fault is None and not self._wordings.take(example.plain_instruction):
                fault = REPEATED
            if fault is None:
                self.kept.append((job.rank, _row(example, self._rules.target_language)))
            else:
                self._drop(job, fault, {"instruction": instruction, "answer": answer})

    def summary(self) -> dict[str, Any]:
        """What became of the jobs, for the manifest."""
        return {
            "split": self.split,
            "task": task_in(self._rules.target_language, self.task),
            "bucket": bucket_of(self.task),
            "wanted": self.quota,
            "pairs": len(self.jobs),
            "judged": self.judged,
            "kept": len(self.kept),
            "dropped": dict(self.dropped),
            "examples": self.examples,
        }

    def _drop(self, job: Job, reason: str, shown: dict[str, str]) -> None:
        self.dropped[reason] += 1
        found = self.examples.setdefault(reason, [])
        if len(found) < EXAMPLES:
            found.append({"id": job.id, _side(self._rules.target_language): job.english, **shown})


def _side(language: str) -> str:
    return "english" if is_english(language) else "target"


def _row(example: Example, language: str) -> dict[str, Any]:
    """A row that `llink inject` reads; the bucket is the judge's."""
    task = task_in(language, example.task)
    return {
        "id": f"{example.id}#{task}",
        "task": task,
        "bucket": bucket_of(example.task),
        "foreign": [example.foreign],
        "prompt": example.instruction,
        "completion": example.answer,
        _side(language): example.english,
    }
