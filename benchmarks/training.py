"""Training's steps against what a user would run instead, as ratios in one run.

    python benchmarks/training.py --encoder FOLDER --decoder FOLDER --pairs ENGLISH FOREIGN
    python benchmarks/training.py --small      # the embedded pair and corpus, in two minutes

1. `features`: sentences a second of the frozen features against the bare models on the same sorted batches.
2. `align`: Stage A's pairs a second on cached features against a loop that runs both bases in every step.
3. `lexicon`: the dictionary's epoch on cached states against the first one, which runs the encoder.
4. `inject`: Stage B's step against plain LoRA fine-tuning (Trainer and PEFT) on sequences of the same length, and
   against the direct fine-tune on the raw text; the memory of each at its peak.
5. `batches`: one step of Stage A's loss at the paper's widths with a queue of 32,768, by the size of the batch.

Seconds are processor time of this process on one thread. No time depends on what the weights are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from timing import QUICK, in_turns, machine, middle, peak_mib, ratio
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from llink import (
    AlignConfig,
    AlignTrainer,
    InjectConfig,
    InjectTrainer,
    LexiconConfig,
    LexiconTrainer,
    LlinkForCausalLM,
    renew_slots,
)
from llink.baselines.direct import new_direct
from llink.data.demo_corpus import demo_pairs
from llink.data.features import compute_features
from llink.data.instructions import translation_instructions
from llink.demo import ASSETS
from llink.modeling_llink.encoding import teacher_inputs
from llink.modeling_llink.layers import LlinkProjector
from llink.modeling_llink.lora import text_part
from llink.trainers.align_loss import AlignLoss
from llink.trainers.finetune_config import FinetuneConfig
from llink.trainers.finetune_trainer import FinetuneTrainer
from llink.trainers.queue import TeacherQueue

#: The paper's widths: XLM-R base, its projector, Llama-3.2-1B.
PAPER = (768, 3072, 2048)
BATCH = 32
PARTS = ("features", "align", "lexicon", "inject", "batches")


class StepSeconds(TrainerCallback):
    """Processor time of each step but the first, batches included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last: float | None = None

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """A run begins."""
        self.last = None

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """A step ended."""
        now = time.process_time()
        if self.last is not None:
            self.seconds.append(now - self.last)
        self.last = now


def features(model: LlinkForCausalLM, pairs: Dataset, repeats: int) -> dict[str, Any]:
    """Both sides by llink, and by the bare models on batches sorted by tokens, the whole template and all layers."""
    foreign, english = pairs["foreign"][:], pairs["english"][:]
    encoder, decoder, config = model.encoder, text_part(model.decoder), model.config

    @torch.no_grad()
    def bare_encoder() -> None:
        tokens = model.processor.encoder_tokenizer(foreign)["input_ids"]
        for batch in _batches(tokens):
            mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in batch], batch_first=True)
            ids = pad_sequence([torch.tensor(row) for row in batch], batch_first=True, padding_value=1)
            states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)

    @torch.no_grad()
    def bare_decoder() -> None:
        inputs = teacher_inputs(model.processor, english, config.teacher_template, config.teacher_max_tokens)
        rows = [
            row[mask.bool()].tolist() for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        for batch in _batches(rows):
            mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in batch], batch_first=True)
            ids = pad_sequence([torch.tensor(row) for row in batch], batch_first=True)
            ids = ids.masked_fill(ids >= config.reserved_token_start, config.filler_token_id)
            decoder(input_ids=ids, attention_mask=mask, use_cache=False)

    tasks = {
        "encoder": lambda: model.get_pooled_features(foreign, BATCH),
        "bare_encoder": bare_encoder,
        "teacher": lambda: model.get_teacher_states(english, BATCH),
        "bare_decoder": bare_decoder,
    }
    rounds = in_turns(tasks, repeats)
    return {
        "sentences": len(pairs),
        "sentences_a_second": {name: round(len(pairs) / middle(one)["cpu"], 1) for name, one in rounds.items()},
        "encoder_of_bare": ratio(rounds["encoder"], rounds["bare_encoder"]),
        "teacher_of_bare": ratio(rounds["teacher"], rounds["bare_decoder"]),
    }


