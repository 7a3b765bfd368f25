"""Plans: what a run will take, from a few batches, with the model left as it was."""

import pytest
import torch
from align_fakes import pairs
from baseline_runs import quick
from test_inject_trainer import rows

import llink
from llink.configuration_llink import LlinkConfigError
from llink.data.errors import DataError
from llink.trainers.align_config import AlignConfig
from llink.trainers.inject_config import InjectConfig
from llink.trainers.lexicon_config import LexiconConfig


def state(model):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return tensors, flags, {name: module.training for name, module in model.named_modules()}, torch.get_rng_state()


@pytest.mark.parametrize("stage", ["align", "lexicon", "inject"])
def test_a_plan_leaves_everything_as_it_was(make_model, tmp_path, stage):
    kind = {"align": AlignConfig, "lexicon": LexiconConfig, "inject": InjectConfig}[stage]
    slots = "mlp" if stage == "inject" else "tokens"
    model = make_model(awake=False, slot_expander=slots, stage="untrained" if stage == "align" else "align")
    data = rows() if stage == "inject" else pairs(range(40))
    args = kind(str(tmp_path / "out"), num_train_epochs=3, per_device_train_batch_size=4, report_to=[], use_cpu=True)
    before = state(model)
    found = llink.plan(model, data, args)
    for old, new in zip(before[:3], state(model)[:3], strict=True):
        assert old.keys() == new.keys()
        for name, value in old.items():
            assert torch.equal(value, new[name]) if isinstance(value, torch.Tensor) else value == new[name], name
    assert torch.equal(before[3], torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (found.stage, found.rows, found.dropped, found.cut) == (stage, len(data), 0, 0)
    per_step = 4 * args.gradient_accumulation_steps
    an_epoch = len(data) // per_step if args.dataloader_drop_last else -(-len(data) // per_step)
    assert found.steps == 3 * max(1, an_epoch)
    assert min(found.training, found.reading, found.memory, found.disk, found.tokens) > 0
    assert f"{found.steps} steps" in found.short
    assert not (tmp_path / "out" / "_feature_cache").exists()


def test_what_is_dropped_and_cut_is_counted(make_model, tmp_path):
    model = make_model(max_foreign_chars=10, long_passages="cut")
    data = pairs(range(40))
    found = llink.plan(model, data, AlignConfig(str(tmp_path), use_cpu=True), held_out=data.select(range(10)))
    assert (found.rows, found.dropped) == (30, 10)
    assert found.cut == sum(len(text) > 10 for text in data["foreign"][:])
    long = [{**row, "completion": "word " * 200} for row in rows()]
    assert llink.plan(make_model(), long, quick(InjectConfig, tmp_path, max_length=100)).cut == len(long)


def test_a_plan_of_nothing_known_is_refused(make_model, tmp_path):
    with pytest.raises(LlinkConfigError, match="a plan needs one of AlignConfig, LexiconConfig, InjectConfig"):
        llink.plan(make_model(), [], None)
    with pytest.raises(DataError):
        llink.plan(make_model(), [], AlignConfig(str(tmp_path)))
