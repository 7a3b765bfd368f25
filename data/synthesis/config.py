"""Arguments of `llink synthesize`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ...errors_llink import LlinkConfigError
from ..chat_settings import ServerSettings
from ..language_identification import check_language
from ..scripts import primary_language, script_code
from ..splitting import Split, parse_splits
from ..target import ENGLISH, is_english, task_in
from .filters import FilterRules
from .rule_made import RULE_TASKS, rule_tasks
from .tasks import TASK_TABLE, parse_mix

#: Names of files in the output folder that no split may have.
_TAKEN = ("answers", "manifest")


@dataclass
class SynthesisConfig:
    """Makes Stage B examples from parallel pairs, by a language model or by rule (paper 4.2, 5.1)."""

    output_dir: str = field(metadata={"help": "Folder to make: SPLIT.jsonl, manifest.json, and every answer."})
    pairs: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Folder of `llink prepare` and a split of it; or two line-aligned files, the "
            "target side (English) first."
        },
    )
    language: str | None = field(
        default=None, metadata={"help": "BCP-47 tag of the foreign side, such as km; a prepared folder knows it."}
    )
    target_language: str | None = field(
        default=None,
        metadata={"help": "BCP-47 tag of the side that answers are in; a prepared folder knows it, else en."},
    )
    script: str | None = field(
        default=None, metadata={"help": "The foreign side's script (ISO 15924), if not the usual one."}
    )
    rule_made: bool = field(
        default=False,
        metadata={
            "help": f"Ask no model: {' and '.join(RULE_TASKS)} by rule; only the first for a target other than English."
        },
    )
    tasks: list[str] | None = field(
        default=None,
        metadata={"help": f"The mix, as TASK=WEIGHT, of {', '.join(TASK_TABLE)}; the usual mix when not given."},
    )
    splits: list[str] = field(
        default_factory=lambda: ["train=40000", "held_out=2000"],
        metadata={"help": "Splits and the most examples of each; -1 takes all that come (paper 5.1: 40k, 2k)."},
    )
    shares: list[float] | None = field(
        default=None, metadata={"help": "Share of all sentences that falls to each split; see llink prepare."}
    )
    examples_per_pair: int = field(default=1, metadata={"help": "Different tasks that a pair may be used for."})
    foreign_length: list[int] = field(
        default_factory=lambda: [12, 256], metadata={"help": "Fewest and most foreign characters (paper 5.1)."}
    )
    max_repeats: int = field(
        default=50,
        metadata={
            "help": "Most examples of a task in a split whose instructions are worded nearly the same; -1 for any."
        },
    )
    identify_languages: bool = field(
        default=False, metadata={"help": "Also recognise the language of answers (extra `langid`)."}
    )
    prompts: str | None = field(
        default=None, metadata={"help": "Folder of prompts TASK.jinja in place of llink's; see --write-prompts."}
    )
    token_budget: int | None = field(
        default=None,
        metadata={"help": "Prompt and completion tokens that may be spent for this folder, over all runs."},
    )
    price_per_million_input: float | None = field(default=None, metadata={"help": "To show costs, in any currency."})
    price_per_million_output: float | None = field(default=None, metadata={"help": "To show costs."})
    overwrite: bool = field(
        default=False,
        metadata={"help": "Replace examples in --output-dir that were made otherwise; answers in it are kept."},
    )

    def __post_init__(self) -> None:
        if len(self.pairs) != 2:
            raise LlinkConfigError(
                f"--pairs takes a folder of llink prepare and a split, or two files; got {self.pairs}."
            )
        low, high = self.foreign_length if len(self.foreign_length) == 2 else (1, 0)
        if not 0 <= low <= high:
            raise LlinkConfigError(f"--foreign-length {self.foreign_length}: give two numbers, fewest and most.")
        if (self.price_per_million_input is None) != (self.price_per_million_output is None):
            raise LlinkConfigError(
                "Give --price-per-million-input and --price-per-million-output together, or neither."
            )
        for name, least in (("examples_per_pair", 1), ("token_budget", 1), ("max_repeats", -1)):
            value = getattr(self, name)
            if value is not None and (value < least or value == 0):
                raise LlinkConfigError(f"--{name.replace('_', '-')} {value} must be {max(least, 1)} or more.")
        if taken := [split.name for split in self.split_plan() if split.name in _TAKEN]:
            raise LlinkConfigError(f"--splits: no split can be called {taken[0]}.")
        if others := [task for task in self.mix() if self.rule_made and task not in RULE_TASKS]:
            raise LlinkConfigError(
                f"--rule-made makes {', '.join(RULE_TASKS)}, not {', '.join(others)}: leave these out of --tasks."
            )
        if self.rule_made and (self.prompts or self.token_budget):
            raise LlinkConfigError("--rule-made asks no model: leave out --prompts and --token-budget.")
        if self.identify_languages:
            check_language(ENGLISH)

    def split_plan(self) -> list[Split]:
        """The splits, with sizes and shares.

        Raises:
            LlinkConfigError: If they are not to be understood.
        """
        return parse_splits(self.splits, self.shares)

    def mix(self, target: str = ENGLISH) -> dict[str, float]:
        """Task → share, where answers are in the language `target`.

        Raises:
            LlinkConfigError: If it is not to be understood, or asks rules for what they cannot write.
        """
        if self.rule_made and self.tasks is None:
            return parse_mix([f"{task}={TASK_TABLE[task].share}" for task in rule_tasks(target)])
        mix = parse_mix(self.tasks)
        if self.rule_made and not is_english(target) and (others := [task for task in mix if task != RULE_TASKS[0]]):
            raise LlinkConfigError(
                f"Rules write English, and the answers of {', '.join(others)} are to be in {target!r}: use a language "
                f"model (--model in place of --rule-made), or the translation task (--tasks translate)."
            )
        return mix

    def rules(self, language: str, target: str = ENGLISH) -> FilterRules:
        """What the filters go by.

        Raises:
            LlinkConfigError: If the script of a language is not known, or a target language cannot be recognised.
        """
        if self.identify_languages:
            check_language(primary_language(target))
        return FilterRules(
            script=script_code(language, self.script),
            target_language=target,
            target_script=script_code(target),
            identify_languages=self.identify_languages,
            max_repeats=-1 if self.rule_made else self.max_repeats,
            by_rule=self.rule_made,
        )

    def content(self, target: str = ENGLISH) -> dict[str, Any]:
        """Every option that decides the examples but those of the server, as JSON holds it."""
        names = ("rule_made", "examples_per_pair", "foreign_length", "max_repeats", "identify_languages", "script")
        mix = {task_in(target, task): share for task, share in self.mix(target).items()}
        options = {name: getattr(self, name) for name in names} | {"mix": mix}
        splits = [{"name": split.name, "size": split.size, "share": split.share} for split in self.split_plan()]
        return json.loads(json.dumps(options | {"splits": splits}))


@dataclass(frozen=True, kw_only=True)
class SynthesisServer(ServerSettings):
    """The language model that writes instructions and answers."""

    model: str | None = field(default=None, metadata={"help": "The model's name on its server; none with --rule-made."})
    url: str | None = field(
        default=None,
        metadata={"help": "An OpenAI-compatible server, http://…/v1. Default: Hugging Face's inference providers."},
    )
    temperature: float = field(default=0.7, metadata={"help": "Of the model; each repeated attempt adds 0.3."})
    max_tokens: int = field(default=512, metadata={"help": "Length of an answer at most."})
    attempts: int = field(default=2, metadata={"help": "Times that one example is asked for until it can be read."})

    def content(self) -> dict[str, Any]:
        """What decides an answer, besides the message: not the address."""
        names = ("model", "seed", "temperature", "max_tokens", "response_format")
        return {name: getattr(self, name) for name in names}
