"""The command line: parse, compose, nothing else.

Every command takes `--config FILE.yaml` with the same names as its flags; flags stand above the file, and the file
above the preset.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser, set_seed
from transformers.trainer_utils import get_last_checkpoint

from . import demo
from ._version import __version__
from .data.instructions import read_instructions
from .data.pairs import exclude_overlap, read_pairs
from .evaluation.report import plot_history, retrieval_table, table, write_json
from .evaluation.retrieval import retrieval_metrics
from .evaluation.samples import side_by_side, translation_scores
from .evaluation.tokens import prompt_tokens
from .modeling_llink import LlinkForCausalLM
from .modeling_llink.foreign_text import check_passages
from .trainers.align_config import AlignConfig
from .trainers.align_trainer import AlignTrainer
from .trainers.inject_config import InjectConfig
from .trainers.inject_trainer import InjectTrainer
from .trainers.presets import DEFAULT_PRESET, preset

USAGE_KEYS = ("eval_loss", "eval_zeroed_gap", "eval_shuffled_gap", "eval_slots_help", "eval_own_slots_help")


class CommandError(ValueError):
    """A command line that cannot be run."""


def _pair_field(required: bool, text: str) -> Any:
    return field(default=None, metadata={"help": f"{text} Two files: English, then foreign.", "required": required})


def _check_two_files(name: str, files: list[str] | None) -> None:
    if files is not None and len(files) != 2:
        raise CommandError(f"--{name} takes two files, English then foreign; got {len(files)}: {files}.")


@dataclass
class ModelArguments:
    """The bases and the bridge of a new model. Unset options come from the preset and [`LlinkConfig`]."""

    encoder: str = field(metadata={"help": "Frozen multilingual encoder: repository or folder."})
    decoder: str = field(metadata={"help": "Frozen instruction-tuned decoder: repository or folder."})
    encoder_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the encoder."})
    decoder_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the decoder."})
    dtype: str = field(default="auto", metadata={"help": "dtype of the bases: auto, float32, bfloat16 or float16."})
    num_slots: int | None = field(default=None, metadata={"help": "K, slots of one passage (paper 4.2: 8)."})
    pooling: str | None = field(default=None, metadata={"help": "mean (paper 4.1), cls or max."})
    encoder_layer: int | None = field(default=None, metadata={"help": "Pooled hidden state; -1 is the last."})
    projector_hidden_size: int | None = field(default=None, metadata={"help": "Projector width; 4 x the encoder's."})
    teacher_template: str | None = field(default=None, metadata={"help": "Teacher prompt, holding {text} once."})
    teacher_state: str | None = field(default=None, metadata={"help": "placeholder (paper 4.1) or mean."})
    teacher_layer: int | None = field(default=None, metadata={"help": "Teaching hidden state; -1 is the final one."})
    teacher_conditioning: str | None = field(default=None, metadata={"help": "none (the paper), center or whiten."})
    teacher_components: int | None = field(default=None, metadata={"help": "Components that whiten keeps."})
    slot_expander: str | None = field(default=None, metadata={"help": "mlp or low_rank."})
    slot_adapter: str | None = field(default=None, metadata={"help": "gated or none."})
    lora_rank: int | None = field(default=None, metadata={"help": "LoRA rank (paper 4.2: 16)."})
    max_foreign_chars: int | None = field(default=None, metadata={"help": "Cut of a passage (paper 5.1: 256)."})

    def config_fields(self) -> dict[str, Any]:
        """What was set, as fields of [`LlinkConfig`]."""
        own = {"encoder", "decoder", "encoder_revision", "decoder_revision", "dtype"}
        return {k: v for k, v in vars(self).items() if k not in own and v is not None}


@dataclass
class AlignData:
    """Stage A's pairs."""

    pairs: list[str] = _pair_field(True, "Line-aligned UTF-8 files of the training pairs.")
    eval_pairs: list[str] = _pair_field(False, "Line-aligned UTF-8 files of held-out pairs.")
    language: str = field(default="und", metadata={"help": "BCP-47 tag of the foreign side, such as km."})

    def __post_init__(self) -> None:
        _check_two_files("pairs", self.pairs)
        _check_two_files("eval-pairs", self.eval_pairs)


