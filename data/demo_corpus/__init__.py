"""The embedded demo corpus: a grammar of our own for Khmer-English sentences, and instructions about them.

It needs no download, so that a first run, the tests and the demo work offline. It is simple, regular language about
people, places, school, shops, health, offices and travel: enough to show that the bridge carries names, numbers, dates
and relations, and no measure of how well a real language pair would do.
"""

from __future__ import annotations

from .corpus import MAX_PAIRS, DemoPair, generate_pairs, monolingual, split_pairs
from .grammar import DemoCorpusError
from .instructions import TASK_MIX, english_instruction_dialogues, generate_instructions
from .splits import demo_splits

__all__ = [
    "MAX_PAIRS",
    "TASK_MIX",
    "DemoCorpusError",
    "DemoPair",
    "demo_splits",
    "english_instruction_dialogues",
    "generate_instructions",
    "generate_pairs",
    "monolingual",
    "split_pairs",
]
