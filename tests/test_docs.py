"""The README and the documentation's site: every command and snippet runs, the site builds and fetches nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from hub_server import build, reload_here, tiny_hub
from judge_server import prefers_longer, serving
from synthesis_server import good
from workshop import (
    ELSEWHERE,
    NAMES,
    PAGES,
    ROOT,
    command_lines,
    furnish,
    run_command,
    run_notebook,
    run_page,
    snippets,
)

from llink.cli import main
from llink.evaluation.record import write_record
from llink.hub_cards import publishing

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
FENCES = {"bash", "python", "text", "bibtex"}


def judge_or_writer(body):
    """The model on the documentation's server: judges, or writes examples, as it is asked."""
    return (good if body["messages"][-1]["content"].startswith("Text: ") else prefers_longer)(body)


@pytest.fixture(scope="module")
def workshop(base_folder, tmp_path_factory):
    """A folder in which the three stages have run as the README says, for two steps each."""
    folder = furnish(tmp_path_factory.mktemp("docs"), base_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stages = ("align", "lexicon", "inject")
        blocks = [block for language, block in snippets(PAGES["training.md"].read_text("utf-8")) if language == "bash"]
        for line in command_lines(blocks[0]):
            assert line.split()[1] in stages, line
            run_command(line, NAMES, patch)
        shutil.copytree("out/b", "runs/demo/model")
    return folder


def test_the_readme_is_one_page():
    assert len(PAGES["README.md"].read_text("utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_is_of_a_kind_that_is_run(page):
    for language, block in snippets(PAGES[page].read_text("utf-8")):
        assert language in FENCES, (page, block)
        if language == "python":
            compile(block, page, "exec")
        for line in command_lines(block) if language == "bash" else ():
            assert line.startswith(("llink ", "cd ", *ELSEWHERE)), f"{page}: nothing runs this line: {line}"


def test_guard_the_pages_hold_snippets():
    kinds = [language for path in PAGES.values() for language, _ in snippets(path.read_text("utf-8"))]
    assert kinds.count("bash") > 20
    assert kinds.count("python") > 10
    text = "\n".join(path.read_text("utf-8") for path in PAGES.values())
    told = {
        line.split()[1] for language, block in snippets(text) for line in command_lines(block) if language == "bash"
    }
    assert {"prepare", "synthesize", "align", "lexicon", "inject", "finetune", "generate", "eval", "report"} <= told
    assert {"push", "verify", "app", "space", "encoders", "ablate"} <= told


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [name for name in PAGES if name != "hub.md"])
def test_a_page_runs(page, workshop, monkeypatch, tmp_path):
    folder = Path(shutil.copytree(workshop, tmp_path / "here", symlinks=True))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the judge is on this machine
    monkeypatch.setattr(publishing, "reload", reload_here)
    with serving(judge_or_writer) as judge:
        server = {"http://localhost:8000/v1": judge.url, "NAME": judge.model}
        run_page(PAGES[page], NAMES | server, monkeypatch)


def test_the_hubs_page_runs(monkeypatch, tmp_path, base_folder, capsys):
    monkeypatch.setattr(publishing, "reload", reload_here)
    with tiny_hub(monkeypatch, tmp_path / "hf", base_folder) as hub:
        monkeypatch.chdir(tmp_path)
        build().save_pretrained("out/b")
        write_record(tmp_path / "out" / "eval", "usage", {"zeroed_gap": 1.5, "shuffled_gap": 1.0, "n": 9}, {})
        for language, block in snippets(PAGES["hub.md"].read_text("utf-8")):
            if language == "bash":
                for line in command_lines(block):
                    if not line.startswith("llink space"):  # which asks in a fresh process: tests/app
                        assert main(line.split()[1:]) == 0, (line, capsys.readouterr().err)
            else:
                exec(compile(block, "hub.md", "exec"), {"__name__": "hub"})
        assert "evaluation/usage.json" in hub.files("someone/Llama-km")


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for path in pages:
        loads = re.findall(r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="(https?:)?//', path.read_text("utf-8"))
        assert not loads, path.name
    api = (tmp_path / "site" / "api.html").read_text("utf-8")
    assert "Stage A" in api
    assert "[<code>" not in api


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_what_it_printed(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run it whole, from the top"
    assert sum(output.output_type == "stream" and output.name == "stdout" for output in outputs) >= 5
    assert {output.output_type for output in outputs} == {"stream"}, "no error, and no bar"
    assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_bridge_from_a_dataset_runs(tmp_path):
    """The other two need the demo's model: tests/test_demo.py."""
    printed = "".join(run_notebook(ROOT / "examples" / "your_language.ipynb", tmp_path))
    before, after = map(float, re.search(r"R@1 before ([\d.]+), after ([\d.]+)", printed).groups())
    assert after > max(0.3, 10 * before)
    assert float(re.search(r"another text's slots ([\d.]+) more", printed)[1]) > 0.5


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["ask_a_collection", "first_steps", "your_language"]
