"""Stage A's equivalences: accumulated or not, broken off or not, evaluated or not, in one process or two.

Run as a script (by `test_two_processes_equal_one`) this file trains in each of several processes.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from align_fakes import DEV, TRAIN, FakeModel, Kill, losses, note_fits, trainer
from processes import run_in_processes
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from llink.trainers.align_trainer import QUEUE_FILE, AlignTrainer
from llink.trainers.errors import TrainingError


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


def test_a_killed_run_resumes_with_the_same_losses(tmp_path, monkeypatch):
    options = {
        "refit_teacher_space": True,  # of the broken run's start, not when resuming
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
    fits = note_fits(monkeypatch)
    # Another seed and other weights: everything must come from the checkpoint of step 6, in the middle of an epoch.
    resumed = trainer(tmp_path / "killed", FakeModel(seed=9, dropout=0.3), **options)
    resumed.train(resume_from_checkpoint=True)
    assert len(losses(whole)) == 15
    assert {step: losses(whole)[step] for step in range(7, 16)} == {
        step: loss for step, loss in losses(resumed).items() if step > 6
    }
    assert fits == []  # loaded, not fitted
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
    with pytest.raises(TrainingError, match="train_pairs"):
        trainer(tmp_path, train=range(1, 41), **options).train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(TrainingError, match="capacity 16"):
        trainer(tmp_path, queue_size=32, **options).train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(TrainingError, match="queue_size=0"):
        trainer(tmp_path, queue_size=0, **options).train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / QUEUE_FILE).unlink()
    with pytest.raises(TrainingError, match="Cannot read"):
        trainer(tmp_path, **options).train(resume_from_checkpoint=str(checkpoint))


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
    run_in_processes(__file__, folder, processes=processes)
    reports = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]
    return reports, [load_file(folder / f"rank{rank}.safetensors") for rank in range(processes)]


@pytest.mark.slow
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
