"""What a bridge costs on this machine: minutes of each stage, memory and disk, for corpora of several sizes.

    python benchmarks/costs.py --encoder ENCODER --decoder DECODER --pairs train.en train.km --language km

Runs every stage with its default settings for a few steps on a few hundred of the pairs, and multiplies what a pair and
a step took by how many a corpus of that size has. Longer sentences cost more: give text like your own.
"""

from __future__ import annotations

import argparse
import math
import platform
import resource
import tempfile
import time
from pathlib import Path

import torch
from transformers import TrainerCallback

from llink import (
    AlignConfig,
    AlignTrainer,
    InjectConfig,
    InjectTrainer,
    LexiconConfig,
    LexiconTrainer,
    LlinkForCausalLM,
    read_pairs,
    renew_slots,
)
from llink.data.instructions import translation_instructions
from llink.evaluation.report import table

#: A machine's other work must not count; a GPU's must.
clock = time.monotonic if torch.cuda.is_available() else time.process_time
QUIET = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False}
#: Of Stage B a part of a step is enough, and fits into memory beside other work. Its own order begins with the longest.
PART = {"max_steps": 12, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
PART |= {"train_sampling_strategy": "random"}
SIZES = (1_000, 10_000, 100_000)


def main() -> None:
    """Times the stages and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--decoder", required=True)
    parser.add_argument("--pairs", nargs=2, required=True, metavar=("ENGLISH", "FOREIGN"))
    parser.add_argument("--language", default="und")
    parser.add_argument("--count", type=int, default=128, help="pairs that are timed, at least 128")
    args = parser.parse_args()
    pairs = read_pairs(*args.pairs, language=args.language)
    pairs = pairs.shuffle(seed=0).select(range(args.count))
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(args.encoder, args.decoder)
    with tempfile.TemporaryDirectory() as folder:
        measured = list(stages(model, pairs, folder))
    on = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} thread(s) of a CPU"
    print(f"{args.encoder} and {args.decoder} on {on}, {platform.machine()}; {args.count} pairs were timed.\n")
    print(table(["stage", "seconds a pair, once", "seconds a step", "bytes a pair on disk"], measured) + "\n")
    print(table(["pairs", *(f"{row[0]}, minutes" for row in measured), "disk, MiB"], list(totals(measured))) + "\n")
    print(f"Peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


class Watch(TrainerCallback):
    """Knows when the first step began: what is computed once lies before it."""

    def on_train_begin(self, *_, **__) -> None:
        """Looks at the clock."""
        self.began = clock()


def stages(model: LlinkForCausalLM, pairs, folder: str):
    """Yields name, seconds a pair before the first step, seconds a step, and bytes a pair in the cache."""
    runs = (
        ("align", AlignTrainer, AlignConfig, pairs, {"max_steps": 40}),
        ("lexicon", LexiconTrainer, LexiconConfig, pairs, {"max_steps": 4}),
        ("inject", InjectTrainer, InjectConfig, translation_instructions(pairs), PART),
    )
    for name, trainer_class, config_class, rows, options in runs:
        if name == "lexicon":
            renew_slots(model, slot_expander="tokens")
        cache = Path(folder, name)
        config = config_class(f"{folder}/{name}-out", feature_cache_dir=str(cache), **QUIET, **options)
        began, watch = clock(), Watch()
        trainer = trainer_class(model, config, train_dataset=rows)
        trainer.add_callback(watch)
        trainer.train()
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        share = batch_of(config) / batch_of(config_class("x"))
        step = (clock() - watch.began) / config.max_steps / share
        print(name, "was timed.", flush=True)
        yield name, (watch.began - began) / len(rows), step, size // len(rows)


def batch_of(config) -> int:
    """Rows of one step."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps


def totals(measured):
    """Minutes of each stage with its default epochs and batches, by size of the corpus."""
    defaults = {"align": AlignConfig("x"), "lexicon": LexiconConfig("x"), "inject": InjectConfig("x")}
    for size in SIZES:
        minutes = []
        for name, once, step, _ in measured:
            config = defaults[name]
            steps = config.num_train_epochs * math.ceil(size / batch_of(config))
            minutes.append(round((once * size + step * steps) / 60))
        yield size, *minutes, round(sum(row[3] for row in measured) * size / 2**20)


if __name__ == "__main__":
    main()
