"""`evaluate.load(module_path("translation"))`: chrF++ and BLEU."""

import datasets
import evaluate

from llink.evaluation import CITATION
from llink.evaluation.translation import translation_metrics

_DESCRIPTION = "Corpus chrF++ and BLEU of translations, both 0 to 100, as sacrebleu defines them."
_INPUTS = """
Args:
    predictions: N translations.
    references: N references, one for each.
Returns:
    chrf (chrF++), bleu, n, and the 95 % intervals of the first two.
Examples:
    >>> translation = evaluate.load(module_path("translation"))
    >>> translation.compute(predictions=["The school is far."], references=["The school is far."])["chrf"]
    100.0
"""
_SACREBLEU = "@inproceedings{post2018call, title={A Call for Clarity in Reporting BLEU Scores}, booktitle={WMT}}"


class Translation(evaluate.Metric):
    """chrF++ and BLEU as an `evaluate` metric."""

    def _info(self) -> evaluate.MetricInfo:
        texts = {name: datasets.Value("string") for name in ("predictions", "references")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION + _SACREBLEU,
            inputs_description=_INPUTS,
            features=datasets.Features(texts),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict:
        return translation_metrics(predictions, references)
