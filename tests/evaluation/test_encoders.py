"""Ranking frozen encoders: features of every layer at once, the probe and its folds, and the command."""

import json

import pytest
import tiny
import torch
from torch import nn
from transformers import AutoTokenizer
from transformers.modeling_outputs import BaseModelOutput

from llink.cli import encoders, main
from llink.data.errors import DataError
from llink.evaluation.probes import (
    PENALTIES,
    layer_features,
    layer_numbers,
    probe_folds,
    probe_ranks,
    ridge_predictions,
)
from llink.modeling_llink.bases import load_base

TEXTS = ["ក្មេងទៅសាលា", "a", "the cat sat on the mat " * 20, "he has two books", "ចាស"]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- features ----


@pytest.mark.parametrize("family", ["xlm-roberta", "mt5", "modernbert", "m2m100"])
def test_one_forward_gives_what_every_layer_and_pooling_would(make_model, base_folder, family):
    folder = base_folder("encoder", family)
    encoder, tokenizer = load_base("encoder", folder)[0].eval(), AutoTokenizer.from_pretrained(folder)
    places = [0, 1, -1], ["mean", "cls", "max"]
    with tiny.count_calls(encoder) as calls:
        found = layer_features(encoder, tokenizer, TEXTS, *places, max_chars=40, max_tokens=100, batch_size=2)
    assert len(calls) == 3
    assert len(found) == 9
    model = make_model(encoder=family, max_foreign_chars=40, max_foreign_tokens=100, long_passages="cut")
    for (layer, pooling), features in found.items():
        model.config.encoder_layer, model.config.pooling = layer, pooling
        torch.testing.assert_close(features, model.get_pooled_features(TEXTS), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [(["all"], [0, 1, 2, -1]), (["-1", "3"], [-1]), (["0", "-4", "-2", "2"], [0, 2]), (["1"], [1])],
)
def test_layer_numbers(wanted, numbers):
    assert layer_numbers(3, wanted, "the encoder") == numbers


@pytest.mark.parametrize("wanted", [["4"], ["-5"], ["1.5"], ["all", "1"], ["--1"]])
def test_layers_that_do_not_exist(wanted):
    with pytest.raises(DataError, match="from -4 to 3"):
        layer_numbers(3, wanted, "the encoder")


# ---- the probe ----


def test_ridge_finds_a_linear_map_and_predicts_without_one_the_mean():
    features, queries, linear = random(60, 8), random(20, 8, seed=1), random(8, 5, seed=2)
    found = ridge_predictions(features + 3, features @ linear + 7, queries + 3)
    torch.testing.assert_close(found, queries @ linear + 7, atol=0.05, rtol=0.01)
    noise = random(60, 5, seed=3)
    spread = ridge_predictions(features, noise, queries) - noise.mean(dim=0)
    assert spread.norm() < 0.5 * noise.std() * spread.numel() ** 0.5


def test_ridge_is_its_definition_with_the_penalty_that_leaves_one_out_best():
    features, queries = random(12, 20).double(), random(3, 20, seed=1).double()  # fewer rows than features
    targets = features @ random(20, 4, seed=2).double() + 6 * random(12, 4, seed=3)

    def fitted(x, y, penalty, asked):
        mean, offset = x.mean(dim=0), y.mean(dim=0)
        weights = torch.linalg.solve((x - mean).T @ (x - mean) + penalty * torch.eye(20), (x - mean).T @ (y - offset))
        return (asked - mean) @ weights + offset

    centred = features - features.mean(dim=0)
    scale = torch.linalg.svdvals(centred).square().mean()
    errors = []
    for penalty in PENALTIES:
        rows = [[j for j in range(12) if j != i] for i in range(12)]
        left_out = [fitted(features[r], targets[r], penalty * scale, features[i]) for i, r in enumerate(rows)]
        errors.append((torch.stack(left_out) - targets).square().mean())
    best = PENALTIES[int(torch.stack(errors).argmin())]
    assert best not in (PENALTIES[0], PENALTIES[-1]), "vacuous unless the choice matters"
    expected = fitted(features, targets, best * scale, queries)
    torch.testing.assert_close(ridge_predictions(features, targets, queries), expected.float(), atol=1e-4, rtol=1e-4)


