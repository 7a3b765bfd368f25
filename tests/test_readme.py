"""The README's other snippets and commands, executed on tiny random bases, and the scripts in `examples/`."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import build, reload_here, tiny_hub
from hub_server import serving as hub_serving
from judge_server import prefers_longer, serving
from page_server import serving as page_serving
from prepare_files import write_tmx
from synthesis_server import good

from llink.app.space import ask_page
from llink.cli import main
from llink.data.demo_corpus import demo_pairs, generate_instructions
from llink.evaluation.record import write_record
from llink.hub_cards import publishing

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
QUICK = "--report_to none --use_cpu --disable_tqdm True --save_strategy no"


@pytest.fixture(scope="module")
def workshop(base_folder, tmp_path_factory):
    """A folder with what the README's commands name: two bases, and train, dev and test files."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(base_folder("encoder", "xlm-roberta"), folder / "encoder")
    shutil.copytree(base_folder("decoder", "llama"), folder / "decoder")
    pairs = demo_pairs(180)
    for name, rows in (("train", pairs[:140]), ("dev", pairs[140:160]), ("test", pairs[160:])):
        (folder / f"{name}.en").write_text("".join(f"{pair.english}\n" for pair in rows), "utf-8")
        (folder / f"{name}.km").write_text("".join(f"{pair.foreign}\n" for pair in rows), "utf-8")
        lines = [json.dumps(row, ensure_ascii=False) for row in generate_instructions(rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    write_tmx(folder / "en-km.tmx.gz", [(pair.english, pair.foreign) for pair in demo_pairs(680)[180:]])
    return folder


def judge_or_writer(body):
    """The model on the README's server: judges, or writes examples, as it is asked."""
    return (good if body["messages"][-1]["content"].startswith("Text: ") else prefers_longer)(body)


def readme_commands() -> list[list[str]]:
    """The README's `llink …` commands, continuation lines joined."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)).replace("\\\n", " ")
    lines = [line.split("#")[0] for line in blocks.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("llink ")]


@pytest.mark.timeout(3600)
@pytest.mark.slow
def test_readme_commands_run(workshop, monkeypatch, capsys):
    monkeypatch.chdir(workshop)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the judge below is on this machine
    replaced = {"FacebookAI/xlm-roberta-base": "encoder", "meta-llama/Llama-3.2-1B-Instruct": "decoder"}
    commands = readme_commands()
    told = {command[0] for command in commands}
    assert {"prepare", "synthesize", "align", "lexicon", "inject", "finetune", "generate", "eval", "report"} <= told
    commands = [command for command in commands if command[0] not in ("push", "verify")]  # need bases on a Hub: below
    with serving(judge_or_writer) as judge, hub_serving() as hub:
        replaced |= {"http://localhost:8000/v1": judge.url, "NAME": judge.model}
        for command in commands:
            command = [replaced.get(word, word) for word in command]
            if command[0] == "app":  # it would serve until it is interrupted
                with page_serving(*command[1:]) as address:
                    assert isinstance(ask_page(address, "ក្មេងទៅសាលា"), str)
                continue
            if command[0] in ("align", "lexicon", "inject", "finetune"):
                command += shlex.split(QUICK) + ["--max_steps", "2", "--per_device_train_batch_size", "8"]
            elif command[:2] == ["eval", "numeric"]:
                command += ["--limit", "4"]
            with monkeypatch.context() as patch:
                if command[0] == "space":
                    command += ["--self_contained"]  # these bases are on no Hub
                    patch.setattr(publishing, "reload", reload_here)
                    hub.use(patch, Path("hf"))
                assert main(command) == 0, (command, capsys.readouterr().err)
    assert [command[2] for command in commands if command[0] == "space"] == [
        name.removeprefix("spaces/") for name in hub.repos
    ]
    kinds = set(json.loads(Path("out/eval/report/report.json").read_text())["runs"]["eval"])
    assert kinds == {c[1] for c in commands if c[0] == "eval" and "out/eval" in c}


def test_pushing_and_the_pipeline_as_the_readme_shows_them(workshop, monkeypatch, tmp_path, base_folder, capsys):
    monkeypatch.setattr(publishing, "reload", reload_here)
    with tiny_hub(monkeypatch, tmp_path / "hf", base_folder) as hub:
        monkeypatch.chdir(tmp_path)
        build().save_pretrained("out/b")
        write_record(tmp_path / "out" / "eval", "usage", {"zeroed_gap": 1.5, "shuffled_gap": 1.0, "n": 9}, {})
        commands = [command for command in readme_commands() if command[0] in ("push", "verify")]
        assert [command[0] for command in commands] == ["push", "verify"]
        for command in commands:
            assert main(command) == 0, (command, capsys.readouterr().err)
        assert "evaluation/usage.json" in hub.files("someone/Llama-km")
        snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
        piping = next(snippet for snippet in snippets if "pipeline(" in snippet)
        exec(compile(piping, "README.md", "exec"), {"__name__": "readme"})
        assert capsys.readouterr().out.count("generated_text") == 3


@pytest.mark.timeout(3600)
@pytest.mark.slow
def test_readme_python_runs(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    training = next(snippet for snippet in snippets if "AlignTrainer" in snippet)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    exec(compile(training, "README.md", "exec"), {"__name__": "readme"})
    assert (workshop / "out/model/config.json").is_file()
    assert (workshop / "out/whole/config.json").is_file()


def run_example(name: str, *arguments: str) -> str:
    """Runs a script as a user does and returns what it prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


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
