"""`llink ablate`: which setting is best? One question at a time, on one cached set of frozen features.

A study is a YAML file:

    encoder: FacebookAI/xlm-roberta-base
    decoder: meta-llama/Llama-3.2-1B-Instruct
    language: km
    pairs: [train.en, train.km]
    eval_pairs: [dev.en, dev.km]
    instructions: train.jsonl         # with these, Stage B runs too, after the words of slots that are made of them
    eval_instructions: dev.jsonl
    preset: recommended
    seeds: [0, 1, 2]
    settings:                         # of every run
      align.num_train_epochs: 10
    questions:
      teacher space:                  # the product of the lists
        model.teacher_conditioning: [none, center, whiten]
      hard negatives:                 # or the variants themselves
        - {align.queue_size: 0}
        - {align.hard_negative_mining: query}
      encoder:
        bases.encoder: [FacebookAI/xlm-roberta-base, sentence-transformers/LaBSE]

Every run's metrics are written as it ends; the same command goes on where a broken study stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tqdm.auto import tqdm
from transformers import set_seed

from .building import plan_config
from .configuration_llink import LlinkConfig, LlinkConfigError
from .data.collators import shuffled_passages
from .data.features import compute_features, condition
from .data.instructions import read_instructions
from .data.pairs import apart_from, read_pairs
from .evaluation.report import write_json
from .evaluation.retrieval import retrieval_metrics
from .evaluation.retrieval_rows import slot_features
from .modeling_llink import LlinkForCausalLM
from .trainers.align_config import AlignConfig
from .trainers.align_trainer import AlignTrainer
from .trainers.checks import check_training
from .trainers.inject_config import InjectConfig
from .trainers.inject_trainer import InjectTrainer
from .trainers.lexicon_config import LexiconConfig
from .trainers.lexicon_trainer import LexiconTrainer
from .trainers.option_values import check_dtype, check_seed, option_types, typed
from .trainers.presets import DEFAULT_PRESET, preset

BASE = "as set"
PARTS = ("bases", "model", "align", "lexicon", "inject")
#: Whose fields the options of a stage are.
CONFIGS: dict[str, type] = {"align": AlignConfig, "lexicon": LexiconConfig, "inject": InjectConfig}
#: Fields of the model that only Stage B reads: runs that differ in nothing else share their Stage A.
SLOT_FIELDS = ("num_slots", "slot_", "lora_")
METRICS = {
    "align": ("r@1", "r@10", "mrr"),
    "inject": ("full_r@1", "loss", "zeroed_gap", "shuffled_gap"),
}
_QUIET = {"report_to": [], "save_strategy": "no", "eval_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}


@dataclass(frozen=True)
class Study:
    """What is asked, on what. Options are named by part: `bases.encoder`, `model.num_slots`, `align.queue_size`,
    `lexicon.num_train_epochs`, `inject.learning_rate`.
    """

    encoder: str
    decoder: str
    pairs: list[str]
    eval_pairs: list[str]
    questions: dict[str, Any]
    language: str = "und"
    dtype: str = "auto"
    attn_implementation: str | None = None
    instructions: str | None = None
    eval_instructions: str | None = None
    preset: str = DEFAULT_PRESET
    seeds: list[int] = field(default_factory=lambda: [0])
    settings: dict[str, Any] = field(default_factory=dict)

    def variants(self, question: str) -> dict[str, dict[str, Any]]:
        """The variants of a question by label.

        Raises:
            LlinkConfigError: If two of them are one.
        """
        asked = self.questions[question]
        if isinstance(asked, Mapping):
            asked = [dict(zip(asked, values, strict=True)) for values in itertools.product(*asked.values())]
        full = {name for variant in asked for name in variant}
        short = {name: name.partition(".")[2] for name in full}
        clear = {name: short[name] if list(short.values()).count(short[name]) == 1 else name for name in full}
        labels = [", ".join(f"{clear[name]}={value}" for name, value in variant.items()) for variant in asked]
        if len(set(labels)) < len(labels):
            raise LlinkConfigError(f"Question {question!r} holds the same variant twice: {', '.join(labels)}.")
        return {label: dict(variant) for label, variant in zip(labels, asked, strict=True)}

    def options(self, variant: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Preset, settings and variant, later ones above earlier ones, by part."""
        chosen = preset(self.preset).stages
        chosen["bases"] = {"encoder": self.encoder, "decoder": self.decoder}
        for name, value in {**self.settings, **variant}.items():
            part, _, option = name.partition(".")
            kinds = option_types(CONFIGS[part]) if part in CONFIGS else {}
            kind = str if part == "bases" else kinds.get(option, Any)  # the model's configuration checks its own
            chosen.setdefault(part, {})[option] = typed(name, value, kind)
        if chosen["model"].get("slot_expander") != "tokens":
            chosen.pop("lexicon", None)  # no run without words depends on how they are learned
        return chosen


