"""What a page is made with: its title, its examples, and the English sentences around a text."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

from ..data.demo_corpus import DemoPair, demo_splits
from ..data.pairs import read_lines
from ..errors_llink import LlinkConfigError
from ..hub_cards.card import EXAMPLES

#: Of the demo corpus' held-out pairs: texts that a demo model can read, and sentences of everyday life.
DEMO_EXAMPLES, DEMO_SENTENCES = 2, 200


def page_settings(
    title: str, sentences: str | None = None, examples: str | None = None, max_new_tokens: int = 256
) -> dict[str, Any]:
    """The arguments of `page.build` but the model, as JSON can hold them.

    Args:
        title: The page's heading.
        sentences: File of English sentences, one a line; held-out sentences of the demo corpus when not given.
        examples: File of foreign texts, one a line; two of the demo corpus and one in each of several scripts when not
            given.
        max_new_tokens: Length of an answer at most.

    Raises:
        LlinkConfigError: If Gradio is not installed, or a file holds too few lines.
        DataError: If a file cannot be read.
    """
    if importlib.util.find_spec("gradio") is None:
        raise LlinkConfigError("The page is made with Gradio, which is not installed: pip install 'llink[app]'.")
    own_sentences = _lines(sentences, 1) if sentences else None
    own_examples = _lines(examples, 2) if examples else None
    return {
        "title": title,
        "sentences": own_sentences or [pair.english for pair in _demo_pairs()[:DEMO_SENTENCES]],
        "examples": own_examples or [*(pair.foreign for pair in _demo_pairs()[:DEMO_EXAMPLES]), *EXAMPLES.values()],
        "max_new_tokens": max_new_tokens,
    }


@functools.cache
def _demo_pairs() -> list[DemoPair]:
    """Held-out pairs of the demo corpus, read once."""
    return demo_splits()["test"]


def _lines(file: str, least: int) -> list[str]:
    """The distinct lines of a file that are not blank."""
    lines = list(dict.fromkeys(line.strip() for line in read_lines(Path(file)) if line.strip()))
    if len(lines) < least:
        raise LlinkConfigError(f"{file} holds {len(lines)} distinct lines: give at least {least}, one text a line.")
    return lines
