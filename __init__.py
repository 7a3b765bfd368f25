"""llink: languages are modalities (arXiv 2510.27254).

Names are imported when they are first used, so that `import llink` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

from ._version import __version__

_EXPORTS = {
    "LlinkConfig": ".modeling_llink",
    "LlinkForCausalLM": ".modeling_llink",
    "LlinkProcessor": ".modeling_llink",
    "push_to_hub": ".hub_cards.publishing",
    "AlignConfig": ".trainers.align_config",
    "AlignTrainer": ".trainers.align_trainer",
    "LexiconConfig": ".trainers.lexicon_config",
    "LexiconTrainer": ".trainers.lexicon_trainer",
    "InjectConfig": ".trainers.inject_config",
    "InjectTrainer": ".trainers.inject_trainer",
    "FinetuneConfig": ".trainers.finetune_config",
    "FinetuneTrainer": ".trainers.finetune_trainer",
    "LangBridgeConfig": ".trainers.langbridge_config",
    "LangBridgeTrainer": ".trainers.langbridge_trainer",
    "LangBridgeForCausalLM": ".baselines.langbridge",
    "new_direct": ".baselines.direct",
    "load_direct": ".baselines.direct",
    "preset": ".trainers.presets",
    "compute_features": ".data.frozen",
    "AlignLoss": ".trainers.align_loss",
    "InjectLoss": ".trainers.inject_loss",
    "load_systems": ".evaluation.systems",
    "read_outputs": ".evaluation.outputs",
    "read_pairs": ".data.pairs",
    "split_pairs": ".data.pairs",
    "read_instructions": ".data.instructions",
    "retrieval_metrics": ".evaluation.retrieval",
}

_SUBPACKAGES = ("app", "baselines", "data", "evaluation", "hub_cards", "modeling_llink", "trainers")

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")
    return getattr(importlib.import_module(_EXPORTS[name], __name__), name)


def __dir__() -> list[str]:
    return __all__
