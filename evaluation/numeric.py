"""Exactness: do numbers, units, dates, times, prices, identifiers, addresses and names come through unchanged?

A sentence vector keeps what a text is about and blurs what it says exactly: the paper's models turn 30 MW into 1.5 kW,
25 km into 10 miles, 1985 into the 1980s and $50 into $5 (paper 6.2 and appendix). Overlap metrics hardly notice; these
count. Entities of an output are matched with those of its reference, or with the digits of its foreign source.

What is read, and what is decided about ambiguous writings, stands in [`llink.data.entities`]. Only English is read
whole: of outputs in another language it is the digits, codes and addresses, as of the sources.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.entities.english import extract, known_names
from ..data.entities.entity import KINDS, Entity
from ..data.entities.foreign import FOREIGN_KINDS, ForeignEntity, extract_foreign
from ..data.entities.matching import foreign_kept, kept_and_lost
from ..data.errors import DataError
from ..data.target import ENGLISH, is_english
from .bootstrap import percentile_ends, resampled_sums
from .texts import check_texts

#: The row of a result that holds every kind.
ALL = "all"


Entities = Sequence[Entity | ForeignEntity]


@dataclass(frozen=True)
class Comparison:
    """An output beside its reference, entity by entity.

    Attributes:
        kept: Of the reference, found in the output.
        lost: Of the reference, not found.
        added: Of the output, not in the reference.
    """

    kept: Entities
    lost: Entities
    added: Entities

    @property
    def exact(self) -> bool:
        """Whether nothing is lost and nothing added."""
        return not self.lost and not self.added


def compare(output: str, reference: str, known: Collection[str] = (), language: str = ENGLISH) -> Comparison:
    """Matches the entities of an output with those of its reference, by value and one to one.

    Args:
        output: A text.
        reference: Another.
        known: Names that count at the beginning of an English sentence; see [`known_names`].
        language: BCP-47 tag of both.
    """
    if not is_english(language):
        output_digits, digits = extract_foreign(output), extract_foreign(reference)
        held, needed = foreign_kept(digits, output_digits), foreign_kept(output_digits, digits)
        kept_digits = [entity for entity, found in zip(digits, held, strict=True) if found]
        lost_digits = [entity for entity, found in zip(digits, held, strict=True) if not found]
        return Comparison(
            kept_digits, lost_digits, [e for e, found in zip(output_digits, needed, strict=True) if not found]
        )
    ours, theirs = extract(output, known), extract(reference, known)
    kept, lost = kept_and_lost(theirs, ours)
    return Comparison(kept, lost, kept_and_lost(ours, theirs)[1])


def numeric_metrics(
    outputs: Sequence[str],
    references: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    kinds: Collection[str] = KINDS,
    language: str = ENGLISH,
) -> dict[str, Any]:
    """Precision, recall and F1 of the entities of N outputs against their references.

    A kept entity counts under its kind in the reference, an added one under its kind in the output.

    Args:
        outputs: N outputs; empty ones are allowed.
        references: N references.
        resamples: Draws of the 95 % bootstrap intervals, over examples; 0 leaves them out.
        seed: Of the draws.
        kinds: Of entities that count.
        language: BCP-47 tag of outputs and references.

    Returns:
        `n` examples, `n_with_entities` whose reference holds any, `exact`, the share of these with nothing lost and
        nothing added, `intervals` of it, and `kinds`: for `all` and each kind that occurs `precision`, `recall`, `f1`
        (None where there is nothing to divide by), `n` (in the references), `n_output` and `intervals`.

    Raises:
        DataError: If the lengths differ, if there is nothing to score, or if an item is not a string.
    """
    check_texts(DataError, outputs=outputs, references=references)
    known = known_names(references) if is_english(language) else ()
    comparisons = [
        compare(output, reference, known, language) for output, reference in zip(outputs, references, strict=True)
    ]
    counts = np.zeros((len(outputs), len(KINDS) + 1, 3))
    exact = np.zeros((len(outputs), 1, 3))
    for row, comparison in enumerate(comparisons):
        for column, entities in enumerate((comparison.kept, comparison.lost, comparison.added)):
            for entity in (entity for entity in entities if entity.kind in kinds):
                counts[row, [0, 1 + KINDS.index(entity.kind)], column] += 1
        kept, lost, added = counts[row, 0]
        if kept or lost:
            exact[row, 0, int(bool(lost or added))] = 1
    draws = resampled_sums(np.concatenate([counts, exact], axis=1), resamples, seed)
    of_exact = _rates(exact[:, 0].sum(axis=0), draws[:, -1])
    by_kind = {}
    for index, kind in enumerate((ALL, *KINDS)):
        total = counts[:, index].sum(axis=0)
        if total.any() or kind == ALL:
            by_kind[kind] = {
                **_rates(total, draws[:, index]),
                "n": int(total[0] + total[1]),
                "n_output": int(total[0] + total[2]),
            }
    return {
        "n": len(outputs),
        "n_with_entities": int(exact.sum()),
        "exact": of_exact["recall"],
        "intervals": {"exact": of_exact["intervals"]["recall"]} if of_exact["intervals"] else {},
        "kinds": by_kind,
    }


def source_metrics(
    outputs: Sequence[str],
    sources: Sequence[str | Sequence[str]],
    resamples: int = 1000,
    seed: int = 0,
    language: str = ENGLISH,
) -> dict[str, Any]:
    """How much of the digits and addresses of N foreign sources stands in their outputs; needs no reference.

    Args:
        outputs: N outputs.
        sources: N foreign texts, or lists of passages.
        resamples: Draws of the 95 % bootstrap intervals, over examples; 0 leaves them out.
        seed: Of the draws.
        language: BCP-47 tag of the outputs.

    Returns:
        `n` examples, `n_with_entities` whose source holds any, and `kinds`: for `all` and each kind that occurs
        `recall` (None where there is nothing to divide by), `n` and `intervals`.

    Raises:
        DataError: If the lengths differ, if there is nothing to score, or if an output is not a string.
    """
    texts = [source if isinstance(source, str) else "\n".join(source) for source in sources]
    check_texts(DataError, outputs=outputs, sources=texts)
    counts = np.zeros((len(outputs), len(FOREIGN_KINDS) + 1, 3))
    for row, (output, text) in enumerate(zip(outputs, texts, strict=True)):
        wanted = extract_foreign(text)
        for entity, kept in zip(wanted, foreign_kept(wanted, _read(output, language)), strict=True):
            counts[row, [0, 1 + FOREIGN_KINDS.index(entity.kind)], 0 if kept else 1] += 1
    draws = resampled_sums(counts, resamples, seed)
    kinds = {}
    for index, kind in enumerate((ALL, *FOREIGN_KINDS)):
        total = counts[:, index].sum(axis=0)
        if total.any() or kind == ALL:
            rates = _rates(total, draws[:, index])
            intervals = {name: ends for name, ends in rates["intervals"].items() if name == "recall"}
            kinds[kind] = {"recall": rates["recall"], "n": int(total.sum()), "intervals": intervals}
    return {"n": len(outputs), "n_with_entities": int(counts[:, 0].any(axis=1).sum()), "kinds": kinds}


def entity_rows(english: Sequence[str], foreign: Sequence[str], language: str = ENGLISH) -> list[int]:
    """The rows of a parallel text that hold an entity other than a name on either side; the first is in
    the target language.

    Raises:
        DataError: If the lengths differ, if there are no rows, or if an item is not a string.
    """
    check_texts(DataError, english=english, foreign=foreign)
    return [
        row
        for row, (own, other) in enumerate(zip(english, foreign, strict=True))
        if extract_foreign(other) or any(entity.kind != "name" for entity in _read(own, language))
    ]


def kind_counts(texts: Sequence[str], language: str = ENGLISH) -> dict[str, int]:
    """How many entities of each kind texts in a language hold; kinds that do not occur are left out."""
    known = known_names(texts) if is_english(language) else ()
    found = [entity.kind for text in texts for entity in _read(text, language, known)]
    return {kind: found.count(kind) for kind in KINDS if kind in found}


def _read(text: str, language: str, known: Collection[str] = ()) -> list[Entity] | list[ForeignEntity]:
    return extract(text, known) if is_english(language) else extract_foreign(text)


def _rates(total: np.ndarray, draws: np.ndarray) -> dict[str, Any]:
    """Precision, recall and F1 with their 95 % intervals, from (3,) and (R, 3) counts of kept, lost and added."""
    rates, drawn = _ratios(total[None])[0], _ratios(draws)
    names = ("precision", "recall", "f1")
    intervals: dict[str, list[float]] = {}
    for column, name in enumerate(names):
        defined = drawn[~np.isnan(drawn[:, column]), column]
        if len(defined):
            intervals[name] = percentile_ends(defined).tolist()
    values = {name: None if np.isnan(rate) else float(rate) for name, rate in zip(names, rates, strict=True)}
    return {**values, "intervals": intervals}


def _ratios(counts: np.ndarray) -> np.ndarray:
    """(R, 3) counts → (R, 3) precision, recall, F1; NaN where there is nothing to divide by."""
    kept, lost, added = counts.T
    with np.errstate(invalid="ignore"):
        return np.stack([kept / (kept + added), kept / (kept + lost), 2 * kept / (2 * kept + lost + added)], axis=1)
