"""Stage B: what trains and what must not, equivalences, resuming, evaluation, errors.

Run as a script (by `test_two_processes_equal_one`) this file trains in each of several processes.
"""

import itertools
import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny
import torch
from baseline_runs import losses_of, quick
from datasets import Dataset, IterableDataset
from processes import run_in_processes
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments, set_seed

from llink.building import fit_teacher_space
from llink.configuration_llink import LlinkConfigError
from llink.data.errors import DataError
from llink.data.examples import training_example
from llink.data.instructions import instruction_dataset
from llink.evaluation.usage import answer_losses, answer_reach, usage_losses
from llink.modeling_llink import LlinkForCausalLM, passages
from llink.modeling_llink.errors import PromptError
from llink.modeling_llink.prompts import user_message
from llink.trainers.errors import TrainingError
from llink.trainers.inject_config import InjectConfig
from llink.trainers.inject_loss import slot_cosine, slot_info_nce, usage_contrast
from llink.trainers.inject_trainer import InjectTrainer
from llink.trainers.presets import preset


def rows(count: int = 24) -> list[dict]:
    words = ["the cat", "a dog", "rice", "he runs", "two books", "home"]
    made = []
    for i in range(count):
        foreign = ["".join(chr(97 + (i * 7 + j * (1 + i % 3)) % 26) for j in range(3 + i % 5))]
        prompt = "Translate to English.\n<foreign_emb>"
        if i % 6 == 0:
            foreign, prompt = [*foreign, "zz" + foreign[0]], "Compare <foreign_emb> with <foreign_emb>."
        english = f"{words[i % 6]} {i % 4}" if i % 5 else ""
        made.append(
            dict(id=f"r{i}", foreign=foreign, prompt=prompt, completion=words[i % 6] * (1 + i % 3), english=english)
        )
    return made


def arguments(folder, **options) -> InjectConfig:
    weights = dict(usage_margin=0.5, usage_weight=0.3, usage_every=2, cosine_weight=0.3, nce_weight=0.3)
    return quick(InjectConfig, folder, **{"slot_learning_rate": 1e-2, **weights, **options})


@pytest.fixture
def train(make_model, tmp_path):
    def run(name="run", dropout=0.0, dataset=None, resume=None, callbacks=(), eval_dataset=None, model=None, **options):
        set_seed(0)
        if model is None:
            model = make_model(awake=False, lora_dropout=dropout, stage="align")
        dataset = instruction_dataset(rows()) if dataset is None else dataset
        trainer = InjectTrainer(
            model=model,
            args=arguments(tmp_path / name, **options),
            train_dataset=dataset,
            eval_dataset=eval_dataset,
            callbacks=list(callbacks),
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


# ------------------------------------------------------------------ losses


def test_the_usage_contrast_rewards_slots_that_help():
    with_slots = torch.tensor([1.0, 2.0, 3.0])
    without = torch.tensor([2.0, 2.25, 1.0])
    assert usage_contrast(with_slots, without).tolist() == [0.0, 0.0, 2.0]
    assert usage_contrast(with_slots, without, 0.5).tolist() == [0.0, 0.25, 2.5]
    with_slots.requires_grad_(True)
    usage_contrast(with_slots, without).sum().backward()
    assert with_slots.grad.tolist() == [0.0, 0.0, 1.0], "descending lowers the loss with slots, where they do not help"


def test_the_cosine_loss_falls_towards_the_teacher():
    teacher = torch.tensor([[1.0, 0.0]])
    values = [slot_cosine(torch.tensor([s]), teacher).item() for s in ([5.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0])]
    assert values == pytest.approx([0.0, 2 - 2**0.5, 2.0, 4.0], abs=1e-6)


def test_info_nce_masks_references_that_are_the_rows_own():
    own = torch.eye(3)
    ids = torch.arange(3)
    alone = slot_info_nce(own, own, own, ids, ids, 0.1)
    doubled = slot_info_nce(own, own, torch.cat([own, own]), ids, torch.cat([ids, ids]), 0.1)
    assert (doubled > alone).all()  # the others' copies are further negatives, one's own are none
    wanted = torch.log(1 + 4 * torch.exp(torch.tensor(-10.0)))
    assert torch.allclose(doubled, wanted.expand(3), atol=1e-6)
    wrong = slot_info_nce(own.roll(1, 0), own, own, ids, ids, 0.1)
    assert (wrong > alone + 5).all()
    assert torch.equal(slot_info_nce(own[:1], own[:1], own[:0], ids[:1], ids[:0], 0.1), torch.zeros(1))


def test_answer_losses_sum_over_answer_tokens():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 7), torch.tensor([[-100, -100, 3, 4, -100], [-100, 1, 2, 3, 4]])
    losses, tokens = answer_losses(logits, labels)
    assert tokens.tolist() == [2, 4]
    for row in range(2):
        whole = torch.nn.functional.cross_entropy(logits[row, :-1], labels[row, 1:], reduction="sum")
        assert torch.allclose(losses[row], whole)


