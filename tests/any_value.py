"""Values that users hand over by mistake, or as other libraries have them, and a call of all that is public."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from baseline_runs import quick
from baseline_runs import rows as instruction_rows
from datasets import Dataset, DatasetDict, IterableDataset

import llink
from llink.baselines.direct import save_adapter
from llink.building import fit_teacher_space
from llink.data.shapes import pair_dataset
from llink.evaluation.outputs import OutputRow, write_outputs
from llink.modeling_llink.passages import check_passage
from llink.trainers.inject_loss import StepTotals

COLUMNS = {"english": ["A cat.", "Two dogs."], "foreign": ["ឆ្មា។", "ឆ្កែពីរ។"]}
#: Made anew for each call: a generator is read once.
VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "NaN": lambda: math.nan,
    "surrogate": lambda: "a\ud800b",
    "NUL": lambda: "a\0b",
    "bytes": lambda: b"abc",
    "empty text": lambda: "",
    "int": lambda: 5,
    "numpy int": lambda: np.int64(1),
    "numpy NaN": lambda: np.float32(np.nan),
    "numpy texts": lambda: np.array(["ab", "cd"]),
    "numpy numbers": lambda: np.zeros((2, 3)),
    "series": lambda: pd.Series(["ab", "cd"]),
    "series with a gap": lambda: pd.Series(["ab", None, math.nan]),
    "frame": lambda: pd.DataFrame(COLUMNS),
    "stream": lambda: IterableDataset.from_generator(lambda: iter([{"english": "A cat.", "foreign": "ឆ្មា។"}])),
    "numpy format": lambda: Dataset.from_dict(COLUMNS).with_format("numpy"),
    "pandas format": lambda: Dataset.from_dict(COLUMNS).with_format("pandas"),
    "torch format": lambda: Dataset.from_dict(COLUMNS).with_format("torch"),
    "generator": lambda: (text for text in ("ab", "cd")),
    "splits": lambda: DatasetDict(train=Dataset.from_dict(COLUMNS)),
    "object": lambda: object(),
    "empty list": lambda: [],
}
#: What transformers or torch call, with what they themselves made, or a subclass says; nobody else calls them.
HOOKS = {
    "LlinkForCausalLM": ("prepare_inputs_for_generation", "set_input_embeddings"),
    "LlinkProcessor": (),
    "LlinkConfig": ("__init__", "get_text_config"),  # tests/modeling_llink/test_config.py
    "SlotStore": ("__init__",),
    "LangBridgeForCausalLM": ("__init__",),
    "Plan": ("__init__",),
    "Trainer": (
        *("check_finite", "compute_loss", "create_optimizer", "evaluated", "evaluation_loop", "get_batch_samples"),
        *("get_eval_dataloader", "get_test_dataloader", "get_train_dataloader", "init_hf_repo", "load_weights", "log"),
        *("make_tensors", "mean_terms", "metric_names", "of_whole_step", "over_processes", "parameter_groups"),
        *("record_terms", "save_weights", "tensors_of", "create_model_card", "slot_means", "state_dict"),
    ),
    # tests/trainers/test_every_argument.py
    "Config": ("__init__", "check_for_part", "for_slots", "with_accumulation_folded"),
}
#: What takes arguments of any name: variables of a chat template, options of a tokenizer or a decoder.
ANY_NAME = (
    *(f"LlinkProcessor.{name}" for name in ("__call__", "apply_chat_template", "batch_decode", "decode", "render")),
    *("LlinkProcessor.rendered_text", "LlinkForCausalLM.forward", "LangBridgeForCausalLM.forward"),
    "LlinkConfig.from_dict",  # as in transformers, which gives back what it does not use
)
#: Arguments that go to the decoder as they are, whose own code says what it takes.
PASSED_ON = {"LlinkForCausalLM.forward": ("past_key_values", "cache", "position_ids", "attention_mask")}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Everything that `llink` exports and can be called, and the public methods that llink gives its classes."""
    for name in llink.__all__:
        exported = getattr(llink, name)
        if inspect.isclass(exported) and not issubclass(exported, Exception):
            for method in ["__init__", "__call__", *(n for n in dir(exported) if not n.startswith("_"))]:
                found = inspect.getattr_static(exported, method, None)
                bare = inspect.unwrap(getattr(found, "__func__", found))
                own = str(getattr(bare, "__module__", "")).startswith("llink")
                if own and inspect.isfunction(bare) and method not in _hooks(name):
                    yield f"{name}.{method}", bare
        elif inspect.isfunction(exported):
            yield name, exported


def _hooks(name: str) -> tuple[str, ...]:
    kind = next((kind for kind in ("Trainer", "Config") if name.endswith(kind) and name not in HOOKS), name)
    return HOOKS.get(kind, ())


