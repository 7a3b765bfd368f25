"""Answers from a store against the English paragraph that stands there: a part of `store.py`."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llink import LlinkForCausalLM, SlotStore
from llink.configuration_llink import FOREIGN_TOKEN
from llink.evaluation.numeric import numeric_metrics
from llink.evaluation.translation import translation_metrics
from llink.store.slot_store import Found

PROMPT = "Translate to English."
_ALONE = "LibreOffice's help has a section with the heading “{}”. Write its first paragraph."
_SAMPLES, _TIMED, _BATCH = 3, 3, 8
#: A heading, and the paragraph below it.
Pair = tuple[dict[str, str], dict[str, str]]
#: Answers to a batch of headings.
Way = Callable[[list[Pair]], list[str]]


def answering(
    model: LlinkForCausalLM, rows: list[dict[str, str]], trained: set[str], asked: int, new: int, folder: Path
) -> dict[str, Any]:
    """English headings are asked of the Khmer paragraphs; each answer belongs to the paragraph below its heading.

    Args:
        model: One that Stage B trained.
        rows: `document`, `paragraph`, `english` and `khmer`, in the order of the documents.
        trained: Khmer texts that it was trained on: documents with one of them are left out.
        asked: Headings at most.
        new: Tokens of an answer at most.
        folder: For the store.

    Returns:
        For each way to answer chrF++ (`chrf`) with its 95 % interval, F1 of the numbers, and processor seconds of a
        question by itself, the median of a few: of finding and generating, not of building the store.
    """
    rows, pairs = _untrained(rows, trained, model.processor.max_foreign_chars)
    pairs = random.Random(0).sample(pairs, min(asked, len(pairs)))
    passages = [
        {"text": row["khmer"], "document": row["document"], "id": _name(row)} for row in rows if not _is_heading(row)
    ]
    store = SlotStore.build(model, passages, folder)
    places = {name: row for row, name in enumerate(store.rows["id"][:])}
    ranks = [_rank(store, heading, below) for heading, below in pairs]
    options = {"max_new_tokens": new, "do_sample": False}

    def said(**prompts: Any) -> list[str]:
        found = model.processor.batch_decode(model.generate(**prompts, **options), skip_special_tokens=True)
        return [answer.strip() for answer in found]

    def of_slots(rows: list[int]) -> list[str]:
        return said(foreign_slots=store.slots(rows), prompt=f"{PROMPT}\n{FOREIGN_TOKEN}")

    def base(prompts: list[str]) -> list[str]:  # rows without slots have LoRA off: the base decoder
        return said(messages=[[{"role": "user", "content": prompt}] for prompt in prompts])

    def nearest(batch: list[Pair]) -> list[Found]:
        return [store.search(heading["english"], 1)[0] for heading, _ in batch]

    ways: dict[str, Way] = {
        "llink_found": lambda batch: of_slots([one.row for one in nearest(batch)]),
        "base_found": lambda batch: base([f"{PROMPT}\n{one.text}" for one in nearest(batch)]),
        "base_alone": lambda batch: base([_ALONE.format(heading["english"]) for heading, _ in batch]),
        "llink_right": lambda batch: of_slots([places[_name(below)] for _, below in batch]),
        "base_right": lambda batch: base([f"{PROMPT}\n{below['khmer']}" for _, below in batch]),
    }
    seconds = _seconds(ways, pairs[:_TIMED])
    batches = [pairs[start : start + _BATCH] for start in range(0, len(pairs), _BATCH)]
    answers = {name: [answer for batch in batches for answer in way(batch)] for name, way in ways.items()}
    references = [below["english"] for _, below in pairs]
    return {
        "questions": len(pairs),
        "passages": len(passages),
        "documents": len({row["document"] for row in rows}),
        "new_tokens": new,
        "recall_of_the_paragraph": {str(k): round(sum(rank < k for rank in ranks) / len(ranks), 3) for k in (1, 5, 20)},
        "ways": {name: _scores(answers[name], references, seconds[name]) for name in ways},
        "samples": [
            {"heading": heading["english"], "english": below["english"], **{name: answers[name][row] for name in ways}}
            for row, (heading, below) in enumerate(pairs[:_SAMPLES])
        ],
    }


def _seconds(ways: Mapping[str, Way], pairs: list[Pair]) -> dict[str, list[float]]:
    """Of the processor, for each pair by itself; by turns, so that whatever else the machine does falls on all."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for pair in pairs:
        for name, way in ways.items():
            start = time.process_time()
            way([pair])
            found[name].append(time.process_time() - start)
    return found


def _untrained(
    rows: list[dict[str, str]], trained: set[str], characters: int
) -> tuple[list[dict[str, str]], list[Pair]]:
    """The rows of documents that were not trained on, and their headings with the paragraph below each.

    Paragraphs of more characters than the encoder reads at once are left out: their answers would be of a piece.
    """
    seen = {row["document"] for row in rows if row["khmer"].strip() in trained}
    rows = [row for row in rows if row["document"] not in seen and row["khmer"].strip() and row["english"].strip()]
    pairs = [
        (heading, below)
        for heading, below in itertools.pairwise(rows)
        if _is_heading(heading) and not _is_heading(below) and heading["document"] == below["document"]
        if len(below["khmer"]) <= characters
    ]
    return [row for row in rows if _is_heading(row) or len(row["khmer"]) <= characters], pairs


def _rank(store: SlotStore, heading: dict[str, str], below: dict[str, str]) -> int:
    """The place of the right paragraph among the twenty nearest, from 0 on; the same text elsewhere will do."""
    found = [one.text.strip() for one in store.search(heading["english"], min(20, len(store)))]
    text = below["khmer"].strip()
    return found.index(text) if text in found else len(store)


def _scores(answers: list[str], references: list[str], seconds: list[float]) -> dict[str, Any]:
    translated, numbers = translation_metrics(answers, references), numeric_metrics(answers, references)["kinds"]["all"]
    return {
        "chrf": round(translated["chrf"], 1),
        "chrf_interval": [round(end, 1) for end in translated["intervals"]["chrf"]],
        "numbers_f1": None if numbers["f1"] is None else round(numbers["f1"], 3),
        "numbers": numbers["n"],
        "seconds": round(sorted(seconds)[len(seconds) // 2], 2),
    }


def _is_heading(row: dict[str, str]) -> bool:
    return row["paragraph"].startswith("hd_")


def _name(row: dict[str, str]) -> str:
    return f"{row['document']}#{row['paragraph']}"