def test_the_logits_of_the_answers_are_enough():
    torch.manual_seed(0)
    logits, nothing = torch.randn(2, 6, 7), torch.full((2, 6), -100)
    for row, column in itertools.product(range(2), range(6)):
        labels = nothing.clone()
        labels[row, column:5] = 3
        reach = answer_reach(labels)
        assert len(reach) == (min(6 - column + 1, 6) if column < 5 else 1), "vacuous if it is all of them"
        for whole, part in zip(answer_losses(logits, labels), answer_losses(logits[:, reach], labels), strict=True):
            assert torch.equal(whole, part)
    assert answer_reach(nothing).tolist() == [5]


# ------------------------------------------------------------------ what trains


@pytest.mark.parametrize("variant", ["zeroed", "shuffled"])
def test_only_lora_and_slots_change(make_model, train, variant):
    model = make_model(awake=False, lora_dropout=0.1, teacher_conditioning="center", stage="align")
    fit_teacher_space(model.teacher_space, torch.randn(50, model.config.hidden_size))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train(model=model, usage_variant=variant)
    after = model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert all("lora_" in key or key.startswith("slot_embedder.") for key in changed)
    # Guard: everything that should move does, the scale too.
    assert "slot_embedder.scale" in changed
    assert all(k in changed for k in before if "lora_B" in k)
    assert any(k.startswith("slot_embedder.adapter") for k in changed)
    assert any(k.startswith("slot_embedder.expander") for k in changed)
    assert not model.training
    assert model.config.stage == "inject"


def test_parameter_groups_follow_the_modules(make_model, tmp_path):
    model = make_model(awake=False)
    args = arguments(tmp_path, learning_rate=1e-1, slot_learning_rate=1e-2, scale_learning_rate=1e-3, weight_decay=0.1)
    trainer = InjectTrainer(model=model, args=args, train_dataset=instruction_dataset(rows()))
    groups = {group["name"]: group for group in trainer.create_optimizer().param_groups}
    names = {id(p): n for n, p in model.named_parameters()}
    in_groups = {name: [names[id(p)] for p in group["params"]] for name, group in groups.items()}
    assert all("lora_" in name for name in in_groups["lora"])
    assert in_groups["scale"] == ["slot_embedder.scale"]
    assert "slot_embedder.adapter.gate" in in_groups["slot_vectors"]
    assert {name: group["lr"] for name, group in groups.items()} == {
        "lora": 1e-1,
        "slots": 1e-2,
        "slot_vectors": 1e-2,
        "scale": 1e-3,
    }
    assert groups["slot_vectors"]["weight_decay"] == groups["scale"]["weight_decay"] == 0
    grouped = [name for group in in_groups.values() for name in group]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any(n.startswith("projector") for n in grouped)


def test_a_self_contained_model_trains_the_same(make_model, train, tmp_path):
    model = make_model(awake=False, lora_dropout=0.0, stage="align")
    model.save_pretrained(tmp_path / "full", self_contained=True)
    wanted = train("a", model=model)
    again = LlinkForCausalLM.from_pretrained(tmp_path / "full")
    found = train("b", model=again)
    assert losses_of(found) == pytest.approx(losses_of(wanted), rel=1e-5)
    trained = {n for n, p in again.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in model.named_parameters() if p.requires_grad}, "a base is being trained"


def test_training_lowers_the_loss_and_slots_are_used(make_model, train):
    trainer = train(max_steps=60, usage_weight=0.05, learning_rate=2e-2, eval_dataset=instruction_dataset(rows()))
    losses = losses_of(trainer)
    assert losses[-1] < 0.7 * losses[0]
    metrics = trainer.evaluate()
    assert metrics["eval_zeroed_gap"] > 0
    assert metrics["eval_shuffled_gap"] > 0


# ------------------------------------------------------------------ equivalences


