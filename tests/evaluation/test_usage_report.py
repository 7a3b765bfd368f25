"""Usage: gaps, intervals, tasks, noise and single slots; the trainer's log, the command and the `evaluate` module."""

import json
from functools import partial
from types import SimpleNamespace

import evaluate
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llink.cli import main
from llink.data.collators import PassageBank, instruction_tensors, shuffled_passages, tokenize_instructions
from llink.data.errors import DataError
from llink.data.instructions import instruction_dataset
from llink.evaluation import module_path
from llink.evaluation.usage import (
    VARIANTS,
    collect_usage,
    gap_intervals,
    gaussian_slots,
    usage_by_task,
    usage_losses,
    usage_metrics,
    usage_report,
    usage_variants,
)
from llink.evaluation.usage_rows import evaluate_usage
from llink.trainers.inject_config import InjectConfig
from llink.trainers.inject_trainer import InjectTrainer

TASKS = ("translate_to_english", "summarize_in_english", "qa_about_text")


def rows(count: int = 9) -> list[dict]:
    made = []
    for i in range(count):
        foreign, prompt = ["".join(chr(97 + (i * 5 + j) % 26) for j in range(3 + i % 4))], "Say it.\n<foreign_emb>"
        if i % 4 == 0:
            foreign, prompt = [*foreign, f"zz{i}"], "Compare <foreign_emb> with <foreign_emb>."
        made.append(
            dict(id=f"r{i}", foreign=foreign, prompt=prompt, completion="the cat " * (1 + i % 3), task=TASKS[i % 3])
        )
    return made


@pytest.fixture(scope="module")
def tensors(model):
    """The rows with their passages' features. Read only."""
    dataset = instruction_dataset(rows())
    examples, _ = tokenize_instructions(model.processor, dataset, 200)
    return instruction_tensors(dataset, examples, model.processor, partial(PassageBank, model.processor))


class Fake(torch.nn.Module):
    """Answers by rule: its loss falls with what `reads` makes of the slots (B, T, K, d)."""

    def __init__(self, reads):
        super().__init__()
        self.reads = reads
        self.config = SimpleNamespace(num_slots=2)
        self.decoder = torch.nn.Linear(1, 1)

    def forward(
        self,
        input_ids,
        attention_mask,
        use_cache,
        logits_to_keep,
        foreign_mask=None,
        foreign_features=None,
        foreign_slots=None,
    ):
        slots = foreign_features.unsqueeze(2).repeat(1, 1, 2, 1) if foreign_slots is None else foreign_slots
        logits = torch.zeros(*input_ids.shape, 4)
        logits[..., 1] = self.reads(slots)[:, None]  # the answer's token
        mask = torch.ones(slots.shape[:3], dtype=torch.bool)
        return type("Output", (dict,), {"logits": logits[:, logits_to_keep]})(foreign_slots=slots, foreign_mask=mask)


def fake_batch(features) -> dict:
    features = torch.tensor(features)[:, None]  # (B, 1, d)
    count = len(features)
    return dict(
        input_ids=torch.ones(count, 3, dtype=torch.long),
        attention_mask=torch.ones(count, 3),
        labels=torch.tensor([[-100, 1, 1]]).repeat(count, 1),
        foreign_mask=torch.ones(count, 1, dtype=torch.bool),
        foreign={"foreign_features": features},
        shuffled={"foreign_features": features.roll(1, 0)},
        rows=torch.arange(count),
    )


FAKE_BATCH = fake_batch([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 5.0]])


# ------------------------------------------------------------------ pure functions


def test_the_defaults_keep_their_keys_and_meaning():
    losses = np.array([[1.0, 3.0, 0.5], [2.0, 2.0, 4.0]])
    assert usage_metrics(losses, np.array([1, 3])) == {
        "loss": 0.75,
        "zeroed_loss": 1.25,
        "shuffled_loss": 1.125,
        "zeroed_gap": 0.5,
        "shuffled_gap": 0.375,
        "slots_help": 0.5,
        "own_slots_help": 0.5,
    }
    more = usage_metrics(np.c_[losses, [[2.0], [3.0]]], np.array([1, 3]), usage_variants(8))
    assert (more["gaussian_gap"], more["real_slots_help"]) == (0.5, 1.0)


table_of_losses = st.lists(
    st.tuples(*[st.floats(0, 50)] * 4, st.integers(1, 20), st.sampled_from("abc")), min_size=2, max_size=30
)


