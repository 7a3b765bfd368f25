"""One run of the study of languages: its data, its stages, its measures; see study.py."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from typing import Any

QUIET = {"report_to": [], "save_strategy": "no", "logging_steps": 10, "dataloader_pin_memory": False}
#: Rows that hold a page are long.
PAGES = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "learning_rate": 1e-3}
USAGE_ROWS = 256
#: What is kept for what comes after a stage of the run that is saved.
KEPT_SECONDS = {"align": 45, "lexicon": 250, "inject": 130}


def mixed(pairs: list[dict[str, str]], run: dict[str, Any], count: int) -> list[dict[str, str]]:
    """Pairs of the run's languages, in proportion to the square root of how many there are (temperature 2)."""
    rng = random.Random(run["seed"])
    by_language: dict[str, list[dict[str, str]]] = {}
    for pair in pairs:
        if pair["language"] in run["languages"] and pair["source"] not in run.get("without", ()):
            by_language.setdefault(pair["language"], []).append(pair)
    roots = {language: math.sqrt(len(found)) for language, found in by_language.items()}
    chosen = []
    for language, found in by_language.items():
        wanted = round(count * roots[language] / sum(roots.values()))
        passes, rest = divmod(wanted, len(found))
        chosen += found * passes + rng.sample(found, rest)
    rng.shuffle(chosen)
    return [{**pair, "id": str(number)} for number, pair in enumerate(chosen)]