def _batches(rows: list[list[int]]) -> list[list[list[int]]]:
    rows = sorted(rows, key=len, reverse=True)
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def align(model: LlinkForCausalLM, pairs: Dataset, folder: Path, repeats: int) -> dict[str, Any]:
    """Epochs on cached features, against computing the features of every batch anew and taking the same step."""
    epochs, size = 20, min(BATCH, len(pairs))
    cached = compute_features(model, pairs, folder / "features", BATCH, show_progress=False)
    common = dict(per_device_train_batch_size=size, queue_size=4096, **QUICK)

    def epochs_of(count: int) -> Callable[[], Any]:
        return lambda: AlignTrainer(
            model, AlignConfig(str(folder / "a"), num_train_epochs=count, **common), train_dataset=cached
        ).train()

    def both_bases() -> None:
        for start in range(0, len(pairs), size):
            rows = pairs.select(range(start, min(start + size, len(pairs))))
            model.get_pooled_features(rows["foreign"][:], size)
            model.get_teacher_states(rows["english"][:], size)

    rounds = in_turns({"all": epochs_of(1 + epochs), "first": epochs_of(1), "bases": both_bases}, repeats)
    epoch = [
        (whole["cpu"] - first["cpu"]) / epochs for whole, first in zip(rounds["all"], rounds["first"], strict=True)
    ]
    loop = [bases["cpu"] + own for bases, own in zip(rounds["bases"], epoch, strict=True)]
    return {
        "pairs_a_second": round(len(pairs) / median(epoch), 1),
        "pairs_a_second_with_both_bases": round(len(pairs) / median(loop), 1),
        "times_faster": round(median(one / own for one, own in zip(loop, epoch, strict=True)), 1),
    }


def lexicon(model: LlinkForCausalLM, pairs: Dataset, folder: Path) -> dict[str, Any]:
    """Epochs that read the kept states, and the making of these."""
    seconds = []
    for name, epochs in (("first", 1), ("again", 1), ("more", 3)):
        cache = folder / "states" / name.replace("again", "first").replace("more", "first")
        config = LexiconConfig(
            str(folder / "words"), num_train_epochs=epochs, feature_cache_dir=str(cache), english_share=0.0, **QUICK
        )
        start = time.process_time()
        LexiconTrainer(model, config, train_dataset=pairs).train()
        seconds.append(time.process_time() - start)
    first, again, more = seconds
    kept = sum(path.stat().st_size for path in (folder / "states").rglob("*.states"))
    epoch = (more - again) / 2
    return {
        "encoder_seconds": round(first - again, 2),
        "epoch_seconds": round(epoch, 2),
        "epoch_without_cache_over_with": round((epoch + first - again) / epoch, 2),
        "kept_bytes_a_pair": kept // len(pairs),
    }


def inject(model: LlinkForCausalLM, pairs: Dataset, folder: Path, batch: int, rounds: int) -> dict[str, Any]:
    """Steps of Stage B and of what a user would run instead, three of each in every round."""
    rows, decoder = translation_instructions(pairs), model.config.decoder_name_or_path
    common = dict(per_device_train_batch_size=batch, gradient_accumulation_steps=1, max_steps=4, **QUICK)
    cache = dict(feature_cache_dir=str(folder / "features"))
    model.save_pretrained(folder / "start")
    words = LlinkForCausalLM.from_pretrained(folder / "start", dtype="float32")
    vectors = LlinkForCausalLM.from_pretrained(folder / "start", dtype="float32")
    renew_slots(vectors, slot_expander="mlp")
    trainers: dict[str, Trainer] = {
        name: InjectTrainer(slots, InjectConfig(str(folder / name), **cache, **common), train_dataset=rows)
        for name, slots in (("inject_words", words), ("inject_vector", vectors))
    }
    for name, slots in (("plain_words", words), ("plain_vector", vectors)):
        examples = trainers[name.replace("plain", "inject")].tensors_of(rows).examples
        trainers[name] = _plain(decoder, slots, examples, folder / name, common)
    direct, processor = new_direct(folder / "start", dtype="float32")
    trainers["direct"] = FinetuneTrainer(
        direct, FinetuneConfig(str(folder / "direct"), **common), processor, train_dataset=rows
    )
    times = {name: StepSeconds() for name in trainers}
    peaks: dict[str, float | None] = {}
    for number in range(rounds):
        for name, trainer in trainers.items():
            if number == 0:
                trainer.add_callback(times[name])
                peaks[name] = peak_mib(trainer.train)
            else:
                trainer.train()
    means = {name: sum(time.seconds) / len(time.seconds) for name, time in times.items()}  # contrasted every third
    return {
        "rows_a_step": batch,
        "step_seconds": {name: round(value, 3) for name, value in means.items()},
        "peak_mib": peaks,
        "words_of_plain": round(means["inject_words"] / means["plain_words"], 3),
        "vector_of_plain": round(means["inject_vector"] / means["plain_vector"], 3),
        "words_of_direct": round(means["inject_words"] / means["direct"], 3),
        "vector_of_direct": round(means["inject_vector"] / means["direct"], 3),
    }