@given(table_of_losses)
@settings(max_examples=40)
def test_tasks_partition_the_whole(drawn):
    losses, tokens = np.array([row[:4] for row in drawn]), np.array([row[4] for row in drawn])
    tasks, variants = [row[5] for row in drawn], usage_variants(8)
    found = usage_by_task(losses, tokens, tasks, variants)
    whole = usage_metrics(losses, tokens, variants)
    if len(set(tasks)) < 2:
        assert found == {}
        return
    weights = {task: sum(n for n, t in zip(tokens, tasks, strict=True) if t == task) for task in set(tasks)}
    for name in ("loss", "zeroed_gap", "gaussian_gap"):
        together = sum(found[task][name] * weight for task, weight in weights.items()) / tokens.sum()
        assert together == pytest.approx(whole[name], abs=1e-9)
    assert sum(found[task]["n"] for task in found) == len(tokens)


def test_rows_without_a_task_are_in_no_task():
    losses = np.ones((3, 3))
    assert usage_by_task(losses, np.ones(3), ["a", "", "b"]).keys() == {"a", "b"}
    assert usage_by_task(losses, np.ones(3), ["a", "", "a"]) == {}


@given(table_of_losses)
@settings(max_examples=25)
def test_intervals_lie_inside_what_the_examples_allow(drawn):
    losses, tokens = np.array([row[:4] for row in drawn]), np.array([row[4] for row in drawn])
    variants = usage_variants(8)
    found = gap_intervals(losses, tokens, variants, resamples=50)
    for column, name in enumerate(variants[1:], start=1):
        low, high = found[f"{name}_gap"]
        gaps = (losses[:, column] - losses[:, 0]) / tokens
        assert gaps.min() - 1e-9 <= low <= high <= gaps.max() + 1e-9


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        tokens = rng.integers(1, 10, 60)
        losses = np.c_[np.zeros(60), tokens * rng.normal(1.0, 1.0, 60), np.zeros(60)]  # a gap of one nat a token
        low, high = gap_intervals(losses, tokens, resamples=200, seed=trial)["zeroed_gap"]
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_intervals_repeat_with_their_seed_and_shrink_to_a_point():
    losses = np.random.default_rng(0).random((20, 3))
    tokens = np.arange(1, 21)
    assert gap_intervals(losses, tokens, seed=1) == gap_intervals(losses, tokens, seed=1)
    assert gap_intervals(losses, tokens, seed=1) != gap_intervals(losses, tokens, seed=2)
    same = gap_intervals(np.tile([1.0, 3.0, 2.0], (5, 1)), np.full(5, 2))
    assert same == {"zeroed_gap": (1.0, 1.0), "shuffled_gap": (0.5, 0.5)}


@pytest.mark.parametrize(
    ("losses", "tokens", "variants"),
    [
        (np.zeros((0, 3)), np.zeros(0), VARIANTS),
        (np.zeros((2, 3)), np.zeros(2), VARIANTS),
        (np.zeros((2, 4)), np.ones(2), VARIANTS),
        (np.zeros((2, 3)), np.ones(3), VARIANTS),
        (np.full((2, 3), np.nan), np.ones(2), VARIANTS),
    ],
    ids=["empty", "no tokens", "columns", "lengths", "NaN"],
)
def test_losses_without_a_gap_are_refused(losses, tokens, variants):
    with pytest.raises(DataError):
        usage_metrics(losses, tokens, variants)
    with pytest.raises(DataError):
        gap_intervals(losses, tokens, variants)