class Run:
    """One run: its data, its stages, its measures."""

    def __init__(self, worker: Any, run: dict[str, Any]) -> None:
        self.worker, self.args, self.run = worker, worker.args, run
        self.folder = self.args.output / run["name"]
        self.took: dict[str, float] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.rows = max(round(run["rows"] * self.args.scale), 64)
        self.batch = run.get("batch", 32)

    def make(self) -> dict[str, Any]:
        """Trains and measures."""
        method = self.run["method"]
        pairs = mixed(self.worker.pairs, self.run, self.rows)
        found: dict[str, Any] = {"counts": Counter(pair["language"] for pair in pairs)}
        if method == "direct":
            found |= self.direct(pairs)
        else:
            model = self.built()
            if method in ("align", "mlp") or self.run.get("align"):
                found["retrieval"] = self.align(model)
            else:
                self.align_briefly(model, pairs)
            if method != "align":
                found |= self.taught(model, pairs)
            if self.run.get("save"):
                model.save_pretrained(self.folder / "model")
        return found | {"took": self.took, "history": self.history, "machine": machine()}

    def built(self) -> Any:
        """A model on the bases, untrained."""
        from llink import LlinkForCausalLM, preset

        fields = {"lora_dropout": 0.0, **self.run.get("model", {})}
        if "preset" in self.run:
            fields = dict(preset(self.run["preset"]).model) | fields
        begun = time.time()
        model = LlinkForCausalLM.from_encoder_decoder_pretrained(
            self.args.encoder, self.args.decoder, dtype="float32", **self.slots_of(fields)
        ).to(device())
        self.took["load"] = round(time.time() - begun, 1)
        return model

    def slots_of(self, fields: dict[str, Any]) -> dict[str, Any]:
        if self.run["method"] != "tokens":
            return fields
        tokens = {"slot_expander": "tokens", **fields}
        return {"teacher_conditioning": "none", **tokens} if self.brief else tokens

    @property
    def brief(self) -> bool:
        """Whether Stage A is skipped: slots of tokens do not read its vector."""
        return self.run["method"] == "tokens" and not self.run.get("align")

    # ------------------------------------------------------------------ stages

    def trained(self, name: str, trainer: Any) -> Any:
        """Runs a stage; keeps its seconds and its curve."""
        begun = time.time()
        trainer.add_callback(stopper(self.args.end - (KEPT_SECONDS.get(name, 250) if self.run.get("save") else 45)))
        trainer.train()
        self.took[name] = round(time.time() - begun, 1)
        keys = ("loss", "eval_loss", "step", "eval_shuffled_gap", "seconds")
        log = [{key: row[key] for key in keys if key in row} for row in trainer.state.log_history]
        self.history[name] = [row for row in log if len(row) > 1]
        self.took[f"{name}_steps"] = trainer.state.global_step
        give_back_memory()
        return trainer

    def options(self, name: str, **options: Any) -> dict[str, Any]:
        seed = {"seed": self.run["seed"], "output_dir": str(self.folder / name)}
        return seed | QUIET | {"disable_tqdm": True, "tf32": device() == "cuda"} | options

    def align(self, model: Any) -> dict[str, Any]:
        """Stage A, on all the pairs of the run's languages; returns retrieval on every test set."""
        from llink import AlignConfig, AlignTrainer, preset

        own = dict(preset(self.run["preset"]).align) if "preset" in self.run else {}
        steps = max(round(1_500 * self.args.scale), 4)
        pairs = dataset(mixed(self.worker.pairs, self.run, len(self.worker.pairs) if self.args.scale == 1 else 512))
        config = AlignConfig(
            **self.options("align", feature_cache_dir=str(self.args.output / "features"), feature_batch_size=256)
            | {"max_steps": steps, "per_device_train_batch_size": 256, **own}
        )
        self.trained("align", AlignTrainer(model=model, args=config, train_dataset=pairs))
        return {name: self.retrieval(model, rows) for name, rows in self.worker.tests.items()}

    def retrieval(self, model: Any, rows: list[dict[str, str]]) -> dict[str, Any]:
        from llink.evaluation.retrieval import rank_report, retrieval_ranks

        foreign = model.get_foreign_features([row["foreign"] for row in rows], 256)
        english = model.get_teacher_features([row["english"] for row in rows], 256)
        return rank_report(retrieval_ranks(foreign, english))

    def align_briefly(self, model: Any, pairs: list[dict[str, str]]) -> None:
        from llink import AlignConfig, AlignTrainer

        options = {"max_steps": 2, "per_device_train_batch_size": 64, "queue_size": 0}
        few = dataset([{**pair, "id": str(number)} for number, pair in enumerate(pairs[:256])])
        config = AlignConfig(**self.options("align") | options)
        self.trained("brief", AlignTrainer(model=model, args=config, train_dataset=few))

    def taught(self, model: Any, pairs: list[dict[str, str]]) -> dict[str, Any]:
        """The dictionary, Stage B, and what they come to."""
        from llink import InjectConfig, InjectTrainer, LexiconConfig, LexiconTrainer

        found: dict[str, Any] = {}
        if self.run["method"] == "tokens":
            known = dataset({(p["english"], p["foreign"]): p for p in pairs}.values())
            config = LexiconConfig(
                **self.options("lexicon", feature_cache_dir=str(self.folder / "states"), feature_batch_size=256)
                | {"max_steps": max(round(self.run.get("lexicon_steps", 600) * self.args.scale), 4)}
            )
            held_out = {name: dataset(self.worker.tests[name][:USAGE_ROWS]) for name in self.run["eval"]}
            trainer = self.trained("lexicon", LexiconTrainer(model=model, args=config, train_dataset=known))
            found["recall"] = {name: trainer.evaluate(rows)["eval_recall"] for name, rows in held_out.items()}
        curve = self.held_out_rows("help-km", 128) if self.run.get("curve") else None
        config = InjectConfig(**self.options("inject", **self.answering(), **self.run.get("inject", {})))
        rows = instructions(translation_rows(pairs))
        self.trained("inject", InjectTrainer(model=model, args=config, train_dataset=rows, eval_dataset=curve))
        if self.run.get("documents"):
            pages = self.worker.documents["train"]
            pages = pages[: max(round(len(pages) * self.args.scale), 8)] * 2
            rows = instructions(pages + translation_rows(pairs[: len(pages)]))
            config = InjectConfig(**self.options("pages", **self.answering()) | PAGES)
            self.trained("pages", InjectTrainer(model=model, args=config, train_dataset=rows))
        model.eval()
        return found | self.measured(model)

    def answering(self) -> dict[str, Any]:
        """Arguments that Stage B and the fine-tune share."""
        parts = 4 if self.run["method"] == "direct" and self.batch > 16 else 1  # raw text takes the memory
        options = {
            "num_train_epochs": self.run.get("epochs", 1),
            "warmup_steps": 0.05,
            "per_device_train_batch_size": self.batch // parts,
            "gradient_accumulation_steps": parts,
            "max_length": 4096,
            "per_device_eval_batch_size": 32,
        }
        return options | ({"eval_strategy": "steps", "eval_steps": 150} if self.run.get("curve") else {})

    def direct(self, pairs: list[dict[str, str]]) -> dict[str, Any]:
        """Fine-tunes the decoder on the raw text."""
        from llink import FinetuneConfig, FinetuneTrainer, new_direct
        from llink.evaluation.systems import RawTextSystem

        base = self.args.output / "base" / self.run["name"]
        model = self.built()
        model.save_pretrained(base)
        del model
        decoder, processor = new_direct(base, dtype="float32")
        curve = self.held_out_rows("help-km", 128) if self.run.get("curve") else None
        rate = {"learning_rate": self.run.get("rate", 1e-3)}
        config = FinetuneConfig(**self.options("finetune", **self.answering()) | rate)
        rows = instructions(translation_rows(pairs))
        trainer = FinetuneTrainer(decoder, config, processor, train_dataset=rows, eval_dataset=curve)
        self.trained("inject", trainer)
        losses = {}
        for name in self.run["eval"]:
            losses[name] = {"loss": trainer.evaluate(self.held_out_rows(name, USAGE_ROWS))["eval_loss"]}
        decoder.eval()
        return {"usage": losses, **self.answered({"direct": RawTextSystem("direct", decoder, processor)})}

    # ------------------------------------------------------------------ measures

    def held_out_rows(self, name: str, count: int) -> Any:
        return instructions(translation_rows(self.tests(name, count)))

    def tests(self, name: str, count: int) -> list[dict[str, str]]:
        return self.worker.tests[name][: max(round(count * self.args.scale), 12)]

    def measured(self, model: Any) -> dict[str, Any]:
        """Usage gaps and answers."""
        from llink.evaluation.systems import llink_systems

        begun = time.time()
        usage = {name: usage_of(model, self.held_out_rows(name, USAGE_ROWS)) for name in self.run["eval"]}
        self.took["usage"] = round(time.time() - begun, 1)
        system = llink_systems(model)
        headline = {name: round(gaps["shuffled_gap"], 2) for name, gaps in usage.items()}
        found = {"usage": usage, "headline": headline}
        if self.run.get("documents"):
            begun = time.time()
            found["documents"] = self.by_thirds(model, system)
            self.took["documents"] = round(time.time() - begun, 1)
        return found | self.answered({"llink": system["llink"]})

    def answered(self, systems: dict[str, Any]) -> dict[str, Any]:
        """Translations, with chrF++, numbers and the prompt's tokens; the answers go to a file."""
        from llink.data.entities.entity import KINDS
        from llink.evaluation.numeric import numeric_metrics
        from llink.evaluation.translation import translation_metrics

        begun, scores = time.time(), {}
        self.folder.mkdir(parents=True, exist_ok=True)
        kinds = [kind for kind in KINDS if kind != "name"]
        with open(self.folder / "answers.jsonl", "w", encoding="utf-8") as file:
            for name in self.run["eval"]:
                pairs = self.tests(name, self.run.get("eval_rows", 160))
                rows, references = translation_rows(pairs), [pair["english"] for pair in pairs]
                for label, system in systems.items():
                    answers = system.answer(rows, 64 if label == "direct" else 256, 96)
                    tokens = [sum(system.inputs([row])["attention_mask"][0].tolist()) for row in rows[:50]]
                    numbers = numeric_metrics(answers, references, kinds=kinds)
                    scores[name] = {
                        "system": label,
                        "translation": translation_metrics(answers, references),
                        "numbers": {key: numbers[key] for key in ("exact", "n_with_entities", "intervals")}
                        | {"all": numbers["kinds"]["all"], "kinds": numbers["kinds"]},
                        "prompt_tokens": sum(tokens) / len(tokens),
                    }
                    for pair, answer in zip(pairs, answers, strict=True):
                        line = {"set": name, "system": label, "reference": pair["english"], "answer": answer}
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
                if time.time() > self.args.end - 15:
                    break
        self.took["answers"] = round(time.time() - begun, 1)
        return {"answers": scores}

    def by_thirds(self, model: Any, systems: dict[str, Any]) -> dict[str, Any]:
        """Exact match on questions about whole pages, by the third that holds the answer."""
        rows = self.worker.documents["test"][: max(round(400 * self.args.scale), 12)]
        # 3 tokens a character: what the base decoder's context of 8,192 holds beside the question.
        short = [{**row, "foreign": [row["foreign"][:2_500]]} for row in rows]
        whole = [{**row, "foreign": [row["foreign"]]} for row in rows]
        cut = [{**row, "foreign": [row["foreign"][:256]]} for row in rows]
        found, lines = {}, []
        for label, system, asked, size in (
            ("whole", systems["llink"], whole, 32),
            ("first 256 characters", systems["llink"], cut, 64),
            ("base decoder, raw, first 2,500 characters", systems["base"], short, 8),
        ):
            if time.time() > self.args.end - 20:
                break
            answers = system.answer(asked, size, 16)
            right: dict[str, list[bool]] = {}
            for row, answer in zip(rows, answers, strict=True):
                lines.append({"system": label, "task": row["task"], "answer": answer, "reference": row["completion"]})
                right.setdefault(row["task"], []).append(bare(answer) == bare(row["completion"]))
            found[label] = {task: {"exact": sum(hits) / len(hits), "n": len(hits)} for task, hits in right.items()}
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (self.folder / "documents.jsonl").write_text(text, "utf-8")
        return found