class World:
    """What calls are made of: a tiny model, folders, files, rows."""

    def __init__(self, make_model: Callable[..., Any], folder: Path) -> None:
        self.folder = folder
        self.model = make_model(stage="inject")
        fit_teacher_space(self.model.teacher_space, torch.randn(8, self.model.config.hidden_size))
        self.words = make_model(slot_expander="tokens", stage="align", awake=False)
        self.processor = self.model.processor
        self.saved = str(folder / "model")
        self.model.save_pretrained(self.saved)
        self.bases = {k: getattr(self.model.config, f"{k}_name_or_path") for k in ("encoder", "decoder")}
        self.rows = instruction_rows(4)
        numbers = range(12)
        self.pairs = pair_dataset(
            [{"id": f"p{n}", "english": f"a cat {n}", "foreign": f"ឆ្មា {chr(97 + n)}"} for n in numbers]
        )
        for name, side in (("en.txt", "english"), ("km.txt", "foreign")):
            (folder / name).write_text("\n".join(COLUMNS[side]) + "\n", "utf-8")
        (folder / "rows.jsonl").write_text('{"foreign": "ab", "prompt": "Say.", "completion": "A."}\n', "utf-8")
        write_outputs(folder / "outputs.jsonl", [OutputRow("a", "", ["ab"], "Say.", "A.", "", "B.")])
        self.store = llink.SlotStore.build(self.model, ["ab", "cd", "ef"], folder / "store")
        self.direct, self.raw = llink.new_direct(self.saved)
        save_adapter(self.direct, folder / "direct")
        self.raw.save_pretrained(folder / "direct")
        self.bridge = llink.LangBridgeForCausalLM.from_llink(self.saved)
        self.bridge.save_pretrained(folder / "bridge")
        inputs = dict(self.processor(text="Say.", foreign_text="ab"))
        self.prompt = {k: v for k, v in inputs.items() if k in ("input_ids", "attention_mask")}
        self.foreign = {k: v for k, v in inputs.items() if k not in self.prompt}
        self.flat = {k: v[0] for k, v in self.foreign.items()}  # (T, L)
        self.told = dict(self.bridge.processor(text="Say.", foreign_text="ab"))
        self.slots = self.model.encode_foreign(["ab"])
        self.messages = [{"role": "user", "content": [{"type": "foreign_text", "text": "ab"}]}]
        self.trainers = {
            name: getattr(llink, name)(model=self.fresh(name), args=self.args(kind), train_dataset=data)
            for name, kind, data in (
                ("AlignTrainer", llink.AlignConfig, self.pairs),
                ("LexiconTrainer", llink.LexiconConfig, self.pairs),
                ("InjectTrainer", llink.InjectConfig, self.rows),
            )
        }
        for name, model, processor in (
            ("FinetuneTrainer", self.direct, self.raw),
            ("LangBridgeTrainer", self.bridge, self.bridge.processor),
        ):
            args = self.args(getattr(llink, name.replace("Trainer", "Config")))
            self.trainers[name] = getattr(llink, name)(model, args, processor, train_dataset=self.rows)

    def fresh(self, trainer: str = "") -> Any:
        """A copy of the model that a call may change: one with a dictionary to learn for its trainer."""
        return copy.deepcopy(self.words if trainer == "LexiconTrainer" else self.model)

    def args(self, kind: Any) -> Any:
        return quick(kind, self.folder / kind.__name__, max_steps=1)


