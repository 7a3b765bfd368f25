"""`benchmarks/prepare_speed.py` as a user runs it: it adds up, and memory does not grow with the input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "prepare_speed.py"
SIZES = (60_000, 180_000)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_speed_and_memory_at_two_sizes(tmp_path):
    command = [sys.executable, SCRIPT, "--pairs", *map(str, SIZES), "--json", tmp_path / "speed.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "speed.json").read_text("utf-8"))
    for size in SIZES:
        result = results[str(size)]
        assert f"| {size} pairs " in done.stdout
        for step in ("copy", "ratio", "script", "empty", "duplicate", "near_duplicate", "invisible"):
            assert result["steps"][step] > 0, "vacuous unless every kind of noise is there"
        assert result["seconds"]["cleaning: signatures"][1] > 0
    small, large = (results[str(size)] for size in SIZES)
    assert large["pairs_a_second_on_free_cores"] > small["pairs_a_second_on_free_cores"] / 2, (
        "time grows with the input"
    )
    assert large["peak_mib"] < 1.25 * small["peak_mib"]
