"""The example that lets a real model judge, behind `transformers serve`, run as a user runs it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from llink.evaluation.outputs import OutputRow, write_outputs

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.timeout(3600)
@pytest.mark.slow
def test_the_example_serves_a_real_model(base_folder, tmp_path):
    pytest.importorskip("fastapi", reason="the extra `judge` is not installed")
    files = [str(tmp_path / f"{name}.jsonl") for name in ("long", "short")]
    for file in files:
        tasks = enumerate(("title", "qa_about_text"))
        write_outputs(
            file, [OutputRow(str(i), t, ["ក"], "Do it.\n<foreign_emb>", f"{i}.", "It.", file) for i, t in tasks]
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PORT": str(port), "PATH": beside, "OMP_NUM_THREADS": "1"}
    options = ["--max-tokens", "4", "--attempts", "2"]
    options += ["--judge-prompt", str(EXAMPLES / "judge_prompt_short.jinja")]
    script = ["bash", str(EXAMPLES / "judge_with_transformers_serve.sh")]
    arguments = [str(base_folder("decoder", "llama")), str(tmp_path / "run"), *files, *options]
    done = subprocess.run([*script, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "run" / "judge.json").read_text("utf-8"))["results"]
    assert results["judge"]["judgements"] == 4, "two examples, both orders"
    assert results["judge"]["unparsed"] == 4, "random weights have no opinion"
    assert results["judge"]["answers"] == 8
    assert results["judge"]["prompt_tokens"] > 0, "counted by the real server"
    assert results["long vs. short"]["all"]["n"] == 0
    assert results["long vs. short"]["all"]["preference"] is None
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port)).close()
