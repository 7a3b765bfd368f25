"""Translation quality by surface overlap: chrF++ and BLEU, as sacrebleu defines them."""

from __future__ import annotations

from collections.abc import Sequence

from sacrebleu.metrics import BLEU, CHRF


class TranslationError(ValueError):
    """Hypotheses and references that cannot be scored against each other."""


def chrf(hypotheses: Sequence[str], references: Sequence[str], word_order: int = 2) -> float:
    """Corpus chrF, 0 to 100: F-score of character 6-grams, with `word_order` = 2 also of word 2-grams (chrF++).

    Args:
        hypotheses: N system outputs; empty strings are allowed and score 0.
        references: N references.
        word_order: 2 for chrF++ (the default), 0 for plain chrF.

    Raises:
        TranslationError: If the lengths differ, if there is nothing to score, or if an item is not a string.
    """
    _check(hypotheses, references)
    return CHRF(word_order=word_order).corpus_score(list(hypotheses), [list(references)]).score


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU, 0 to 100, with sacrebleu's default tokenizer (13a) and smoothing.

    Args:
        hypotheses: N system outputs.
        references: N references.

    Raises:
        TranslationError: If the lengths differ, if there is nothing to score, or if an item is not a string.
    """
    _check(hypotheses, references)
    return BLEU().corpus_score(list(hypotheses), [list(references)]).score


def translation_metrics(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """`chrf` (chrF++), `bleu` and `n` of N translations.

    Raises:
        TranslationError: As [`chrf`].
    """
    return {"chrf": chrf(hypotheses, references), "bleu": bleu(hypotheses, references), "n": len(hypotheses)}


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    for name, texts in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(texts, str):
            raise TranslationError(f"{name} is one string; give a list of strings.")
        wrong = [index for index, text in enumerate(texts) if not isinstance(text, str)]
        if wrong:
            raise TranslationError(f"{name}[{wrong[0]}] is a {type(texts[wrong[0]]).__name__}; give strings.")
    if len(hypotheses) != len(references):
        raise TranslationError(f"{len(hypotheses)} hypotheses for {len(references)} references: give one for each.")
    if not hypotheses:
        raise TranslationError("There are no translations to score.")