def test_folds_hold_out_every_row_once_and_never_cut_a_group():
    groups = [0, 0, 1, 2, 3, 3, 3, 4, 5, 6]
    folds = probe_folds(random(10, 6), groups, folds=3)
    assert sorted(row for fold in folds for row in fold.held_out.tolist()) == list(range(10))
    for fold in folds:
        assert sorted([*fold.fitted.tolist(), *fold.held_out.tolist()]) == list(range(10))
        assert not {groups[row] for row in fold.fitted} & {groups[row] for row in fold.held_out}
    assert [fold.held_out.tolist() for fold in probe_folds(random(10, 6), groups, folds=3, seed=1)] != [
        fold.held_out.tolist() for fold in folds
    ]


def test_the_space_of_a_fold_knows_nothing_of_what_it_holds_out():
    targets = random(40, 6)
    first = probe_folds(targets, range(40))[0]
    changed = targets.clone()
    changed[first.held_out] = 100.0
    again = probe_folds(changed, range(40))[0]
    assert torch.equal(first.held_out, again.held_out)
    torch.testing.assert_close(first.targets[first.fitted], again.targets[first.fitted])


@pytest.mark.parametrize(("groups", "folds"), [(range(10), 1), (range(10), 11), ([0] * 10, 2)])
def test_folds_that_cannot_be(groups, folds):
    with pytest.raises(DataError, match="folds="):
        probe_folds(random(10, 6), groups, folds=folds)


def test_what_can_be_read_off_ranks_first_and_what_cannot_is_chance():
    targets = random(200, 12)
    folds = probe_folds(targets, range(200))
    readable = targets @ random(12, 30, seed=1) + 0.2 * random(200, 30, seed=2)
    assert (probe_ranks(readable, folds) == 1).double().mean() > 0.9
    ranks = probe_ranks(random(200, 30, seed=3), folds).double()
    assert ranks.max() <= 50, "ranked among the fold's own"
    assert 18 < ranks.mean() < 33


def test_repeated_pairs_are_not_remembered():
    """Random features, every pair four times: only a probe that fits copies of what it holds out can find any."""
    features, targets = random(40, 100).repeat(4, 1), random(40, 12, seed=1).repeat(4, 1)
    copies = probe_ranks(features, probe_folds(targets, range(160))).double()
    grouped = probe_ranks(features, probe_folds(targets, list(range(40)) * 4)).double()
    assert copies.median() <= 2, "vacuous unless copies can be remembered"
    assert grouped.median() > 8


# ---- the command ----