def calls(w: World) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """A call of everything that is public, and arguments with which it works."""
    model, processor, store, bridge, folder = w.model, w.processor, w.store, w.bridge, w.folder
    texts = ["ab", "cd"]
    vectors = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    loss = dict(losses=torch.ones(1), tokens=torch.ones(1), without=None, slot_means=torch.ones(1, 4))
    totals = StepTotals(0, torch.ones(()), torch.ones(()), torch.ones(1, 4), torch.zeros(1, dtype=torch.long))
    found: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {}

    def add(name: str, call: Callable[..., Any], /, **arguments: Any) -> None:
        found[name] = call, arguments

    own, target = "LlinkForCausalLM", str(folder / "written")
    add(f"{own}.__init__", llink.LlinkForCausalLM, config=copy.deepcopy(model.config))
    for name in ("bridge_to_decoder", "get_input_embeddings", "get_output_embeddings", "start_scale"):
        add(f"{own}.{name}", getattr(model, name))
    add(f"{own}.merge_and_unload", lambda: w.fresh().merge_and_unload())
    add(f"{own}.resize_token_embeddings", lambda: None)  # always refused
    add(f"{own}.train", lambda **a: w.fresh().train(**a), mode=False)
    add(f"{own}.encode", model.encode, sentences=texts, side="foreign", batch_size=2)
    for name in ("encode_foreign", "get_foreign_features", "get_piece_features", "get_pooled_features"):
        add(f"{own}.{name}", getattr(model, name), texts=texts, batch_size=2)
    for name in ("get_teacher_features", "get_teacher_states"):
        add(f"{own}.{name}", getattr(model, name), english=texts, batch_size=2)
    add(f"{own}.encode_pieces", model.encode_pieces, pieces=processor.read_passages(["ab"])[0], batch_size=2)
    add(f"{own}.read_states", model.read_states, decoder=model.decoder, texts=texts, max_tokens=8)
    add(f"{own}.forward", model.forward, **w.prompt, **w.foreign)
    add(f"{own}.resolve_slots", model.resolve_slots, **w.foreign)
    flat = {k: w.flat[k] for k in ("foreign_input_ids", "foreign_attention_mask")}
    add(f"{own}.passage_states", model.passage_states, **flat)
    add(f"{own}.pool_passages", model.pool_passages, **flat)
    add(f"{own}.project", model.project, pooled=model.get_pooled_features(texts))
    add(f"{own}.similarity", model.similarity, embeddings1=vectors, embeddings2=vectors)
    add(f"{own}.stack_slots", model.stack_slots, slots=w.slots)
    add(f"{own}.with_literals", model.with_literals, tokens=[-1], slots=w.slots[0][:1])
    add(f"{own}.generate", model.generate, foreign_text="ab", prompt="Say.", max_new_tokens=1)
    add(f"{own}.load_bridge", lambda **a: w.fresh().load_bridge(**a), directory=w.saved)
    add(f"{own}.from_pretrained", llink.LlinkForCausalLM.from_pretrained, pretrained_model_name_or_path=w.saved)
    add(f"{own}.from_encoder_decoder_pretrained", llink.LlinkForCausalLM.from_encoder_decoder_pretrained, **w.bases)
    add(f"{own}.save_pretrained", model.save_pretrained, save_directory=target)
    add(f"{own}.push_to_hub", model.push_to_hub, repo_id="a/b")
    add("push_to_hub", llink.push_to_hub, model=w.saved, repo_id="a/b")

    own = "LlinkProcessor"
    tokenizers = dict(tokenizer=processor.tokenizer, encoder_tokenizer=processor.encoder_tokenizer)
    add(f"{own}.__init__", llink.LlinkProcessor, **tokenizers)
    add(f"{own}.__call__", processor, text="Say.", foreign_text="ab")
    add(f"{own}.apply_chat_template", processor.apply_chat_template, conversation=w.messages, tokenize=True)
    add(f"{own}.batch_decode", processor.batch_decode, sequences=[[5, 6]])
    add(f"{own}.decode", processor.decode, token_ids=[5, 6])
    add(f"{own}.conversations", processor.conversations, text="Say.", foreign_text="ab")
    add(f"{own}.pad_passages", processor.pad_passages, rows=processor.read_passages(["ab"]))
    add(f"{own}.prompt_tokens", processor.prompt_tokens, passage="ab")
    add(f"{own}.read", processor.read, passage=check_passage("ab"))
    add(f"{own}.read_passages", processor.read_passages, texts=texts)
    add(f"{own}.render", processor.render, messages=w.messages)
    add(f"{own}.render_batch", processor.render_batch, conversations=[w.messages], slots=[[4]])
    plain = [{"role": "user", "content": "Say."}]
    add(f"{own}.rendered_text", processor.rendered_text, messages=plain, add_generation_prompt=True)
    add(f"{own}.user_message", processor.user_message, prompt="Say.", passages=["ab"])
    add(f"{own}.save_pretrained", processor.save_pretrained, save_directory=target)
    add(f"{own}.push_to_hub", processor.push_to_hub, repo_id="a/b")

    add("LlinkConfig.from_dict", llink.LlinkConfig.from_dict, config_dict=model.config.to_dict())
    add("LlinkConfig.settle", copy.deepcopy(model.config).settle)
    add("LlinkConfig.to_dict", model.config.to_dict)

    own = "SlotStore"
    add(f"{own}.build", llink.SlotStore.build, model=model, passages=["ab"], folder=str(folder / "store"))
    add(f"{own}.load", llink.SlotStore.load, folder=str(folder / "store"), model=model)
    add(f"{own}.ask", store.ask, question="cat", k=1, max_new_tokens=1)
    add(f"{own}.reading", store.reading, question="cat", k=1)
    add(f"{own}.search", store.search, question="cat", k=1)
    add(f"{own}.slots", store.slots, rows=[0])
    add(f"{own}.push_to_hub", store.push_to_hub, repo_id="a/b")
    vectorizer = llink.LlinkEmbeddings(model)
    add("LlinkEmbeddings.__init__", llink.LlinkEmbeddings, model=model)
    add("LlinkEmbeddings.embed_documents", vectorizer.embed_documents, texts=texts)
    add("LlinkEmbeddings.embed_query", vectorizer.embed_query, text="cat")

    own = "LangBridgeForCausalLM"
    add(f"{own}.start_at_embedding_norm", copy.deepcopy(bridge).start_at_embedding_norm)
    add(f"{own}.train", lambda **a: copy.deepcopy(bridge).train(**a), mode=False)
    add(f"{own}.embed", bridge.embed, **{k: v for k, v in w.told.items() if k != "attention_mask"})
    add(f"{own}.forward", bridge.forward, **w.told)
    add(f"{own}.generate", bridge.generate, **w.told, max_new_tokens=1)
    add(f"{own}.soft_tokens", bridge.soft_tokens, **flat)
    add(f"{own}.from_llink", llink.LangBridgeForCausalLM.from_llink, folder=w.saved)
    add(f"{own}.from_pretrained", llink.LangBridgeForCausalLM.from_pretrained, folder=str(folder / "bridge"))
    add(f"{own}.load_weights", bridge.load_weights, folder=str(folder / "bridge"))
    add(f"{own}.save_pretrained", bridge.save_pretrained, save_directory=target)
    add("new_direct", llink.new_direct, folder=w.saved)
    add("load_direct", llink.load_direct, folder=str(folder / "direct"))
    add("renew_slots", lambda model, **a: llink.renew_slots(_before_b(model), **a), model=model)
    add("load_systems", llink.load_systems, model=w.saved)

    add("preset", llink.preset, name="paper")
    add("plan", llink.plan, model=w.fresh(), data=w.pairs, args=w.args(llink.AlignConfig))
    add("compute_features", llink.compute_features, model=model, pairs=w.pairs, show_progress=False)
    add("read_outputs", llink.read_outputs, path=str(folder / "outputs.jsonl"))
    add("read_pairs", llink.read_pairs, english_path=str(folder / "en.txt"), foreign_path=str(folder / "km.txt"))
    add("split_pairs", llink.split_pairs, dataset=w.pairs, sizes={"train": 2, "dev": 2}, seed=0)
    add("pair_dataset", llink.pair_dataset, rows=w.pairs)
    add("read_instructions", llink.read_instructions, path=str(folder / "rows.jsonl"))
    add("instruction_dataset", llink.instruction_dataset, rows=w.rows)
    add("translation_instructions", llink.translation_instructions, pairs=w.pairs)
    add("retrieval_metrics", llink.retrieval_metrics, queries=vectors, candidates=vectors, ks=(1,))
    add("AlignLoss.__init__", llink.AlignLoss)
    aligned = dict(projected=vectors, targets=vectors, groups=torch.arange(3), temperature=0.1)
    add("AlignLoss.forward", llink.AlignLoss(hard_negatives=2).forward, **aligned)
    add("AlignLoss.of", llink.AlignLoss.of, args=w.args(llink.AlignConfig))
    add("InjectLoss.__init__", llink.InjectLoss)
    references = dict(teachers=torch.ones(1, 4), references=torch.zeros(1, dtype=torch.long), step=totals)
    add("InjectLoss.forward", llink.InjectLoss().forward, **loss, **references)
    add("InjectLoss.of", llink.InjectLoss.of, args=w.args(llink.InjectConfig))
    add("InjectLoss.contrasts", llink.InjectLoss().contrasts, step=3)

    for name, trainer in w.trainers.items():
        kind = type(trainer)
        baseline = name in ("FinetuneTrainer", "LangBridgeTrainer")
        given = dict(model=trainer.model) if baseline else dict(model=w.fresh(name))
        given |= dict(processing_class=trainer.processing_class) if baseline else {}
        given |= dict(args=trainer.args, train_dataset=w.rows if name != "AlignTrainer" else w.pairs, eval_dataset=None)
        given |= dict(train_dataset=w.pairs) if name == "LexiconTrainer" else {}
        add(f"{name}.__init__", kind, **given)
        add(f"{name}.eval_set", trainer.eval_set, given=given["train_dataset"])
        add(f"{name}.train", trainer.train)
        add(f"{name}.save_model", trainer.save_model, output_dir=target)
        add(f"{name}.push_to_hub", trainer.push_to_hub)
    return found


def _before_b(model: Any) -> Any:
    """A copy whose slots are not trained yet; what is no model as it is."""
    if not isinstance(model, torch.nn.Module):
        return model
    copied = copy.deepcopy(model)
    copied.config.stage = "align"
    return copied