@pytest.mark.parametrize(("variant", "reduction"), [("zeroed", "row"), ("shuffled", "row"), ("zeroed", "step")])
@pytest.mark.slow
def test_accumulation_equals_the_big_batch(train, variant, reduction):
    usage = dict(usage_variant=variant, usage_reduction=reduction)
    big = train("big", **usage)
    small = train("small", **usage, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert losses_of(small) == pytest.approx(losses_of(big), rel=2e-4)
    for (name, one), (_, two) in zip(big.model.named_parameters(), small.model.named_parameters(), strict=True):
        assert torch.allclose(one, two, atol=2e-3), name
    terms = [entry for entry in big.state.log_history if "loss" in entry]
    assert all(key in terms[0] for key in ("sft", "usage", "cosine", "nce")), "vacuous unless every term is there"
    assert "usage" not in terms[1], "the contrast is taken every second step here"


def test_the_logged_loss_is_the_sum_of_its_terms(train):
    trainer = train()
    for entry in trainer.state.log_history:
        if "loss" in entry:
            total = entry["sft"] + 0.3 * (entry.get("usage", 0) + entry["cosine"] + entry["nce"])
            assert entry["loss"] == pytest.approx(total, rel=1e-3)


def test_an_uneven_last_batch_is_weighed_by_its_size(train):
    big = train("big", max_steps=-1, num_train_epochs=1, per_device_train_batch_size=10)
    small = train(
        "small", max_steps=-1, num_train_epochs=1, per_device_train_batch_size=5, gradient_accumulation_steps=2
    )
    assert len(losses_of(big)) == 3
    assert losses_of(small) == pytest.approx(losses_of(big), rel=2e-4)


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
@pytest.mark.slow(but=["light"])
def test_resuming_in_the_middle_of_an_epoch_equals_an_unbroken_run(make_model, train, tmp_path, self_contained):
    def fresh():
        model = make_model(awake=False, lora_dropout=0.2, stage="align")
        model.config.self_contained = self_contained
        return model

    options = dict(
        per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=6, save_strategy="steps", save_steps=4
    )
    unbroken = train("run", model=fresh(), **options)
    checkpoint = tmp_path / "run" / "checkpoint-4"
    assert checkpoint.is_dir()
    resumed = train("resumed", model=fresh(), resume=str(checkpoint), **options)
    assert losses_of(resumed)[-2:] == losses_of(unbroken)[-2:]
    one, two = unbroken.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    again = LlinkForCausalLM.from_pretrained(checkpoint)
    assert again.config.stage == "inject"
    assert again.config.self_contained == self_contained


def test_gradient_checkpointing_changes_nothing(train):
    plain, checkpointed = train("plain", max_steps=2), train("saving", max_steps=2, gradient_checkpointing=True)
    assert losses_of(checkpointed) == pytest.approx(losses_of(plain), rel=1e-5)


def test_features_are_computed_once(make_model, train, tmp_path):
    model = make_model(awake=False, lora_dropout=0.0, stage="align")
    shared = dict(feature_cache_dir=str(tmp_path / "cache"))
    first = train("first", model=model, **shared)
    again = make_model(awake=False, lora_dropout=0.0, stage="align")
    with tiny.count_calls(again.encoder) as calls:
        second = train("second", model=again, **shared)
    assert calls == []
    assert losses_of(first) == losses_of(second)


class FirstGradients(TrainerCallback):
    """Keeps the norm of each parameter's gradient in the first step."""

    def __init__(self):
        self.norms = {}

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        if not self.norms:
            named = {name.removeprefix("module."): p for name, p in model.named_parameters()}
            self.norms = {name: p.grad.norm().item() for name, p in named.items() if p.grad is not None}


#: The contrast of each row, and the paper's hinge: one for the whole step. With this margin it is open in the first two
#: steps, which the second process alone would have closed.
CONTRASTS = {"row": {}, "step": dict(usage_reduction="step", usage_margin=0.4, usage_every=1)}


@pytest.fixture(scope="module", params=CONTRASTS)
def two_processes(request, base_folder, tmp_path_factory):
    """What a run in two processes gave, and the contrast in which it did."""
    folder = tmp_path_factory.mktemp("two")
    folders = [base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")]
    run_in_processes(__file__, *folders, folder, request.param)
    result = json.loads((folder / "result.json").read_text("utf-8"))
    assert result["world_size"] == 2, "vacuous unless two processes ran"
    return {**result, "contrast": CONTRASTS[request.param]}


@pytest.mark.slow
def test_two_processes_equal_one(train, two_processes):
    gradients = FirstGradients()
    single = train("one", callbacks=[gradients], **two_processes["contrast"])
    assert two_processes["losses"] == pytest.approx(losses_of(single), rel=1e-3)
    if two_processes["contrast"]:
        hinge = [entry["usage"] > 0 for entry in single.state.log_history if "usage" in entry]
        assert hinge == [True, True, False, False], "vacuous unless it opens and closes"
    assert two_processes["gradients"] == pytest.approx(gradients.norms, rel=2e-3, abs=1e-5)
    for name, value in two_processes["norms"].items():
        assert single.model.get_parameter(name).norm().item() == pytest.approx(value, rel=2e-3, abs=1e-4), name
    metrics = single.evaluate(instruction_dataset(rows(9)))
    for name in ("eval_loss", "eval_zeroed_gap", "eval_shuffled_gap", "eval_slots_help"):
        assert two_processes["eval"][name] == pytest.approx(metrics[name], abs=5e-3), name


@pytest.mark.slow
def test_two_processes_log_the_terms_of_one(train, two_processes):
    single = train("one", **two_processes["contrast"]).state.log_history[0]
    for term in ("sft", "usage", "cosine", "nce"):
        assert two_processes["log"][0][term] == pytest.approx(single[term], rel=1e-3), term


# ------------------------------------------------------------------ evaluation


def test_metrics_are_those_of_the_variants(make_model, tmp_path):
    model = make_model()
    data = instruction_dataset(rows(10))
    args = arguments(tmp_path, per_device_eval_batch_size=3)
    trainer = InjectTrainer(model=model, args=args, eval_dataset=data)
    metrics = trainer.evaluate()
    assert set(metrics) >= {
        "eval_loss",
        "eval_zeroed_gap",
        "eval_shuffled_gap",
        "eval_slots_help",
        "eval_own_slots_help",
    }
    bank = trainer.tensors_of(data)
    found, tokens = usage_losses(model, bank.collate(list(range(10))))
    means = found.sum(dim=0) / tokens.sum()
    assert metrics["eval_loss"] == pytest.approx(means[0].item(), rel=1e-4)
    assert metrics["eval_zeroed_gap"] == pytest.approx((means[1] - means[0]).item(), abs=1e-3)
    assert metrics["eval_shuffled_gap"] == pytest.approx((means[2] - means[0]).item(), abs=1e-3)
    # The loss on cached features is the loss of transformers' own path from ids.
    example = data[1]
    message = user_message(example["prompt"], example["foreign"])
    made = training_example(model.processor, [message], example["completion"])
    foreign = tiny.passage_inputs(model.processor, [example["foreign"]])
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([made["input_ids"]]), labels=torch.tensor([made["labels"]]), **foreign).loss
    assert (found[1, 0] / tokens[1]).item() == pytest.approx(loss.item(), rel=1e-4)


def test_the_best_model_is_loaded_and_training_stops_early(train):
    trainer = train(
        max_steps=12,
        learning_rate=5.0,  # soon destroys the model
        slot_learning_rate=1.0,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=1,
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="zeroed_gap",
        greater_is_better=True,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
        eval_dataset=instruction_dataset(rows(8)),
    )
    gaps = [entry["eval_zeroed_gap"] for entry in trainer.state.log_history if "eval_zeroed_gap" in entry]
    assert trainer.state.best_metric == pytest.approx(max(gaps))
    assert trainer.state.global_step < 12, "vacuous unless it stopped"
    assert trainer.evaluate()["eval_zeroed_gap"] == pytest.approx(max(gaps), abs=1e-5)


def test_several_evaluation_sets(train):
    sets = {"one": instruction_dataset(rows(5)), "two": instruction_dataset(rows(9)[4:])}
    trainer = train(max_steps=1, eval_strategy="steps", eval_steps=1, eval_dataset=sets)
    logged = {key for entry in trainer.state.log_history for key in entry}
    assert {"eval_one_loss", "eval_two_shuffled_gap"} <= logged


# ------------------------------------------------------------------ errors


def test_a_loss_that_is_not_finite_names_step_and_rows(make_model, tmp_path):
    model = make_model(awake=False)
    data = instruction_dataset(rows(8))
    args = arguments(tmp_path, max_steps=3, per_device_train_batch_size=4)
    trainer = InjectTrainer(model=model, args=args, train_dataset=data)
    bank = trainer.tensors_of(trainer.train_dataset)
    (passage,) = bank.passages[5]
    bank.bank.features[passage].fill_(float("nan"))
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    assert caught.value.example_ids == ["r5"]
    assert caught.value.step in (0, 1)
    assert "r5" in str(caught.value)
    assert str(caught.value.step) in str(caught.value)
    assert not any(torch.isnan(p).any() for p in model.parameters())


def test_rows_as_the_contract_allows_them(train):
    """`foreign` may be one string; `id`, `task` and `english` are optional."""
    listed = [{k: v for k, v in row.items() if k != "id"} for row in rows() if len(row["foreign"]) == 1]
    plain = Dataset.from_list([{**row, "foreign": row["foreign"][0]} for row in listed])
    wanted = train("listed", dataset=instruction_dataset(listed), max_steps=2)
    assert losses_of(train("plain", dataset=plain, max_steps=2)) == losses_of(wanted)
    bare = Dataset.from_list([{k: row[k] for k in ("foreign", "prompt", "completion")} for row in plain])
    train("bare", dataset=bare, max_steps=1, cosine_weight=0, nce_weight=0)


def test_missing_references_are_named_where_a_loss_was_asked_for(make_model, tmp_path, caplog):
    without = [
        {**{k: v for k, v in row.items() if k != "english"}, "prompt": row["prompt"].replace("Translate to", "Say in")}
        for row in rows()
    ]
    for data in (instruction_dataset(without), Dataset.from_list(without), without):
        with pytest.raises(DataError, match="english"):
            InjectTrainer(model=make_model(), args=arguments(tmp_path), train_dataset=data)
        InjectTrainer(model=make_model(), args=arguments(tmp_path, cosine_weight=0, nce_weight=0), train_dataset=data)
    assert "are off" not in caplog.text
    unset = arguments(tmp_path, cosine_weight=None, nce_weight=None, usage_weight=None)
    trainer = InjectTrainer(model=make_model(), args=unset, train_dataset=without)
    assert (trainer.args.cosine_weight, trainer.args.nce_weight) == (0, 0)
    assert trainer.args.usage_weight, "vacuous unless the slots are of the kind that has such losses"
    assert caplog.text.count("cosine_weight and nce_weight are off") == 1
    translations = [{**row, "prompt": "Translate."} for row in without if len(row["foreign"]) == 1]
    trainer = InjectTrainer(model=make_model(), args=unset, train_dataset=translations)
    assert trainer.args.cosine_weight
    assert trainer.train_dataset["english"][:] == [row["completion"] for row in translations]


def test_a_stream_is_read_as_far_as_the_run_goes(train, make_model, tmp_path):
    read = []

    def stream():
        for row in itertools.cycle(rows()):
            read.append(row)
            yield row

    endless = IterableDataset.from_generator(stream)
    streamed = train("streamed", dataset=endless, max_steps=2)
    wanted = train("listed", dataset=rows()[: len(streamed.train_dataset)], max_steps=2)
    batch = streamed.args.train_batch_size * streamed.args.gradient_accumulation_steps
    assert len(streamed.train_dataset) == 2 * batch
    assert len(read) <= 2 * batch + 1
    assert losses_of(streamed) == losses_of(wanted)
    for options in ({"train_dataset": endless}, {"eval_dataset": endless}):
        with pytest.raises(LlinkConfigError, match="is a stream"):
            InjectTrainer(model=make_model(), args=arguments(tmp_path, max_steps=-1, num_train_epochs=1), **options)


def test_a_passage_is_read_once_for_prompts_and_bank(make_model, tmp_path, monkeypatch):
    model, read = make_model(slot_expander="tokens", literals=["number"], stage="align"), []
    real = passages.find_literals
    monkeypatch.setattr(passages, "find_literals", lambda text, *more: read.append(text) or real(text, *more))
    trainer = InjectTrainer(model=model, args=arguments(tmp_path), train_dataset=rows(), eval_dataset=rows(6))
    trainer.get_train_dataloader(), trainer.get_eval_dataloader()
    assert sorted(read) == sorted({text for row in rows() for text in row["foreign"]})


@pytest.mark.parametrize(
    "change",
    [
        {"foreign": ["a", "b"]},
        {"foreign": [""]},
        {"foreign": ["a\0"]},
        {"completion": " "},
        {"prompt": "long " * 200 + "<foreign_emb>"},
    ],
    ids=str,
)
@pytest.mark.parametrize("which", ["train_dataset", "eval_dataset"])
def test_wrong_rows_show_before_a_base_runs(make_model, tmp_path, change, which):
    model = make_model()
    data = Dataset.from_list([*rows(3)[1:], {**rows(2)[1], "id": "wrong", **change}])
    with (
        tiny.count_calls(model.encoder) as calls,
        pytest.raises((DataError, PromptError), match=r"Row 2|wrong"),
    ):
        InjectTrainer(model=model, args=arguments(tmp_path, max_length=150), **{which: data})
    assert calls == []


def test_one_passage_alone_cannot_be_shuffled(make_model, tmp_path):
    data = instruction_dataset([{**rows(2)[1], "id": str(i)} for i in range(4)])
    with pytest.raises(DataError, match="same passage"):
        InjectTrainer(model=make_model(), args=arguments(tmp_path), train_dataset=data).train()


def test_an_unfitted_teacher_space_shows_before_training(make_model, tmp_path):
    from llink.modeling_llink.errors import NotFittedError

    model = make_model(teacher_conditioning="whiten")
    with tiny.count_calls(model.encoder) as calls, pytest.raises(NotFittedError, match="fit"):
        InjectTrainer(model=model, args=arguments(tmp_path), train_dataset=instruction_dataset(rows())).train()
    assert calls == [], "it should show before long work"


def test_other_arguments_are_refused(make_model, tmp_path):
    with pytest.raises(LlinkConfigError, match="InjectConfig"):
        InjectTrainer(model=make_model(), args=TrainingArguments(output_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("usage_variant", "other"),
        ("usage_weight", -1.0),
        ("usage_margin", -0.1),
        ("usage_every", 0),
        ("max_length", 0),
        ("nce_temperature", 0.0),
        ("feature_batch_size", 0),
        ("scale_learning_rate", 0.0),
        ("slot_learning_rate", -1.0),
        ("remove_unused_columns", True),
        ("label_smoothing_factor", 0.1),
        ("usage_weight", float("nan")),
    ],
)
def test_impossible_arguments_are_named(tmp_path, field, value):
    with pytest.raises(LlinkConfigError, match=field):
        InjectConfig(output_dir=str(tmp_path), **{field: value})


def test_every_argument_of_ours_has_help_and_defaults_are_the_papers():
    import dataclasses

    theirs = {field.name for field in dataclasses.fields(TrainingArguments)}
    ours = [field for field in dataclasses.fields(InjectConfig) if field.name not in theirs]
    assert all(field.metadata.get("help") for field in ours)
    config = InjectConfig(output_dir="x", **preset("paper").inject)
    assert (config.usage_weight, config.usage_every, config.usage_margin) == (0.05, 3, 0.0)
    assert (config.cosine_weight, config.nce_weight, config.nce_temperature) == (0.05, 0.01, 0.07)
    assert (config.learning_rate, config.slot_learning_rate, config.scale_learning_rate) == (1e-4, 3e-5, 5e-4)
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (16, 8)


def main(encoder: str, decoder: str, folder: str, contrast: str) -> None:
    """One of several processes; the first writes what the test compares."""
    torch.set_num_threads(1)
    set_seed(0)
    torch.manual_seed(0)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        encoder, decoder, teacher_conditioning="none", num_slots=4, lora_dropout=0.0, stage="align"
    )
    set_seed(0)
    sizes = dict(per_device_train_batch_size=2, gradient_accumulation_steps=2, per_device_eval_batch_size=2)
    gradients = FirstGradients()
    trainer = InjectTrainer(
        model=model,
        args=arguments(folder, **sizes, **CONTRASTS[contrast]),
        callbacks=[gradients],
        train_dataset=instruction_dataset(rows()),
        eval_dataset=instruction_dataset(rows(9)),
    )
    trainer.train()
    metrics = trainer.evaluate()
    if trainer.is_world_process_zero():
        norms = {n: p.norm().item() for n, p in model.named_parameters() if p.requires_grad}
        log = trainer.state.log_history
        result = dict(losses=losses_of(trainer), log=log, norms=norms, eval=metrics, world_size=trainer.args.world_size)
        result["gradients"] = gradients.norms
        (Path(folder) / "result.json").write_text(json.dumps(result), "utf-8")
    shutil.rmtree(Path(folder) / "_feature_cache", ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
