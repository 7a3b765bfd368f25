"""`llink demo` as a new user runs it, and the README's first snippet on what it wrote."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM
from workshop import run_notebook

ROOT = Path(__file__).parent.parent
LESS = ("--align-epochs", "15", "--lexicon-epochs", "2", "--inject-rows", "8000")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which `llink demo` ran, with two thirds of its training."""
    folder = tmp_path_factory.mktemp("demo")
    command = [str(Path(sys.executable).with_name("llink")), "demo", *LESS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads((folder / "runs/demo/report.json").read_text()), done.stdout


def test_retrieval(demo):
    retrieval = demo[1]["retrieval"]
    assert set(retrieval) == {"untrained", "stage_a", "full"}
    assert all({"r@1", "r@5", "r@10", "mrr", "mean_rank", "n"} <= found.keys() for found in retrieval.values())
    assert retrieval["stage_a"]["n"] >= 512
    assert retrieval["stage_a"]["r@1"] >= 0.80
    assert retrieval["stage_a"]["r@1"] >= 20 * retrieval["untrained"]["r@1"]
    assert retrieval["full"]["r@1"] >= retrieval["stage_a"]["r@1"] - 0.03, "the first slot is Stage A's vector"


def test_words(demo):
    assert demo[1]["words"]["recall"] >= 0.4


def test_usage(demo):
    assert demo[1]["usage"]["zeroed_gap"] >= 0.5
    assert demo[1]["usage"]["shuffled_gap"] >= 0.5


def test_tokens_and_translation(demo):
    report = demo[1]
    assert report["tokens"]["raw"] >= 4 * report["tokens"]["slotted"]
    assert report["translation"]["llink"]["chrf"] >= report["translation"]["base"]["chrf"] + 40


def test_numbers_are_kept(demo):
    numeric = demo[1]["numeric"]
    assert numeric["llink"]["n"] >= 80, "vacuous unless sentences hold numbers"
    assert numeric["llink"]["f1"] >= 0.9
    assert numeric["base"]["f1"] <= 0.2


@pytest.mark.parametrize("name", ["first_steps", "ask_a_collection"])
def test_the_notebooks_run_on_the_demos_model(demo, name):
    run_notebook(ROOT / "examples" / f"{name}.ipynb", demo[0])


PAPERS_FAILURES = {
    "30": "រោងចក្រនេះផលិតអគ្គិសនី ៣០ MW។",
    "25": "នៅក្នុងភូមិនេះគ្មានប៉ុស្តិ៍ប៉ូលិសទេ។ ប៉ុស្តិ៍ប៉ូលិសដែលនៅជិតបំផុតស្ថិតនៅស្វាយរៀង ចម្ងាយ ២៥ គីឡូម៉ែត្រពីទីនេះ។",
    "1985": "ធារិទ្ធ បានចាប់ផ្ដើមការងារថ្មីនៅហាងកាហ្វេ នៅឆ្នាំ១៩៨៥។ ឥឡូវនេះគាត់ទទួលបាន ៧៤០ ដុល្លារក្នុងមួយខែ។",
    "50": "បងប្រុសរបស់ចាន់ថា ចង់ទិញកន្សែងពណ៌ខៀវមួយ ក្នុងតម្លៃ ៥០ ដុល្លារ។",
}


def test_what_the_papers_models_got_wrong_stays_right(demo):
    """30 MW, 25 km, 1985 and $50 came back as 1.5 kW, 10 miles, the 1980s and $5 (paper 6.2)."""
    model = AutoModelForCausalLM.from_pretrained(demo[0] / "runs/demo/model", trust_remote_code=True)
    kept = {}
    for number, foreign in PAPERS_FAILURES.items():
        tokens = model.generate(foreign_text=foreign, max_new_tokens=48)
        (answer,) = model.processor.batch_decode(tokens, skip_special_tokens=True)
        found = set(re.findall(r"\d+", answer))
        assert found <= {number, "740"}, f"a number that the passage does not hold: {answer}"
        kept[number] = number in found
    assert sum(kept.values()) >= 3, kept


def test_outputs(demo):
    folder, report, printed = demo
    assert report["seconds"] > 0
    for name in ("report.png", "align/training.png", "lexicon/training.png", "inject/training.png"):
        assert (folder / "runs/demo" / name).read_bytes().startswith(b"\x89PNG")
    for words in ("Stage A", "full model", "zeroed slots", "prompt tokens", "reference", "Reloaded without llink"):
        assert words in printed
    assert not list(folder.glob("runs/demo/.*")), "temporary files are gone"


def test_every_evaluation_runs_on_the_demo(demo):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "ROWS": "12", "STEPS": "3", "PATH": path}
    command = ["bash", str(ROOT / "examples/evaluate_demo.sh"), "runs/demo"]
    done = subprocess.run(command, cwd=demo[0], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((demo[0] / "runs/demo/evaluation/report/report.json").read_text())
    found = report["runs"]["evaluation"]
    kinds = {
        "retrieval",
        "usage",
        "tokens",
        "representations",
        "outputs",
        "translation",
        "numeric",
        "encoders",
        "ablation",
    }
    assert set(found) == kinds
    rows = found["retrieval"]["results"]["foreign_to_english"]
    assert rows["stage_a"]["r@1"] > 10 * rows["base"]["r@1"]
    assert found["usage"]["results"]["shuffled_gap"] > 0.5


def test_readme_snippet_runs_where_llink_cannot_be_imported(demo):
    snippet = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)[0]
    assert "llink" not in snippet.replace("llink/", "").split("model =")[0], "vacuous if it imports llink"
    code = f"import sys\nsys.modules['llink'] = None\n{snippet}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=demo[0], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search("[A-Za-z]{3}", done.stdout), done.stdout
