"""llink: languages are modalities (arXiv 2510.27254).

Names are imported when they are first used, so that `import llink` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:  # what type checkers and editors see; a test holds it equal to `_EXPORTS`
    from .baselines.direct import load_direct as load_direct
    from .baselines.direct import new_direct as new_direct
    from .baselines.langbridge import LangBridgeForCausalLM as LangBridgeForCausalLM
    from .building import renew_slots as renew_slots
    from .data.errors import DataError as DataError
    from .data.errors import ServerError as ServerError
    from .data.features import compute_features as compute_features
    from .data.instructions import instruction_dataset as instruction_dataset
    from .data.instructions import read_instructions as read_instructions
    from .data.instructions import translation_instructions as translation_instructions
    from .data.pairs import read_pairs as read_pairs
    from .data.pairs import split_pairs as split_pairs
    from .data.shapes import pair_dataset as pair_dataset
    from .errors_llink import LlinkConfigError as LlinkConfigError
    from .errors_llink import LlinkError as LlinkError
    from .evaluation.outputs import read_outputs as read_outputs
    from .evaluation.retrieval import retrieval_metrics as retrieval_metrics
    from .evaluation.systems import load_systems as load_systems
    from .hub_cards.publishing import push_to_hub as push_to_hub
    from .hub_cards.upload import LlinkPushError as LlinkPushError
    from .modeling_llink import LlinkConfig as LlinkConfig
    from .modeling_llink import LlinkForCausalLM as LlinkForCausalLM
    from .modeling_llink import LlinkProcessor as LlinkProcessor
    from .modeling_llink.errors import BaseModelError as BaseModelError
    from .modeling_llink.errors import ForeignTextError as ForeignTextError
    from .modeling_llink.errors import LlinkCheckpointError as LlinkCheckpointError
    from .modeling_llink.errors import NotFittedError as NotFittedError
    from .modeling_llink.errors import PromptError as PromptError
    from .modeling_llink.errors import SlotMismatchError as SlotMismatchError
    from .store.embeddings import LlinkEmbeddings as LlinkEmbeddings
    from .store.errors import StoreError as StoreError
    from .store.slot_store import SlotStore as SlotStore
    from .trainers.align_config import AlignConfig as AlignConfig
    from .trainers.align_loss import AlignLoss as AlignLoss
    from .trainers.align_trainer import AlignTrainer as AlignTrainer
    from .trainers.errors import TrainingError as TrainingError
    from .trainers.finetune_config import FinetuneConfig as FinetuneConfig
    from .trainers.finetune_trainer import FinetuneTrainer as FinetuneTrainer
    from .trainers.inject_config import InjectConfig as InjectConfig
    from .trainers.inject_loss import InjectLoss as InjectLoss
    from .trainers.inject_trainer import InjectTrainer as InjectTrainer
    from .trainers.langbridge_config import LangBridgeConfig as LangBridgeConfig
    from .trainers.langbridge_trainer import LangBridgeTrainer as LangBridgeTrainer
    from .trainers.lexicon_config import LexiconConfig as LexiconConfig
    from .trainers.lexicon_trainer import LexiconTrainer as LexiconTrainer
    from .trainers.plan import Plan as Plan
    from .trainers.plan import plan as plan
    from .trainers.presets import preset as preset

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
    "renew_slots": ".building",
    "SlotStore": ".store.slot_store",
    "LlinkEmbeddings": ".store.embeddings",
    "preset": ".trainers.presets",
    "plan": ".trainers.plan",
    "Plan": ".trainers.plan",
    "compute_features": ".data.features",
    "AlignLoss": ".trainers.align_loss",
    "InjectLoss": ".trainers.inject_loss",
    "load_systems": ".evaluation.systems",
    "read_outputs": ".evaluation.outputs",
    "read_pairs": ".data.pairs",
    "split_pairs": ".data.pairs",
    "pair_dataset": ".data.shapes",
    "read_instructions": ".data.instructions",
    "instruction_dataset": ".data.instructions",
    "translation_instructions": ".data.instructions",
    "retrieval_metrics": ".evaluation.retrieval",
    "LlinkError": ".errors_llink",
    "LlinkConfigError": ".errors_llink",
    "LlinkCheckpointError": ".modeling_llink.errors",
    "BaseModelError": ".modeling_llink.errors",
    "ForeignTextError": ".modeling_llink.errors",
    "PromptError": ".modeling_llink.errors",
    "SlotMismatchError": ".modeling_llink.errors",
    "NotFittedError": ".modeling_llink.errors",
    "DataError": ".data.errors",
    "ServerError": ".data.errors",
    "StoreError": ".store.errors",
    "TrainingError": ".trainers.errors",
    "LlinkPushError": ".hub_cards.upload",
}

_SUBPACKAGES = ("app", "baselines", "data", "evaluation", "hub_cards", "modeling_llink", "serving", "store", "trainers")

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")
    return getattr(importlib.import_module(_EXPORTS[name], __name__), name)


def __dir__() -> list[str]:
    return __all__
