"""Which tables can come from a ranking: all rankings of a small pool, random ones, and the paper's table 1."""

import csv
import itertools
import json
import math
import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llink.cli import main
from llink.data.errors import DataError
from llink.evaluation.consistency import impossibilities, possible_ranges
from llink.evaluation.retrieval import rank_metrics

PAPER = {
    "direct fine-tune": {"r@1": "0.104", "r@5": "0.248", "r@10": "0.352", "mrr": "0.160", "mean_rank": "24.7"},
    "Stage A": {"r@1": "0.430", "r@5": "0.706", "r@10": "0.819", "mrr": "0.642", "mean_rank": "3.8"},
    "full": {"r@1": "0.450", "r@5": "0.724", "r@10": "0.835", "mrr": "0.660", "mean_rank": "3.4"},
}


@st.composite
def rankings(draw):
    """Ranks of n queries among n candidates, and ks up to n."""
    n = draw(st.integers(1, 60))
    ranks = draw(st.lists(st.integers(1, n), min_size=n, max_size=n))
    ks = draw(st.sets(st.integers(1, n), min_size=1, max_size=4))
    return torch.tensor(ranks), tuple(sorted(ks))


def rounded(metrics, digits):
    written = {name: f"{value:.{digits}f}" for name, value in metrics.items()}
    return {**written, "n": metrics["n"]}


@given(rankings(), st.none() | st.integers(1, 4), st.booleans())
def test_what_a_ranking_gives_is_never_flagged(ranking, digits, with_n):
    metrics = rank_metrics(*ranking)
    row = metrics if digits is None else rounded(metrics, digits)
    row = {name: value for name, value in row.items() if with_n or name != "n"}
    assert impossibilities(row) == {}
    for name, (low, high) in possible_ranges(row).items():
        assert low <= metrics[name.removesuffix("_given_mrr")] + 1e-9
        assert metrics[name.removesuffix("_given_mrr")] <= high + 1e-9


@given(rankings(), st.sampled_from(["mrr", "mean_rank", "median_rank"]), st.booleans(), st.floats(1e-6, 3))
def test_what_lies_outside_is_flagged(ranking, name, above, distance):
    metrics = rank_metrics(*ranking)
    recall = {key: value for key, value in metrics.items() if key.startswith("r@") or key == "n"}
    low, high = possible_ranges(recall)[name]
    outside = high + distance if above else low - distance
    assert set(impossibilities({**recall, name: outside})) == {name}
    assert impossibilities({**recall, name: low}) == impossibilities({**recall, name: high}) == {}


@pytest.mark.parametrize("ks", [(1,), (2,), (1, 3), (2, 4), (1, 2, 5), (3, 9)])
@pytest.mark.parametrize("n", [1, 4, 5])
def test_the_ranges_are_those_of_all_rankings_there_are(n, ks):
    found = {}
    for ranks in itertools.combinations_with_replacement(range(1, n + 1), n):
        metrics = rank_metrics(torch.tensor(ranks), ks=[1, *(k for k in ks if k <= n)])
        metrics |= {f"r@{k}": 1.0 for k in ks if k > n}
        found.setdefault(tuple(metrics[f"r@{k}"] for k in ks), []).append(metrics)
    for recall, rows in found.items():
        ranges = possible_ranges({**{f"r@{k}": r for k, r in zip(ks, recall, strict=True)}, "n": n})
        for name, ends in ranges.items():
            values = [row[name] for row in rows]
            assert ends == pytest.approx((min(values), max(values)), abs=1e-12), (name, recall)


def test_mean_rank_given_mrr_holds_for_all_rankings_and_is_narrow():
    n, found = 6, {}
    for ranks in itertools.combinations_with_replacement(range(1, n + 1), n):
        metrics = rank_metrics(torch.tensor(ranks), ks=(1, 3))
        found.setdefault((metrics["r@1"], metrics["r@3"]), []).append(metrics)
    narrower = 0
    for (one, three), rows in found.items():
        for row in rows:
            ranges = possible_ranges({"r@1": one, "r@3": three, "n": n, "mrr": row["mrr"]})
            low, high = ranges["mean_rank_given_mrr"]
            assert low - 1e-6 <= row["mean_rank"] <= high + 1e-6
            narrower += high - low < 0.5 * (ranges["mean_rank"][1] - ranges["mean_rank"][0])
    assert narrower > 100, "vacuous unless MRR tells something"


def test_the_papers_llink_rows_cannot_be():
    stage_a, full = (possible_ranges(PAPER[name]) for name in ("Stage A", "full"))
    assert round(stage_a["mrr"][1], 3) == 0.604
    assert round(full["mrr"][1], 3) == 0.621
    assert round(full["mean_rank"][0], 2) == 3.47
    assert set(impossibilities(PAPER["Stage A"])) == {"mrr"}
    assert set(impossibilities(PAPER["full"])) == {"mrr", "mean_rank"}


def test_the_number_of_pairs_narrows_the_papers_rows():
    """Of 1,024 queries, 0.430 can only be 440: shares between the counts are out."""
    for name in PAPER:
        without, with_n = possible_ranges(PAPER[name]), possible_ranges({**PAPER[name], "n": 1024})
        assert without["mrr"][0] < with_n["mrr"][0] < with_n["mrr"][1] < without["mrr"][1]
        assert without["mean_rank"][0] < with_n["mean_rank"][0]
        assert math.isinf(without["mean_rank"][1])
        assert with_n["mean_rank"][1] < 1024
    counts = (440, 723, 839)
    best = (counts[0] + (counts[1] - counts[0]) / 2 + (counts[2] - counts[1]) / 6 + (1024 - counts[2]) / 11) / 1024
    assert possible_ranges({**PAPER["Stage A"], "n": 1024})["mrr"][1] == pytest.approx(best)