@dataclass
class InjectData:
    """Stage B's model and rows."""

    model: str = field(metadata={"help": "Folder or repository of a Stage A model."})
    instructions: str = field(metadata={"help": "JSONL file of instruction rows."})
    eval_instructions: str | None = field(default=None, metadata={"help": "JSONL file of held-out rows."})
    dtype: str = field(default="auto", metadata={"help": "dtype of the bases: auto, float32, bfloat16 or float16."})


@dataclass
class GenerateArguments:
    """What to answer."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    foreign_text: list[str] = field(metadata={"help": "One or more foreign passages, one answer each."})
    prompt: str | None = field(default=None, metadata={"help": "English instruction; translates when not given."})
    max_new_tokens: int = field(default=256, metadata={"help": "Length of an answer at most."})
    num_beams: int = field(default=1, metadata={"help": "Beams; 1 is greedy."})
    do_sample: bool = field(default=False, metadata={"help": "Sample instead of taking the likeliest token."})
    temperature: float = field(default=1.0, metadata={"help": "Sampling temperature."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus of sampling."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling."})
    dtype: str = field(default="auto", metadata={"help": "dtype of the bases."})


@dataclass
class RetrievalArguments:
    """Retrieval of English by foreign sentences (paper table 1)."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    pairs: list[str] = _pair_field(True, "Line-aligned UTF-8 files of held-out pairs.")
    batch_size: int = field(default=32, metadata={"help": "Texts in one forward pass."})
    dtype: str = field(default="auto", metadata={"help": "dtype of the bases."})
    output_json: str | None = field(default=None, metadata={"help": "Also write the metrics to this file."})

    def __post_init__(self) -> None:
        _check_two_files("pairs", self.pairs)


@dataclass
class TranslationArguments:
    """Translations by llink and by its base decoder from the raw text, with chrF++ and BLEU."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    pairs: list[str] = _pair_field(True, "Line-aligned UTF-8 files of held-out pairs.")
    limit: int = field(default=200, metadata={"help": "Pairs from the beginning that are translated."})
    show: int = field(default=10, metadata={"help": "Samples printed, the first ones as they come."})
    batch_size: int = field(default=16, metadata={"help": "Passages in one generation."})
    max_new_tokens: int = field(default=64, metadata={"help": "Length of an answer at most."})
    dtype: str = field(default="auto", metadata={"help": "dtype of the bases."})
    output_json: str | None = field(default=None, metadata={"help": "Also write scores and samples to this file."})

    def __post_init__(self) -> None:
        _check_two_files("pairs", self.pairs)


@dataclass
class UsageArguments:
    """Does the decoder read its slots (paper 4.2)."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    instructions: str = field(metadata={"help": "JSONL file of held-out instruction rows."})
    batch_size: int = field(default=16, metadata={"help": "Rows in one forward pass."})
    dtype: str = field(default="auto", metadata={"help": "dtype of the bases."})
    output_json: str | None = field(default=None, metadata={"help": "Also write the metrics to this file."})


# ---------------------------------------------------------------------- commands


def align(argv: Sequence[str]) -> None:
    """Stage A: trains the projector on parallel text."""
    chosen = _preset_of(argv)
    model_args, data, args = _parse("align", argv, (ModelArguments, AlignData, AlignConfig), chosen["align"])
    train = read_pairs(*data.pairs, language=data.language)
    held_out = read_pairs(*data.eval_pairs, language=data.language) if data.eval_pairs else None
    if held_out is not None:
        train, _ = exclude_overlap(train, held_out)
    set_seed(args.seed)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        model_args.encoder,
        model_args.decoder,
        encoder_revision=model_args.encoder_revision,
        decoder_revision=model_args.decoder_revision,
        dtype=model_args.dtype,
        **{**chosen["model"], **model_args.config_fields()},
    )
    trainer = AlignTrainer(model=model, args=args, train_dataset=train, eval_dataset=held_out)
    _train_and_save(trainer, "eval_r@1")


