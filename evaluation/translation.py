"""Translation quality: chrF++ and BLEU, as sacrebleu defines them, and COMET, where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from ..data.errors import DataError
from ..data.scripts import SPACELESS, primary_language, script_code
from ..data.target import ENGLISH
from . import comet_runner
from .bootstrap import percentile_ends, resampled_sums
from .texts import check_texts

#: A COMET model that scores translations against source and reference.
COMET_MODEL = "Unbabel/wmt22-comet-da"
#: Looks for COMET without importing it, which takes seconds.
_LOOK = f"import sys, importlib.util as u; sys.exit(0 if u.find_spec('comet') else {comet_runner.NOT_INSTALLED})"


def chrf(hypotheses: Sequence[str], references: Sequence[str], word_order: int = 2) -> float:
    """Corpus chrF, 0 to 100: F-score of character 6-grams, with `word_order` = 2 also of word 2-grams (chrF++).

    Args:
        hypotheses: N system outputs; empty strings are allowed and score 0.
        references: N references.
        word_order: 2 for chrF++ (the default), 0 for plain chrF.

    Raises:
        DataError: If the lengths differ, if there is nothing to score, or if an item is not a string.
    """
    check_texts(DataError, hypotheses=hypotheses, references=references)
    return CHRF(word_order=word_order).corpus_score(list(hypotheses), [list(references)]).score


def bleu_tokenizer(language: str = ENGLISH) -> str:
    """sacrebleu's tokenizer for texts in a language, by its tag; none of them needs an extra package.

    `13a`, its default, knows the punctuation of Latin script alone, `intl` that of all; `zh` takes Chinese characters
    one by one, and `char` every character, for scripts without spaces between words. chrF++ is the same for all, as it
    is published; its word pairs tell little where there are no spaces.

    Raises:
        LlinkConfigError: If the script of the language is not known.
    """
    if primary_language(language) == "zh":
        return "zh"
    script = script_code(language)
    return "char" if script in SPACELESS else "13a" if script == "Latn" else "intl"


def bleu(hypotheses: Sequence[str], references: Sequence[str], language: str = ENGLISH) -> float:
    """Corpus BLEU, 0 to 100, with sacrebleu's tokenizer for the language (13a for English) and its smoothing.

    Args:
        hypotheses: N system outputs.
        references: N references.
        language: BCP-47 tag of both.

    Raises:
        DataError: If the lengths differ, if there is nothing to score, or if an item is not a string.
        LlinkConfigError: As [`bleu_tokenizer`].
    """
    check_texts(DataError, hypotheses=hypotheses, references=references)
    return BLEU(tokenize=bleu_tokenizer(language)).corpus_score(list(hypotheses), [list(references)]).score


def translation_metrics(
    hypotheses: Sequence[str], references: Sequence[str], resamples: int = 1000, language: str = ENGLISH
) -> dict[str, Any]:
    """`chrf` (chrF++), `bleu` and `n` of N translations, and their 95 % `intervals`.

    Args:
        hypotheses: N system outputs.
        references: N references.
        resamples: Draws of the bootstrap, over translations; 0 leaves the intervals out.
        language: BCP-47 tag of both, which decides BLEU's tokenizer.

    Raises:
        DataError: As [`chrf`].
        LlinkConfigError: As [`bleu_tokenizer`].
    """
    check_texts(DataError, hypotheses=hypotheses, references=references)
    texts = list(hypotheses), [list(references)]
    metrics: dict[str, Metric] = {"chrf": CHRF(word_order=2), "bleu": BLEU(tokenize=bleu_tokenizer(language))}
    counts = {name: metric._extract_corpus_statistics(*texts) for name, metric in metrics.items()}  # (N, S) each
    values = {name: metric._aggregate_and_compute(counts[name]).score for name, metric in metrics.items()}
    intervals = {name: _interval(metric, counts[name], resamples) for name, metric in metrics.items() if resamples}
    return {**values, "n": len(hypotheses), **({"intervals": intervals} if intervals else {})}


def _interval(metric: Metric, counts: list[list[float]], resamples: int) -> list[float]:
    """sacrebleu's own bootstrap stops where a draw scores 0: it takes a mean of float and float32."""
    drawn = resampled_sums(np.array(counts, dtype=float), resamples, seed=0)  # (R, S)
    return percentile_ends(np.array([metric._compute_score_from_stats(row).score for row in drawn.tolist()])).tolist()


def comet(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    model: str = COMET_MODEL,
    python: str | None = None,
    batch_size: int = 16,
) -> float:
    """The system score of COMET, in an interpreter of its own: unbabel-comet needs transformers 4, llink 5.

    Args:
        sources: N foreign texts.
        hypotheses: N translations of them.
        references: N references.
        model: A checkpoint file, a folder that holds `checkpoints/model.ckpt`, or the name of a repository, which must
            be in the cache or will be downloaded.
        python: The interpreter of an environment with unbabel-comet; this one when not given.
        batch_size: Segments in one forward pass.

    Raises:
        DataError: As [`chrf`], of the sources too.
        DataError: If the interpreter does not start or has no COMET, or if COMET fails; says what it said.
    """
    check_texts(DataError, hypotheses=hypotheses, references=references)
    check_texts(DataError, hypotheses=hypotheses, sources=sources)
    samples = [{"src": s, "mt": h, "ref": r} for s, h, r in zip(sources, hypotheses, references, strict=True)]
    own = Path(model).expanduser()
    request = {"model": str(own.resolve()) if own.exists() else model, "samples": samples, "batch_size": batch_size}
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "request.json", Path(scratch) / "answer.json"
        source.write_text(json.dumps(request), "utf-8")
        script = Path(comet_runner.__file__).read_text("utf-8")
        done = _run(python, script, str(source), str(target), folder=scratch)
        if done.returncode != 0 or not target.is_file():
            said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise DataError(
                f"COMET failed with {model}: {said} Give a checkpoint file, or a model that {python or sys.executable} "
                "can download or has in its cache."
            )
        return json.loads(target.read_text("utf-8"))["system_score"]


def check_comet(python: str | None = None) -> None:
    """Asks an interpreter, without importing anything, whether it has a package called comet.

    Args:
        python: As [`comet`] takes it.

    Raises:
        DataError: If the interpreter does not start, does not run Python, or has none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        done = _run(python, _LOOK, folder=scratch)
    if done.returncode != 0:
        raise DataError(f"{python or sys.executable} is no Python that runs: it ended with {done.returncode}.")


def _run(python: str | None, script: str, *words: str, folder: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in the interpreter that has COMET, in a folder without files that could shadow its packages."""
    found = shutil.which(python or sys.executable)
    command = [os.path.abspath(found) if found else python, "-c", script, *words]  # seen from another folder
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DataError(f"The interpreter {command[0]} does not start: {error.strerror or error}.") from error
    if done.returncode == comet_runner.NOT_INSTALLED:
        raise DataError(
            f"{command[0]} has no COMET. It needs an environment of its own: "
            "`python -m venv comet && comet/bin/pip install unbabel-comet`; then name comet/bin/python."
        )
    return done
