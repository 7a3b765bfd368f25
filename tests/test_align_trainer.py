"""Stage A end to end on cached vectors: equivalences, resuming, evaluation, errors.

Run as a script (by `test_two_processes_equal_one`) this file trains in each of several processes.
"""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from llink.data.pairs import PairDataError
from llink.trainers.align_config import AlignConfig, AlignConfigError
from llink.trainers.align_trainer import QUEUE_FILE, AlignTrainer
from llink.trainers.losses import NonFiniteLossError
from llink.trainers.queue import QueueStateError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments
from transformers.integrations import integration_utils

WIDTH, ENCODER_WIDTH = 16, 12


@pytest.fixture(autouse=True)
def one_thread():
    """Threads cost these tiny products far more than they bring, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Space(nn.Module):
    """Centres teacher states; counts its fits."""

    def __init__(self):
        super().__init__()
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.fits = []

    def fit(self, states):
        self.fits.append(len(states))
        self.mean.copy_(states.mean(dim=0))
        self.fitted.fill_(True)

    def forward(self, states):
        return states - self.mean


class FakeModel(nn.Module):
    """Has the surface of LlinkForCausalLM that Stage A uses; sentence k is `f"e{k}"` and `f"f{k}"`."""

    def __init__(self, seed: int = 0, dropout: float = 0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.config = SimpleNamespace(
            hidden_size=WIDTH,
            pooling="mean",
            encoder_layer=-1,
            max_foreign_chars=256,
            max_foreign_tokens=64,
            teacher_template="{text}",
            teacher_state="mean",
            teacher_layer=-1,
            teacher_max_tokens=128,
        )
        self.projector = nn.Sequential(
            nn.Linear(ENCODER_WIDTH, 24), nn.GELU(), nn.Dropout(dropout), nn.Linear(24, WIDTH), nn.LayerNorm(WIDTH)
        )
        self.teacher_space = Space()
        self.base = nn.Linear(2, 2)  # stands for the frozen bases
        self.encoded, self.taught = [], []

    def fingerprint(self, base):
        return base

    def _vectors(self, texts, width, salt):
        latent = torch.stack([torch.tensor([math.sin(int(t[1:]) * k + 1) for k in range(1, 9)]) for t in texts])
        mixing = torch.randn(8, width, generator=torch.Generator().manual_seed(salt))
        return latent @ mixing

    def get_pooled_features(self, texts, batch_size=32, show_progress=False):
        self.encoded.extend(texts)
        return self._vectors(texts, ENCODER_WIDTH, 1)

    def get_teacher_states(self, english, batch_size=32, show_progress=False):
        self.taught.extend(english)
        return self._vectors(english, WIDTH, 2) + 5.0

    def bridge(self):
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("base")}

    def save_pretrained(self, folder):
        save_file(
            {name: tensor.contiguous() for name, tensor in self.bridge().items()}, Path(folder) / "model.safetensors"
        )

    def load_bridge(self, folder):
        self.load_state_dict({**self.state_dict(), **load_file(Path(folder) / "model.safetensors")})


def pairs(numbers) -> Dataset:
    numbers = list(numbers)
    return Dataset.from_dict(
        {
            "id": [f"pair-{k}" for k in numbers],
            "english": [f"e{k}" for k in numbers],
            "foreign": [f"f{k}" for k in numbers],
            "language": ["km"] * len(numbers),
        }
    )


TRAIN, DEV = range(40), range(100, 120)


def config(folder, **changes) -> AlignConfig:
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 2,
        "queue_size": 16,
        "hard_negatives": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "temperature_start": 0.2,
        "temperature_end": 0.1,
    }
    return AlignConfig(**{**defaults, **changes})


def trainer(folder, model=None, train=TRAIN, dev=DEV, callbacks=None, **changes) -> AlignTrainer:
    return AlignTrainer(
        model=model if model is not None else FakeModel(),
        args=config(folder, **changes),
        train_dataset=pairs(train) if train is not None else None,
        eval_dataset=pairs(dev) if dev is not None else None,
        callbacks=callbacks,
    )


def losses(trained: AlignTrainer) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in trained.state.log_history if "loss" in entry}


def test_only_the_projector_trains_and_the_bases_run_once(tmp_path):
    model = FakeModel()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = trainer(tmp_path, model, num_train_epochs=30, learning_rate=5e-3)
    untrained = trained.evaluate()
    trained.train()
    after = trained.evaluate()
    changed = {
        name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"projector", "teacher_space"}
    assert sorted(model.encoded) == sorted(f"f{k}" for k in [*TRAIN, *DEV])
    assert sorted(model.taught) == sorted(f"e{k}" for k in [*TRAIN, *DEV])
    assert model.teacher_space.fits == [len(TRAIN)]  # the training states only, once
    assert after["eval_r@1"] > untrained["eval_r@1"]
    assert after["eval_loss"] < untrained["eval_loss"]
    assert len(trained.queue) == 16
    assert not model.projector.training
    fresh = FakeModel(1)
    trainer(tmp_path, fresh).train()
    assert not fresh.encoded  # another run with the same folder reads the cache


def test_metrics_have_the_names_that_the_trainer_looks_for(tmp_path):
    metrics = trainer(tmp_path).evaluate()
    names = ("loss", "r@1", "r@5", "r@10", "mrr", "mean_rank", "median_rank", "n")
    assert {f"eval_{name}" for name in names} <= set(metrics)
    assert metrics["eval_n"] == len(DEV)


def test_named_evaluation_sets_and_predict(tmp_path):
    many = AlignTrainer(FakeModel(), config(tmp_path), pairs(TRAIN), {"a": pairs(DEV), "b": pairs(range(200, 215))})
    metrics = many.evaluate()
    assert (metrics["eval_a_n"], metrics["eval_b_n"]) == (20, 15)
    output = many.predict(pairs(range(300, 312)))
    assert output.predictions.shape == output.label_ids.shape == (12, WIDTH)
    assert output.metrics["test_n"] == 12


def test_evaluation_without_training_pairs_uses_the_models_space(tmp_path):
    model = FakeModel()
    model.teacher_space.fit(torch.ones(3, WIDTH))
    trainer(tmp_path, model, train=None).evaluate()
    assert model.teacher_space.fits == [3]


def test_a_fitted_space_is_kept_unless_refit(tmp_path):
    for refit, fits in ((False, [3]), (True, [3, len(TRAIN)])):
        model = FakeModel()
        model.teacher_space.fit(torch.ones(3, WIDTH))
        trainer(tmp_path, model, refit_teacher_space=refit, max_steps=1).train()
        assert model.teacher_space.fits == fits


@pytest.mark.parametrize("mining", ["step", "query", "none"])
def test_accumulation_equals_the_big_batch(tmp_path, mining):
    models, runs = [FakeModel(), FakeModel()], []
    for model, batch, accumulation in zip(models, (8, 2), (1, 4), strict=True):
        run = trainer(
            tmp_path,
            model,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            hard_negative_mining=mining,
        )
        run.train()
        runs.append(losses(run))
    assert len(runs[0]) == 10
    assert runs[0] == runs[1]
    for name, tensor in models[0].bridge().items():
        assert torch.equal(tensor, models[1].bridge()[name])


def test_arguments_are_not_changed(tmp_path):
    args = config(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    before = args.to_dict()
    AlignTrainer(FakeModel(), args, pairs(TRAIN)).train()
    assert args.to_dict() == before


class Kill(TrainerCallback):
    """Ends a run without any of the clean-up of a finished one, as a killed process does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_a_killed_run_resumes_with_the_same_losses(tmp_path):
    options = {
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 3,
        "eval_strategy": "steps",
        "eval_steps": 2,
    }
    whole = trainer(tmp_path / "whole", FakeModel(dropout=0.3), **options)
    whole.train()
    killed = trainer(tmp_path / "killed", FakeModel(dropout=0.3), callbacks=[Kill(8)], **options)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    # Another seed and other weights: everything must come from the checkpoint of step 6, in the middle of an epoch.
    resumed = trainer(tmp_path / "killed", FakeModel(seed=9, dropout=0.3), **options)
    resumed.train(resume_from_checkpoint=True)
    assert len(losses(whole)) == 15
    assert {step: losses(whole)[step] for step in range(7, 16)} == {
        step: loss for step, loss in losses(resumed).items() if step > 6
    }
    assert resumed.llink_model.teacher_space.fits == []  # loaded, not fitted
    for name, tensor in whole.llink_model.bridge().items():
        assert torch.equal(tensor, resumed.llink_model.bridge()[name])
    assert torch.equal(whole.queue.vectors, resumed.queue.vectors)
    assert torch.equal(whole.queue.ids, resumed.queue.ids)


