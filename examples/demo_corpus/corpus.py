"""Sample distinct Khmer-English pairs from the grammar."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from llink.data.demo_corpus import DemoPair

from .grammar import DemoCorpusError, Template, arabic_digits
from .templates_health import HEALTH
from .templates_office import OFFICE
from .templates_people import PEOPLE
from .templates_places import PLACES
from .templates_school import SCHOOL
from .templates_shop import SHOP
from .templates_travel import TRAVEL

__all__ = ["MAX_PAIRS", "TEMPLATES", "generate_pairs"]

TEMPLATES: tuple[Template, ...] = PEOPLE + PLACES + SCHOOL + SHOP + HEALTH + OFFICE + TRAVEL
MAX_PAIRS = 300_000
"""The most pairs that one call makes: up to here rejection sampling stays quick and templates stay nearly balanced."""
MIN_KHMER_CHARS, MAX_KHMER_CHARS = 12, 256
ARABIC_DIGITS_SHARE = 0.35
_ATTEMPTS = 60


def _rounds(rng: Random) -> Iterator[list[Template]]:
    """Every template once, in a new order each round, so that none dominates."""
    while True:
        order = list(TEMPLATES)
        rng.shuffle(order)
        yield order


def _draw(template: Template, rng: Random, seen: set[str]) -> tuple[str, str, dict[str, Any]] | None:
    """One new pair of a template: English, Khmer, words. None if the template has (nearly) nothing new left."""
    for _ in range(_ATTEMPTS):
        words = template.sample(rng)
        english, khmer = template.english(words), template.khmer(words)
        shown = arabic_digits(khmer) if rng.random() < ARABIC_DIGITS_SHARE else khmer
        # Both spellings of a Khmer sentence are one sentence: `khmer` (Khmer digits) is what must be new.
        if english not in seen and khmer not in seen and MIN_KHMER_CHARS <= len(khmer) <= MAX_KHMER_CHARS:
            seen.update((english, khmer))
            return english, shown, words
    return None


def generate_pairs(count: int = 30_000, seed: int = 0) -> list[DemoPair]:
    """Make distinct Khmer-English pairs; the map between the two sides is one to one.

    The result depends on `count` and `seed` only, and a smaller count is a prefix of a larger one.

    Args:
        count: number of pairs, at most :data:`MAX_PAIRS`.
        seed: seed of the draw.

    Returns:
        Rows `id, english, foreign, language` ("km") that also carry `facts`, `parts`, `summary` and `template`.

    Raises:
        DemoCorpusError: `count` is negative or more than the grammar is asked to yield.

    Example:
        >>> pair = generate_pairs(1)[0]
        >>> sorted(pair)
        ['english', 'foreign', 'id', 'language']
    """
    if not 0 <= count <= MAX_PAIRS:
        raise DemoCorpusError(
            f"count is {count}, but the demo corpus yields 0 to {MAX_PAIRS} pairs a call; ask for fewer pairs."
        )
    rng = Random(seed)
    pairs: list[DemoPair] = []
    seen: set[str] = set()
    exhausted: set[str] = set()
    for order in _rounds(rng):
        for template in order:
            if len(pairs) == count:
                return pairs
            drawn = None if template.name in exhausted else _draw(template, rng, seen)
            if drawn is None:
                exhausted.add(template.name)
                continue
            english, foreign, words = drawn
            row = {"id": f"demo-{seed}-{len(pairs):06d}", "english": english, "foreign": foreign, "language": "km"}
            pairs.append(
                DemoPair(row, template.name, template.facts(words), template.parts(words), template.summary(words))
            )
        if len(exhausted) == len(TEMPLATES):
            break
    raise DemoCorpusError(f"The grammar ran out after {len(pairs)} of {count} pairs; ask for at most {len(pairs)}.")
