"""Losses, features and presets that a user brings or names: what is given is used, and what does not fit is refused."""

import dataclasses

import pytest
import torch
from align_fakes import DEV, TRAIN, FakeModel, config, losses, pairs, trainer
from datasets import Dataset
from torch import nn

from llink import AlignConfig, InjectConfig, InjectTrainer, LexiconConfig, compute_features, preset
from llink.configuration_llink import PAPER_TEACHER_TEMPLATE, LlinkConfig, LlinkConfigError
from llink.data.errors import DataError
from llink.trainers.align_loss import AlignLoss
from llink.trainers.align_trainer import AlignTrainer
from llink.trainers.inject_loss import InjectLoss
from llink.trainers.presets import PRESETS


def test_a_loss_of_ones_own_is_descended_and_logged(tmp_path):
    seen = []

    def squared(projected, targets, **others):
        seen.append(set(others))
        return {"loss": (projected - targets).square().mean(), "mean_norm": projected.norm(dim=1).mean()}

    run = AlignTrainer(FakeModel(), config(tmp_path, num_train_epochs=20), pairs(TRAIN), pairs(DEV), loss=squared)
    before = run.evaluate()["eval_loss"]
    run.train()
    assert run.evaluate()["eval_loss"] < before
    assert {"groups", "temperature", "queue_vectors", "queue_groups"} in seen
    assert {"groups", "temperature"} in seen, "evaluation has no queue"
    logged = [entry for entry in run.state.log_history if "loss" in entry]
    assert all("mean_norm" in entry and "nce" not in entry for entry in logged)
    assert logged[0]["loss"] != losses(trainer(tmp_path / "own"))  # vacuous unless it is another loss


def test_the_loss_that_is_not_given_is_that_of_the_arguments(tmp_path):
    changes = {"direction_weight": 0.5, "norm_weight": 0.0, "hard_negative_mining": "query", "hard_negatives": 2}
    runs = [trainer(tmp_path / "args", **changes)]
    given = AlignLoss(2, "query", direction_weight=0.5, norm_weight=0.0)
    runs.append(AlignTrainer(FakeModel(), config(tmp_path / "given"), pairs(TRAIN), pairs(DEV), loss=given))
    for run in runs:
        run.train()
    assert losses(runs[0]) == losses(runs[1])


def test_a_loss_with_weights_is_refused(tmp_path):
    with pytest.raises(LlinkConfigError, match="Linear has weights of its own"):
        AlignTrainer(FakeModel(), config(tmp_path), pairs(TRAIN), loss=nn.Linear(2, 2))


def test_features_stand_in_for_pairs(tmp_path):
    wanted = trainer(tmp_path / "pairs")
    wanted.train()
    model = FakeModel()
    features = compute_features(model, pairs(TRAIN), cache_dir=tmp_path / "cache", show_progress=False)
    held_out = compute_features(model, pairs(DEV), show_progress=False)
    assert len(features) == len(TRAIN)
    model.encoded.clear()
    found = AlignTrainer(model, config(tmp_path / "features"), features, held_out)
    found.train()
    assert not model.encoded, "no base runs again"
    assert losses(found) == losses(wanted)
    assert found.evaluate()["eval_mrr"] == wanted.evaluate()["eval_mrr"]
    shared = AlignTrainer(FakeModel(), config(tmp_path / "shared"), features, pairs(range(30, 50)))
    assert len(shared.train_dataset) == len(shared.tensors_of(shared.train_dataset)) == 30


def test_features_of_another_model_are_refused(tmp_path):
    features = compute_features(FakeModel(), pairs(TRAIN), show_progress=False)
    other = FakeModel()
    other.config.pooling = "cls"
    with pytest.raises(DataError, match=r"encoder pooling 'mean' \(the model: 'cls'\)"):
        AlignTrainer(other, config(tmp_path), features)


def test_the_stage_says_what_was_trained(tmp_path):
    class Broken(nn.Module):
        def forward(self, **_):
            raise FloatingPointError("of the user's own")

    model = FakeModel()
    run = AlignTrainer(model, config(tmp_path), pairs(TRAIN), loss=Broken())
    with pytest.raises(FloatingPointError):
        run.train()
    assert model.config.stage == "untrained"
    trainer(tmp_path, model, max_steps=1).train()
    assert model.config.stage == "align"