def inject(argv: Sequence[str]) -> None:
    """Stage B: teaches the decoder to read the slots."""
    data, args = _parse("inject", argv, (InjectData, InjectConfig), _preset_of(argv)["inject"])
    rows = read_instructions(data.instructions)
    held_out = read_instructions(data.eval_instructions) if data.eval_instructions else None
    set_seed(args.seed)
    model = LlinkForCausalLM.from_pretrained(data.model, dtype=data.dtype)
    trainer = InjectTrainer(model=model, args=args, train_dataset=rows, eval_dataset=held_out)
    _train_and_save(trainer, "eval_zeroed_gap")


def generate(argv: Sequence[str]) -> None:
    """Answers an English prompt about foreign text."""
    (args,) = _parse("generate", argv, (GenerateArguments,))
    check_passages(args.foreign_text)  # before the model loads
    set_seed(args.seed)
    model = LlinkForCausalLM.from_pretrained(args.model, dtype=args.dtype)
    sampling = {"temperature": args.temperature, "top_p": args.top_p} if args.do_sample else {}
    tokens = model.generate(
        foreign_text=args.foreign_text,
        prompt=args.prompt,
        max_new_tokens=args.max_new_tokens,
        num_beams=args.num_beams,
        do_sample=args.do_sample,
        **sampling,
    )
    for answer in model.processor.batch_decode(tokens, skip_special_tokens=True):
        print(answer)


def eval_retrieval(argv: Sequence[str]) -> None:
    """Retrieval over held-out pairs."""
    (args,) = _parse("eval retrieval", argv, (RetrievalArguments,))
    pairs = read_pairs(*args.pairs)
    english, foreign = list(pairs["english"]), list(pairs["foreign"])
    model = LlinkForCausalLM.from_pretrained(args.model, dtype=args.dtype)
    teachers = model.get_teacher_features(english, args.batch_size)
    results = {"stage_a": retrieval_metrics(model.get_foreign_features(foreign, args.batch_size), teachers)}
    if model.config.stage == "inject":
        results["full"] = retrieval_metrics(model.get_slot_features(foreign, args.batch_size), teachers)
    print(retrieval_table(results))
    _write(args.output_json, {"retrieval": results, "tokens": prompt_tokens(model.processor, foreign)})


def eval_usage(argv: Sequence[str]) -> None:
    """Losses with slots, zeroed, and with another example's slots."""
    (args,) = _parse("eval usage", argv, (UsageArguments,))
    rows = read_instructions(args.instructions)
    model = LlinkForCausalLM.from_pretrained(args.model, dtype=args.dtype)
    with tempfile.TemporaryDirectory() as scratch:
        config = InjectConfig(
            output_dir=scratch, per_device_eval_batch_size=args.batch_size, report_to=[], cosine_weight=0, nce_weight=0
        )
        measured = InjectTrainer(model=model, args=config, eval_dataset=rows).evaluate()
    metrics = {name.removeprefix("eval_"): measured[name] for name in sorted(measured) if name in USAGE_KEYS}
    print(table(["usage", "value"], list(metrics.items())))
    _write(args.output_json, {"usage": metrics})


def eval_translation(argv: Sequence[str]) -> None:
    """Translations of held-out pairs, llink beside its base decoder."""
    (args,) = _parse("eval translation", argv, (TranslationArguments,))
    pairs = read_pairs(*args.pairs)[: args.limit]
    model = LlinkForCausalLM.from_pretrained(args.model, dtype=args.dtype)
    samples = side_by_side(
        model,
        pairs["foreign"],
        pairs["english"],
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        show_progress=True,
    )
    scores = translation_scores(samples)
    for sample in samples[: args.show]:
        print("\n".join(f"{name:>9}: {text!r}" for name, text in sample.items()) + "\n")
    print(table(["system", "chrF++", "BLEU", "n"], [(n, s["chrf"], s["bleu"], s["n"]) for n, s in scores.items()]))
    if args.output_json is not None:
        write_json(args.output_json, {"translation": scores, "samples": samples})