def test_the_queue_matters_to_a_resumed_run(tmp_path):
    """Guards the premise of the test above: with another queue the losses would differ."""
    options = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    whole = trainer(tmp_path, **options)
    whole.train()
    path = tmp_path / "checkpoint-3" / QUEUE_FILE
    other = trainer(tmp_path, **options)
    other.train(resume_from_checkpoint=str(path.parent))
    assert losses(other)[4] == losses(whole)[4]
    original = AlignTrainer._load_from_checkpoint
    emptied = trainer(tmp_path, **options)

    def load_and_empty(folder, model=None):
        original(emptied, folder, model)
        emptied.queue._size = 0

    emptied._load_from_checkpoint = load_and_empty
    emptied.train(resume_from_checkpoint=str(path.parent))
    assert losses(emptied)[4] != losses(whole)[4]


def test_resuming_with_other_data_or_without_queue_is_an_error(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    trainer(tmp_path, **options).train()
    checkpoint = tmp_path / "checkpoint-2"
    with pytest.raises(QueueStateError, match="train_pairs"):
        trainer(tmp_path, train=range(1, 41), **options).train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(QueueStateError, match="capacity 16"):
        trainer(tmp_path, queue_size=32, **options).train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(QueueStateError, match="queue_size=0"):
        trainer(tmp_path, queue_size=0, **options).train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / QUEUE_FILE).unlink()
    with pytest.raises(QueueStateError, match="Cannot read"):
        trainer(tmp_path, **options).train(resume_from_checkpoint=str(checkpoint))


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


