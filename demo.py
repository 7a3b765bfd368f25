"""`llink demo`: the training and an evaluation on the embedded pair and corpus, with no network and no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed
from transformers.utils import logging

from .building import renew_slots
from .data.demo_corpus import DemoPair, demo_splits, generate_instructions
from .data.entities.entity import KINDS
from .data.instructions import instruction_dataset, translation_instructions
from .evaluation.numeric import ALL, numeric_metrics
from .evaluation.report import marked_words, plot_demo, plot_history, retrieval_table, table, write_json
from .evaluation.retrieval import retrieval_metrics
from .evaluation.retrieval_rows import slot_features
from .evaluation.samples import side_by_side, translation_scores
from .evaluation.systems import llink_systems
from .evaluation.tokens import prompt_tokens
from .modeling_llink import LlinkForCausalLM
from .modeling_llink.errors import LlinkCheckpointError
from .trainers.align_config import AlignConfig
from .trainers.align_trainer import AlignTrainer
from .trainers.inject_config import InjectConfig
from .trainers.inject_trainer import InjectTrainer
from .trainers.lexicon_config import LexiconConfig
from .trainers.lexicon_trainer import LexiconTrainer

ASSETS = Path(__file__).parent / "assets"
RETRIEVAL_KEYS = ("r@1", "r@5", "r@10", "mrr", "mean_rank", "n")

#: Loads the checkpoint as a stranger would: llink cannot be imported there, only what the checkpoint holds.
RELOAD = """
import json, sys
sys.modules["llink"] = None
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).to(sys.argv[3])
tokens = model.generate(foreign_text=json.loads(sys.argv[2]), prompt="Translate to English.", max_new_tokens=64)
print(json.dumps(model.processor.batch_decode(tokens, skip_special_tokens=True)))
"""


@dataclass
class DemoArguments:
    """How much to train and measure."""

    output_dir: str = field(default="runs/demo", metadata={"help": "Where model, report and plots go."})
    train_pairs: int = field(default=20_000, metadata={"help": "Pairs of Stage A."})
    align_epochs: float = field(default=25, metadata={"help": "Passes over them; they run on cached vectors."})
    lexicon_epochs: float = field(default=3, metadata={"help": "Passes over them to learn the slots' dictionary."})
    inject_rows: int = field(default=12_000, metadata={"help": "Instruction rows of Stage B."})
    inject_epochs: float = field(default=1, metadata={"help": "Passes over them."})
    usage_rows: int = field(default=256, metadata={"help": "Held-out rows of the usage gap."})
    translations: int = field(default=128, metadata={"help": "Held-out sentences that are translated."})
    seed: int = field(default=0, metadata={"help": "Seed of everything."})


def run(args: DemoArguments) -> dict[str, Any]:
    """Trains, evaluates, saves, reloads without llink, and reports.

    Returns:
        The report that is also written to `report.json`.

    Raises:
        LlinkCheckpointError: If the reloaded checkpoint answers differently.
    """
    started = time.monotonic()
    set_seed(args.seed)
    logging.set_verbosity_error()
    output = Path(args.output_dir)
    splits = demo_splits()
    test = splits["test"]
    model = untrained_model()
    retrieval = _align(model, splits["train"][: args.train_pairs], test, args)
    words = _learn_words(model, splits["train"][: args.train_pairs], test, args)
    usage = _inject(model, splits, args)
    english, foreign = [pair.english for pair in test], [pair.foreign for pair in test]
    retrieval["full"] = retrieval_metrics(slot_features(model, foreign), model.get_teacher_features(english))
    rows = translation_instructions(_pairs(test[: args.translations]))
    samples = side_by_side(llink_systems(model), rows)
    model.save_pretrained(output / "model", self_contained=True)
    _check_reload(output / "model", samples[:3], str(model.device))
    report = {
        "retrieval": {name: {key: metrics[key] for key in RETRIEVAL_KEYS} for name, metrics in retrieval.items()},
        "words": words,
        "usage": usage,
        "tokens": prompt_tokens(model.processor, foreign),
        "translation": translation_scores(samples),
        "numeric": {name: _numbers_kept(samples, name) for name in ("base", "llink")},
        "samples": samples[:8],
        "arguments": asdict(args),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(output / "report.json", report)
    plot_demo(report, output / "report.png")
    _show(report, output)
    return report


def untrained_model() -> LlinkForCausalLM:
    """The embedded pair with a new projector between its halves."""
    return LlinkForCausalLM.from_encoder_decoder_pretrained(
        ASSETS / "encoder",
        ASSETS / "decoder",
        dtype="float32",
        source_language="km",
        lora_dropout=0.0,  # one pass over the rows needs none, and drawing the masks takes a third of a step
        attn_implementation="eager",  # the fused attention's backward pass is the slower one on a CPU
        encoder_layer=2,
        projector_hidden_size=1024,
    )


def _align(
    model: LlinkForCausalLM, train: list[DemoPair], test: list[DemoPair], args: DemoArguments
) -> dict[str, dict[str, float]]:
    """Stage A; returns retrieval before and after."""
    folder = Path(args.output_dir) / "align"
    config = AlignConfig(
        output_dir=str(folder),
        num_train_epochs=args.align_epochs,
        per_device_train_batch_size=256,
        queue_size=4096,  # of 16,000 pairs; the paper's 32,768 of 100,000 would cost most of the demo's time
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=20,
        report_to=[],
        seed=args.seed,
        feature_batch_size=64,
        feature_cache_dir=str(Path(args.output_dir) / "features"),
    )
    trainer = AlignTrainer(model=model, args=config, train_dataset=_pairs(train), eval_dataset=_pairs(test))
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    plot_history(trainer.state.log_history, folder / "training.png", "eval_r@1")
    strip = {"untrained": before, "stage_a": after}
    return {name: {key: metrics[f"eval_{key}"] for key in RETRIEVAL_KEYS} for name, metrics in strip.items()}


def _learn_words(
    model: LlinkForCausalLM,
    train: list[DemoPair],
    test: list[DemoPair],
    args: DemoArguments,
    literals: list[str] | None = None,
) -> dict[str, float]:
    """A dictionary; returns how many of the held-out references' words the slots hold. By default all `literals`."""
    folder = Path(args.output_dir) / "lexicon"
    config = LexiconConfig(
        output_dir=str(folder),
        num_train_epochs=args.lexicon_epochs,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=20,
        report_to=[],
        seed=args.seed,
        feature_batch_size=64,
        feature_cache_dir=str(Path(args.output_dir) / "features"),
    )
    renew_slots(model, slot_expander="tokens", literals=literals)
    trainer = LexiconTrainer(model=model, args=config, train_dataset=_pairs(train), eval_dataset=_pairs(test))
    trainer.train()
    metrics = trainer.evaluate()
    plot_history(trainer.state.log_history, folder / "training.png", "eval_recall")
    return {key: metrics[f"eval_{key}"] for key in ("loss", "recall")}


