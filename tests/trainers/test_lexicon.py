"""The dictionary of slots of tokens: its losses, its training between the stages.

Run as a script (by `test_two_processes_equal_one`) this file trains in each of several processes.
"""

import json
import math
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import run_in_processes
from safetensors.torch import load_file
from transformers import set_seed

from llink import AlignConfig, InjectConfig, InjectTrainer, LexiconConfig, LexiconTrainer, LlinkForCausalLM
from llink.building import draw_anew, renew_slots
from llink.cli import main
from llink.configuration_llink import LlinkConfigError
from llink.data.errors import DataError
from llink.data.token_states import token_states
from llink.modeling_llink.errors import NotFittedError
from llink.trainers.errors import TrainingError
from llink.trainers.inject_loss import StepTotals, slot_cosine, slot_info_nce
from llink.trainers.lexicon_loss import SMOOTHING, Dictionary, bag_of_words_losses, covering_tokens, found_words

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
        vocabulary_size=40,
    )
    return LexiconConfig(**{**defaults, **options})


def new_model(make_model, **config) -> LlinkForCausalLM:
    return make_model(awake=False, stage="align", slot_expander="tokens", **config)


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
@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    size=st.integers(2, 9),
    words=st.lists(st.integers(0, 8), unique=True, max_size=4),
)
def test_the_loss_is_that_of_a_loop(counts, size, words):
    torch.manual_seed(size)
    words = [word for word in words if word < size]
    logits = torch.randn(sum(counts), size)
    padded = torch.tensor([[*words, -1, -1]] * len(counts))
    losses = bag_of_words_losses(logits, counts, padded)
    found, known = found_words(logits, counts, padded)
    for row, own in enumerate(logits.split(counts)):
        p = own.softmax(dim=-1)
        wanted = [-math.log(1 - math.prod(1 - p[j, w].item() for j in range(len(p)))) for w in words]
        assert losses[row].item() == pytest.approx(sum(wanted) / max(1, len(wanted)), abs=1e-4)
        assert found[row].item() == len(set(words) & set(own.argmax(dim=-1).tolist()))
        assert known[row].item() == len(words)


def test_the_loss_falls_where_any_token_foretells_a_word():
    sure = torch.full((2, 3), -20.0)
    sure[0, 1] = sure[1, 2] = 0.0
    right, wrong = torch.tensor([[1, 2]]), torch.tensor([[0, 1]])
    assert bag_of_words_losses(sure, [2], right).item() == pytest.approx(0, abs=1e-4)
    assert torch.equal(bag_of_words_losses(sure, [2], right.flip(1)), bag_of_words_losses(sure, [2], right))
    assert bag_of_words_losses(sure, [2], wrong) > 5


def test_references_without_known_words_cost_nothing():
    logits = torch.zeros(5, 4, requires_grad=True)
    loss = bag_of_words_losses(logits, [2, 3], torch.full((2, 1), -1))
    assert loss.tolist() == [0.0, 0.0]
    loss.sum().backward()
    assert torch.equal(logits.grad, torch.zeros(5, 4))


def test_a_certain_word_has_a_finite_loss_and_gradient():
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0]], requires_grad=True)
    losses = bag_of_words_losses(logits, [2], torch.tensor([[0, 1]]))
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(logits.grad).all()


def test_a_tokens_word_is_the_token_over_its_first_character():
    text = "the cats sat"
    spans = [(0, 3), (3, 6), (6, 8), (8, 12), (12, 12)]  # "the", " ca", "ts", " sat", nothing
    tokens, token_spans = [7, 8, 9], [(0, 3), (3, 8), (9, 12)]  # "the", " cats", "sat"
    assert covering_tokens(text, spans, tokens, token_spans) == [7, 8, 8, 9, -1]
    assert covering_tokens(text, [(0, 3)], [], []) == [-1]


# ------------------------------------------------------------------ the dictionary


def dictionary(counts: torch.Tensor, size: int) -> Dictionary:
    return Dictionary(torch.nn.Identity(), counts, size)


def test_the_vocabulary_is_the_most_frequent_tokens():
    found = dictionary(torch.tensor([0, 7, 1, 0, 9]), 3)
    assert found.vocabulary.tolist() == [4, 1, 2]
    total = 17 + 3 * SMOOTHING
    assert (2 * found.prior).exp().tolist() == pytest.approx([(n + SMOOTHING) / total for n in (9, 7, 1)])


def test_words_of_equal_counts_are_taken_in_order():
    found = dictionary(torch.tensor([1, 5] + [1] * 500), 300)
    assert found.vocabulary.tolist() == [1, 0, *range(2, 300)]