def test_temperature_is_annealed_over_the_run(tmp_path):
    run = trainer(tmp_path, max_steps=5)
    run.train()
    seen = [entry["temperature"] for entry in run.state.log_history if "temperature" in entry]
    assert seen == pytest.approx([0.2, 0.18, 0.16, 0.14, 0.12])


def test_save_model_saves_the_whole_model_and_its_processor(tmp_path):
    saved = []
    processor = SimpleNamespace(save_pretrained=lambda folder: saved.append(str(folder)))
    run = AlignTrainer(FakeModel(), config(tmp_path), pairs(TRAIN), processing_class=processor)
    run.save_model(str(tmp_path / "out"))
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(FakeModel().bridge())
    assert saved == [str(tmp_path / "out")]
    assert (tmp_path / "out" / "training_args.bin").exists()


def test_a_loss_that_is_not_finite_names_step_and_examples(tmp_path):
    class Broken(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 3:  # one row's target, as if the teacher had overflowed
                run._train_tensors.targets[7] = float("nan")

    run = trainer(tmp_path, callbacks=[Broken()], num_train_epochs=3)
    with pytest.raises(NonFiniteLossError, match=r"examples \['pair-7'\]") as caught:
        run.train()
    assert caught.value.step >= 3
    assert caught.value.example_ids == ["pair-7"]
    assert not torch.isnan(run.model[0].weight).any()

    class Exploded(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            model[0].weight.data.fill_(float("inf"))

    with pytest.raises(NonFiniteLossError, match="global step 0") as caught:
        trainer(tmp_path, callbacks=[Exploded()]).train()
    assert len(caught.value.example_ids) == 8


@pytest.mark.parametrize(
    ("train", "dev", "changes", "message"),
    [
        (pairs([1]), None, {}, "train_dataset holds 1 pairs; at least 2"),
        (pairs(range(5)), None, {}, "fewer than one batch of 8"),
        (pairs(TRAIN), pairs(range(9)), {}, "eval_dataset holds 9 pairs; at least 10"),
        (pairs(TRAIN), {"dev": pairs(range(3))}, {}, "dev holds 3 pairs"),
        (pairs(TRAIN).rename_column("foreign", "km"), None, {}, r"lacks the columns \['foreign'\].*'km'"),
        (pairs([1] * 10), None, {}, "none is a negative"),
    ],
)
def test_bad_data_is_an_error_before_any_base_runs(tmp_path, train, dev, changes, message):
    model = FakeModel()
    with pytest.raises(PairDataError, match=message):
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


def test_leaks_are_reported(tmp_path, caplog):
    trainer(tmp_path, dev=range(30, 50))
    assert "10 of 20 pairs of eval_dataset share" in caplog.text


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
    with pytest.raises(AlignConfigError, match=message):
        config(tmp_path, **changes)


def test_arguments_of_another_class(tmp_path):
    with pytest.raises(TypeError, match="needs an AlignConfig"):
        AlignTrainer(FakeModel(), TrainingArguments(str(tmp_path)), pairs(TRAIN))


def test_documented_defaults(tmp_path):
    paper = AlignConfig(str(tmp_path), use_cpu=True)
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


def test_evaluating_does_not_disturb_training(tmp_path):
    runs = []
    for strategy in ("no", "steps"):
        run = trainer(tmp_path, FakeModel(dropout=0.3), eval_strategy=strategy, eval_steps=1)
        run.train()
        runs.append(losses(run))
    assert runs[0] == runs[1]


# ---- several processes ----


def worker(folder: Path) -> None:
    """Trains with the share of the batch that this process has, and writes what it saw."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    model = FakeModel()
    run = trainer(
        folder / "run", model, per_device_train_batch_size=8 // processes, max_grad_norm=1e9, eval_strategy="epoch"
    )
    gradients = []

    class Record(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])

    run.add_callback(Record())
    run.train()
    save_file(
        {
            **{f"model.{name}": tensor.contiguous() for name, tensor in model.bridge().items()},
            **{f"gradient.{s}.{i}": g for s, step in enumerate(gradients) for i, g in enumerate(step)},
            "queue.vectors": run.queue.vectors.clone(),
            "queue.ids": run.queue.ids.clone(),
        },
        folder / f"rank{run.args.process_index}.safetensors",
    )
    history = [e for e in run.state.log_history if "loss" in e or "eval_mrr" in e]
    report = {"losses": losses(run), "mrr": history[-1]["eval_mrr"], "encoded": len(model.encoded)}
    (folder / f"rank{run.args.process_index}.json").write_text(json.dumps(report))


def launch(folder: Path, processes: int) -> tuple[list[dict], list[dict]]:
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", __file__, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    reports = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]
    return reports, [load_file(folder / f"rank{rank}.safetensors") for rank in range(processes)]


def test_two_processes_equal_one(tmp_path):
    (tmp_path / "one").mkdir()
    worker(tmp_path / "one")
    one = load_file(tmp_path / "one" / "rank0.safetensors")
    expected = json.loads((tmp_path / "one" / "rank0.json").read_text())
    reports, tensors = launch(tmp_path / "two", 2)
    assert len(expected["losses"]) == 10
    for report in reports:
        assert report["losses"].keys() <= expected["losses"].keys()
        assert list(report["losses"].values()) == pytest.approx(list(expected["losses"].values()), abs=1e-6)
        assert report["mrr"] == pytest.approx(expected["mrr"])
    assert sum(report["encoded"] for report in reports) == len(TRAIN) + len(DEV)  # one process computed, one read
    for rank in tensors:
        assert rank.keys() == one.keys()
        for name, tensor in one.items():
            torch.testing.assert_close(
                rank[name], tensor, atol=2e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
            )
    assert torch.equal(tensors[0]["queue.ids"], tensors[1]["queue.ids"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    worker(Path(sys.argv[1]))
