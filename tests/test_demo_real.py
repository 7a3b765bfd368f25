"""`llink demo --real` where something is missing; with the real bases it runs in tests/bases/test_real_encoders.py."""

import json
import subprocess

import pytest

from llink import demo_real
from llink.cli import main
from llink.configuration_llink import LlinkConfigError
from llink.modeling_llink.errors import LlinkCheckpointError


def test_bases_without_real_are_refused(capsys):
    assert main(["demo", "--encoder", "x"]) == 2
    assert "are for --real" in capsys.readouterr().err


def test_a_wheel_has_no_checkpoint(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_real, "SENTENCES", tmp_path / "sentences.json")
    with pytest.raises(LlinkConfigError, match="needs a clone"):
        demo_real.run(tmp_path)


def test_a_script_that_fails_says_why_and_what_to_do(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nModuleNotFoundError: No module named 'gguf'\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(LlinkConfigError, match=r"No module named 'gguf'.*\[real\].*--decoder"):
        demo_real.convert("decoder", tmp_path)


def test_other_bases_do_not_fit(base_folder):
    with pytest.raises((LlinkCheckpointError, LlinkConfigError), match=r"does not fit|the base has 2 layers"):
        demo_real.assemble(demo_real.CHECKPOINT, base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama"))


def test_every_sentence_has_its_translation_among_the_candidates():
    content = json.loads(demo_real.SENTENCES.read_text("utf-8"))
    assert len(content["foreign"]) >= 12
    assert all(0 <= row["english"] < len(content["english"]) for row in content["foreign"])
    assert len({row["language"] for row in content["foreign"]}) >= 6
    size = sum(path.stat().st_size for path in demo_real.CHECKPOINT.rglob("*") if path.is_file())
    assert size < 30 * 2**20