def bare(text: str) -> str:
    return text.strip(" \n.\"'“”").casefold()


def dataset(pairs: Any) -> Any:
    from datasets import Dataset

    rows = [{key: pair[key] for key in ("english", "foreign")} for pair in pairs]
    return Dataset.from_list([{"id": str(number), **row} for number, row in enumerate(rows)])


def translation_rows(pairs: list[dict[str, str]]) -> list[dict[str, Any]]:
    from llink.data.instructions import translation_instructions

    return list(translation_instructions({"id": str(number), **pair} for number, pair in enumerate(pairs)))


def instructions(rows: list[dict[str, Any]]) -> Any:
    from llink.data.instructions import instruction_dataset

    return instruction_dataset(rows)


def usage_of(model: Any, rows: Any) -> dict[str, Any]:
    """As `llink eval usage`, without noise."""
    from functools import partial

    from llink.data.collators import instruction_tensors, passage_bank, tokenize_instructions
    from llink.evaluation.usage_rows import evaluate_usage

    examples, _ = tokenize_instructions(model.processor, rows, 4096)
    encode = partial(passage_bank, model, features=partial(model.get_foreign_features, batch_size=64))
    tensors = instruction_tensors(rows, examples, model.processor, encode)
    return evaluate_usage(model, tensors, 64, gaussian=False)


def stopper(end: float) -> Any:
    from transformers import TrainerCallback

    class StopInTime(TrainerCallback):
        """Ends training when the time is over, and says at which second each line of the log was written."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.begun = time.time()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = control.should_training_stop or time.time() > end

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            state.log_history[-1]["seconds"] = round(time.time() - self.begun, 1)

    return StopInTime()


def give_back_memory() -> None:
    """Others train on the same card."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def machine() -> dict[str, str]:
    import peft
    import torch
    import transformers

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"device": name, **{module.__name__: module.__version__ for module in (torch, transformers, peft)}}