def read_study(path: str | Path) -> Study:
    """Reads a study and checks everything that can be checked without running it.

    Raises:
        LlinkConfigError: If the file is missing or no study, an option has no such part, or a variant cannot be built.
        BaseModelError: If a base of a variant cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise LlinkConfigError(f"The study {path} does not exist.")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LlinkConfigError(f"{path} is not YAML: {error}") from error
    fields = {f.name: f for f in dataclasses.fields(Study)}
    content = content if isinstance(content, dict) else {}
    needed = ("encoder", "decoder", "pairs", "eval_pairs", "questions")
    missing, unknown = [name for name in needed if not content.get(name)], sorted(set(content) - set(fields))
    if missing or unknown:
        raise LlinkConfigError(
            f"{path} lacks {', '.join(missing) or 'nothing'} and has unknown entries {', '.join(unknown) or 'none'}; "
            f"it may hold {', '.join(fields)}."
        )
    kinds = option_types(Study)
    given = {name: value for name, value in content.items() if name not in ("questions", "settings")}  # checked below
    try:
        study = Study(**{**content, **{name: typed(name, value, kinds[name]) for name, value in given.items()}})
        _check_study(study, path)
    except LlinkConfigError as error:
        raise LlinkConfigError(f"{path}: {error}") from error
    return study


def _check_study(study: Study, path: Path) -> None:
    if bool(study.instructions) != bool(study.eval_instructions):
        raise LlinkConfigError(f"{path} needs both instructions and eval_instructions for Stage B, or neither.")
    if not isinstance(study.questions, dict) or not isinstance(study.settings, dict):
        raise LlinkConfigError(f"{path}: questions and settings must be mappings of names.")
    if not study.seeds:
        raise LlinkConfigError(f"{path}: seeds={study.seeds!r} must be whole numbers, at least one.")
    for seed in study.seeds:
        check_seed("seeds:", seed)
    check_dtype("dtype:", study.dtype)
    for question, asked in study.questions.items():
        options = asked if isinstance(asked, list) else [asked]
        lists = not isinstance(asked, Mapping) or all(isinstance(v, list) and v for v in asked.values())
        if not options or not all(isinstance(o, Mapping) and o for o in options) or not lists:
            raise LlinkConfigError(
                f"{path}: question {question!r} must be a mapping of options to lists of values, or a list of mappings."
            )
        for variant in (study.settings, *options):
            wrong = [name for name in variant if name.partition(".")[0] not in PARTS or "." not in name]
            if wrong:
                known = ", ".join(f"{part}.…" for part in PARTS)
                raise LlinkConfigError(f"{path}: {', '.join(wrong)}: name options {known}")
        after = ("inject.", "lexicon.")
        if not study.instructions and any(n.startswith(after) for variant in options for n in variant):
            raise LlinkConfigError(f"{path}: question {question!r} is about Stage B, which needs instructions.")
    for files in (study.pairs, study.eval_pairs):
        if len(files) != 2 or not all(Path(file).is_file() for file in files):
            raise LlinkConfigError(f"{path}: {files!r} is not two files that exist, English and foreign.")
    if len(set(study.seeds)) < len(study.seeds):
        raise LlinkConfigError(f"{path}: seeds={study.seeds!r} names one twice.")
    for question in study.questions:
        for variant in study.variants(question).values():
            chosen = study.options(variant)
            if "lexicon" not in chosen and any(name.startswith("lexicon.") for name in variant):
                raise LlinkConfigError(
                    f"{path}: question {question!r} asks about words, which only model.slot_expander: tokens has: "
                    "name it in the variant or in the settings."
                )
            if wrong := sorted(set(chosen["bases"]) - {"encoder", "decoder"}):
                raise LlinkConfigError(f"{path}: bases.{wrong[0]} is neither bases.encoder nor bases.decoder.")
            plan_config(**chosen["bases"], **chosen["model"])
            with tempfile.TemporaryDirectory() as scratch:
                trainers = {"align": AlignTrainer, "lexicon": LexiconTrainer, "inject": InjectTrainer}
                for part, trainer in trainers.items():
                    check_training(_arguments(CONFIGS[part], scratch, chosen.get(part, {}), 0), trainer, None)


def _arguments(config_class: type, output_dir: str | Path, options: Mapping[str, Any], seed: int) -> Any:
    unknown = sorted(set(options) - {f.name for f in dataclasses.fields(config_class)})
    if unknown:
        raise LlinkConfigError(f"{config_class.__name__} has no option {', '.join(unknown)}.")
    if own := sorted(set(options) & {"output_dir", "seed", *_QUIET}):
        raise LlinkConfigError(f"{', '.join(own)}: a study sets these itself; `seeds` is one of its entries.")
    return config_class(output_dir=str(output_dir), seed=seed, **_QUIET, **options)


# ---------------------------------------------------------------------- running


def run_study(study: Study, folder: str | Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Runs what is not there yet, and gathers question → variant → metrics (means over the seeds, with `…_std`).

    Args:
        study: What [`read_study`] returned.
        folder: Holds the cached features, every run's metrics and Stage A bridges; a second call goes on in it.

    Returns:
        For each question and variant `r@1`, `r@10`, `mrr` after Stage A and, with instructions, `full_r@1`, `loss`,
        `zeroed_gap`, `shuffled_gap` after Stage B (nats a token), each with its standard deviation over seeds.
    """
    runner = _Runner(study, Path(folder))
    asked = {question: {BASE: {}, **study.variants(question)} for question in study.questions}
    jobs = {
        runner.key(variant, seed): (variant, seed)
        for variants in asked.values()
        for variant in variants.values()
        for seed in study.seeds
    }
    done = {
        key: runner.measured(*job) for key, job in tqdm(jobs.items(), desc="Runs", disable=len(jobs) < 2, mininterval=0)
    }
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for question, variants in asked.items():
        named = {runner.key(variant, study.seeds[0]) for label, variant in variants.items() if label != BASE}
        results[question] = {
            label: _averaged([done[runner.key(variant, seed)] for seed in study.seeds])
            for label, variant in variants.items()
            if label != BASE or runner.key(variant, study.seeds[0]) not in named
        }
    return results


