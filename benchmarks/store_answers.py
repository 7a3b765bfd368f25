"""Answers from a store against the English paragraph that stands there: a part of `store.py`."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llink import LlinkForCausalLM, SlotStore
from llink.evaluation.numeric import numeric_metrics
from llink.evaluation.translation import translation_metrics

PROMPT = "Translate to English."
_ALONE = "LibreOffice's help has a section with the heading “{}”. Write its first paragraph."
_SAMPLES = 3


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
        For each way to answer chrF++ (`chrf`) and F1 of the numbers, with 95 % intervals, and processor seconds a
        question: the median. What finds the passage, encodes and generates is counted, what builds the store is not.
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

    def said(**prompt: Any) -> str:
        return model.processor.batch_decode(model.generate(**prompt, **options), skip_special_tokens=True)[0].strip()

    def raw(text: str) -> str:  # a row without slots has LoRA off: the base decoder
        return said(messages=[{"role": "user", "content": f"{PROMPT}\n{text}"}])

    ways: dict[str, Callable[[dict[str, str], dict[str, str]], str]] = {
        "llink_found": lambda heading, below: store.ask(heading["english"], 1, prompt=PROMPT, **options).text,
        "base_found": lambda heading, below: raw(store.search(heading["english"], 1)[0].text),
        "base_alone": lambda heading, below: said(
            messages=[{"role": "user", "content": _ALONE.format(heading["english"])}]
        ),
        "llink_right": lambda heading, below: said(foreign_slots=store.slots([places[_name(below)]]), prompt=PROMPT),
        "base_right": lambda heading, below: raw(below["khmer"]),
    }
    answers: dict[str, list[str]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for heading, below in pairs:  # by turns, so that whatever else the machine does falls on all
        for name, way in ways.items():
            start = time.process_time()
            answers[name].append(way(heading, below))
            seconds[name].append(time.process_time() - start)
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


def _untrained(
    rows: list[dict[str, str]], trained: set[str], characters: int
) -> tuple[list[dict[str, str]], list[tuple[dict[str, str], dict[str, str]]]]:
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