def test_the_papers_fine_tune_row_is_possible_figure_by_figure_but_not_together():
    row = PAPER["direct fine-tune"]
    assert set(impossibilities({**row, "mean_rank": None})) == set(impossibilities({**row, "mrr": ""})) == set()
    assert set(impossibilities(row)) == {"mean_rank"}
    # By hand: MRR is smallest with all ranks of a bucket at its end, and those beyond 10 at their mean (1/r is convex).
    one, five, ten = 0.1035, 0.2475, 0.3515
    beyond = (24.75 - one - 5 * (five - one) - 10 * (ten - five)) / (1 - ten)
    assert one + (five - one) / 5 + (ten - five) / 10 + (1 - ten) / beyond > 0.1605
    assert impossibilities({**row, "mean_rank": "25.5"}) == {}


def test_a_possible_row_of_the_same_shape():
    assert impossibilities({**PAPER["Stage A"], "mrr": "0.55", "mean_rank": "12.1", "median_rank": 2, "n": 1024}) == {}


@pytest.mark.parametrize(
    ("row", "flagged"),
    [
        ({"r@1": "0.50", "r@5": "0.40"}, {"r@1", "r@5"}),
        ({"r@1": 0.3, "n": 2}, {"r@1"}),
        ({"r@1": 0.2, "r@10": 0.9, "n": 10}, {"r@10"}),
        ({"r@1": 1.0, "mrr": 0.99}, {"mrr"}),
        ({"r@1": 0.6, "median_rank": 2, "n": 10}, {"median_rank"}),
        ({"r@1": 0.5, "median_rank": 1.5, "n": 10}, set()),
        ({"r@5": 0.4, "median_rank": 5}, {"median_rank"}),
    ],
)
def test_single_figures(row, flagged):
    assert set(impossibilities(row)) == flagged
    if any(name.startswith("r@") for name in flagged):
        with pytest.raises(DataError, match="impossible"):
            possible_ranges(row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"mrr": 0.5}, "no r@k"),
        ({"r@1": 43.0}, "per cent"),
        ({"r@1": "much"}, "'much' is not a number"),
        ({"r@1": float("nan")}, "not finite"),
        ({"r@zero": 0.5}, "r@zero"),
        ({"r@0": 0.5}, "r@0"),
        ({"r@1": 0.5, "n": 2.5}, "n=2.5"),
        ({"r@1": 0.5, "n": 0}, "n=0"),
    ],
)
def test_rows_that_nothing_can_be_said_about(row, message):
    with pytest.raises(DataError, match=message):
        impossibilities(row)


@settings(max_examples=50)
@given(rankings(), st.integers(0, 3))
def test_a_permuted_recall_is_flagged(ranking, digits):
    metrics = rank_metrics(*ranking)
    names = [name for name in metrics if name.startswith("r@")]
    assume(len(names) > 1 and metrics[names[-1]] - metrics[names[0]] > 2 * 10.0**-digits)  # apart when rounded too
    row = rounded({**metrics, names[0]: metrics[names[-1]], names[-1]: metrics[names[0]]}, digits)
    assert set(impossibilities(row)) >= {names[0]}


def test_check_table_reads_csv_and_json_and_tells_by_its_exit_code(tmp_path, capsys):
    rows = [{"name": name, **row, "n": "1024"} for name, row in PAPER.items()]
    with open(tmp_path / "paper.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert main(["check-table", str(tmp_path / "paper.csv")]) == 1
    printed = capsys.readouterr().out
    assert "full: mrr 0.660 is impossible" in printed
    assert "Stage A: mean_rank" not in printed
    # Unquoted, as numbers; their digits count: 0.430 is narrower than 0.43.
    numbers = json.dumps(PAPER).replace('"0', "0").replace('"2', "2").replace('"3', "3").replace('",', ",")
    (tmp_path / "paper.json").write_text(numbers.replace('"}', "}"))
    assert isinstance(json.loads((tmp_path / "paper.json").read_text())["full"]["mrr"], float)
    assert main(["check-table", "--table", str(tmp_path / "paper.json")]) == 1
    assert "0.496–0.6037" in capsys.readouterr().out


def test_check_table_passes_a_record(tmp_path, capsys):
    metrics = rank_metrics(torch.randint(1, 200, (200,), generator=torch.Generator().manual_seed(0)))
    record = {
        "kind": "retrieval",
        "results": {"foreign_to_english": {"full": {**metrics, "intervals": {"mrr": [0, 1]}}}},
    }
    (tmp_path / "retrieval.json").write_text(json.dumps(record))
    assert main(["check-table", str(tmp_path / "retrieval.json")]) == 0
    assert "results.foreign_to_english.full" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.json", None, "none.json"),
        ("bad.json", "{", "bad.json"),
        ("empty.json", "[]", "no row"),
        ("percent.csv", "name,r@1\nours,43.0\n", "Row ours.*per cent"),
    ],
)
def test_check_table_refuses_what_it_cannot_read(name, content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["check-table", str(tmp_path / name)]) == 2
    assert re.search(message, capsys.readouterr().err)
