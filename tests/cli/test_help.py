"""The help: read from sources, so it must say what the parser does; quick; and what is nearly a command is named."""

import dataclasses
import importlib
import re
import resource
import subprocess
import sys

import pytest

from llink.cli import COMMANDS, main, module_name
from llink.cli.help import command_help, option_groups, trainer_options, with_flags
from llink.cli.model_options import NOT_OPTIONS
from llink.cli.parsing import _parser
from llink.configuration_llink import LlinkConfig
from llink.trainers.align_config import AlignConfig


def module_of(command):
    return importlib.import_module(f"llink.cli.{module_name(command)}")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_that_is_read_is_that_of_the_dataclasses(command):
    """Names, defaults, help texts and what is required, of every option of ours; and the Trainer's names."""
    types = module_of(command).OPTIONS
    assert len(types) == len(option_groups(command))
    for owner, group in zip(types, option_groups(command), strict=True):
        fields = {f.name: f for f in dataclasses.fields(owner) if f.metadata.get("help")}
        read = {option.name: option for option in group.options}
        own = set(read) if "Config" in owner.__name__ else set(fields)
        assert set(read) == own, owner
        for name, option in read.items():
            declared = fields[name]
            assert option.help == declared.metadata["help"], name
            if owner.__name__ == "ModelOptions":
                continue  # unset; the default that is shown is the configuration's
            missing = declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING
            assert (option.default is None) == (missing or bool(declared.metadata.get("required"))), name
            if isinstance(declared.default, (str, int, float)) and declared.default is not dataclasses.MISSING:
                assert option.default == str(declared.default), name
    parser = _parser(command, types, getattr(module_of(command), "PRESETS", False))
    known = {action.dest for action in parser._actions} - {"help", "config", "preset"}
    listed = {option.name for group in option_groups(command) for option in group.options}
    assert known == listed | set(trainer_options(command))


def test_every_setting_of_the_model_is_an_option():
    (group,) = (group for group in option_groups("align") if "LlinkConfig" in group.title)
    settings = [name for name in LlinkConfig.__annotations__ if name not in NOT_OPTIONS]
    assert [option.name for option in group.options] == settings
    assert {"teacher_whitening_power", "lora_alpha", "slot_layers", "lora_target_modules"} <= set(settings)
    assert all(option.help for option in group.options), "one line of the docstring for each"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: llink {command}")
    assert re.search(rf"example:\n  llink {command}[ \n]", output)
    assert max(map(len, output.splitlines())) < 125


def test_our_own_options_come_first():
    text = command_help("align")
    assert text.index("--queue_size") < text.index("The Trainer's own")
    assert "gradient_accumulation_steps" in text[text.index("The Trainer's own") :]
    assert "not reproduced" in text


def test_help_all_says_what_the_trainers_options_do(capsys):
    assert main(["align", "--help-all"]) == 0
    output = capsys.readouterr().out
    assert all(f"--{field.name}" in output for field in dataclasses.fields(AlignConfig) if field.init)


def test_help_takes_no_time():
    """1.5 processor seconds at most; it takes a tenth of that, as nothing heavy is imported."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import sys; from llink.cli import main; main(['inject', '--help']); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


@pytest.mark.parametrize(
    ("words", "meant"),
    [("aling", "align"), ("eval retreival", "eval retrieval"), ("finetunes --model x", "finetune")],
)
def test_what_is_nearly_a_command_is_named(words, meant, capsys):
    assert main(words.split()) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_settings_in_messages_are_spelt_as_flags():
    assert with_flags("push", "or push with self_contained=True.") == "or push with --self_contained."
    assert with_flags("inject", "usage_margin=-1.0 must be 0") == "--usage_margin -1.0 must be 0"
    assert with_flags("inject", "set model.config.self_contained=True") == "set model.config.self_contained=True"


def test_a_bug_is_no_line_but_a_traceback(monkeypatch):
    monkeypatch.setattr("llink.cli.report.read_records", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["report", "."])