def _inject(model: LlinkForCausalLM, splits: dict[str, list[DemoPair]], args: DemoArguments) -> dict[str, float]:
    """Stage B; returns the usage gaps on held-out rows."""
    folder = Path(args.output_dir) / "inject"
    config = InjectConfig(
        output_dir=str(folder),
        num_train_epochs=args.inject_epochs,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        gradient_accumulation_steps=1,
        save_strategy="no",
        logging_steps=10,
        report_to=[],
        seed=args.seed,
        feature_batch_size=64,
        feature_cache_dir=str(Path(args.output_dir) / "features"),
    )
    rows = instruction_dataset(generate_instructions(splits["train"][: args.inject_rows], seed=args.seed))
    held_out = instruction_dataset(generate_instructions(splits["test"][: args.usage_rows], seed=args.seed))
    trainer = InjectTrainer(model=model, args=config, train_dataset=rows, eval_dataset=held_out)
    trainer.train()
    metrics = trainer.evaluate()
    plot_history(trainer.state.log_history, folder / "training.png")
    return {
        key: metrics[f"eval_{key}"] for key in ("loss", "shuffled_gap", "zeroed_gap", "own_slots_help", "slots_help")
    }


def _numbers_kept(samples: list[dict[str, Any]], system: str) -> dict[str, float | int | None]:
    """Numbers, dates, times and prices of the answers: F1, and in which share of the sentences every one is right."""
    answers, references = ([sample[name] for sample in samples] for name in (system, "reference"))
    found = numeric_metrics(answers, references, resamples=0, kinds=[kind for kind in KINDS if kind != "name"])
    return {"f1": found["kinds"][ALL]["f1"], "exact": found["exact"], "n": found["n_with_entities"]}


def _pairs(pairs: list[DemoPair]) -> Dataset:
    return Dataset.from_list([dict(pair) for pair in pairs])


def _check_reload(checkpoint: Path, samples: list[dict[str, str]], device: str) -> None:
    """Reloads the checkpoint through the Auto classes in a process that cannot import llink, and compares answers."""
    texts = [sample["foreign"] for sample in samples]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, str(checkpoint.resolve()), json.dumps(texts), device],
        cwd=checkpoint,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LlinkCheckpointError(
            f"The checkpoint {checkpoint} cannot be loaded without llink:\n{done.stderr[-2000:]}"
        )
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    expected = [sample["llink"] for sample in samples]
    if answers != expected:
        raise LlinkCheckpointError(f"The reloaded checkpoint answers {answers}, but the trained model {expected}.")


def _show(report: dict[str, Any], output: Path) -> None:
    usage, tokens, scores, numbers = (report[name] for name in ("usage", "tokens", "translation", "numeric"))
    color = sys.stdout.isatty()
    for sample in report["samples"][:5]:
        print(f"\n    Khmer: {sample['foreign']}\nreference: {sample['reference']}")
        for name in ("llink", "base"):
            print(f"{name:>9}: {marked_words(sample[name], sample['reference'], color)}")
    print(f"\n{'Green words are right, red ones' if color else 'Words in [-brackets-] are'} not in the reference.")
    print("\n" + retrieval_table(report["retrieval"]))
    rows = [
        ("words of the reference that a slot names first", report["words"]["recall"]),
        ("usage gap, another example's slots (nats a token)", usage["shuffled_gap"]),
        ("usage gap, zeroed slots", usage["zeroed_gap"]),
        ("prompt tokens, raw Khmer", tokens["raw"]),
        ("prompt tokens, slots", tokens["slotted"]),
        ("numbers, F1, base decoder on raw Khmer", numbers["base"]["f1"]),
        ("numbers, F1, llink", numbers["llink"]["f1"]),
        ("sentences with every number right, llink", numbers["llink"]["exact"]),
        ("chrF++, base decoder on raw Khmer", scores["base"]["chrf"]),
        ("chrF++, llink", scores["llink"]["chrf"]),
    ]
    print("\n" + table(["measure", "value"], rows) + "\n")
    print(f"Reloaded without llink: same answers. {report['seconds']} s. Written to {output}:")
    print("model/ report.json report.png align/training.png lexicon/training.png inject/training.png")
