"""The tasks of Stage B examples: what each one's answer is, which pairs suit it, and its share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from ...configuration_llink import FOREIGN_TOKEN, LlinkConfigError
from ..target import ANY_LANGUAGE


@dataclass(frozen=True)
class Task:
    """A kind of example.

    Args:
        share: Of all examples, unless `--tasks` says otherwise.
        answer: `reference`: the target side itself, and the model writes the instruction alone; `text`: what the
            model writes; `points`: a list, written as lines that begin with `- `.
        least_words: Of the target side; a shorter text is not worth the task.
    """

    share: float
    answer: Literal["reference", "text", "points"]
    least_words: int


#: The paper names the first four and no shares (4.2); paraphrase and title are the judge's (table 2).
TASK_TABLE: dict[str, Task] = {
    "translate_to_english": Task(0.3, "reference", 1),
    "summarize_in_english": Task(0.15, "text", 12),
    "bullet_pointify": Task(0.15, "points", 10),
    "qa_about_text": Task(0.25, "text", 4),
    "paraphrase": Task(0.1, "text", 4),
    "title": Task(0.05, "text", 8),
}
_MARKER = re.compile(r"^\s*(?:[-*•–]\s*|\d+[.)]\s+)")


def parse_mix(items: Sequence[str] | None) -> dict[str, float]:
    """Reads `task=weight` items.

    Returns:
        Task → share, summing to 1; the default shares when there are no items.

    Raises:
        LlinkConfigError: If an item, a task or a weight makes no sense.
    """
    if items is None:
        return {name: task.share for name, task in TASK_TABLE.items()}
    weights: dict[str, float] = {}
    for item in items:
        name, _, weight = item.partition("=")
        name = next((task for task, other in ANY_LANGUAGE.items() if other == name), name)
        if name not in TASK_TABLE or name in weights or not re.fullmatch(r"\d+(\.\d+)?", weight or "1"):
            raise LlinkConfigError(
                f"--tasks {item!r}: give each task once, as TASK=WEIGHT; tasks are {', '.join(TASK_TABLE)}."
            )
        weights[name] = float(weight or "1")
    total = sum(weights.values())
    if not total:
        raise LlinkConfigError(f"--tasks {list(items)}: one weight at least must be above 0.")
    return {name: weight / total for name, weight in weights.items() if weight}


def quotas(size: int, mix: Mapping[str, float]) -> dict[str, int]:
    """Divides a split's size by the mix, the largest remainders first; of -1 every task gets -1."""
    if size == -1:
        return dict.fromkeys(mix, -1)
    exact = {name: size * Fraction(share) for name, share in mix.items()}
    found = {name: int(value) for name, value in exact.items()}
    rest = sorted(mix, key=lambda name: (found[name] - exact[name], list(mix).index(name)))
    for name in rest[: size - sum(found.values())]:
        found[name] += 1
    return found


def answer_schema(task: str) -> dict[str, Any]:
    """JSON schema of what the model writes for a task."""
    text = {"type": "string"}
    members: dict[str, Any] = {"instruction": text}
    if TASK_TABLE[task].answer != "reference":
        members["answer"] = {"type": "array", "items": text} if TASK_TABLE[task].answer == "points" else text
    return {
        "title": "example",
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def reminder(task: str) -> str:
    """Added to the message of a repeated attempt: some servers ignore seed and temperature."""
    shown = {"text": ', "answer": "…"', "points": ', "answer": ["…", "…"]', "reference": ""}[TASK_TABLE[task].answer]
    return f'\n\nWrite only this JSON object: {{"instruction": "… {FOREIGN_TOKEN} …"{shown}}}'


def read_example(task: str, members: Sequence[Sequence[tuple[str, Any]]], reference: str) -> tuple[str, str] | None:
    """Instruction and answer from the JSON objects of a model's answer; None unless it is exactly what was asked for.

    Args:
        task: Whose schema the one object must keep to: these members, each once, of these types.
        members: Of every object in the answer.
        reference: The target side.
    """
    if len(members) != 1:
        return None
    (pairs,), kind = members, TASK_TABLE[task].answer
    found, wanted = dict(pairs), answer_schema(task)["required"]
    if len(pairs) != len(wanted) or set(found) != set(wanted) or not isinstance(found["instruction"], str):
        return None
    instruction = found["instruction"].strip()
    if kind == "reference":
        return instruction, reference
    answer = found["answer"]
    if kind == "text":
        return (instruction, answer.strip()) if isinstance(answer, str) else None
    if not isinstance(answer, list) or not all(isinstance(point, str) for point in answer):
        return None
    points = (without_marker(" ".join(point.split())) for point in answer)
    return instruction, "\n".join(f"- {point}" for point in points if point)


def without_marker(line: str) -> str:
    """A line of a list without its bullet or number."""
    return _MARKER.sub("", line)