class _Runner:
    """One folder of runs: `align/KEY` and `lexicon/KEY` (bridges and metrics), `runs/KEY.json`, `features/`."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        self.eval_pairs = read_pairs(*study.eval_pairs, language=study.language)
        self.pairs = apart_from(read_pairs(*study.pairs, language=study.language), {"eval": self.eval_pairs})
        self.rows = read_instructions(study.instructions) if study.instructions else None
        self.eval_rows = read_instructions(study.eval_instructions) if study.eval_instructions else None
        for rows in (self.rows, self.eval_rows):
            if rows is not None:
                shuffled_passages(rows)  # before anything is trained
        data = [self.pairs, self.eval_pairs, *([self.rows, self.eval_rows] if self.rows is not None else [])]
        self.data_key = _digest([[dict(row) for row in dataset] for dataset in data])

    def key(self, variant: Mapping[str, Any], seed: int) -> str:
        """What a run's result depends on, as a short hash."""
        chosen = _filled(self.study.options(variant))
        return _digest([self.data_key, self.study.dtype, self._bases(chosen["bases"]), chosen, seed])

    def align_key(self, variant: Mapping[str, Any], seed: int) -> str:
        """The same for its Stage A alone."""
        chosen = _filled(self.study.options(variant))
        model = {name: value for name, value in chosen["model"].items() if not name.startswith(SLOT_FIELDS)}
        bases = chosen["bases"], self._bases(chosen["bases"])
        return _digest([self.data_key, self.study.dtype, bases, model, chosen["align"], seed])

    def words_key(self, variant: Mapping[str, Any], seed: int) -> str:
        """The same for its words."""
        chosen = _filled(self.study.options(variant))
        slots = {name: value for name, value in chosen["model"].items() if name.startswith(("num_slots", "slot_"))}
        return _digest([self.align_key(variant, seed), slots, chosen.get("lexicon", {})])

    def _bases(self, names: Mapping[str, str]) -> list[Any]:
        """What local bases hold now: one that was trained again under its old name is another one."""
        files = [path for name in names.values() for path in sorted(Path(name).glob("*.safetensors"))]
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]

    def measured(self, variant: Mapping[str, Any], seed: int) -> dict[str, float]:
        """The metrics of a run, from its file or by running it."""
        path = self.folder / "runs" / f"{self.key(variant, seed)}.json"
        if path.is_file():
            return json.loads(path.read_text("utf-8"))["metrics"]
        model, metrics = self._aligned(variant, seed)
        if self.rows is not None:
            metrics |= self._injected(model, variant, seed)
        write_json(path, {"variant": dict(variant), "seed": seed, "metrics": metrics})
        return metrics

    def _build(self, variant: Mapping[str, Any], seed: int) -> LlinkForCausalLM:
        set_seed(seed)
        chosen = self.study.options(variant)
        loading = {"dtype": self.study.dtype, "attn_implementation": self.study.attn_implementation}
        return LlinkForCausalLM.from_encoder_decoder_pretrained(**chosen["bases"], **loading, **chosen["model"])

    def _aligned(self, variant: Mapping[str, Any], seed: int) -> tuple[LlinkForCausalLM, dict[str, float]]:
        """The model after Stage A, trained or read from the run that shares it, and its retrieval."""
        model = self._build(variant, seed)
        folder = self.folder / "align" / self.align_key(variant, seed)
        if (folder / "metrics.json").is_file():
            trained = LlinkForCausalLM.from_pretrained(folder, dtype=self.study.dtype)
            model.projector.load_state_dict(trained.projector.state_dict())
            model.teacher_space.load_state_dict(trained.teacher_space.state_dict())
            model.config.stage = "align"
            return model, json.loads((folder / "metrics.json").read_text("utf-8"))
        options = {"feature_cache_dir": str(self.folder / "features"), **self.study.options(variant)["align"]}
        args = _arguments(AlignConfig, folder, options, seed)
        trainer = AlignTrainer(model, args, self.pairs, self.eval_pairs)
        trainer.train()
        metrics = {name.removeprefix("eval_"): value for name, value in trainer.evaluate().items()}
        metrics = {name: metrics[name] for name in METRICS["align"]}
        model.save_pretrained(folder)
        write_json(folder / "metrics.json", metrics)
        return model, metrics

    def _learn_words(self, model: LlinkForCausalLM, variant: Mapping[str, Any], seed: int) -> None:
        """The slots' words, trained or read from the run that shares them."""
        folder = self.folder / "lexicon" / self.words_key(variant, seed)
        if (folder / "metrics.json").is_file():
            trained = LlinkForCausalLM.from_pretrained(folder, dtype=self.study.dtype)
            model.slot_embedder.load_state_dict(trained.slot_embedder.state_dict())
            model.config.stage = "lexicon"
            return
        set_seed(seed)
        args = _arguments(LexiconConfig, folder, self.study.options(variant).get("lexicon", {}), seed)
        trainer = LexiconTrainer(model, args, self.pairs, self.eval_pairs)
        trainer.train()
        metrics = trainer.evaluate()
        model.save_pretrained(folder)
        write_json(folder / "metrics.json", {name: metrics[f"eval_{name}"] for name in ("loss", "recall", "known")})

    def _injected(self, model: LlinkForCausalLM, variant: Mapping[str, Any], seed: int) -> dict[str, float]:
        if model.slot_embedder.reads_states:
            self._learn_words(model, variant, seed)
        set_seed(seed)
        cache = str(self.folder / "features")
        options = {"feature_cache_dir": cache, **self.study.options(variant)["inject"]}
        args = _arguments(InjectConfig, self.folder / "inject", options, seed)
        trainer = InjectTrainer(model, args, self.rows, self.eval_rows)
        trainer.train()
        measured = {name.removeprefix("eval_"): value for name, value in trainer.evaluate().items()}
        features = compute_features(model, self.eval_pairs, cache, show_progress=False)
        slots = slot_features(model, self.eval_pairs["foreign"][:])
        full = retrieval_metrics(slots, condition(model.teacher_space, features.teacher_states))
        measured["full_r@1"] = full["r@1"]
        return {name: measured[name] for name in METRICS["inject"]}


def _filled(chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options by part with the defaults of those that are not set: a default that is named is no other setting."""
    own = {"output_dir", "seed", *_QUIET}
    filled = {part: dict(values) for part, values in chosen.items()}
    for part, owner in {"model": LlinkConfig, **CONFIGS}.items():
        if part in filled:
            fields = {field.name: field.default for field in dataclasses.fields(owner)}
            names = LlinkConfig.__annotations__ if part == "model" else fields
            usual = {name: fields[name] for name in names if name in fields and name not in own}
            filled[part] = {n: value for n, value in usual.items() if value is not dataclasses.MISSING} | filled[part]
    return filled


def _averaged(runs: list[dict[str, float]]) -> dict[str, Any]:
    means: dict[str, Any] = {name: statistics.fmean(run[name] for run in runs) for name in runs[0]}
    if len(runs) > 1:
        means |= {f"{name}_std": statistics.stdev(run[name] for run in runs) for name in runs[0]}
    return means | {"seeds": len(runs)}


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
