"""The command line as users type it: both stages, evaluation and generation on files, and what goes wrong."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml

from llink.cli import main
from llink.cli.parsing import parse_arguments
from llink.configuration_llink import LlinkConfigError
from llink.data.demo_corpus import demo_pairs, generate_instructions
from llink.data.instructions import read_instructions
from llink.data.pairs import read_pairs
from llink.evaluation.outputs import OutputRow, write_outputs
from llink.evaluation.report import table
from llink.trainers.align_trainer import AlignTrainer
from llink.trainers.inject_config import InjectConfig
from llink.trainers.inject_trainer import InjectTrainer

QUICK = ["--report_to", "none", "--use_cpu", "--disable_tqdm", "True", "--save_strategy", "no"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Line-aligned pairs and instruction rows of the demo corpus."""
    folder = tmp_path_factory.mktemp("files")
    pairs = demo_pairs(60)
    for name, rows in (("train", pairs[:40]), ("dev", pairs[40:])):
        (folder / f"{name}.en").write_text("".join(f"{pair.english}\n" for pair in rows), "utf-8")
        (folder / f"{name}.km").write_text("".join(f"{pair.foreign}\n" for pair in rows), "utf-8")
        lines = [json.dumps(row, ensure_ascii=False) for row in generate_instructions(rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def bases(base_folder):
    return ["--encoder", base_folder("encoder", "xlm-roberta"), "--decoder", base_folder("decoder", "llama")]


@pytest.fixture(scope="module")
def stage_a(files, bases, tmp_path_factory):
    """The folder that `llink align` wrote."""
    output = tmp_path_factory.mktemp("out") / "a"
    code = main(
        ["align", *bases, *QUICK, "--pairs", f"{files}/train.en", f"{files}/train.km", "--output-dir", str(output)]
        + ["--eval-pairs", f"{files}/dev.en", f"{files}/dev.km", "--per-device-train-batch-size", "8"]
        + ["--max-steps", "3", "--logging-steps", "1", "--eval-strategy", "steps", "--eval-steps", "1"]
        + ["--teacher-components", "8", "--num-slots", "3", "--language", "km"]
    )
    assert code == 0
    return output


@pytest.fixture(scope="module")
def stage_b(files, stage_a):
    """The folder that `llink inject` wrote."""
    output = stage_a.with_name("b")
    code = main(
        ["inject", *QUICK, "--model", str(stage_a), "--instructions", f"{files}/train.jsonl"]
        + ["--eval-instructions", f"{files}/dev.jsonl", "--output-dir", str(output), "--max-steps", "2"]
        + ["--per-device-train-batch-size", "4", "--gradient-accumulation-steps", "2", "--logging-steps", "1"]
    )
    assert code == 0
    return output


@pytest.mark.matrix
def test_align_writes_model_metrics_and_plot(stage_a):
    config = json.loads((stage_a / "config.json").read_text())
    assert (config["stage"], config["num_slots"], config["teacher_components"]) == ("align", 3, 8)
    metrics = json.loads((stage_a / "eval_results.json").read_text())
    assert metrics["eval_n"] == 20
    assert 0 <= metrics["eval_r@1"] <= metrics["eval_r@10"] <= 1
    assert (stage_a / "training.png").read_bytes().startswith(b"\x89PNG")


def test_the_metrics_that_may_choose_the_best_model_are_those_of_the_evaluation(files, stage_a, stage_b):
    of_time = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "epoch"}
    pairs, rows = read_pairs(f"{files}/dev.en", f"{files}/dev.km"), read_instructions(f"{files}/dev.jsonl")
    assert len(set(rows["task"][:])) > 1, "vacuous unless there are metrics of tasks"
    for folder, names in ((stage_a, AlignTrainer.metric_names(pairs)), (stage_b, InjectTrainer.metric_names(rows))):
        found = json.loads((folder / "eval_results.json").read_text()).keys() - of_time
        assert found == {f"eval_{name}" for name in names}


HELD_OUT = {command: ["--eval-pairs", "dev.en", "dev.km"] for command in ("align", "lexicon")}


@pytest.mark.parametrize("command", ["align", "lexicon", "inject", "finetune", "langbridge"])
@pytest.mark.parametrize(
    ("options", "held_out", "words"),
    [
        (["--eval_strategy", "steps"], False, "--eval_strategy steps has nothing to evaluate"),
        (["--eval_on_start"], False, "--eval_on_start has nothing to evaluate"),
        (["--report_to", "mlflow"], False, "--report_to 'mlflow' is not installed"),
        (["--report_to", "nonsense"], False, "--report_to 'nonsense' is not one of none, all"),
        (
            ["--lr_scheduler_kwargs", '{"x": 1}'],
            False,
            "--lr_scheduler_kwargs {'x': 1} do not fit --lr_scheduler_type ",
        ),
        (["--lr_scheduler_kwargs", "nonsense"], False, "--lr_scheduler_kwargs 'nonsense' do not fit"),
        (["--metric_for_best_model", "nonsense", "--eval_strategy", "steps"], True, "'nonsense' is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_training_that_would_fail_later_is_refused_before_a_model_loads(
    command, options, held_out, words, files, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_mlflow_available", lambda: False)
    monkeypatch.chdir(files)
    pairs = ["--pairs", "train.en", "train.km"]
    given = {"align": ["--encoder", "/nowhere", "--decoder", "/nowhere", *pairs]}
    given["lexicon"] = ["--model", "/nowhere", *pairs]
    words_of = given.get(command, ["--model", "/nowhere", "--instructions", "train.jsonl"])
    more = HELD_OUT.get(command, ["--eval-instructions", "dev.jsonl"]) if held_out else []
    assert main([command, *words_of, *more, *options, "--use_cpu", "--output_dir", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.matrix
def test_inject_keeps_the_projector_and_reports_usage(stage_a, stage_b):
    from safetensors.torch import load_file

    before, after = load_file(stage_a / "model.safetensors"), load_file(stage_b / "model.safetensors")
    assert all((before[key] == after[key]).all() for key in before if key.startswith(("projector", "teacher_space")))
    assert any((before[key] != after[key]).any() for key in before), "vacuous unless something was trained"
    metrics = json.loads((stage_b / "eval_results.json").read_text())
    assert {"eval_zeroed_gap", "eval_shuffled_gap", "eval_loss"} <= metrics.keys()


@pytest.mark.parametrize(
    ("options", "adapter", "residual"),
    [([], "gated", True), (["--slot_adapter", "none"], "none", True), (["--preset", "paper"], "gated", False)],
    ids=["as Stage A's model", "a flag", "a preset that is named"],
)
def test_inject_may_start_other_slots(files, stage_a, stage_b, tmp_path, capsys, options, adapter, residual):
    rows = ["--instructions", f"{files}/train.jsonl", "--cosine_weight", "0", "--nce_weight", "0", "--max_steps", "1"]
    quick = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1", "--report_to", "none"]
    command = ["inject", *rows, *quick, "--save_strategy", "no", "--use_cpu", "--output_dir", str(tmp_path), *options]
    assert main([*command, "--model", str(stage_a)]) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["slot_adapter"], config["slot_residual"]) == (adapter, residual)
    if options:
        assert main([*command, "--model", str(stage_b)]) == 2
        assert "throw away" in capsys.readouterr().err


def test_generate_prints_one_answer_a_passage(stage_b, capsys):
    command = ["generate", "--model", str(stage_b), "--foreign-text", "ក្មេងទៅសាលា", "ចាស"]
    assert main([*command, "--prompt", "Summarize in English.", "--max-new-tokens", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_eval_commands_write_json(files, stage_b, tmp_path, capsys):
    pairs = ["--pairs", f"{files}/dev.en", f"{files}/dev.km"]
    assert main(["eval", "retrieval", "--model", str(stage_b), *pairs, "--output-dir", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "retrieval.json").read_text())
    assert set(found["results"]) == {"foreign_to_english", "english_to_foreign"}
    assert found["arguments"]["model"] == str(stage_b)
    assert set(found["versions"]) >= {"llink", "torch", "transformers"}
    assert "mean_rank" in capsys.readouterr().out
    rows = ["--instructions", f"{files}/dev.jsonl"]
    assert main(["eval", "usage", "--model", str(stage_b), *rows, "--output-dir", str(tmp_path)]) == 0
    assert {"zeroed_gap", "shuffled_gap"} <= json.loads((tmp_path / "usage.json").read_text())["results"].keys()


def test_eval_translation_shows_both_systems(files, stage_b, tmp_path, monkeypatch, capsys):
    command = ["eval", "translation", "--model", str(stage_b), "--pairs", f"{files}/dev.en", f"{files}/dev.km"]
    assert main([*command, "--limit", "3", "--show", "2", "--max-new-tokens", "4", "--output-dir", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "translation.json").read_text())["results"]
    assert [len(found["samples"]), found["llink"]["n"]] == [3, 3]
    assert capsys.readouterr().out.count("reference:") == 2
    quick = ["--limit", "1", "--max-new-tokens", "2", "--comet", "Unbabel/wmt22-comet-da"]
    assert main([*command, *quick, "--output-dir", str(tmp_path / "none")]) == 2
    output = capsys.readouterr()
    assert "needs an environment of its own" in output.err
    assert "reference:" not in output.out, "nothing is translated where COMET is missing"
    (tmp_path / "comet.py").write_text("raise RuntimeError('out of memory')", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main([*command, *quick, "--output-dir", str(tmp_path / "kept")]) == 2
    output = capsys.readouterr()
    assert "out of memory" in output.err
    assert "chrf" in output.out, "the table is shown before COMET runs"
    assert (tmp_path / "kept" / "translation.json").is_file(), "COMET that fails costs no finished work"
    assert main([*command, "--show", "-1"]) == 2
    assert "--show -1 must be 0 or more" in capsys.readouterr().err


def finished_outputs(path, task, outputs):
    """A file of two finished rows."""
    rows = [OutputRow(str(n), task, ["ក"], "<foreign_emb>", f"He left at {n}.", "", o) for n, o in enumerate(outputs)]
    write_outputs(path, rows)
    return str(path)


def test_eval_translation_of_finished_outputs(tmp_path, capsys):
    paths = [finished_outputs(tmp_path / "right.jsonl", "translate_to_english", ["He left at 0.", "He left at 1."])]
    paths.append(finished_outputs(tmp_path / "wrong.jsonl", "translate_to_english", ["x", "He left at 1."]))
    assert main(["eval", "translation", "--outputs", *paths, "--output-dir", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "translation.json").read_text())["results"]
    assert (found["right"]["chrf"], found["right"]["n"]) == (pytest.approx(100), 2)
    low, high = found["wrong"]["intervals"]["chrf"]
    assert low < found["wrong"]["chrf"] < high
    assert f"[{low:.3f}, {high:.3f}]" in capsys.readouterr().out
    questions = finished_outputs(tmp_path / "questions.jsonl", "qa_about_text", ["He", "She"])
    for command, message in (
        (["--outputs", questions], "hold no translations"),
        (["--outputs", *paths, "--model", "x"], "leave out --model"),
        (["--outputs", paths[0], paths[0]], "rename one"),
        (["--model", "x"], "Give --model and --pairs, or --outputs"),
    ):
        assert main(["eval", "translation", *command]) == 2
        assert message in capsys.readouterr().err


def test_yaml_stands_between_preset_and_flags(files, bases, tmp_path):
    file = tmp_path / "run.yaml"
    options = {"preset": "paper", "num_slots": 2, "max_steps": 1, "per_device_train_batch_size": 8}
    options |= {"pairs": [f"{files}/train.en", f"{files}/train.km"], "report_to": "none", "use_cpu": True}
    file.write_text(yaml.safe_dump(options))
    assert main(["align", *bases, "--config", str(file), "--num-slots", "5", "--output-dir", str(tmp_path / "a")]) == 0
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["num_slots"] == 5  # the flag
    assert config["teacher_template"] == "User:{text}"  # the file's preset
    assert config["teacher_conditioning"] == "none"


@pytest.mark.slow
def test_a_broken_run_goes_on_from_its_checkpoint(files, bases, tmp_path, capsys):
    command = ["align", *bases, "--report_to", "none", "--use_cpu", "--output-dir", str(tmp_path / "a")]
    command += ["--pairs", f"{files}/train.en", f"{files}/train.km", "--per-device-train-batch-size", "8"]
    command += ["--save-steps", "2", "--save-strategy", "steps", "--max-steps", "4", "--disable-tqdm", "True"]
    assert main([*command, "--resume_from_checkpoint", "last"]) == 0
    assert "holds no checkpoint yet: training begins" in capsys.readouterr().out
    assert main([*command, "--resume_from_checkpoint", str(tmp_path / "a" / "checkpoint-2")]) == 0
    capsys.readouterr()
    assert main([*command, "--resume_from_checkpoint", str(tmp_path / "none")]) == 2
    assert f"There is no checkpoint {tmp_path / 'none'} to resume from" in capsys.readouterr().err
    assert main([*command, "--resume_from_checkpoint", "last"]) == 0


def bad_commands(files, bases):
    short = files / "short.km"
    short.write_text("មួយ\n", "utf-8")
    undecodable = files / "bytes.km"
    undecodable.write_bytes(b"\xff\xfe\n" * 40)
    (files / "empty.km").write_bytes(b"")
    english, khmer = f"{files}/train.en", f"{files}/train.km"
    pairs = ["--pairs", english, khmer]
    two = [bases[3], bases[3]]
    return {
        "line counts": (["align", *bases, "--pairs", english, str(short)], "40"),
        "undecodable": (["align", *bases, "--pairs", english, str(undecodable)], "bytes.km"),
        "empty file": (["align", *bases, "--pairs", english, f"{files}/empty.km"], "empty"),
        "missing file": (["align", *bases, "--pairs", english, f"{files}/none.km"], "none.km"),
        "one file": (["align", *bases, "--pairs", english], "two files"),
        "encoder is a decoder": (["align", "--encoder", two[0], "--decoder", two[1], *pairs], "is a decoder"),
        "decoder is an encoder": (["align", "--encoder", bases[1], "--decoder", bases[1], *pairs], "not a causal"),
        "missing model": (["align", "--encoder", "/nowhere/at/all", *bases[2:], *pairs], "/nowhere/at/all"),
        "unknown preset": (["align", *bases, *pairs, "--preset", "best"], "recommended"),
        "bad template": (["align", *bases, *pairs, "--teacher-template", "nothing"], "{text}"),
        "no llink model": (["generate", "--model", bases[3], "--foreign-text", "ក"], "no llink model"),
        "empty folder": (["generate", "--model", str(files), "--foreign-text", "ក"], "no llink model"),
        "blank text": (["generate", "--model", bases[3], "--foreign-text", " "], "white space"),
        "no rows": (["inject", "--model", bases[3], "--instructions", f"{files}/none.jsonl"], "none.jsonl"),
    }


def test_bad_input_is_one_line_and_code_2_before_anything_is_written(files, bases, tmp_path, capsys):
    for name, (command, words) in bad_commands(files, bases).items():
        output = tmp_path / name.replace(" ", "-")
        extra = ["--output-dir", str(output)] if command[0] in ("align", "inject") else []
        assert main([*command, *extra]) == 2, name
        error = capsys.readouterr().err
        assert words in error, (name, error)
        assert "Traceback" not in error, name
        assert not output.exists() or not any(output.iterdir()), name


def test_unknown_options_of_a_file_are_named(files, bases, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("learning_rat: 1\n")
    command = ["align", *bases, "--pairs", f"{files}/train.en", f"{files}/train.km"]
    assert main([*command, "--config", str(tmp_path / "run.yaml")]) == 2
    assert "learning_rat" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["generate", "--model", "x", "--foreign-text", "a", "--prompts", "b"], "--prompts (did you mean --prompt?)"),
        (
            [
                "align",
                "--num_slot",
                "4",
                "--encoder",
                "e",
                "--decoder",
                "d",
                "--pairs",
                "a",
                "b",
                "--output_dir",
                "out",
            ],
            "--num_slot (did you mean --num_slots?)",
        ),
        (["push", "folder", "someone/repo", "third"], "third"),
        (["generate", "--foreign-text", "a"], "required: --model"),
        (["generate", "--model", "x", "--foreign-text", "a", "--seed", "many"], "--seed"),
        (["verify", "x", "--fresh_process", "perhaps"], "unknown options: perhaps"),
        (["inject", "--model", "x", "--instructions", "y", "--output_dir", "z", "--eval_strategy", "never"], "never"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_options_that_do_not_exist_or_fit_are_one_line_and_code_2(command, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    output = capsys.readouterr()
    (line,) = output.err.strip().splitlines()
    assert line.startswith(f"llink {command[0]}: error: ")
    assert words in line
    assert output.out == ""
    assert not list(tmp_path.iterdir())


@dataclass
class Places:
    """Of two places."""

    folder: str = field(metadata={"help": "A folder."})
    runs: list[str] = field(metadata={"help": "Runs."})
    port: int = field(default=1, metadata={"help": "A port."})


@pytest.mark.parametrize(
    "argv",
    [
        ["a", "b", "c", "--port", "7"],
        ["--port", "7", "a", "b", "c"],
        ["a", "--port", "7", "b", "c"],
        ["--runs", "b", "c", "--port", "7", "a"],
        ["--folder", "a", "--port", "7", "b", "c"],
    ],
    ids=" ".join,
)
def test_options_by_their_place_stand_anywhere(argv):
    (args,) = parse_arguments("x", argv, (Places,), positionals=("folder", "runs"))
    assert (args.folder, args.runs, args.port) == ("a", ["b", "c"], 7)


def test_a_place_that_is_empty_is_named(capsys):
    with pytest.raises(LlinkConfigError, match="RUNS is missing"):
        parse_arguments("x", ["a", "--port", "7"], (Places,), positionals=("folder", "runs"))
    with pytest.raises(SystemExit):
        parse_arguments("x", ["--help"], (Places,), positionals=("folder", "runs"))
    assert "llink x FOLDER RUNS [options]" in capsys.readouterr().out


@dataclass
class Switches:
    """Options of every kind that can be on."""

    on: bool = field(default=True, metadata={"help": "On."})
    off: bool = field(default=False, metadata={"help": "Off."})


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("name", ["on", "off"])
def test_a_file_switches_options_on_and_off(tmp_path, name, value):
    """Whatever their default; flags stand above the file."""
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({name: value}))
    command = ["--config", str(tmp_path / "run.yaml")]
    (found,) = parse_arguments("switch", command, (Switches,))
    assert vars(found) == {"on": True, "off": False} | {name: value}
    (found,) = parse_arguments("switch", [*command, f"--{name}"], (Switches,))
    assert getattr(found, name) is True
    (found,) = parse_arguments("switch", [*command, "--no_on", "--off", "False"], (Switches,))
    assert vars(found) == {"on": False, "off": False}
    (found,) = parse_arguments("switch", command, (Switches,), defaults={name: not value})
    assert getattr(found, name) is value, "the file stands above a preset"


@dataclass
class Pushed(Switches):
    """A switch beside a place."""

    folder: str = field(default=None, metadata={"help": "A folder.", "required": True})


@pytest.mark.parametrize("argv", [["--off", "a"], ["a", "--off"], ["--off", "True", "a"], ["--off", "yes", "a"]])
def test_a_switch_takes_no_other_options_word(argv):
    (found,) = parse_arguments("push", argv, (Pushed,), positionals=("folder",))
    assert (found.folder, found.off) == ("a", True)
    (found,) = parse_arguments("push", ["--off", "no", "a"], (Pushed,), positionals=("folder",))
    assert (found.folder, found.off) == ("a", False)


@dataclass
class Kinds:
    """Options of every type that a command has."""

    names: list[str] = field(default_factory=list, metadata={"help": "Names."})
    lengths: list[int] | None = field(default=None, metadata={"help": "Numbers."})
    count: int = field(default=1, metadata={"help": "A number."})
    limit: int | None = field(default=None, metadata={"help": "A number or none."})
    rate: float = field(default=1.0, metadata={"help": "A number."})
    text: str = field(default="", metadata={"help": "Text."})
    kind: Literal["step", "query"] = field(default="step", metadata={"help": "One of two."})
    more: dict | str | None = field(default=None, metadata={"help": "JSON."})
    shown: bool = field(default=False, metadata={"help": "Shown."})
    several: list[int] = field(default_factory=lambda: [1], metadata={"help": "Numbers."})


def of_file(tmp_path, line, *argv, kinds=(Kinds,)):
    (tmp_path / "run.yaml").write_text(line)
    return parse_arguments("kinds", ["--config", str(tmp_path / "run.yaml"), *argv], kinds)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("names: one two", ["one two"]),
        ("names: [1, two]", ["1", "two"]),
        ("names: []", []),
        ("lengths: 3", [3]),
        ("lengths: ['3', 4]", [3, 4]),
        ("lengths: null", None),
        ("count: '2'", 2),
        ("limit: null", None),
        ("limit: 5", 5),
        ("rate: 1e-4", 1e-4),
        ("rate: 2", 2),
        ("text: 2024", "2024"),
        ("kind: query", "query"),
        ("more: {a: 1}", {"a": 1}),
        ("more: '{\"a\": 1}'", '{"a": 1}'),
        ("shown: yes", True),
        ("shown: 'yes'", True),
        ("shown: 1", True),
    ],
)
def test_a_files_values_become_those_of_the_command_line(tmp_path, line, value):
    (found,) = of_file(tmp_path, line)
    assert (line, getattr(found, line.partition(":")[0])) == (line, value)
    assert type(getattr(found, line.partition(":")[0])) is type(value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("count: 2.5", "count: 2.5 must be a whole number"),
        ("count: 3.0", "a whole number"),
        ("count: true", "a whole number"),
        ("count: null", "a whole number"),
        ("limit: two", "limit: 'two' must be a whole number"),
        ("rate: two", "a number"),
        ("rate: [1]", "a number"),
        ("text: [li.jsonl]", "text: ['li.jsonl'] must be text"),
        ("text: no", "text: False must be text, in quotes"),
        ("names: [[a]]", "a list, each of it text"),
        ("lengths: [1, x]", "lengths: [1, 'x'] must be a list, each of it a whole number"),
        ("several: []", "several is an empty list"),
        ("kind: other", "one of 'step', 'query'"),
        ("more: [a]", "a mapping or text"),
        ("shown: perhaps", "true or false"),
        ("config: other.yaml", "unknown options: config"),
        ("1: 2", "unknown options: 1"),
    ],
)
def test_a_files_values_of_another_type_are_refused(tmp_path, line, words):
    with pytest.raises(LlinkConfigError, match="The file of --config") as refused:
        of_file(tmp_path, line)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("command", "content", "words"),
    [
        (["align", "--encoder", "e", "--decoder", "d"], {"pairs": "l.en l.km"}, "got 1: ['l.en l.km']"),
        (["align", "--encoder", "e", "--decoder", "d"], {"max_steps": 2.5}, "max_steps: 2.5 must be a whole number"),
        (["align", "--encoder", "e", "--decoder", "d"], {"log_level": "loud"}, "log_level: 'loud' is not one of"),
        (["align", "--encoder", "e", "--decoder", "d"], {"preset": ["paper"]}, "preset: ['paper'] must be text"),
        (["inject", "--model", "m"], {"instructions": ["li.jsonl"]}, "instructions: ['li.jsonl'] must be text"),
        (["generate", "--model", "m"], {"max_new_tokens": 4.5}, "max_new_tokens: 4.5 must be a whole number"),
        (["report"], {"runs": []}, "runs is an empty list"),
        (["prepare", "--input", "a.tmx", "--language", "km"], {"english_length": 3}, "--english_length [3]"),
    ],
)
def test_a_command_names_the_option_of_the_file_that_does_not_fit(command, content, words, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    output = [] if command[0] in ("generate", "report") else ["--output_dir", str(tmp_path / "out")]
    assert main([*command, *output, "--config", str(tmp_path / "run.yaml")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_trainers_options_keep_their_types_in_a_file(tmp_path):
    content = {"lr_scheduler_kwargs": {"min_lr_rate": 0.2}, "report_to": "none", "optim": "adafactor", "debug": []}
    content |= {"learning_rate": "1e-4", "label_names": "labels", "tf32": None, "save_strategy": "no"}
    line = yaml.safe_dump({"output_dir": str(tmp_path / "out"), **content})
    (args,) = of_file(tmp_path, line, kinds=(InjectConfig,))
    assert (args.learning_rate, args.lr_scheduler_kwargs) == (1e-4, {"min_lr_rate": 0.2})
    assert (args.optim, args.label_names, args.report_to) == ("adafactor", ["labels"], [])


WRITING = {
    "align": "--encoder e --decoder d --pairs a b",
    "inject": "--model m --instructions i",
    "finetune": "--model m --instructions i",
    "langbridge": "--model m --instructions i",
    "ablate": "--study s",
    "encoders": "--encoders e --pairs a b",
    "eval retrieval": "--model m --pairs a b",
    "eval usage": "--model m --instructions i",
    "eval content": "--model m --outputs a",
    "eval translation": "--model m --pairs a b",
    "eval outputs": "--model m --instructions i",
    "eval judge": "--outputs a b --judge-model j",
    "eval numeric": "--model m",
    "eval tokens": "--texts en=a --model m",
    "eval representations": "--model m --pairs a b",
    "report": "run",
    "prepare": "--input a.tmx --language km",
    "synthesize": "--pairs a b --language km --rule-made",
    "demo": "",
}


@pytest.mark.parametrize("command", WRITING)
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_read(command, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    for place in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        assert main([*command.split(), *WRITING[command].split(), "--output-dir", str(place)]) == 2
        error = capsys.readouterr().err
        assert f"{tmp_path / 'file'} is not a folder" in error
        assert "--output_dir" in error
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_may_not_be_written_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert main(["report", "run", "--output-dir", str(tmp_path / "a" / "b")]) == 2
    assert f"you may not write into {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--max-new-tokens 0", "--max-new-tokens 0 must be 1 or more"),
        ("--num_beams 0", "--num-beams 0 must be 1 or more"),
        ("--do-sample --temperature 0", "--temperature 0.0 must be above 0"),
        ("--do-sample --temperature nan", "--temperature nan must be above 0"),
        ("--do-sample --top-p 2", "--top-p 2.0 must be above 0, and 1 at most"),
        ("--temperature 0.5", "--temperature 0.5 does nothing without --do-sample"),
        ("--top-p 0.9", "--top-p 0.9 does nothing without --do-sample"),
        ("--seed -1", "--seed -1 must be between 0 and 4294967295"),
        ("--seed 99999999999", "--seed 99999999999 must be between"),
        ("--dtype nonsense", "--dtype 'nonsense' is not one of auto, float32, float16, bfloat16, float64"),
    ],
)
def test_generate_checks_its_numbers_before_the_model_loads(options, words, capsys):
    assert main(["generate", "--model", "/nowhere", "--foreign-text", "ក", *options.split()]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["align", "eval usage", "encoders", "eval retrieval"])
def test_seeds_and_dtypes_are_checked_in_every_command(command, capsys):
    command = [*command.split(), *WRITING[command].split()]
    assert main([*command, "--dtype", "float31"]) == 2
    assert "--dtype 'float31' is not one of" in capsys.readouterr().err
    if "retrieval" not in command:
        assert main([*command, "--seed", "-1"]) == 2
        assert "--seed -1 must be between 0" in capsys.readouterr().err


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert main(["frobnicate"]) == 2
    done = subprocess.run([str(Path(sys.executable).with_name("llink")), "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.strip() in capsys.readouterr().out


def test_the_evaluations_are_listed_by_their_own_help(capsys):
    assert main(["eval", "--help"]) == 0
    output = capsys.readouterr()
    assert "llink eval retrieval" in output.out
    assert "llink align" not in output.out
    assert main(["eval"]) == 2
    assert "llink eval retrieval" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["generate", "--model", "x", "--foreign-text", "a"], "llink generate: stopped."),
        (["ablate", "--study", "x", "--output-dir", "y"], "llink ablate: stopped; the same command goes on."),
        (["align", "--encoder", "x", "--decoder", "y", "--pairs", "a", "b"], "--resume_from_checkpoint last"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_interrupt_is_one_line_and_code_130(command, words, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    for name in ("generate.check_passages", "ablate.read_study", "training.read_pairs"):
        monkeypatch.setattr(f"llink.cli.{name}", interrupted)
    monkeypatch.chdir(tmp_path)
    assert main(command) == 130
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_table_aligns_its_columns():
    lines = table(["name", "value"], [("a", 0.5), ("long name", 12)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "0.500" in lines[2]
