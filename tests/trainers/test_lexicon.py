"""Slots made of words: their loss, their place among the decoder's embeddings, their training between the stages.

Run as a script (by `test_two_processes_equal_one`) this file trains in each of several processes.
"""

import json
import math
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import run_in_processes
from safetensors.torch import load_file
from transformers import set_seed

from llink import AlignConfig, InjectConfig, InjectTrainer, LexiconConfig, LexiconTrainer, LlinkForCausalLM
from llink.cli import main
from llink.configuration_llink import LlinkConfig, LlinkConfigError
from llink.data.errors import DataError
from llink.modeling_llink.errors import NotFittedError
from llink.modeling_llink.slots import SMOOTHING, Lexicon
from llink.trainers.errors import TrainingError
from llink.trainers.inject_loss import StepTotals, slot_cosine, slot_info_nce
from llink.trainers.lexicon_trainer import bag_of_words_loss, found_words

WORDS = {
    "cat": "k",
    "sat": "x",
    "mat": "q",
    "the": "m",
    "on": "z",
    "in": "w",
    "to": "g",
    "English": "j",
}  # a token each


def pairs(numbers=range(1, 65), steps=(1, 3, 5)) -> Dataset:
    """A language of one letter a word, in the same order."""
    english = list(WORDS)
    rows = []
    for i in numbers:
        chosen = [english[i * step % 8] for step in steps]
        foreign = "".join(WORDS[word] for word in chosen)
        rows.append(dict(id=f"p{i}", english=" ".join(chosen), foreign=foreign, language="xx"))
    return Dataset.from_list(rows)


def held_out(count: int = 16) -> Dataset:
    """Sentences of the same words that the training pairs lack."""
    return pairs(range(1, 2 * count, 2), steps=(5, 3, 1))


def arguments(folder, **options) -> LexiconConfig:
    defaults = dict(
        output_dir=str(folder),
        per_device_train_batch_size=16,
        max_steps=4,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        max_grad_norm=1e9,
    )
    return LexiconConfig(**{**defaults, **options})


def new_model(make_model, **config) -> LlinkForCausalLM:
    return make_model(awake=False, stage="align", slot_expander="lexicon", slot_vocabulary_size=40, **config)


@pytest.fixture
def train(make_model, tmp_path):
    def run(name="run", resume=None, eval_dataset=None, **options):
        set_seed(0)
        model = new_model(make_model)
        trainer = LexiconTrainer(model, arguments(tmp_path / name, **options), pairs(), eval_dataset)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