def test_stage_b_takes_a_loss_too(make_model, tmp_path):
    rows = [dict(id=str(k), foreign=[f"ab{k}"], prompt="<foreign_emb>", completion="cat", english="") for k in range(8)]

    def doubled(losses, tokens, step, **_):
        return {"loss": 2 * losses.sum() / step.tokens, "plain": losses.sum() / step.tokens}

    args = dict(report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", logging_steps=1, max_steps=2)
    args |= dict(per_device_train_batch_size=2, gradient_accumulation_steps=2, cosine_weight=0.0, nce_weight=0.0)
    logs = []
    for name, loss in (("own", doubled), ("ours", InjectLoss(usage_weight=0.0, cosine_weight=0.0, nce_weight=0.0))):
        model = make_model(stage="align", lora_dropout=0.0)
        run = InjectTrainer(model, InjectConfig(str(tmp_path / name), **args), Dataset.from_list(rows), loss=loss)
        run.train()
        logs.append([entry for entry in run.state.log_history if "loss" in entry])
    assert logs[0][0]["plain"] == pytest.approx(logs[1][0]["sft"], rel=1e-5)
    assert logs[0][0]["loss"] == pytest.approx(2 * logs[1][0]["loss"], rel=1e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_settings_that_exist_and_what_they_omit(name, tmp_path):
    chosen = preset(name)
    known = {f.name for f in dataclasses.fields(LlinkConfig)}
    assert set(chosen.model) <= known
    for settings, owner in (
        (chosen.align, AlignConfig),
        (chosen.lexicon, LexiconConfig),
        (chosen.inject, InjectConfig),
    ):
        owner(str(tmp_path), use_cpu=True, report_to=[], **settings)
    assert chosen.omits
    assert all(line in chosen.described() for line in chosen.omits)
    with pytest.raises(LlinkConfigError, match="'best' is not one of recommended, paper, released-code"):
        preset("best")


def test_recommended_is_every_default():
    assert not any(preset("recommended").stages.values())


def test_the_paper_to_the_letter(tmp_path):
    paper = preset("paper")
    assert paper.model["teacher_template"] == PAPER_TEACHER_TEMPLATE
    assert len(paper.model["lora_target_modules"]) == 7, "attention and MLP projections, the gate's too"
    config = InjectConfig(str(tmp_path), use_cpu=True, report_to=[], **paper.inject)
    assert (config.usage_reduction, config.usage_margin, config.usage_every) == ("step", 0.0, 3)
    assert (config.usage_weight, config.cosine_weight, config.nce_weight) == (0.05, 0.05, 0.01)


def test_the_steps_hinge_is_of_mean_losses():
    """One row gains what the other loses: their mean is at the hinge, and one of the rows is not."""
    from llink.trainers.inject_loss import StepTotals

    losses, without = torch.tensor([2.0, 6.0], requires_grad=True), torch.tensor([5.0, 4.0])
    tokens, nothing = torch.tensor([2, 2]), torch.zeros(0, 3)
    gap = ((losses - without).sum() / 4).detach()
    step = StepTotals(0, torch.tensor(4), torch.tensor(2), nothing, torch.zeros(0), gap)
    usage = {}
    for reduction in ("step", "row"):
        loss = InjectLoss(1.0, 1, 0.0, reduction, cosine_weight=0.0, nce_weight=0.0)
        usage[reduction] = loss(losses, tokens, without, nothing, nothing, torch.zeros(0), step)["usage"].item()
    assert usage == {"step": 0.0, "row": 0.5}
    loss = InjectLoss(1.0, 1, 1.0, "step", cosine_weight=0.0, nce_weight=0.0)
    term = loss(losses, tokens, without, nothing, nothing, torch.zeros(0), step)["usage"]
    assert term.item() == pytest.approx(max(0.0, gap.item() + 1.0))
    term.backward()
    assert losses.grad.tolist() == [0.25, 0.25], "descending lowers the loss with slots"
