"""`make bench`: it counts what the bases are asked for, names each count that moved, and takes others when told to."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "bench.py"
COUNTS = {"mlp/align/encoder_passes": 0, "mlp/align/flops": 1000, "tokens/answer/logits": 32}


@pytest.fixture
def bench(monkeypatch):
    """`benchmarks/bench.py` as a module, which counts what `COUNTS` says."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("bench", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "count_all", lambda folder: dict(COUNTS))
    return module


def run(bench, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["bench.py", *map(str, arguments)])
    bench.main()


def test_passes_tokens_logits_and_products_are_counted(bench, model):
    with bench.counting(model) as found:
        answer = model.generate(foreign_text="ក្មេង", prompt="Translate.", max_new_tokens=3, min_new_tokens=3)
    prompt = model.processor(["Translate."], ["ក្មេង"])
    assert answer.shape[1] == 3
    assert (found["encoder_passes"], found["decoder_passes"]) == (1, 3)
    assert found["encoder_tokens"] == prompt["foreign_input_ids"].numel()
    assert found["decoder_tokens"] == prompt["input_ids"].numel() + 2
    assert found["logits"] == 3
    assert found["flops"] > 0
    with bench.counting(model) as later:
        model.get_teacher_states(["the cat"])
    assert (later["encoder_passes"], later["decoder_passes"], later["logits"]) == (0, 1, 0)
    assert found["decoder_passes"] == 3, "what runs later is not counted"


def test_what_is_accepted_is_expected(bench, monkeypatch, tmp_path, capsys):
    expected = tmp_path / "bench.json"
    with pytest.raises(SystemExit, match="--accept"):
        run(bench, monkeypatch, "--expected", expected)
    run(bench, monkeypatch, "--accept", "--expected", expected)
    run(bench, monkeypatch, "--expected", expected)
    assert "All 3 counts" in capsys.readouterr().out


def test_each_count_that_moved_is_named(bench, monkeypatch, tmp_path, capsys):
    expected = tmp_path / "bench.json"
    before = {"mlp/align/encoder_passes": 0, "mlp/align/flops": 500, "mlp/align/gone": 1}
    expected.write_text(json.dumps({"libraries": {"torch": "1.0"}, "counts": before}), "utf-8")
    with pytest.raises(SystemExit, match="3 counts have moved"):
        run(bench, monkeypatch, "--expected", expected)
    said = capsys.readouterr().out
    assert "mlp/align/flops: 500 expected, 1000 counted (2.000 times)" in said
    assert "mlp/align/gone: 1 expected, None counted" in said
    assert "tokens/answer/logits: None expected, 32 counted" in said
    assert "encoder_passes" not in said
    assert "'torch': '1.0'" in said, "other libraries may be why"


def test_the_accepted_counts_hold_what_was_promised():
    counts = json.loads((SCRIPT.parent / "results" / "bench.json").read_text("utf-8"))["counts"]
    for slots in ("mlp", "tokens"):
        assert counts[f"{slots}/compiled/graphs"] == 1
        assert counts[f"{slots}/first_token_kept_slots/encoder_passes"] == 0
        for stage in ("align", "lexicon"):
            assert counts.get(f"{slots}/{stage}/decoder_passes", 0) == 0
    assert counts["mlp/features_again/encoder_tokens"] == counts["mlp/features_again/decoder_tokens"] == 0