def losses_of(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def state_of(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# ------------------------------------------------------------------ the loss


@settings(max_examples=40)
@given(slots=st.integers(1, 5), size=st.integers(2, 9), words=st.lists(st.integers(0, 8), unique=True, max_size=4))
def test_the_loss_is_that_of_a_loop(slots, size, words):
    torch.manual_seed(slots)
    words = [word for word in words if word < size]
    log_p = torch.randn(1, slots, size).log_softmax(dim=-1)
    padded = torch.tensor([[*words, -1, -1]])
    wanted = [-math.log(sum(log_p[0, k, w].exp().item() for k in range(slots)) / slots) for w in words]
    loss = bag_of_words_loss(log_p, padded)
    assert loss.item() == pytest.approx(sum(wanted) / max(1, len(wanted)), abs=1e-5)
    found, known = found_words(log_p, padded)
    assert found.item() == len(set(words) & set(log_p[0].argmax(dim=-1).tolist()))
    assert known.item() == len(words)


def test_the_loss_falls_where_any_slot_foretells_a_word():
    sure = torch.full((1, 2, 3), -20.0)
    sure[0, 0, 1] = sure[0, 1, 2] = 0.0
    right, wrong = torch.tensor([[1, 2]]), torch.tensor([[0, 1]])
    assert bag_of_words_loss(sure, right).item() == pytest.approx(math.log(2), abs=1e-4)
    assert torch.equal(bag_of_words_loss(sure, right.flip(1)), bag_of_words_loss(sure, right)), "order is no matter"
    assert bag_of_words_loss(sure, wrong) > 5


def test_references_without_known_words_cost_nothing():
    log_p = torch.zeros(2, 3, 4).log_softmax(dim=-1).requires_grad_(True)
    loss = bag_of_words_loss(log_p, torch.full((2, 1), -1))
    assert loss.tolist() == [0.0, 0.0]
    loss.sum().backward()


# ------------------------------------------------------------------ the lexicon


def test_the_vocabulary_is_the_most_frequent_tokens():
    lexicon = Lexicon(8, 6, 2, 5, 3)
    counts = torch.tensor([0.0, 7, 1, 0, 9])
    lexicon.fit(counts)
    assert lexicon.vocabulary.tolist() == [4, 1, 2]
    total = 17 + 3 * SMOOTHING
    assert lexicon.prior.exp().tolist() == pytest.approx([(n + SMOOTHING) / total for n in (9, 7, 1)])


def test_words_of_equal_counts_are_taken_in_order():
    lexicon = Lexicon(8, 6, 2, 5, 300)
    lexicon.fit(torch.tensor([1.0, 5.0] + [1.0] * 500))
    assert lexicon.vocabulary.tolist() == [1, 0, *range(2, 300)]


def test_a_lexicon_without_words_says_what_to_do(make_model, tmp_path):
    model = new_model(make_model)
    rows = Dataset.from_list(
        [dict(id=str(i), foreign=["k" * i], prompt="<foreign_emb>", completion="a") for i in (1, 2)]
    )
    options = dict(report_to=[], use_cpu=True, cosine_weight=0.0, nce_weight=0.0)
    with pytest.raises(NotFittedError, match="llink lexicon"):
        InjectTrainer(model, InjectConfig(str(tmp_path / "b"), **options), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that of a missing canary
        model.save_pretrained(tmp_path / "a")
    assert torch.equal(
        LlinkForCausalLM.from_pretrained(tmp_path / "a").encode_foreign(["k"]), model.encode_foreign(["k"])
    )
    with pytest.raises(LlinkConfigError, match="num_slots=1 is too few for slot_expander='lexicon'"):
        LlinkConfig(
            decoder_config={"model_type": "gpt2", "n_embd": 8, "n_head": 1}, num_slots=1, slot_expander="lexicon"
        )


@pytest.mark.parametrize("decoder", ["llama", "gemma3"])
def test_words_are_means_of_the_decoders_embeddings(make_model, decoder):
    model = make_model(decoder=decoder, slot_expander="lexicon", slot_vocabulary_size=20, slot_adapter="none")
    lexicon, scale = model.slot_embedder.lexicon, model.slot_embedder.scale
    texts = ["kxm", "qz", "wgjkxqm"]
    slots = model.encode_foreign(texts)  # (3, 4, d)
    assert torch.allclose(slots.norm(dim=-1), scale.expand(3, 4), rtol=1e-4)
    vocabulary = model.get_input_embeddings()(lexicon.vocabulary)
    inputs = model.processor.pad_passages([[ids] for ids in model.processor.tokenize_passages(texts)])
    ids, mask = inputs["foreign_input_ids"][:, 0], inputs["foreign_attention_mask"][:, 0]
    weights = lexicon(model.passage_states(ids, mask), mask, vocabulary).exp()  # (3, 3, V')
    assert torch.allclose(weights.sum(dim=-1), torch.ones(3, 3))
    mixed = torch.nn.functional.normalize(weights @ vocabulary, dim=-1) * scale
    assert torch.allclose(slots[:, 1:], mixed, atol=1e-4)
    first = torch.nn.functional.layer_norm(model.get_foreign_features(texts), (model.config.hidden_size,))
    assert torch.allclose(torch.cosine_similarity(slots[:, 0], first), torch.ones(3), atol=1e-4)
    assert torch.allclose(model.get_slot_features(texts), slots[:, 0], atol=1e-5)


def test_half_precision_mixes_the_same_words(make_model):
    model = make_model(slot_expander="lexicon")
    model.slot_embedder.lexicon.sharpness.data.fill_(math.log(60))  # a small error of a cosine is then a large one
    states, mask = torch.randn(2, 5, model.config.encoder_hidden_size), torch.ones(2, 5)
    slots = torch.randn(2, 3, model.config.hidden_size)
    model.slot_embedder.lexicon.out.register_forward_hook(lambda *_: slots)
    words = model.slot_embedder.lexicon.embeddings(model.get_input_embeddings())
    wanted = model.slot_embedder.lexicon(states, mask, words)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.slot_embedder.lexicon(states, mask, words)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_padding_changes_nothing(make_model):
    model = make_model(slot_expander="lexicon")
    alone = [model.encode_foreign([text])[0] for text in ("k", "xqmzwgj")]
    together = model.encode_foreign(["k", "xqmzwgj"])
    assert torch.allclose(torch.stack(alone), together, atol=1e-5)


# ------------------------------------------------------------------ training


def test_only_the_lexicon_changes(make_model, tmp_path):
    trainer = LexiconTrainer(new_model(make_model), arguments(tmp_path), pairs())
    before = state_of(trainer.llink_model)
    trainer.train()
    after = state_of(trainer.llink_model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed, "vacuous unless something was trained"
    own = [name for name, _ in trainer.llink_model.slot_embedder.expander.named_parameters()]
    wanted = {f"slot_embedder.expander.{name}" for name in [*own, "vocabulary", "fitted"]}
    assert changed == wanted
    assert trainer.llink_model.config.stage == "lexicon"


@pytest.mark.slow
def test_training_finds_the_words(train):
    trainer = train(max_steps=150, learning_rate=1e-2)
    losses, metrics = losses_of(trainer), trainer.evaluate(pairs(range(201, 217)))
    assert losses[-1] < losses[0] - 1
    assert metrics["eval_recall"] > 0.8
    assert metrics["eval_loss"] < 1.8


def test_evaluation_before_training_uses_the_same_words(make_model, tmp_path):
    losses = []
    for evaluate in (True, False):
        trainer = LexiconTrainer(new_model(make_model), arguments(tmp_path), pairs(), held_out())
        if evaluate:
            assert trainer.evaluate()["eval_loss"] > 1
        set_seed(0)
        trainer.train()
        losses.append(losses_of(trainer))
    assert losses[0] == losses[1]


def test_words_that_the_vocabulary_lacks_are_counted(make_model, tmp_path, caplog):
    model = make_model(awake=False, stage="align", slot_expander="lexicon", slot_vocabulary_size=3)
    trainer, others = LexiconTrainer(model, arguments(tmp_path, max_steps=1), pairs()), pairs(range(201, 217))
    trainer.train()
    metrics = trainer.evaluate(others)
    vocabulary = set(model.slot_embedder.lexicon.vocabulary.tolist())
    tokens = [set(ids) for ids in model.processor.tokenizer(others["english"][:])["input_ids"]]
    share = sum(len(row & vocabulary) for row in tokens) / sum(map(len, tokens))
    assert 0 < share < 1, "vacuous unless some are known and some are not"
    assert metrics["eval_known"] == pytest.approx(share)
    assert metrics["eval_recall"] <= share
    predicted = trainer.predict(others)
    assert predicted.label_ids.tolist() == [len(row) for row in tokens]
    assert predicted.metrics["test_recall"] == metrics["eval_recall"]
    silent = sum(not row & vocabulary for row in tokens)
    assert silent, "vacuous unless some reference has none"
    assert f"{silent} of 16 references hold no word of the vocabulary" in caplog.text


def test_control_tokens_in_references_are_text(make_model, tmp_path):
    model = new_model(make_model)
    data = Dataset.from_list([dict(id=str(i), english="cat <|end|>", foreign="k" * (i + 1)) for i in range(3)])
    trainer = LexiconTrainer(model, arguments(tmp_path, max_steps=1), data)
    trainer.train()
    control = model.processor.tokenizer.convert_tokens_to_ids("<|end|>")
    known = model.slot_embedder.lexicon.vocabulary[model.slot_embedder.lexicon.prior > math.log(0.01)]
    assert control not in known.tolist()
    assert len(known) > 1, "vacuous unless the sentence's tokens are there"


def test_accumulation_equals_the_big_batch(train):
    whole = losses_of(train("whole", per_device_train_batch_size=16))
    parts = losses_of(train("parts", per_device_train_batch_size=4, gradient_accumulation_steps=4))
    assert parts == pytest.approx(whole, rel=1e-4)


@pytest.mark.slow
def test_two_processes_equal_one(base_folder, train, tmp_path):
    folders = [base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")]
    run_in_processes(__file__, *folders, tmp_path)
    found = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert found["world_size"] == 2, "vacuous unless two processes ran"
    single = train("one", eval_dataset=held_out(15))
    assert found["losses"] == pytest.approx(losses_of(single), rel=1e-3)
    metrics = single.evaluate()
    for name in ("eval_loss", "eval_recall"):
        assert found["eval"][name] == pytest.approx(metrics[name], rel=5e-3), name


@pytest.mark.slow
def test_resuming_equals_an_unbroken_run(train, tmp_path):
    unbroken = train("unbroken", max_steps=6)
    train("broken", max_steps=6, save_strategy="steps", save_steps=3)
    resumed = train("resumed", max_steps=6, resume=str(tmp_path / "broken" / "checkpoint-3"))
    assert losses_of(resumed)[-3:] == pytest.approx(losses_of(unbroken)[-3:], rel=1e-5)
    for name, value in unbroken.llink_model.slot_embedder.state_dict().items():
        assert torch.allclose(resumed.llink_model.slot_embedder.state_dict()[name], value, atol=1e-6), name


def test_what_is_saved_reads_alike(train, tmp_path):
    trainer = train()
    trainer.save_model()
    again = LlinkForCausalLM.from_pretrained(tmp_path / "run")
    assert again.config.stage == "lexicon"
    texts = ["kxm", "qz"]
    assert torch.equal(again.encode_foreign(texts), trainer.llink_model.encode_foreign(texts))
    assert [stage["stage"] for stage in again.run_record["stages"]] == ["lexicon"]
    again.renew_slots(slot_expander="mlp")
    assert (again.config.stage, again.run_record["stages"]) == ("align", []), "the words are gone"


def test_wrong_input_is_told_first(make_model, tmp_path):
    model = new_model(make_model)
    with pytest.raises(NotFittedError, match="renew_slots"):
        LexiconTrainer(make_model(stage="align"), arguments(tmp_path), pairs())
    for stage in ("untrained", "inject"):
        with pytest.raises(NotFittedError, match=f"stage is '{stage}'"):
            LexiconTrainer(make_model(stage=stage, slot_expander="lexicon"), arguments(tmp_path), pairs())
    with pytest.raises(ValueError, match="train_dataset"):
        LexiconTrainer(model, arguments(tmp_path)).train()
    for option in ("gradient_checkpointing", "label_smoothing_factor"):
        with pytest.raises(LlinkConfigError, match=f"{option}=.* does not apply"):
            arguments(tmp_path, **{option: 0.1 if option.endswith("factor") else True})
    with pytest.raises(TypeError, match="LexiconConfig"):
        LexiconTrainer(model, AlignConfig(str(tmp_path), report_to=[], use_cpu=True), pairs())
    blank = Dataset.from_list([dict(id="1", english=" ", foreign="k")])
    with pytest.raises(DataError, match="blank"):
        LexiconTrainer(model, arguments(tmp_path), blank)
    with pytest.raises(DataError, match="eval_dataset"):
        LexiconTrainer(model, arguments(tmp_path), pairs(), blank)


def test_a_loss_that_is_not_finite_names_step_and_pairs(make_model, tmp_path):
    model = new_model(make_model)
    trainer = LexiconTrainer(model, arguments(tmp_path), pairs())
    model.slot_embedder.lexicon.out.weight.data[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"step 0.*'p\d+'"):
        trainer.train()


# ------------------------------------------------------------------ the commands


@pytest.fixture(scope="module")
def folder(make_model, tmp_path_factory):
    root = tmp_path_factory.mktemp("lexicon")
    new = make_model(awake=False, stage="align")
    new.save_pretrained(root / "align")
    for name, data in (("train", pairs()), ("dev", held_out())):
        for suffix, column in (("en", "english"), ("xx", "foreign")):
            (root / f"{name}.{suffix}").write_text("".join(f"{i} {t}\n" for i, t in enumerate(data[column])), "utf-8")
        rows = [
            dict(id=r["id"], foreign=r["foreign"], prompt="Say it.\n<foreign_emb>", completion=r["english"])
            for r in data
        ]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return root


@pytest.mark.slow
def test_from_stage_a_over_words_to_stage_b(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    quick = ["--report_to", "none", "--use_cpu", "--disable_tqdm", "True", "--max_steps", "2", "--save_strategy", "no"]
    quick += ["--per_device_train_batch_size", "8"]
    words = ["lexicon", "--model", "align", "--pairs", "train.en", "train.xx", "--eval-pairs", "dev.en", "dev.xx"]
    assert main([*words, *quick, "--slot_vocabulary_size", "30", "--output-dir", str(tmp_path / "words")]) == 0
    metrics = json.loads((tmp_path / "words" / "eval_results.json").read_text())
    assert {"eval_loss", "eval_recall"} <= metrics.keys()
    assert (tmp_path / "words" / "training.png").is_file()
    config = json.loads((tmp_path / "words" / "config.json").read_text())
    assert (config["stage"], config["slot_expander"], config["slot_vocabulary_size"]) == ("lexicon", "lexicon", 30)
    stages = json.loads((tmp_path / "words" / "llink_run.json").read_text())["stages"]
    assert [stage["stage"] for stage in stages] == ["lexicon"]

    rows = ["inject", "--model", str(tmp_path / "words"), "--instructions", "train.jsonl", *quick]
    rows += ["--gradient_accumulation_steps", "1", "--cosine_weight", "0", "--nce_weight", "0"]
    assert main([*rows, "--output-dir", str(tmp_path / "b")]) == 0
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("words", "b"))
    assert torch.equal(before["slot_embedder.expander.vocabulary"], after["slot_embedder.expander.vocabulary"])
    assert not torch.equal(before["slot_embedder.expander.out.weight"], after["slot_embedder.expander.out.weight"])
    stages = json.loads((tmp_path / "b" / "llink_run.json").read_text())["stages"]
    assert [stage["stage"] for stage in stages] == ["lexicon", "inject"]

    assert main(["verify", str(tmp_path / "b")]) == 0
    paper = [*rows, "--preset", "paper", "--output-dir", str(tmp_path / "p")]
    assert main(paper) == 0, "a preset's slot_residual says nothing about words"
    assert json.loads((tmp_path / "p" / "config.json").read_text())["slot_expander"] == "lexicon"
    again = [*words[:2], str(tmp_path / "words"), *words[3:], *quick, "--output-dir", str(tmp_path / "more")]
    assert main([*again, "--learning_rate", "0"]) == 0
    kept = load_file(tmp_path / "more" / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in before.items()), "it goes on with the words it has"
    assert main([*words[:2], str(tmp_path / "b"), *words[3:], *quick, "--output-dir", str(tmp_path / "c")]) == 2
    assert "before LoRA learns to read them" in capsys.readouterr().err


def test_words_of_a_file_that_is_not_there(folder, tmp_path, capsys):
    command = ["lexicon", "--model", str(folder / "align"), "--pairs", "no.en", "no.xx", "--output-dir", str(tmp_path)]
    assert main(command) == 2
    assert "no.en" in capsys.readouterr().err
    assert main([*command, "--preset", "best"]) == 2
    assert "'best' is not one of recommended, paper, released-code" in capsys.readouterr().err


def test_every_argument_of_ours_has_help():
    own = [f for f in fields(LexiconConfig) if f.name in LexiconConfig.__annotations__]
    assert own
    assert all(f.metadata["help"] for f in own)


@pytest.mark.parametrize("expander", ["mlp", "lexicon"])
def test_stage_b_holds_a_rows_sentence_vectors_near_the_teacher(make_model, tmp_path, expander):
    model = make_model(slot_expander=expander, slot_residual=True)
    rows = [dict(id="1", foreign=["kx"], prompt="<foreign_emb>", completion="a", english="cat")]
    rows += [dict(id="2", foreign=["q", "zw"], prompt="<foreign_emb> <foreign_emb>", completion="b", english="mat")]
    options = dict(report_to=[], use_cpu=True, cosine_weight=0.5, nce_weight=0.25)
    trainer = InjectTrainer(model, InjectConfig(str(tmp_path), **options), Dataset.from_list(rows))
    mask, slots = torch.tensor([[True, False], [True, True]]), torch.randn(2, 2, 4, 32)
    teachers, ids = torch.randn(2, 32), torch.tensor([0, 1])
    sentences = slots[:, :, 0] if expander == "lexicon" else slots.mean(dim=2)  # (B, T, d)
    wanted = torch.stack([sentences[0, 0], sentences[1].mean(dim=0)])
    means = trainer.slot_means(slots, mask)
    assert torch.allclose(means, wanted, atol=1e-6)
    expected = 0.5 * slot_cosine(wanted, teachers).sum() / 2
    expected += 0.25 * slot_info_nce(wanted, teachers, teachers, ids, ids, trainer.args.nce_temperature).sum() / 2
    step = StepTotals(1, torch.tensor(4), torch.tensor(2), teachers, ids)
    losses = torch.zeros(2)
    terms = trainer.loss(losses, torch.full((2,), 2), None, means, teachers, ids, step)
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def run_one_process(encoder: str, decoder: str, folder: str) -> None:
    """One of several processes; the first writes what the test compares."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        *(encoder, decoder),
        teacher_conditioning="none",
        num_slots=4,
        stage="align",
        slot_expander="lexicon",
        slot_vocabulary_size=40,
    )
    set_seed(0)
    options = dict(per_device_train_batch_size=4, gradient_accumulation_steps=2, per_device_eval_batch_size=4)
    trainer = LexiconTrainer(model, arguments(folder, **options), pairs(), held_out(15))
    trainer.train()
    metrics = trainer.evaluate()
    if trainer.is_world_process_zero():
        result = dict(losses=losses_of(trainer), eval=metrics, world_size=trainer.args.world_size)
        (Path(folder) / "result.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    run_one_process(*sys.argv[1:])
