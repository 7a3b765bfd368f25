"""From parallel pairs to Stage B examples: the pipeline of `llink synthesize`.

pairs ─ usable, split by content ─ tasks drawn ─┬─ ask the model ─ read ─┬─ filter ─ write
                                                └──── made by rule ──────┘
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..._version import __version__
from ...errors_llink import LlinkConfigError
from ..chat_client import cost_of, estimate_cost
from ..errors import DataError
from ..instructions import BUCKETS, bucket_of
from ..journal import Journal
from ..pairs import read_pairs, sentences, target_language_of
from ..scripts import primary_language
from ..target import TARGET_LANGUAGE, is_english, language_name
from .asking import Answer, Asker
from .config import SynthesisConfig, SynthesisServer
from .folder import (
    ANSWERS,
    KIND,
    check_examples,
    claim,
    differences,
    read_manifest,
    write_examples,
    write_manifest,
    writing,
)
from .plan import Job, Planner
from .prompts import Prompts
from .queues import Queue
from .rule_made import made_by_rule


class Synthesis:
    """Everything that is decided before anything is asked or written.

    Args:
        config: What to make, and where to.
        server: Who is asked; not looked at with `rule_made`, but for its seed.

    Attributes:
        queues: One a split and task.
        asker: None with `rule_made`.

    Raises:
        LlinkConfigError: If no model is named, the language is not known, or a prompt is wrong.
        DataError: If the pairs cannot be read, none can be used, the output folder holds other things, or its answers
            cannot be read.
    """

    def __init__(self, config: SynthesisConfig, server: SynthesisServer) -> None:
        if not config.rule_made and server.model is None:
            raise LlinkConfigError("Give the --model that writes the examples, or --rule-made to ask none.")
        self.config, self.server, self.folder = config, server, Path(config.output_dir)
        self._existing = read_manifest(self.folder)
        pairs = read_pairs(*config.pairs, language=config.language or "und", target_language=config.target_language)
        self._target = target_language_of(pairs)
        language, splits, mix = self._language(pairs), config.split_plan(), config.mix(self._target)
        prompts = None if config.rule_made else Prompts(mix, config.prompts, language_name(self._target))
        rules = config.rules(language, self._target)
        lengths = config.foreign_length, config.examples_per_pair
        planner = Planner(splits, mix, *lengths, server.seed, rules.target_script)
        jobs, self._steps = planner.plan(pairs)
        if empty := [split.name for split in splits if not any(jobs[split.name, task] for task in mix)]:
            dropped = ", ".join(f"{step['name']} {step['dropped']}" for step in self._steps if step["dropped"])
            raise DataError(f"No pair is left for {', '.join(empty)}; of {len(pairs)} dropped: {dropped}.")
        self.queues = [
            Queue(split, task, quota, jobs[split, task], rules)
            for split, wanted in planner.quotas.items()
            for task, quota in wanted.items()
        ]
        self._journal: Journal[Answer] = Journal(self.folder / ANSWERS, Answer)
        self.asker = None if prompts is None else Asker(prompts, server, config, self._journal)
        self._identity: dict[str, Any] = {
            "pairs": {"language": language, "rows": len(pairs), "sha256": _digest(pairs)},
            "options": config.content(self._target),
            "server": {"seed": server.seed} if config.rule_made else server.content() | {"attempts": server.attempts},
            "prompts": prompts.digests if prompts else {},
            "versions": {"llink": __version__},
        }
        if not is_english(self._target):
            self._identity["pairs"][TARGET_LANGUAGE] = self._target

    def _language(self, pairs: Dataset) -> str:
        found = set(pairs.unique("language")) if "language" in pairs.column_names else {"und"}
        language = self.config.language or next(iter(found))
        if language == "und":
            raise LlinkConfigError("Give --language, the BCP-47 tag of the foreign side, such as km.")
        if others := {primary_language(tag) for tag in found - {"und"}} - {primary_language(language)}:
            raise LlinkConfigError(f"--language {language!r}, but the pairs are in {', '.join(sorted(others))}.")
        if primary_language(language) == primary_language(self._target):
            name = "English" if is_english(language) else "the target language"
            raise LlinkConfigError(f"--language {language!r}: the foreign side cannot be {name}.")
        return language

    def estimate(self) -> dict[str, Any]:
        """What asking for all examples once would take, if none were dropped; what is answered already is left out."""
        if self.asker is None:
            return {"calls": 0, "prompt_tokens": 0, "completion_tokens_at_most": 0}
        missing: list[Job] = []
        for queue in self.queues:
            queue.judge(self.asker.draft)
            while (job := queue.next_job(self.asker.is_answered, lambda _: True)) is not None:
                missing.append(job)
        prices = (self.config.price_per_million_input, self.config.price_per_million_output)
        asked = ["".join(message["content"] for message in self.asker.messages(job)) for job in missing]
        return estimate_cost(asked, self.server.max_tokens, *prices)

    def run(self, show_progress: bool = False) -> dict[str, Any]:
        """Makes the examples and writes them.

        Returns:
            The manifest.

        Raises:
            DataError: If the folder holds examples that were made otherwise, cannot be written, or another run is
                writing it.
            ServerError: If the server refuses or stops answering.
            LlinkConfigError: If the key is missing, or huggingface_hub is offline.
        """
        if (finished := self._finished()) is not None:
            return finished
        client = self.asker.client(self.queues) if self.asker else None
        with writing(self.folder), self._journal.locked():
            self._existing = read_manifest(self.folder)  # which another run may have written meanwhile
            if (finished := self._finished()) is not None:
                return finished
            planned = [{"name": split.name} for split in self.config.split_plan()]
            claim(self.folder, self._existing, {"kind": KIND, "complete": False, **self._identity, "splits": planned})
            if self.asker is None:
                for queue in self.queues:
                    queue.judge(lambda job: made_by_rule(job.task, job.english, self.server.seed, self._target))
            elif client is not None:
                self.asker.fill(self.queues, client, show_progress)
            return self._write()

    def _finished(self) -> dict[str, Any] | None:
        """The manifest of the same examples, if they are all there."""
        if self._existing is None or self.config.overwrite:
            return None
        if different := differences(self._existing, self._identity):
            raise DataError(
                f"{self.folder} holds examples that were made otherwise: {different}. Give another --output-dir, "
                "or --overwrite."
            )
        if not self._existing["complete"]:
            return None
        check_examples(self.folder, self._existing)
        return self._existing

    def _write(self) -> dict[str, Any]:
        splits = []
        for split in self.config.split_plan():
            ranked = [row for queue in self.queues if queue.split == split.name for row in queue.kept]
            rows = [row for _, row in sorted(ranked, key=lambda item: (item[0], item[1]["task"]))]
            splits.append(write_examples(self.folder, split.name, rows))
        manifest = {
            "kind": KIND,
            "complete": all(queue.is_done for queue in self.queues),  # else the budget is spent
            **self._identity,
            "steps": self._steps,
            "splits": splits,
            "tasks": [queue.summary() for queue in self.queues],
            "buckets": self._buckets(),
            "spent": self._spent(),
        }
        manifest = json.loads(json.dumps(manifest))  # what will be read back
        write_manifest(self.folder, manifest)
        return manifest

    def _buckets(self) -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {split.name: Counter() for split in self.config.split_plan()}
        for queue in self.queues:
            found[queue.split][bucket_of(queue.task)] += len(queue.kept)
        return {name: {bucket: counts[bucket] for bucket in BUCKETS} for name, counts in found.items()}

    def _spent(self) -> dict[str, Any]:
        """Over all runs in this folder."""
        if self.asker is None:
            return {}
        prompt, completion = self.asker.tokens
        cost = cost_of(prompt, completion, self.config.price_per_million_input, self.config.price_per_million_output)
        return {
            "answers": len(self.asker.journal.records),
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            **({} if cost is None else {"cost": cost}),
        }


def _digest(pairs: Dataset) -> str:
    digest = hashlib.sha256()
    columns: Sequence[Sequence[str]] = [sentences(pairs, name) for name in ("id", "english", "foreign")]
    for row in zip(*columns, strict=True):
        digest.update("".join(f"{text}\0" for text in row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