def run_demo(argv: Sequence[str]) -> None:
    """Both stages and an evaluation on the embedded pair and corpus."""
    (args,) = _parse("demo", argv, (demo.DemoArguments,))
    demo.run(args)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "align": align,
    "inject": inject,
    "generate": generate,
    "eval retrieval": eval_retrieval,
    "eval usage": eval_usage,
    "eval translation": eval_translation,
    "demo": run_demo,
}


# ---------------------------------------------------------------------- shared


def _preset_of(argv: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The preset that the flags or the file name; it is needed before the other flags are parsed."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset")
    parser.add_argument("--config")
    known, _ = parser.parse_known_args(argv)
    return preset(known.preset or _read_yaml(known.config).get("preset") or DEFAULT_PRESET)


def _read_yaml(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    if not Path(path).is_file():
        raise CommandError(f"--config {path} does not exist.")
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"--config {path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise CommandError(f"--config {path} must hold `name: value` lines.")
    return content


def _parse(command: str, argv: Sequence[str], types: tuple, defaults: dict[str, Any] | None = None) -> tuple:
    """Parses flags over a YAML file over a preset's defaults."""
    parser = HfArgumentParser(types, prog=f"llink {command}", description=COMMANDS[command].__doc__)
    parser.add_argument("--config", help="YAML file of options; flags stand above it.")
    parser.add_argument("--preset", help="paper, released-code or recommended (align and inject).")
    file = _read_yaml(next((argv[i + 1] for i, a in enumerate(argv[:-1]) if a == "--config"), None))
    actions = {action.dest: action for action in parser._actions}
    unknown = sorted(set(file) - set(actions))
    if unknown:
        raise CommandError(f"The file of --config sets unknown options: {', '.join(unknown)}.")
    for name, value in {**(defaults or {}), **file}.items():
        actions[name].required = False
        actions[name].default = value
    *parsed, _ = parser.parse_args_into_dataclasses(list(argv), look_for_args_file=False)
    return tuple(parsed)


def _train_and_save(trainer: AlignTrainer | InjectTrainer, metric: str) -> None:
    """Trains, resuming where a broken run stopped if asked to, evaluates, and saves model, metrics and plot."""
    args = trainer.args
    resume: str | bool | None = args.resume_from_checkpoint
    if resume in ("True", "true", "last"):
        resume = get_last_checkpoint(args.output_dir)
        if resume is None:
            raise CommandError(f"--resume_from_checkpoint: {args.output_dir} holds no checkpoint.")
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model()
    trainer.save_state()
    if trainer.eval_dataset is not None:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if trainer.is_world_process_zero():
        plot_history(trainer.state.log_history, Path(args.output_dir) / "training.png", metric)


def _write(path: str | None, content: dict[str, Any]) -> None:
    if path is not None:
        write_json(path, content)
    else:
        print(json.dumps(content, ensure_ascii=False))


def _usage() -> str:
    lines = [f"  llink {name:<17} {function.__doc__}" for name, function in COMMANDS.items()]
    return "\n".join(["usage: llink COMMAND [options]   (llink COMMAND --help)", *lines, "  llink --version"])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; an error of llink's own is one line on stderr and exit code 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    if argv[:1] == ["--version"]:
        print(__version__)
        return 0
    name = " ".join(argv[:2]) if " ".join(argv[:2]) in COMMANDS else "".join(argv[:1])
    if name not in COMMANDS:
        print(_usage(), file=sys.stdout if argv[:1] in (["--help"], ["-h"]) else sys.stderr)
        return 0 if argv[:1] in (["--help"], ["-h"]) else 2
    try:
        COMMANDS[name](argv[len(name.split()) :])
    except Exception as error:
        if not type(error).__module__.startswith(f"{__package__}."):
            raise
        print(f"llink {name}: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