def test_a_model_without_a_dictionary_says_what_to_do(make_model, tmp_path):
    model = new_model(make_model)
    rows = Dataset.from_list(
        [dict(id=str(i), foreign=["k" * i], prompt="<foreign_emb>", completion="a") for i in (1, 2)]
    )
    with pytest.raises(NotFittedError, match="llink lexicon"):
        InjectTrainer(model, InjectConfig(str(tmp_path / "b"), report_to=[], use_cpu=True), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that of a missing canary
        model.save_pretrained(tmp_path / "a")
    again = LlinkForCausalLM.from_pretrained(tmp_path / "a")
    assert torch.equal(again.encode_foreign(["k"])[0], model.encode_foreign(["k"])[0])


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_only_the_dictionary_changes(make_model, tmp_path, share):
    trainer = LexiconTrainer(new_model(make_model), arguments(tmp_path, english_share=share), pairs())
    before = state_of(trainer.llink_model)
    trainer.train()
    after = state_of(trainer.llink_model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    own = {name for name, _ in trainer.llink_model.slot_embedder.named_parameters()} - {"scale"}
    assert changed == {f"slot_embedder.{name}" for name in own | {"fitted"}}
    assert trainer.llink_model.config.stage == "lexicon"


@pytest.mark.slow
def test_pairs_find_the_words(train):
    trainer = train(max_steps=150, learning_rate=1e-2, english_share=0)
    losses, metrics = losses_of(trainer), trainer.evaluate(pairs(range(201, 217)))
    assert losses[-1] < losses[0] - 1
    assert metrics["eval_recall"] > 0.8
    assert metrics["eval_loss"] < 1


def test_english_alone_finds_the_words_of_english(train):
    trainer = train(max_steps=100, learning_rate=1e-2, english_share=1)
    losses = losses_of(trainer)
    assert losses[-1] < losses[0] - 1
    english = pairs(range(201, 217)).map(lambda row: {"foreign": row["english"]})
    before = LexiconTrainer(trainer.llink_model, trainer.args, pairs())
    draw_anew_all(before.llink_model)
    untrained = before.evaluate(english)["eval_recall"]
    assert train(max_steps=100, learning_rate=1e-2, english_share=1).evaluate(english)["eval_recall"] > untrained + 0.2


def draw_anew_all(model) -> None:
    """As [`draw_anew`] of slots that have learned nothing."""
    model.slot_embedder.fitted.fill_(False)
    draw_anew(model, 0, ("slots",))


def test_first_english_then_pairs(train):
    trainer = train(max_steps=60, learning_rate=1e-2, english_share=0.5)
    assert trainer.english_steps == 30
    losses = losses_of(trainer)
    assert losses[29] < losses[0]
    assert losses[-1] < losses[30], "each part lowers its own loss"


def test_states_are_computed_once_and_read_again(make_model, tmp_path):
    cache, runs = tmp_path / "states", []
    for name in ("first", "second"):
        trainer = LexiconTrainer(new_model(make_model), arguments(tmp_path / name, feature_cache_dir=cache), pairs())
        with tiny.count_calls(trainer.llink_model.encoder) as calls:
            set_seed(0)
            trainer.train()
        runs.append((len(calls), losses_of(trainer)))
    assert runs[0][0] == 4, "vacuous unless the encoder ran: 64 texts of either side, 32 at once"
    assert runs[1] == (0, runs[0][1])
    assert not list(cache.glob("*.part"))


def test_kept_states_are_the_models(make_model):
    model = make_model(slot_expander="tokens")
    texts = ["kxm", "q", "wgjkxqm"]
    encoded = model.processor.read_passages(texts)
    states = token_states(model, encoded, None, batch_size=2)
    assert states.counts == [3, 1, 7]
    slots = model.encode_foreign(texts)
    for row, own in enumerate(slots):
        directions = model.slot_embedder.directions(states.of([row]).float())
        found = torch.nn.functional.normalize(directions, dim=-1) * model.slot_embedder.scale
        assert torch.allclose(found, own, atol=2e-2), "but for 16 bits"
    assert torch.equal(states.of([2, 0]), torch.cat([states.of([2]), states.of([0])]))


def test_evaluation_before_training_changes_nothing(make_model, tmp_path):
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
    model = new_model(make_model)
    options = arguments(tmp_path, max_steps=1, vocabulary_size=3)
    trainer, others = LexiconTrainer(model, options, pairs()), pairs(range(201, 217))
    trainer.train()
    metrics = trainer.evaluate(others)
    vocabulary = set(trainer.model.vocabulary.tolist())
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
    known = trainer.model.vocabulary[trainer.model.prior > 0.5 * math.log(0.01)]
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
    for name, value in unbroken.model.state_dict().items():
        assert torch.allclose(resumed.model.state_dict()[name], value, atol=1e-6), name


def test_what_is_saved_reads_alike(train, tmp_path):
    trainer = train()
    trainer.save_model()
    again = LlinkForCausalLM.from_pretrained(tmp_path / "run")
    assert again.config.stage == "lexicon"
    texts = ["kxm", "qz"]
    assert all(map(torch.equal, again.encode_foreign(texts), trainer.llink_model.encode_foreign(texts)))
    assert [stage["stage"] for stage in again.run_record["stages"]] == ["lexicon"]
    renew_slots(again, slot_expander="mlp")
    assert (again.config.stage, again.run_record["stages"]) == ("align", []), "the dictionary is gone"


def test_wrong_input_is_told_first(make_model, tmp_path):
    model = new_model(make_model)
    with pytest.raises(NotFittedError, match="renew_slots"):
        LexiconTrainer(make_model(stage="align"), arguments(tmp_path), pairs())
    for stage in ("untrained", "inject"):
        with pytest.raises(NotFittedError, match=f"stage is '{stage}'"):
            LexiconTrainer(make_model(stage=stage, slot_expander="tokens"), arguments(tmp_path), pairs())
    with pytest.raises(ValueError, match="train_dataset"):
        LexiconTrainer(model, arguments(tmp_path)).train()
    for option in ("gradient_checkpointing", "label_smoothing_factor"):
        with pytest.raises(LlinkConfigError, match=f"{option}=.* does not apply"):
            arguments(tmp_path, **{option: 0.1 if option.endswith("factor") else True})
    with pytest.raises(LlinkConfigError, match="LexiconConfig"):
        LexiconTrainer(model, AlignConfig(str(tmp_path), report_to=[], use_cpu=True), pairs())
    blank = Dataset.from_list([dict(id="1", english=" ", foreign="k")])
    with pytest.raises(DataError, match="blank"):
        LexiconTrainer(model, arguments(tmp_path), blank)
    with pytest.raises(DataError, match="eval_dataset"):
        LexiconTrainer(model, arguments(tmp_path), pairs(), blank)


def test_a_loss_that_is_not_finite_names_step_and_pairs(make_model, tmp_path):
    model = new_model(make_model)
    trainer = LexiconTrainer(model, arguments(tmp_path), pairs())
    model.slot_embedder.map.weight.data[0, 0] = float("nan")
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
    assert main([*words, *quick, "--vocabulary_size", "30", "--output-dir", str(tmp_path / "words")]) == 0
    metrics = json.loads((tmp_path / "words" / "eval_results.json").read_text())
    assert {"eval_loss", "eval_recall"} <= metrics.keys()
    assert (tmp_path / "words" / "training.png").is_file()
    config = json.loads((tmp_path / "words" / "config.json").read_text())
    assert (config["stage"], config["slot_expander"], config["num_slots"]) == ("lexicon", "tokens", None)
    stages = json.loads((tmp_path / "words" / "llink_run.json").read_text())["stages"]
    assert [stage["stage"] for stage in stages] == ["lexicon"]

    rows = ["inject", "--model", str(tmp_path / "words"), "--instructions", "train.jsonl", *quick]
    rows += ["--gradient_accumulation_steps", "1"]
    assert main([*rows, "--output-dir", str(tmp_path / "b")]) == 0
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("words", "b"))
    drift = (before["slot_embedder.map.weight"] - after["slot_embedder.map.weight"]).abs().max()
    assert 0 < drift < 0.1, "Stage B goes on from the dictionary"
    stages = json.loads((tmp_path / "b" / "llink_run.json").read_text())["stages"]
    assert [stage["stage"] for stage in stages] == ["lexicon", "inject"]

    assert main(["verify", str(tmp_path / "b")]) == 0
    paper = [
        *rows,
        "--preset",
        "paper",
        "--cosine_weight",
        "0",
        "--nce_weight",
        "0",
        "--output-dir",
        str(tmp_path / "p"),
    ]
    assert main(paper) == 0, "a preset's slot_residual says nothing about tokens"
    assert json.loads((tmp_path / "p" / "config.json").read_text())["slot_expander"] == "tokens"
    again = [*words[:2], str(tmp_path / "words"), *words[3:], *quick, "--output-dir", str(tmp_path / "more")]
    assert main([*again, "--learning_rate", "0"]) == 0
    kept = load_file(tmp_path / "more" / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in before.items()), (
        "it goes on with the dictionary it has"
    )
    assert main([*words[:2], str(tmp_path / "b"), *words[3:], *quick, "--output-dir", str(tmp_path / "c")]) == 2
    assert "before LoRA learns to read it" in capsys.readouterr().err


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


def test_stage_b_holds_the_mean_of_a_rows_slots_near_the_teacher(make_model, tmp_path):
    model = make_model(slot_residual=True)
    rows = [dict(id="1", foreign=["kx"], prompt="<foreign_emb>", completion="a", english="cat")]
    rows += [dict(id="2", foreign=["q", "zw"], prompt="<foreign_emb> <foreign_emb>", completion="b", english="mat")]
    options = dict(report_to=[], use_cpu=True, cosine_weight=0.5, nce_weight=0.25)
    trainer = InjectTrainer(model, InjectConfig(str(tmp_path), **options), Dataset.from_list(rows))
    mask, slots = torch.zeros(2, 2, 4, dtype=torch.bool), torch.randn(2, 2, 4, 32)
    mask[0, 0], mask[1, 0, :3], mask[1, 1, :1] = True, True, True
    teachers, ids = torch.randn(2, 32), torch.tensor([0, 1])
    wanted = torch.stack([slots[0, 0].mean(dim=0), torch.cat([slots[1, 0, :3], slots[1, 1, :1]]).mean(dim=0)])
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
        stage="align",
        slot_expander="tokens",
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
