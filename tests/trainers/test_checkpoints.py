"""Checkpoints are whole or absent, a run goes on from the newest whole one, and one run at a time writes a folder."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from align_fakes import FakeModel, losses, trainer

from llink.data.errors import DataError
from llink.data.one_writer import OneWriter, one_writer
from llink.trainers.checkpoints import last_checkpoint
from llink.trainers.errors import TrainingError

OPTIONS = dict(max_steps=6, save_strategy="steps", save_steps=2, queue_size=16)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint-*"))


@pytest.fixture
def unbroken(tmp_path):
    whole = trainer(tmp_path / "whole", **OPTIONS)
    whole.train()
    assert names(tmp_path / "whole") == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    return whole


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "no state": lambda folder: (folder / "trainer_state.json").unlink(),
    "half a state": lambda folder: truncate(folder / "trainer_state.json"),
    "a state of nothing": lambda folder: (folder / "trainer_state.json").write_text("[]"),
    "half an optimiser": lambda folder: truncate(folder / "optimizer.pt"),
    "half a random state": lambda folder: truncate(folder / "rng_state.pth"),
    "half a queue": lambda folder: truncate(folder / "teacher_queue.safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_torn_checkpoints_are_passed_over_and_said(damage, unbroken, tmp_path, caplog):
    DAMAGE[damage](tmp_path / "whole" / "checkpoint-6")
    resumed = trainer(tmp_path / "whole", FakeModel(seed=9), **OPTIONS)
    resumed.train(resume_from_checkpoint=True)
    assert re.search("Passed over .*checkpoint-6", caplog.text)
    assert losses(resumed) == losses(unbroken)  # those of before the checkpoint are read from it
    for name, tensor in unbroken.llink_model.bridge().items():
        assert torch.equal(tensor, resumed.llink_model.bridge()[name])
    assert last_checkpoint(tmp_path / "whole").endswith("checkpoint-6")  # written anew, whole
    DAMAGE[damage](tmp_path / "whole" / "checkpoint-6")
    with pytest.raises(TrainingError, match="Cannot resume"):
        trainer(tmp_path / "whole", **OPTIONS).train(str(tmp_path / "whole" / "checkpoint-6"))


def test_a_run_that_was_done_takes_no_further_step(unbroken, tmp_path):
    again = trainer(tmp_path / "whole", FakeModel(seed=9), **OPTIONS)
    assert again.train(resume_from_checkpoint=True).global_step == 6
    for name, tensor in unbroken.llink_model.bridge().items():
        assert torch.equal(tensor, again.llink_model.bridge()[name])
    assert again.state.log_history == unbroken.state.log_history[:-1]  # but for the summary, which comes after it


def test_of_torn_checkpoints_alone_none_is_taken(unbroken, tmp_path):
    for folder in (tmp_path / "whole").glob("checkpoint-*"):
        (folder / "trainer_state.json").unlink()
    with pytest.raises(TrainingError, match=r"no whole checkpoint .*checkpoint-6: trainer_state.json.*start without"):
        last_checkpoint(tmp_path / "whole")
    assert last_checkpoint(tmp_path / "nowhere") is None
    with pytest.raises(TrainingError, match="holds no checkpoint"):
        trainer(tmp_path / "empty", **OPTIONS).train(resume_from_checkpoint=True)


@pytest.mark.parametrize("part", ["_save", "_save_optimizer_and_scheduler", "_save_rng_state"])
def test_what_stops_while_it_is_written_leaves_no_checkpoint(part, unbroken, tmp_path, monkeypatch):
    broken = trainer(tmp_path / "broken", **OPTIONS)
    original = getattr(broken, part)

    def fails(*args, **kwargs):
        original(*args, **kwargs)
        if broken.state.global_step == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, part, fails)
    with pytest.raises(OSError, match="No space left"):
        broken.train()
    assert names(tmp_path / "broken") == ["checkpoint-2"]
    assert any((tmp_path / "broken" / ".unfinished").rglob("*")), "vacuous unless something had been written"
    resumed = trainer(tmp_path / "broken", FakeModel(seed=9), **OPTIONS)
    resumed.train(resume_from_checkpoint=True)
    assert losses(resumed) == losses(unbroken)
    assert names(tmp_path / "broken") == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert not (tmp_path / "broken" / ".unfinished").exists()


def test_the_best_and_the_newest_stay_where_the_state_says(tmp_path):
    options = OPTIONS | dict(eval_strategy="steps", eval_steps=2, save_total_limit=2, load_best_model_at_end=True)
    run = trainer(tmp_path, **options, metric_for_best_model="r@1")
    run.train()
    best = Path(run.state.best_model_checkpoint)
    assert best.is_dir()
    assert best.parent == tmp_path
    assert set(names(tmp_path)) == {best.name, "checkpoint-6"}
    for folder in tmp_path.glob("checkpoint-*"):
        saved = json.loads((folder / "trainer_state.json").read_text())["best_model_checkpoint"]
        assert Path(saved).parent == tmp_path


def test_a_checkpoint_of_the_model_alone_is_not_resumed_from(tmp_path):
    trainer(tmp_path, **OPTIONS, save_only_model=True).train()
    with pytest.raises(TrainingError, match=r"save_only_model.*learning rate would start anew"):
        trainer(tmp_path, **OPTIONS).train(resume_from_checkpoint=True)


def test_one_run_writes_a_folder(tmp_path):
    holder = (
        "import sys, time; from llink.data.one_writer import one_writer\n"
        f"with one_writer({str(tmp_path / 'run')!r}, inside=True):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DataError, match=rf"Another run \(process {other.pid}, since 20.*is writing .*run: wait"):
            trainer(tmp_path / "run", **OPTIONS).train()
        assert not names(tmp_path / "run")
    finally:
        other.kill()
        other.wait()
    trainer(tmp_path / "run", **OPTIONS).train()  # what a dead process held is free
    assert not list((tmp_path / "run").glob(".folder.*"))


def test_the_right_to_write_may_be_taken_twice_by_one_object_and_is_given_back(tmp_path):
    with one_writer(tmp_path / "a"), pytest.raises(DataError, match="Another run"), one_writer(tmp_path / "a"):
        pass
    with one_writer(tmp_path / "a"), one_writer(tmp_path / "b"):
        pass
    writer = OneWriter(tmp_path / "a")
    writer.acquire()
    writer.acquire()
    writer.release()
    with pytest.raises(DataError, match="Another run"):
        OneWriter(tmp_path / "a").acquire()
    writer.release()
    assert not list(tmp_path.iterdir())
