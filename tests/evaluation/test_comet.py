"""COMET in an interpreter of its own, against a package with unbabel-comet's interface; chrF++ and BLEU as a module."""

import sys
import textwrap

import evaluate
import pytest

from llink.data.errors import DataError
from llink.evaluation import module_path
from llink.evaluation.translation import check_comet, comet, translation_metrics

#: As in unbabel-comet 2.2.7: `download_model` returns a checkpoint's path or raises KeyError, `load_from_checkpoint`
#: raises Exception without a file, `predict` takes lists of src/mt/ref and returns scores and their mean.
FAKE = """
import sys

class Prediction(dict):
    __getattr__ = dict.__getitem__

class CometModel:
    def predict(self, samples, batch_size=16, gpus=1, devices=None, mc_dropout=0, progress_bar=True,
                accelerator="auto", num_workers=None, length_batching=True):
        assert isinstance(batch_size, int) and gpus in (0, 1) and not progress_bar
        assert all(set(sample) == {"src", "mt", "ref"} for sample in samples)
        print("noise on stdout"), print("noise on stderr", file=sys.stderr)
        scores = [len(s["src"]) + 10 * len(s["mt"]) + 100 * len(s["ref"]) for s in samples]
        return Prediction(scores=scores, system_score=sum(scores) / len(scores))

def download_model(model, saving_directory=None, local_files_only=False):
    if model != "Unbabel/known":
        raise KeyError(f"Model '{model}' not supported by COMET.")
    return __file__

def load_from_checkpoint(checkpoint_path, reload_hparams=False, strict=False, local_files_only=False):
    from pathlib import Path
    if not Path(checkpoint_path).is_file():
        raise Exception(f"Invalid checkpoint path: {checkpoint_path}")
    return CometModel()
"""
TEXTS = (["ក", "ខគ"], ["a", "bc"], ["a", "b"])
SCORE = ((1 + 10 + 100) + (2 + 20 + 100)) / 2


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An environment with COMET: a package of that name on the other interpreter's path."""
    package = tmp_path / "site" / "comet"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(textwrap.dedent(FAKE), "utf-8")
    # The real one takes seconds to import, and only this is asked of it.
    torch = "class cuda:\n    is_available = staticmethod(lambda: False)\n"
    (package.parent / "torch.py").write_text(torch, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return package


@pytest.mark.parametrize("place", ["model.ckpt", "checkpoints/model.ckpt", None])
def test_a_checkpoint_a_folder_or_a_name_is_scored(installed, tmp_path, monkeypatch, place):
    model = "Unbabel/known"
    if place:
        (tmp_path / "m" / place).parent.mkdir(parents=True)
        (tmp_path / "m" / place).touch()
        monkeypatch.chdir(tmp_path)  # the other interpreter runs elsewhere: a relative path must still be found
        model = "m/model.ckpt" if place == "model.ckpt" else "m"
    assert comet(*TEXTS, model) == SCORE
    assert "comet" not in sys.modules, "it is imported by the other interpreter only"


def test_batches_and_interpreter_are_handed_on(installed):
    assert comet(*TEXTS, "Unbabel/known", python=sys.executable, batch_size=1) == SCORE


def test_a_model_that_comet_cannot_load_is_named(installed, tmp_path):
    with pytest.raises(DataError, match=r"COMET failed with Unbabel/unknown: KeyError.*not supported"):
        comet(*TEXTS, "Unbabel/unknown")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"COMET failed with .*empty"):
        comet(*TEXTS, str(tmp_path / "empty"))


def test_a_missing_comet_is_told_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DataError, match=r"has no COMET.*pip install unbabel-comet"):
        comet(*TEXTS)
    (tmp_path / "comet.py").write_text("", "utf-8")  # another package of the name
    with pytest.raises(DataError, match="has no COMET"):
        comet(*TEXTS)
    (tmp_path / "comet.py").write_text("import pytorch_lightning_that_is_missing", "utf-8")
    with pytest.raises(DataError, match="pytorch_lightning_that_is_missing"):
        comet(*TEXTS)


def test_comet_is_looked_for_without_importing_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DataError, match=r"has no COMET.*pip install unbabel-comet"):
        check_comet()
    (tmp_path / "comet.py").write_text("raise SystemExit('imported')", "utf-8")
    check_comet()
    with pytest.raises(DataError, match="does not start"):
        check_comet(str(tmp_path / "python"))
    with pytest.raises(DataError, match="is no Python that runs"):
        check_comet("false")


def test_a_relative_interpreter_is_found_from_the_folder_it_was_named_in(installed, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert comet(*TEXTS, "Unbabel/known", python="bin/python") == SCORE


def test_an_interpreter_that_does_not_start_is_told(tmp_path):
    with pytest.raises(DataError, match="does not start"):
        comet(*TEXTS, python=str(tmp_path / "python"))


def test_texts_are_checked_before_anything_starts():
    with pytest.raises(DataError, match="2 hypotheses for 1 sources"):
        comet(["ក"], ["a", "b"], ["a", "b"], python="/nowhere")
    with pytest.raises(DataError, match="2 hypotheses for 1 references"):
        comet(["ក", "ខ"], ["a", "b"], ["a"], python="/nowhere")
    with pytest.raises(DataError, match="no hypotheses"):
        comet([], [], [], python="/nowhere")
    with pytest.raises(DataError, match=r"sources\[0\] is a int"):
        comet([1], ["a"], ["a"], python="/nowhere")


def test_the_evaluate_module_is_the_function(tmp_path):
    metric = evaluate.load(module_path("translation"), cache_dir=str(tmp_path))
    hypotheses, references = ["The school is far.", "He left."], ["The school is near.", "He left."]
    expected = translation_metrics(hypotheses, references)
    assert 0 < expected["chrf"] < 100, "vacuous unless something differs"
    assert metric.compute(predictions=hypotheses, references=references) == expected
