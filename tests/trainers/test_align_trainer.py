"""Stage A end to end on cached vectors: what trains, what is evaluated, saved and refused."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from align_fakes import DEV, TRAIN, WIDTH, FakeModel, config, losses, note_fits, pairs, trainer
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, HfArgumentParser, TrainerCallback, TrainingArguments
from transformers.integrations import integration_utils

from llink.building import fit_teacher_space
from llink.configuration_llink import LlinkConfigError
from llink.trainers.align_config import AlignConfig
from llink.trainers.align_trainer import QUEUE_FILE, AlignTrainer
from llink.trainers.errors import TrainingError
from llink.trainers.presets import preset


def test_only_the_projector_trains_and_the_bases_run_once(tmp_path, monkeypatch):
    fits = note_fits(monkeypatch)
    model = FakeModel()
    trained = trainer(tmp_path, model, num_train_epochs=30, learning_rate=5e-3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    untrained = trained.evaluate()
    trained.train()
    after = trained.evaluate()
    changed = {
        name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"projector", "teacher_space"}
    assert sorted(model.encoded) == sorted(f"f{k}" for k in [*TRAIN, *DEV])
    assert sorted(model.taught) == sorted(f"e{k}" for k in [*TRAIN, *DEV])
    assert fits == [len(TRAIN)]  # the training states only, once
    assert after["eval_r@1"] > untrained["eval_r@1"]
    assert after["eval_loss"] < untrained["eval_loss"]
    assert len(trained.queue) == 16
    assert not model.projector.training
    assert model.config.stage == "align"
    fresh = FakeModel(1)
    trainer(tmp_path, fresh).train()
    assert not fresh.encoded  # another run with the same folder reads the cache


def test_metrics_have_the_names_that_the_trainer_looks_for(tmp_path):
    metrics = trainer(tmp_path).evaluate()
    names = ("loss", "r@1", "r@5", "r@10", "mrr", "mean_rank", "median_rank", "n")
    assert {f"eval_{name}" for name in names} <= set(metrics)
    assert metrics["eval_n"] == len(DEV)


def test_eval_loss_can_be_compared_between_steps(tmp_path):
    run = trainer(tmp_path)
    run.state.max_steps = 10
    before, temperature = run.evaluate()["eval_loss"], run.temperature
    run.state.global_step = 9
    assert run.temperature != temperature
    assert run.evaluate()["eval_loss"] == before


def test_named_evaluation_sets_and_predict(tmp_path):
    many = AlignTrainer(FakeModel(), config(tmp_path), pairs(TRAIN), {"a": pairs(DEV), "b": pairs(range(200, 215))})
    metrics = many.evaluate()
    assert (metrics["eval_a_n"], metrics["eval_b_n"]) == (20, 15)
    output = many.predict(pairs(range(300, 312)))
    assert output.predictions.shape == output.label_ids.shape == (12, WIDTH)
    assert output.metrics["test_n"] == 12


def test_evaluation_without_training_pairs_uses_the_models_space(tmp_path, monkeypatch):
    model = FakeModel()
    fit_teacher_space(model.teacher_space, torch.ones(3, WIDTH))
    fits = note_fits(monkeypatch)
    trainer(tmp_path, model, train=None).evaluate()
    assert fits == []


def test_a_fitted_space_is_kept_unless_refit(tmp_path, monkeypatch):
    fits = note_fits(monkeypatch)
    for refit, expected in ((False, []), (True, [len(TRAIN)])):
        model = FakeModel()
        fit_teacher_space(model.teacher_space, torch.ones(3, WIDTH))
        trainer(tmp_path, model, refit_teacher_space=refit, max_steps=1).train()
        assert fits == expected


def test_arguments_are_not_changed(tmp_path):
    args = config(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    before = args.to_dict()
    AlignTrainer(FakeModel(), args, pairs(TRAIN)).train()
    assert args.to_dict() == before


def test_without_queue_none_is_kept_or_saved(tmp_path):
    run = trainer(tmp_path, queue_size=0, save_strategy="steps", save_steps=2, max_steps=2)
    run.train()
    assert run.queue is None
    assert (tmp_path / "checkpoint-2" / "model.safetensors").exists()
    assert not (tmp_path / "checkpoint-2" / QUEUE_FILE).exists()


def test_best_model_early_stopping_and_reporting(tmp_path, monkeypatch):
    logged = []

    class Recorder(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            logged.append(dict(logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "recorder", Recorder)
    run = trainer(
        tmp_path,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="mrr",
        num_train_epochs=400,
        learning_rate=5e-3,
        report_to="recorder",
    )
    run.train()
    assert run.state.global_step < 2000  # stopped early
    evaluations = {e["step"]: e["eval_mrr"] for e in run.state.log_history if "eval_mrr" in e}
    assert run.state.best_metric == max(evaluations.values())
    best = load_file(Path(run.state.best_model_checkpoint) / "model.safetensors")
    for name, tensor in run.llink_model.bridge().items():
        assert torch.equal(tensor, best[name])
    assert run.evaluate()["eval_mrr"] == pytest.approx(run.state.best_metric)
    assert any("eval_r@1" in logs for logs in logged)
    assert any({"loss", "nce", "direction", "log_norm", "temperature"} <= set(logs) for logs in logged)


def test_the_queue_holds_the_targets_with_their_groups(tmp_path):
    run = trainer(tmp_path, train=range(12), per_device_train_batch_size=4, num_train_epochs=3)
    run.train()
    targets = torch.nn.functional.normalize(run.tensors_of(run.train_dataset).targets, dim=1).half()
    assert len(run.queue) == 16  # more than there are pairs: it must hold repeats, and does
    assert len(run.queue.ids.unique()) == 12
    assert torch.equal(run.queue.vectors, targets[run.queue.ids])


def test_a_run_that_could_not_be_saved_does_not_start(tmp_path):
    model = FakeModel()
    model.config.encoder_name_or_path = None
    with pytest.raises(ValueError, match="could not find them again"):
        trainer(tmp_path, model, save_strategy="steps").train()
    assert not model.encoded
    trainer(tmp_path, model, save_strategy="no", max_steps=1).train()


def test_the_command_line_takes_every_argument():
    parser = HfArgumentParser(AlignConfig)
    flags = ["--output_dir", "out", "--hard_negative_mining", "query", "--queue_size", "0", "--use_cpu"]
    (args,) = parser.parse_args_into_dataclasses([*flags, "--lr_scheduler_kwargs", '{"min_lr": 0.0001}'])
    assert (args.hard_negative_mining, args.queue_size, args.lr_scheduler_kwargs) == ("query", 0, {"min_lr": 1e-4})
    (defaults,) = parser.parse_args_into_dataclasses(["--output_dir", "out", "--use_cpu"])
    assert defaults.lr_scheduler_kwargs == {"min_lr_rate": 0.01}
    assert "released code" in parser.format_help()


def test_temperature_is_annealed_over_the_run(tmp_path):
    run = trainer(tmp_path, max_steps=5)
    run.train()
    seen = [entry["temperature"] for entry in run.state.log_history if "temperature" in entry]
    assert seen == pytest.approx([0.2, 0.175, 0.15, 0.125, 0.1])


def test_save_model_saves_the_whole_model_and_its_processor(tmp_path):
    saved = []
    processor = SimpleNamespace(save_pretrained=lambda folder: saved.append(str(folder)))
    run = AlignTrainer(FakeModel(), config(tmp_path), pairs(TRAIN), processing_class=processor)
    run.save_model(str(tmp_path / "out"))
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(FakeModel().bridge())
    assert saved == [str(tmp_path / "out")]
    assert not (tmp_path / "out" / "training_args.bin").exists(), "a pickle"


def test_a_loss_that_is_not_finite_names_step_and_examples(tmp_path):
    class Broken(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 3:  # one row's target, as if the teacher had overflowed
                run.tensors_of(run.train_dataset).targets[7] = float("nan")

    run = trainer(tmp_path, callbacks=[Broken()], num_train_epochs=3)
    with pytest.raises(TrainingError, match=r"examples \['pair-7'\]") as caught:
        run.train()
    assert caught.value.step >= 3
    assert caught.value.example_ids == ["pair-7"]
    assert not torch.isnan(run.model[0].weight).any()

    class Exploded(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            model[0].weight.data.fill_(float("inf"))

    with pytest.raises(TrainingError, match="global step 0") as caught:
        trainer(tmp_path, callbacks=[Exploded()]).train()
    assert len(caught.value.example_ids) == 8


@pytest.mark.parametrize(
    ("train", "dev", "changes", "message"),
    [
        (pairs([1]), None, {}, "train_dataset holds 1 pairs; at least 2"),
        (pairs(range(5)), None, {}, "fewer than one batch of 8"),
        (pairs(TRAIN), pairs(range(9)), {}, "eval_dataset holds 9 pairs; at least 10"),
        (pairs(TRAIN), {"dev": pairs(range(3))}, {}, "dev holds 3 pairs"),
        (pairs(TRAIN).rename_column("foreign", "other"), None, {}, r"lacks the columns \['foreign'\].*'other'"),
        (pairs([1] * 10), None, {}, "none is a negative"),
    ],
)
def test_bad_data_is_an_error_before_any_base_runs(tmp_path, train, dev, changes, message):
    model = FakeModel()
    with pytest.raises(ValueError, match=message):
        AlignTrainer(model, config(tmp_path, **changes), train, dev)
    assert not model.encoded


def test_small_data_trains_without_drop_last(tmp_path):
    run = trainer(tmp_path, train=range(5), dev=None, dataloader_drop_last=False, num_train_epochs=2)
    run.train()
    assert len(losses(run)) == 2
    with pytest.raises(ValueError, match="needs an eval_dataset"):
        run.evaluate()
    with pytest.raises(ValueError, match="needs a train_dataset"):
        trainer(tmp_path, train=None).train()


def test_what_is_held_out_is_not_trained_on(tmp_path, caplog):
    run = trainer(tmp_path, dev=range(30, 50))
    assert [row["id"] for row in run.train_dataset] == [f"pair-{k}" for k in range(30)]
    assert len(run.eval_dataset) == 20
    assert caplog.text.count("Dropped 10 of 40 training pairs") == 1
    named = {"a": pairs(range(30, 45)), "b": pairs(range(35, 50))}
    caplog.clear()
    assert len(AlignTrainer(FakeModel(), config(tmp_path), pairs(TRAIN), named).train_dataset) == 30
    assert caplog.text.count("Dropped") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature_end": 0.0}, "temperature_end=0.0"),
        ({"hard_negative_mining": "hardest"}, "step, query, none"),
        ({"direction_reduction": "sum"}, "squared_norm, mse"),
        ({"queue_size": -1}, "queue_size=-1"),
        ({"norm_weight": float("nan")}, "norm_weight=nan"),
        ({"train_sampling_strategy": "group_by_length"}, "random, sequential"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha"),
        ({"activation_checkpointing": True}, "activation_checkpointing"),
        ({"accelerator_config": {"even_batches": False}}, "even_batches"),
    ],
)
def test_bad_arguments(tmp_path, changes, message):
    with pytest.raises(LlinkConfigError, match=message):
        config(tmp_path, **changes)


def test_arguments_of_another_class(tmp_path):
    with pytest.raises(LlinkConfigError, match="AlignConfig"):
        AlignTrainer(FakeModel(), TrainingArguments(str(tmp_path)), pairs(TRAIN))


def test_documented_defaults(tmp_path):
    paper = AlignConfig(str(tmp_path), use_cpu=True, **preset("paper").align)
    assert (paper.queue_size, paper.hard_negatives, paper.direction_weight, paper.norm_weight) == (
        32_768,
        256,
        0.05,
        0.02,
    )
    assert paper.learning_rate * paper.lr_scheduler_kwargs["min_lr_rate"] == pytest.approx(1e-5)
    assert AlignConfig(str(tmp_path), use_cpu=True, lr_scheduler_type="linear").lr_scheduler_kwargs is None
    library = {field.name: field for field in dataclasses.fields(TrainingArguments)}
    for field in dataclasses.fields(AlignConfig):
        assert field.metadata.get("help"), field.name
        differs = field.name in library and field.default != library[field.name].default
        assert not differs or f"`{field.name}`" in AlignConfig.__doc__, f"{field.name} differs and is not documented"


def test_the_schedule_ends_at_a_hundredth(tmp_path):
    run = trainer(tmp_path, learning_rate=1e-3)
    run.train()
    rates = [entry["learning_rate"] for entry in run.state.log_history if "learning_rate" in entry]
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] < 1e-4
    assert run.lr_scheduler.get_last_lr()[0] == pytest.approx(1e-5)