class PlantedEncoder(nn.Module):
    """Layer 1 of 2 gives a letter of either alphabet the same vector; the others mix letters with their places."""

    def __init__(self, same: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(random(4096, 16))
        self.register_buffer("same", same)

    def forward(self, input_ids, attention_mask, output_hidden_states):
        places = torch.arange(input_ids.shape[1])
        junk = [self.table[(input_ids * 37 + places * 101 + input_ids * places * seed) % 4096] for seed in (7, 11)]
        good = self.table[self.same[input_ids]]
        return BaseModelOutput(last_hidden_state=junk[1], hidden_states=(junk[0], good, junk[1]))


@pytest.fixture
def files(tmp_path):
    """Words of random letters, and the same in Khmer letters."""
    letters = [chr(ord("a") + i) for i in range(20)]
    khmer = list(tiny.KHMER[:20])
    picks = torch.randint(20, (60, 9), generator=torch.Generator().manual_seed(0)).tolist()
    for side, alphabet in (("en", letters), ("km", khmer)):
        (tmp_path / f"dev.{side}").write_text(
            "".join("".join(alphabet[i] for i in row) + "\n" for row in picks), "utf-8"
        )
    return ["--pairs", str(tmp_path / "dev.en"), str(tmp_path / "dev.km")], letters, khmer


def test_a_planted_layer_wins(files, base_folder, tmp_path, monkeypatch, capsys):
    pairs, letters, khmer = files
    planted, other = base_folder("encoder", "xlm-roberta"), base_folder("encoder", "bert")
    tokenizer = AutoTokenizer.from_pretrained(planted)
    same = torch.arange(len(tokenizer))
    same[tokenizer.convert_tokens_to_ids(khmer)] = torch.tensor(tokenizer.convert_tokens_to_ids(letters))
    real = load_base
    stub = PlantedEncoder(same)
    monkeypatch.setattr(encoders, "load_base", lambda k, n, **o: (stub, None) if n == planted else real(k, n, **o))
    command = ["encoders", *pairs, "--encoders", other, planted, "--folds", "3", "--output-dir", str(tmp_path / "out")]
    assert main(command) == 0
    found = json.loads((tmp_path / "out" / "encoders.json").read_text())
    rows = found["results"]["rows"]
    assert len(rows) == 2 * 3 * 4
    best = rows[0]
    assert (best["encoder"], best["layer"], best["pooling"]) == (planted, 1, "mean")
    assert best["zero_shot"]["r@1"] > 0.95
    assert max(row["probe"]["mrr"] for row in rows if row["encoder"] == planted and row["layer"] != 1) < 0.5
    assert [row["probe"]["mrr"] for row in rows] == sorted((row["probe"]["mrr"] for row in rows), reverse=True)
    assert {row["depth"] for row in rows if row["layer"] == -1} == {2}
    assert f"--encoder {planted} --encoder_layer 1 --pooling mean" in capsys.readouterr().out
    assert (tmp_path / "out" / "encoders.png").read_bytes().startswith(b"\x89PNG")


def test_with_a_decoder_the_probe_predicts_its_states(files, base_folder, make_model, tmp_path, monkeypatch):
    bases = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    seen = []
    monkeypatch.setattr(
        encoders, "probe_folds", lambda targets, *a, **o: seen.append(targets) or probe_folds(targets, *a, **o)
    )
    command = ["encoders", *files[0], "--encoders", bases[0], "--decoder", bases[1], "--layers", "-1", "0"]
    assert main([*command, "--poolings", "mean", "--limit", "45", "--output-dir", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "encoders.json").read_text())["results"]
    assert (results["probe_target"], results["pairs"]) == (bases[1], 45)
    assert {row["layer"] for row in results["rows"]} == {-1, 0}
    english = (tmp_path / "dev.en").read_text().split()[:45]
    assert len(seen) == 1, "one teacher for all encoders"
    torch.testing.assert_close(seen[0], make_model().get_teacher_states(english), atol=1e-4, rtol=1e-4)


def test_bad_input_is_refused_before_anything_loads(files, base_folder, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(encoders, "load_base", never)
    monkeypatch.setattr(encoders.LlinkForCausalLM, "from_encoder_decoder_pretrained", never)
    encoder, decoder = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    for options, words in (
        (["--encoders", decoder], "is a decoder"),
        (["--encoders", encoder, "--decoder", encoder], "not a causal language model"),
        (["--encoders", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--encoders", encoder, "--layers", "9"], "'9'"),
        (["--encoders", encoder, "--poolings", "mean", "sum"], "sum"),
        (["--encoders", encoder, "--folds", "1"], "--folds 1"),
        (["--encoders", encoder, "--folds", "30"], "at least 300"),
        (["--encoders", encoder, "--limit", "20"], "at least 40"),
    ):
        assert main(["encoders", *files[0], *options]) == 2, options
        assert words in capsys.readouterr().err


def test_prefixes_are_ranked_beside_none(files, base_folder, tmp_path):
    command = ["encoders", *files[0], "--encoders", base_folder("encoder", "xlm-roberta"), "--layers", "-1"]
    given = ["--poolings", "mean", "--prefixes", "query. ", "--limit", "45", "--output-dir", str(tmp_path)]
    assert main([*command, *given]) == 0
    rows = json.loads((tmp_path / "encoders.json").read_text())["results"]["rows"]
    assert {row["prefix"] for row in rows} == {"", "query. "}
    assert rows[0]["zero_shot"]["mrr"] != rows[1]["zero_shot"]["mrr"]
