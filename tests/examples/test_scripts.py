"""The scripts in `examples/`, run as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from workshop import furnish

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def workshop(base_folder, tmp_path_factory):
    """A folder with two bases, and train, dev and test files."""
    return furnish(tmp_path_factory.mktemp("examples"), base_folder)


def run_example(name: str, *arguments: str) -> str:
    """Runs a script as a user does and returns what it prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_train_runs_both_stages(workshop, tmp_path):
    files = ["--pairs", "train.en", "train.km", "--eval_pairs", "dev.en", "dev.km", "--language", "km"]
    files = [str(workshop / name) if (workshop / name).is_file() else name for name in files]
    bases = ["--encoder", str(workshop / "encoder"), "--decoder", str(workshop / "decoder")]
    printed = run_example("train.py", *bases, *files, "--max_steps", "2", "--output_dir", str(tmp_path))
    assert "Stage A: {'eval_r@1'" in printed
    assert "Stage B: {'eval_loss'" in printed
    assert "→" in printed
    assert (tmp_path / "model" / "config.json").is_file()


@pytest.mark.slow
def test_split_corpus_leaves_no_sentence_in_two_splits(workshop, tmp_path):
    pairs = ["--pairs", str(workshop / "train.en"), str(workshop / "train.km")]
    run_example("split_corpus.py", *pairs, "--language", "km", "--held-out", "20", "--output-dir", str(tmp_path))
    for side in ("en", "km"):
        train, dev, test = (
            set((tmp_path / f"{name}.{side}").read_text("utf-8").splitlines()) for name in ("train", "dev", "test")
        )
        assert (len(train), len(dev), len(test)) == (100, 20, 20)
        assert not train & dev
        assert not train & test
        assert not dev & test
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text("utf-8").splitlines()]
    assert all(row["prompt"].count("<foreign_emb>") == len(row["foreign"]) == 1 for row in rows)
    held_out = set((tmp_path / "test.km").read_text("utf-8").splitlines())
    assert not held_out & set((tmp_path / "monolingual.txt").read_text("utf-8").splitlines())


@pytest.mark.slow
def test_pretrain_decoder_makes_a_decoder_that_loads(workshop, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Say {n}.", "completion": f"{n}."}) + "\n" for n in range(40)))
    sizes = ["--vocab_size", "300", "--hidden_size", "48", "--num_heads", "2", "--num_layers", "1"]
    training = ["--max_steps", "2", "--report_to", "none", "--use_cpu", "--save_strategy", "no"]
    run_example("pretrain_decoder.py", "--dialogues", str(rows), "--output_dir", str(tmp_path / "d"), *sizes, *training)
    model, tokenizer = (kind.from_pretrained(tmp_path / "d") for kind in (AutoModelForCausalLM, AutoTokenizer))
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Say 3."}], return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=2).shape[1] > prompt["input_ids"].shape[1]
    assert len(tokenizer("ខ្មែរ", add_special_tokens=False)["input_ids"]) == len("ខ្មែរ".encode()), "Khmer shatters"


@pytest.mark.slow
def test_pretrain_encoder_makes_an_encoder_that_serves(workshop, tmp_path):
    from llink import LlinkForCausalLM

    sizes = ["--vocab_size", "300", "--hidden_size", "48", "--num_heads", "2", "--num_layers", "1"]
    training = ["--max_steps", "2", "--report_to", "none", "--use_cpu", "--save_strategy", "no"]
    text = ["--text", str(workshop / "train.km"), "--output_dir", str(tmp_path / "e")]
    run_example("pretrain_encoder.py", *text, *sizes, *training)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(tmp_path / "e", workshop / "decoder")
    assert model.get_pooled_features(["ខ្មែរ"]).shape == (1, 48)


@pytest.mark.slow
def test_plot_steps_compares_runs_that_were_evaluated(tmp_path):
    for name, losses in (("inject", {10: 2.5, 20: 2.25}), ("finetune", {10: 2.0})):
        history = [{"step": 5, "loss": 9.0}, *({"step": step, "eval_loss": loss} for step, loss in losses.items())]
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text(json.dumps({"log_history": history}), "utf-8")
    runs, out = [str(tmp_path / name) for name in ("inject", "finetune")], tmp_path / "out"
    run_example("plot_steps.py", *runs, "--output-dir", str(out))
    assert json.loads((out / "steps.json").read_text("utf-8"))["results"] == {
        "inject": {"10": 2.5, "20": 2.25},
        "finetune": {"10": 2.0},
    }
    assert (out / "steps.png").read_bytes().startswith(b"\x89PNG")
    later = [runs[0], str(out / "steps.json")]
    with pytest.raises(AssertionError, match="Two runs have the same name"):
        run_example("plot_steps.py", *later, "--output-dir", str(out))
    (tmp_path / "inject").rename(tmp_path / "words")
    run_example("plot_steps.py", str(tmp_path / "words"), str(out / "steps.json"), "--output-dir", str(out / "more"))
    assert list(json.loads((out / "more" / "steps.json").read_text("utf-8"))["results"]) == [
        *("words", "inject", "finetune")
    ]
    (tmp_path / "words").rename(tmp_path / "inject")
    (tmp_path / "inject" / "trainer_state.json").write_text('{"log_history": []}', "utf-8")
    with pytest.raises(AssertionError, match="without evaluations: set --eval_instructions"):
        run_example("plot_steps.py", *runs, "--output-dir", str(out))