def _plain(
    decoder: str, model: LlinkForCausalLM, examples: list[dict[str, list[int]]], folder: Path, common: dict[str, Any]
) -> Trainer:
    """transformers' Trainer with PEFT's LoRA on the same sequences, text in place of the slots."""
    config, start = model.config, model.config.reserved_token_start
    bare = AutoModelForCausalLM.from_pretrained(decoder, dtype="float32")
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
        task_type="CAUSAL_LM",
    )

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor([1 if token >= start else token for token in row["input_ids"]]) for row in rows]
        labels = [torch.tensor(row["labels"]) for row in rows]
        return {
            "input_ids": pad_sequence(ids, batch_first=True),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        }

    arguments = TrainingArguments(str(folder), remove_unused_columns=False, **common)
    plain = get_peft_model(bare, lora)
    return Trainer(plain, arguments, train_dataset=Dataset.from_list(examples), data_collator=collate)


def batches(sizes: list[int]) -> list[dict[str, Any]]:
    """One step of Stage A at the paper's widths: seconds, memory, and the share of the queue."""
    d_e, inner, d = PAPER
    projector = LlinkProjector(d_e, inner, d, 0.0)
    queue = TeacherQueue(32_768, d)
    queue.push(torch.randn(32_768, d), torch.arange(32_768) + 10**9)
    found = []
    for size in sizes:
        z, h, ids = torch.randn(size, d_e), torch.randn(size, d), torch.arange(size)

        def step(loss: AlignLoss, mined: bool = True, rows: tuple[torch.Tensor, ...] = (z, h, ids)) -> None:
            z, h, ids = rows
            more = dict(queue_vectors=queue.vectors, queue_groups=queue.ids) if mined else {}
            loss(projected=projector(z), targets=h, groups=ids, temperature=0.1, **more)["loss"].backward()
            projector.zero_grad()

        tasks = {
            "plain": partial(step, AlignLoss()),
            "without_queue": partial(step, AlignLoss(), mined=False),
        }
        rounds = in_turns(tasks, 3 if size <= 1024 else 1, warm=size <= 1024)
        found.append(
            {
                "batch": size,
                "seconds": {name: middle(one)["cpu"] for name, one in rounds.items()},
                "queue_share": round(1 - 1 / ratio(rounds["plain"], rounds["without_queue"]), 3),
                "peak_mib": peak_mib(tasks["plain"]),
            }
        )
    return found


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default=ASSETS / "encoder", help="a folder (the embedded one)")
    parser.add_argument("--decoder", default=ASSETS / "decoder", help="a folder (the embedded one)")
    parser.add_argument("--pairs", type=Path, nargs=2, help="two files, line by line (the embedded corpus)")
    parser.add_argument("--count", type=int, default=64, help="pairs that are read")
    parser.add_argument("--rows", type=int, default=8, help="rows of a step of Stage B")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 1024, 4096, 8192], help="batches of Stage A")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="the others stay as they were measured"
    )
    parser.add_argument("--small", action="store_true", help="the smallest sizes")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/training.json"))
    args = parser.parse_args()
    if args.small:
        args.rows, args.sizes = 4, [256]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.set_verbosity_error()
    if args.pairs is None:
        pairs = [dict(pair) for pair in demo_pairs(args.count)]
    else:
        english, foreign = (path.read_text("utf-8").splitlines() for path in args.pairs)
        step = len(english) // args.count
        chosen = list(zip(english, foreign, strict=True))[:: max(step, 1)][: args.count]
        pairs = [{"id": str(n), "english": e, "foreign": f} for n, (e, f) in enumerate(chosen)]
    options = dict(dtype="float32", slot_expander="tokens")
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(args.encoder, args.decoder, **options).eval()
    rows = Dataset.from_list(pairs)
    known = json.loads(args.output.read_text("utf-8")) if args.output.is_file() else {}
    results: dict[str, Any] = {name: known[name] for name in PARTS if name in known} | {"machine": machine()}
    results["bases"] = {kind: Path(getattr(args, kind)).name for kind in ("encoder", "decoder")}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parts: dict[str, Callable[[], Any]] = {
            "features": lambda: features(model, rows, args.rounds),
            "align": lambda: align(model, rows, folder, args.rounds),
            "lexicon": lambda: lexicon(model, rows, folder),
            "inject": lambda: inject(model, rows, folder, args.rows, args.rounds),
            "batches": lambda: batches(args.sizes),
        }
        for name in args.parts:
            results[name] = parts[name]()
            print(json.dumps({name: results[name]}, indent=1), flush=True)
            args.output.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
