"""One check of the texts that a metric is given."""

from __future__ import annotations

from collections.abc import Sequence


def check_texts(error: type[ValueError], **columns: Sequence[str]) -> None:
    """Refuses anything but two lists of strings of one length, at least one each.

    Args:
        error: What is raised.
        columns: The two lists by name.

    Raises:
        ValueError: The given class, if they are not.
    """
    (first, firsts), (second, seconds) = columns.items()
    for name, texts in columns.items():
        if isinstance(texts, str):
            raise error(f"{name} is one string; give a list of strings.")
        wrong = [index for index, text in enumerate(texts) if not isinstance(text, str)]
        if wrong:
            raise error(f"{name}[{wrong[0]}] is a {type(texts[wrong[0]]).__name__}; give strings.")
    if len(firsts) != len(seconds):
        raise error(f"{len(firsts)} {first} for {len(seconds)} {second}: give one for each.")
    if not firsts:
        raise error(f"There are no {first} to score.")
