"""What the documentation's commands and snippets name, in a folder: bases, corpora, and models that were trained a
little; and how a page is run in it.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import httpx
import nbformat
from hub_server import serving as hub_serving
from nbclient import NotebookClient
from page_server import model_serving
from page_server import serving as page_serving
from prepare_files import write_tmx

import llink
from llink.app.space import ask_page
from llink.cli import main
from llink.data.demo_corpus import demo_pairs, generate_instructions

ROOT = Path(llink.__file__).parent
#: Pages whose text is someone else's record, or is written elsewhere.
QUOTED = ("evidence.md", "bases.md", "contributing.md", "changelog.md")
PAGES = {path.name: path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
PAGES = {name: path for name, path in PAGES.items() if name not in QUOTED}
#: Beginnings of lines that are not run here: CI itself runs them, or they change the machine.
ELSEWHERE = ("make demo", "make test", "make bench", "make docs", "pip install ", "git clone ", "torchrun ")
FOREIGN = {"role": "user", "content": [{"type": "foreign_text", "text": "ក្មេងទៅសាលា"}]}
#: Sizes of a page or notebook whose commands run here on less, so that they take a moment.
FEWER = {"demo_pairs(6000)": "demo_pairs(900)", "demo_pairs(1700)": "demo_pairs(500)", "range(800)": "range(96)"}
NAMES = {
    "train=4000": "train=500",
    "held_out=400": "held_out=60",
    "train=1000": "train=100",
    "held_out=100": "held_out=20",
}
NAMES |= {"FacebookAI/xlm-roberta-base": "encoder", "meta-llama/Llama-3.2-1B-Instruct": "decoder"}
QUICK = "--report_to none --use_cpu --disable_tqdm True --save_strategy no --max_steps 2"
#: What the smallest bases can do with 140 pairs in a moment.
SMALL = ("align", "lexicon", "inject", "finetune", "langbridge")
STUDY = """
encoder: encoder
decoder: decoder
language: km
pairs: [train.en, train.km]
eval_pairs: [dev.en, dev.km]
settings: {align.max_steps: 2, align.per_device_train_batch_size: 8}
questions:
  pooling:
    model.pooling: [mean, cls]
"""


def furnish(folder: Path, base_folder) -> Path:
    """Puts two bases, and train, dev and test files, into a folder."""
    shutil.copytree(base_folder("encoder", "xlm-roberta"), folder / "encoder")
    shutil.copytree(base_folder("decoder", "llama"), folder / "decoder")
    pairs = demo_pairs(220)
    for name, rows in (("train", pairs[:140]), ("dev", pairs[140:200]), ("test", pairs[200:])):
        (folder / f"{name}.en").write_text("".join(f"{pair.english}\n" for pair in rows), "utf-8")
        (folder / f"{name}.km").write_text("".join(f"{pair.foreign}\n" for pair in rows), "utf-8")
        lines = [json.dumps(row, ensure_ascii=False) for row in generate_instructions(rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    write_tmx(folder / "en-km.tmx.gz", [(pair.english, pair.foreign) for pair in demo_pairs(720)[220:]])
    (folder / "study.yaml").write_text(STUDY, "utf-8")
    (folder / "assets").symlink_to(ROOT / "assets")
    return folder


def snippets(text: str) -> list[tuple[str, str]]:
    """Language and text of a page's fenced blocks, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def command_lines(block: str) -> list[str]:
    """The commands of a bash block: continued lines joined, comments gone, `a && b` as two."""
    joined = block.replace("\\\n", " ").splitlines()
    return [part.strip() for line in joined for part in line.split(" #")[0].split("&&") if part.strip()]


def run_command(line: str, names: dict[str, str], monkeypatch) -> None:
    """Runs a `llink …` line in this process, on the small bases and for a few steps.

    Raises:
        AssertionError: If it fails.
    """
    command = [names.get(word, word) for word in shlex.split(line)[1:]]
    if command[0] == "app":  # it would serve until it is interrupted
        with page_serving(*command[1:]) as address:
            assert isinstance(ask_page(address, "ក្មេងទៅសាលា"), str)
        return
    if command[0] == "serve":
        with model_serving(*command[1:]) as address:
            answer = httpx.post(
                f"{address}/chat/completions", json={"messages": [FOREIGN], "max_tokens": 4}, timeout=60
            )
            assert answer.status_code == 200, answer.text
        return
    if command[0] in SMALL:
        command += [*shlex.split(QUICK), "--per_device_train_batch_size", "8"]
    elif command[:2] == ["eval", "numeric"]:
        command += ["--limit", "4"]
    elif command[0] in ("space", "push"):  # these bases are on no Hub
        with hub_serving() as hub, monkeypatch.context() as patch:
            hub.use(patch, Path("hf").resolve())
            assert main([*command, "--self_contained"]) == 0, line
            assert hub.repos, line
        return
    assert main(command) == 0, line


def on_less(source: str) -> str:
    """A snippet with the sizes of [`FEWER`]."""
    for size, less in FEWER.items():
        source = source.replace(size, less)
    return source


def run_notebook(path: Path, folder: Path) -> list[str]:
    """Runs a notebook in a folder, from the top.

    Returns:
        What its cells print.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails; says which one.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = on_less(cell.source)
    NotebookClient(
        notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [output.text for cell in notebook.cells for output in cell.get("outputs", ()) if "text" in output]


def run_page(path: Path, names: dict[str, str], monkeypatch) -> None:
    """Runs every snippet of a page in this folder, in order; those in Python share their names."""
    shared = {"__name__": path.stem}
    for language, block in snippets(path.read_text("utf-8")):
        if language == "bash":
            for line in command_lines(block):
                if line.startswith("llink "):
                    run_command(line, names, monkeypatch)
        elif language == "python":
            block = on_less(block)
            for name, own in names.items():
                block = block.replace(f'"{name}"', f'"{own}"')
            exec(compile(block, path.name, "exec"), shared)