@pytest.mark.parametrize("options", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_impossible_intervals_are_refused(options):
    with pytest.raises(DataError, match="resamples"):
        gap_intervals(np.ones((2, 3)), np.ones(2), **options)


# ------------------------------------------------------------------ slots in other forms


@given(st.integers(0, 5), st.integers(1, 3), st.integers(0, 1000))
@settings(max_examples=20)
def test_noise_has_the_slots_norms_and_knows_no_batch(row, passages, seed):
    slots = torch.randn(2, passages, 4, 20, generator=torch.Generator().manual_seed(seed)) * 7
    rows_of = torch.tensor([row, row + 1])
    mask = torch.ones(2, passages, 4, dtype=torch.bool)
    noise = gaussian_slots(slots, mask, rows_of, seed)
    assert torch.allclose(noise.norm(dim=-1), slots.norm(dim=-1), rtol=1e-5)
    assert torch.equal(gaussian_slots(slots[1:], mask[1:], rows_of[1:], seed)[0], noise[1])
    padded = torch.nn.functional.pad(slots, (0, 0, 0, 3, 0, 2))  # other widths T and K
    real = torch.nn.functional.pad(mask, (0, 3, 0, 2))
    assert torch.equal(gaussian_slots(padded, real, rows_of, seed)[:, :passages, :4], noise)
    assert not torch.allclose(gaussian_slots(slots, mask, rows_of, seed + 1), noise)
    cosines = torch.nn.functional.cosine_similarity(noise[0].flatten(0, 1), noise[1].flatten(0, 1))
    assert cosines.abs().max() < 0.99, "two rows share their noise"


def gaps_of(reads, per_slot=False) -> dict:
    variants = usage_variants(2, per_slot=per_slot)
    return usage_metrics(*usage_losses(Fake(reads), FAKE_BATCH, variants), variants)


def test_a_decoder_that_ignores_its_slots_has_no_gap():
    found = gaps_of(lambda slots: torch.zeros(len(slots)))
    assert {found[f"{name}_gap"] for name in ("zeroed", "shuffled", "gaussian")} == {0.0}
    assert found["slots_help"] == found["real_slots_help"] == 0.0


def test_a_decoder_that_reads_only_the_slots_size_is_found_out_by_noise():
    found = gaps_of(lambda slots: slots.norm(dim=-1).sum(dim=(1, 2)))
    assert found["zeroed_gap"] > 0.1, "vacuous unless it reads something"
    assert found["gaussian_gap"] == pytest.approx(0, abs=1e-6)


def test_a_decoder_that_reads_only_the_language_is_found_out_by_shuffling():
    """Slots of any passage do as well as its own, though noise does not."""
    found = gaps_of(lambda slots: slots.amax(dim=-1).sum(dim=(1, 2)) / slots.norm(dim=-1).sum(dim=(1, 2)).clamp(min=1))
    assert found["shuffled_gap"] == pytest.approx(0, abs=1e-6)
    assert min(found["zeroed_gap"], found["gaussian_gap"]) > 0.05


def test_a_slot_that_is_never_read_is_worth_nothing():
    variants = usage_variants(2, per_slot=True)
    losses, tokens = usage_losses(Fake(lambda slots: slots[:, 0, 0].sum(dim=-1)), FAKE_BATCH, variants)
    report = usage_report(losses, tokens, [""] * 3, variants, resamples=20)
    first, second = report["per_slot"]
    assert (first["share"], second["share"]) == (1.0, 0.0)
    assert first["gap"] == pytest.approx(report["zeroed_gap"])
    assert second == {"gap": 0.0, "interval": [0.0, 0.0], "share": 0.0}
    assert not any("without" in name for name in report)


@pytest.mark.parametrize("variant", ["without_2", "without_-1", "without_", "other"])
def test_unknown_variants_are_named(variant):
    with pytest.raises(DataError, match=f"'{variant}'"):
        usage_losses(Fake(lambda slots: slots.sum(dim=(1, 2, 3))), FAKE_BATCH, ("slots", variant))


# ------------------------------------------------------------------ a real model


def test_the_variants_are_what_they_say(model, tensors):
    batch = tensors.collate(list(range(5)))
    assert not batch["foreign"]["foreign_attention_mask"].any(dim=2).all(), (
        "vacuous unless rows hold different numbers of passages"
    )
    variants = usage_variants(4, per_slot=True)
    losses, tokens = usage_losses(model, batch, variants)
    assert losses.shape == (5, len(variants)) == (5, 8)
    prompt = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        slots, mask = model.resolve_slots(**batch["foreign"])
        slots[:, :, 2] = 0
        loss = model(**prompt, foreign_slots=slots, foreign_mask=mask, labels=batch["labels"]).loss
    assert (losses[:, variants.index("without_2")].sum() / tokens.sum()).item() == pytest.approx(loss.item(), rel=1e-4)
    assert torch.equal(losses[:, :3], usage_losses(model, batch)[0])
    assert len({round(value, 3) for value in losses.sum(dim=0).tolist()}) == 8, "vacuous unless the variants differ"


def test_the_batch_size_does_not_matter(model, tensors):
    one = evaluate_usage(model, tensors, batch_size=2, per_slot=True, resamples=20)
    two = evaluate_usage(model, tensors, batch_size=9, per_slot=True, resamples=20)
    assert one["tasks"].keys() == set(TASKS)
    assert one["n"] == 9
    for name in ("loss", "zeroed_gap", "shuffled_gap", "gaussian_gap"):
        assert one[name] == pytest.approx(two[name], abs=1e-3), name
        assert one["tasks"]["qa_about_text"][name] == pytest.approx(two["tasks"]["qa_about_text"][name], abs=1e-3)
    json.dumps(one)


def test_measuring_leaves_the_model_in_its_mode(make_model, tensors):
    model = make_model()
    batches = [tensors.collate([0, 1])]
    for training in (True, False):
        model.train(training)
        collect_usage(model, batches)
        assert model.training is training
    with pytest.raises(DataError, match="no rows"):
        collect_usage(model, [])


def test_the_trainer_logs_the_gaps_of_each_task(make_model, tmp_path):
    model = make_model()
    args = InjectConfig(
        str(tmp_path), report_to=[], use_cpu=True, cosine_weight=0, nce_weight=0, per_device_eval_batch_size=4
    )
    trainer = InjectTrainer(model=model, args=args, eval_dataset=instruction_dataset(rows()))
    metrics = trainer.evaluate()
    assert {f"eval_{task}_zeroed_gap" for task in TASKS} <= metrics.keys()
    bank = trainer.tensors_of(trainer.eval_dataset)
    alone = usage_losses(model, bank.collate([2, 5, 8]))  # the third task's rows
    wanted = usage_metrics(*alone)["zeroed_gap"]
    assert metrics["eval_qa_about_text_zeroed_gap"] == pytest.approx(wanted, abs=1e-3)
    one = trainer.evaluate(instruction_dataset([{**row, "task": "title"} for row in rows()]))
    assert "eval_title_zeroed_gap" not in one
    assert one["eval_zeroed_gap"] == pytest.approx(metrics["eval_zeroed_gap"], abs=1e-4)
    assert "eval_gaussian_gap" not in metrics, "it would cost every evaluation a forward pass"


def test_what_cannot_be_shuffled_is_refused_before_encoding():
    same = instruction_dataset([{**rows(2)[1], "id": str(i)} for i in range(3)])
    both = instruction_dataset([rows(1)[0], {**rows(1)[0], "id": "swapped"}])
    for dataset in (same, both):
        with pytest.raises(DataError, match="shuffled control"):
            instruction_tensors(dataset, [], None, encode=None)
    texts, places = shuffled_passages(instruction_dataset(rows()))
    assert [places[text] for text in texts] == list(range(len(texts)))


# ------------------------------------------------------------------ the command and the module


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("usage")
    model.save_pretrained(folder / "model")
    lines = [json.dumps(row) for row in rows()]
    (folder / "dev.jsonl").write_text("\n".join(lines), "utf-8")
    (folder / "same.jsonl").write_text("\n".join([lines[1]] * 3), "utf-8")
    return folder


def test_the_command_writes_record_and_plot(saved, tmp_path, capsys):
    command = ["eval", "usage", "--model", f"{saved}/model", "--instructions", f"{saved}/dev.jsonl"]
    assert main([*command, "--per-slot", "--resamples", "20", "--limit", "8", "--output-dir", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "usage.json").read_text())["results"]
    assert (found["n"], len(found["per_slot"])) == (8, 4)
    low, high = found["intervals"]["gaussian_gap"]
    assert low <= found["gaussian_gap"] <= high
    assert found["tasks"]["qa_about_text"]["n"] == 2
    assert (tmp_path / "usage.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("gaussian_gap", "summarize_in_english", "slot zeroed alone"))
    assert main([*command, "--gaussian", "False", "--resamples", "5", "--output-dir", str(tmp_path)]) == 0
    assert "gaussian_gap" not in json.loads((tmp_path / "usage.json").read_text())["results"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--instructions", "{saved}/none.jsonl"], "none.jsonl"),
        (["--instructions", "{saved}/same.jsonl"], "shuffled control"),
        (["--instructions", "{saved}/dev.jsonl", "--resamples", "0"], "--resamples 0"),
        (["--instructions", "{saved}/dev.jsonl", "--limit", "0"], "--limit 0 must"),
        (["--instructions", "{saved}/dev.jsonl", "--batch-size", "-1"], "--batch-size -1 must"),
    ],
)
def test_bad_input_is_refused_before_a_model_loads(saved, options, words, capsys):
    options = [option.format(saved=saved) for option in options]
    assert main(["eval", "usage", "--model", "/nowhere/at/all", *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "/nowhere" not in error


def test_the_evaluate_module_is_the_metric():
    usage = evaluate.load(module_path("usage"))
    columns = dict(slots=[1.0, 2.0], zeroed=[3.0, 3.0], shuffled=[2.0, 4.0], tokens=[1, 2])
    found = usage.compute(**columns)
    assert found == usage_metrics(np.array([[1.0, 3.0, 2.0], [2.0, 3.0, 4.0]]), np.array([1, 2]))
    more = usage.compute(**columns, gaussian=[2.0, 2.0], resamples=10)
    assert more["gaussian_gap"] == pytest.approx(1 / 3)
    assert more["intervals"].keys() == {"zeroed_gap", "shuffled_gap", "gaussian_gap"}
