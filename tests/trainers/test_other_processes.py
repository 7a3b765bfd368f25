"""A run of two processes goes on in one with the losses of an unbroken one, or is refused: all three stages.

Run as a script this file trains in each of several processes.
"""

import sys
from pathlib import Path

import pytest
import torch
from align_fakes import pairs
from baseline_runs import quick
from processes import run_in_processes
from test_inject_trainer import rows
from transformers import set_seed

import llink
from llink.building import fit_teacher_space
from llink.trainers.errors import TrainingError

STAGES = ("Align", "Lexicon", "Inject")


def run_of(stage: str, start: str, folder: Path | str, rows_at_once: int, parts: int):
    """A trainer of four steps that saves the second."""
    torch.set_num_threads(1)
    model = llink.LlinkForCausalLM.from_pretrained(start)
    set_seed(0)
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "per_device_train_batch_size": rows_at_once}
    more = {"queue_size": 8, "hard_negatives": 2} if stage == "Align" else {}
    args = quick(getattr(llink, f"{stage}Config"), folder, gradient_accumulation_steps=parts, **saving, **more)
    data = rows(24) if stage == "Inject" else pairs(range(40))
    return getattr(llink, f"{stage}Trainer")(model=model, args=args, train_dataset=data)


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_go_on_in_one_or_are_refused(stage, make_model, tmp_path):
    kind = {"slot_expander": "tokens"} if stage == "Lexicon" else {}
    model = make_model(awake=False, stage="align", lora_dropout=0.0, projector_dropout=0.0, **kind)
    fit_teacher_space(model.teacher_space, torch.randn(8, model.config.hidden_size))
    model.save_pretrained(tmp_path / "start")
    whole = run_of(stage, tmp_path / "start", tmp_path / "whole", 2, 4)
    whole.train()
    run_in_processes(__file__, stage, tmp_path / "start", tmp_path / "two")
    checkpoint = tmp_path / "two" / "checkpoint-2"
    assert len(list(checkpoint.glob("rng_state_*.pth"))) == 2, "vacuous unless two processes wrote it"
    goes_on = run_of(stage, tmp_path / "start", tmp_path / "one", 2, 4)
    goes_on.train(resume_from_checkpoint=str(checkpoint))
    assert len(losses(whole)) == 4
    assert losses(goes_on)[-2:] == pytest.approx(losses(whole)[-2:], rel=1e-3)
    refused = run_of(stage, tmp_path / "start", tmp_path / "other", 2, 2)
    with pytest.raises(TrainingError, match=r"reads 8 rows a step, on 2 processes, and this one 4, on 1. Set --per"):
        refused.train(resume_from_checkpoint=str(checkpoint))


if __name__ == "__main__":
    run_of(*sys.argv[1:4], rows_at_once=2, parts=2).train()
