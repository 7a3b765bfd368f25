"""What a person sees: one line while training, tables at the end, a log beside the model; marked words; completion."""

import json
import subprocess

import pytest
from safetensors import SafetensorError

from llink.cli import COMMANDS, main
from llink.cli.help import completion
from llink.evaluation.report import marked_words
from llink.trainers.progress import LOG_FILE


def write(path, texts):
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return str(path)


@pytest.fixture
def command(base_folder, tmp_path):
    letters = "abcdefghij"
    sides = [[f"{a} {b} {word}" for a in letters for b in "xy"] for word in ("cat", "ចាប")]
    pairs = [write(tmp_path / f"train.{end}", side) for end, side in zip(("en", "km"), sides, strict=True)]
    held = [write(tmp_path / f"dev.{end}", [f"dev {t}" for t in s]) for end, s in zip(("en", "km"), sides, strict=True)]
    bases = ["--encoder", base_folder("encoder", "xlm-roberta"), "--decoder", base_folder("decoder", "llama")]
    size = ["--per_device_train_batch_size", "5", "--max_steps", "4", "--logging_steps", "1", "--use_cpu"]
    data = ["--pairs", *pairs, "--eval-pairs", *held, "--language", "Khmer", "--teacher_layer", "1"]
    return [*map(str, bases), *data, *size, "--report_to", "none", "--output_dir", str(tmp_path / "out")]


def test_a_run_is_one_line_a_table_and_a_log(command, tmp_path, capfd):
    assert main(["align", *command]) == 0
    shown = capfd.readouterr()
    assert shown.out.startswith("align: 20 rows, 4 steps, about ")
    assert "| eval_r@1" in shown.out
    assert "{'loss'" not in shown.out + shown.err
    assert "align: 100%" in shown.err
    assert "loss=" in shown.err
    logs = [json.loads(line) for line in (tmp_path / "out" / LOG_FILE).read_text().splitlines()]
    assert [row["step"] for row in logs if "loss" in row] == [1, 2, 3, 4]
    assert any("eval_r@1" in row for row in logs)


def test_verbose_shows_the_trainers_own_logs(command, tmp_path, capfd):
    assert main(["align", *command, "--verbose"]) == 0
    shown = capfd.readouterr()
    assert "'loss'" in shown.out + shown.err
    assert not (tmp_path / "out" / LOG_FILE).exists()


def test_a_plan_alone_trains_nothing(command, tmp_path, capfd):
    assert main(["plan", "align", *command]) == 0
    shown = capfd.readouterr().out
    for name in ("rows", "dropped", "cut", "tokens", "frozen bases", "training", "memory", "disk", "device"):
        assert f"\n{name} " in shown
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_words_are_marked():
    assert marked_words("The red cat sat.", "the cat, sat down", False) == "The [-red-] cat sat."
    assert marked_words("Yes no", "Yes", True) == "\033[32mYes\033[0m \033[31mno\033[0m"
    assert marked_words("", "a", False) == ""


def test_the_doctor_names_what_there_is(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name} " in said for name in ("torch", "devices", "cache", "login", "extra app"))


def test_the_shell_completes_commands_and_options():
    tried = 'COMP_WORDS=(llink {}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _llink; echo "${{COMPREPLY[*]}}"'
    asked = ["al", "eval us", "align --que", "plan inject --ins", "eval usage --mo"]
    script = "\n".join([completion(), *(tried.format(words) for words in asked)])
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    wanted = ["align", "usage", "--queue_size", "--instructions", "--model"]
    assert done.stdout.splitlines() == wanted
    assert all(command.split()[0] in completion() for command in COMMANDS)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "no space is left on the device"),
        (SafetensorError("Error while serializing: I/O error: File too large (os error 27)"), "File too large"),
        (
            RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/3"),
            "no space is left on the device",
        ),
        (SafetensorError("I/O error: Disk quota exceeded (os error 122)"), "Disk quota exceeded"),
        (OSError(30, "Read-only file system", "/x"), "/x: Read-only file system"),
    ],
)
def test_a_file_that_cannot_grow_is_one_sentence_whoever_writes_it(error, said, monkeypatch, capsys):
    def fail(argv):
        raise error

    monkeypatch.setattr("llink.cli.inject.run", fail)
    assert main(["inject"]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert "--resume_from_checkpoint last goes on" in line
    assert line.count("\n") == 1


def test_an_error_of_llinks_own_making_keeps_its_traceback(monkeypatch):
    def fail(argv):
        raise RuntimeError("a fault")

    monkeypatch.setattr("llink.cli.inject.run", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        main(["inject"])
