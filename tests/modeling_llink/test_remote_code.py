"""Checkpoints in fresh processes where llink does not exist: the Auto classes, generating, saving again."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tiny
import torch

import llink.modeling_llink
from llink.hub_cards.staging import CODE_FILES
from llink.modeling_llink.remote_code import code_files

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name == "llink" or name.startswith("llink."):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
try:
    import llink
    raise SystemExit("vacuous: llink is importable")
except ImportError:
    pass
import socket
def refuse(*arguments, **options):
    raise SystemExit("something asked for the network")
socket.getaddrinfo = refuse
"""


def run(script: str, cwd: Path, *arguments, timeout: int = 900) -> str:
    """Runs a script in a fresh process with closed standard input, its own module cache and no network."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cwd / "hf"),
        "HF_MODULES_CACHE": str(cwd / "modules"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "[y/N]" not in done.stdout + done.stderr, "it waited at a prompt"
    return done.stdout


SCENE = (
    BLOCK
    + """
import shutil, torch
torch.set_num_threads(1)
from transformers import (AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor, AutoTokenizer, pipeline)
folder, scores = sys.argv[1], torch.load(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(["Translate.", "A longer prompt."], ["the cat", "a dog"])
def logits(which, batch):
    with torch.no_grad():
        return which(**batch).logits
assert torch.equal(logits(model, inputs), scores), (logits(model, inputs) - scores).abs().max()
plain = AutoModel.from_pretrained(folder, trust_remote_code=True)
assert type(plain).__name__ == "LlinkForCausalLM"
assert torch.equal(logits(plain, inputs), scores)
try:
    type(model).from_encoder_decoder_pretrained("encoder", "decoder")
    raise SystemExit("what builds models has travelled")
except OSError as error:
    assert "install llink" in str(error), error
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
assert config.num_slots == 4
assert AutoModelForCausalLM.from_config(config, trust_remote_code=True).config.num_slots == 4
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
assert tokenizer.get_vocab() == processor.tokenizer.get_vocab()
assert processor.encoder_tokenizer.get_vocab() != tokenizer.get_vocab()
new = model.generate(foreign_text="the cat", prompt="Translate.", max_new_tokens=4)  # loads its own processor
assert new.shape[0] == 1
chat = [{"role": "user", "content": [{"type": "text", "text": "What? "}, {"type": "foreign_text", "text": "the cat"}]}]
batch = processor.apply_chat_template(
    chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
assert model.generate(**batch, max_new_tokens=2).shape[1] > batch["input_ids"].shape[1]
model.save_pretrained("again")
shutil.move("again", "moved")
again = AutoModelForCausalLM.from_pretrained("moved", trust_remote_code=True)
assert torch.equal(logits(again, inputs), scores)
assert torch.equal(again.generate(foreign_text="the cat", prompt="Translate.", max_new_tokens=4), new)
AutoProcessor.from_pretrained("moved", trust_remote_code=True)
answers = pipeline("llink", model=model)("the cat", max_new_tokens=2)
assert isinstance(answers[0]["generated_text"], str)
hub = "someone/tiny-llink"  # in the cache, offline
cached = AutoModelForCausalLM.from_pretrained(hub, trust_remote_code=True)
assert torch.equal(logits(cached, inputs), scores)
assert torch.equal(cached.generate(foreign_text="the cat", prompt="Translate.", max_new_tokens=4), new)
vocabulary = AutoProcessor.from_pretrained(hub, trust_remote_code=True).encoder_tokenizer.get_vocab()
assert vocabulary == processor.encoder_tokenizer.get_vocab()
print("done")
"""
)


ALONE = (
    BLOCK
    + """
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(processor).__module__.startswith("transformers_modules")
processor.save_pretrained("alone")
again = AutoProcessor.from_pretrained("alone", trust_remote_code=True)
assert again.encoder_tokenizer.get_vocab() == processor.encoder_tokenizer.get_vocab()
print("done")
"""
)


@pytest.fixture(scope="module")
def saved(make_model, tmp_path_factory):
    """Folders of both kinds, and the logits they must give."""
    root = tmp_path_factory.mktemp("remote")
    model = make_model()
    inputs = model.processor(["Translate.", "A longer prompt."], ["the cat", "a dog"])
    torch.save(tiny.logits_of(model, inputs), root / "scores.pt")
    for kind, self_contained in (("light", False), ("self-contained", True)):
        model.save_pretrained(root / kind, self_contained=self_contained)
    return root


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_cache(folder, root: Path, name: str) -> Path:
    """A folder as the Hub's cache holds it, as `someone/<name>`."""
    repo = root / "hf" / "hub" / f"models--someone--{name}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folder, repo / "snapshots" / COMMIT))


@pytest.mark.parametrize("kind", ["light", "self-contained"])
@pytest.mark.matrix(only=["light"])
@pytest.mark.slow
def test_the_auto_classes_without_llink(saved, tmp_path, kind):
    snapshot = in_cache(saved / kind, tmp_path, "tiny-llink")
    if kind == "light":
        path = snapshot / "config.json"
        config = json.loads(path.read_text("utf-8"))
        for base in ("encoder", "decoder"):
            in_cache(config[f"{base}_name_or_path"], tmp_path, f"tiny-{base}")
            config |= {f"{base}_name_or_path": f"someone/tiny-{base}", f"{base}_revision": COMMIT}
        path.write_text(json.dumps(config), "utf-8")
    assert "done" in run(SCENE, tmp_path, saved / kind, saved / "scores.pt")
    resaved = {p.name for p in (tmp_path / "moved").glob("*.py")}
    assert resaved == set(CODE_FILES)


@pytest.mark.slow
def test_a_processor_that_came_alone_is_saved_whole(saved, tmp_path):
    assert "done" in run(ALONE, tmp_path, saved / "light")
    alone = {p.name for p in (tmp_path / "alone").glob("*.py")}
    assert alone == set(code_files("processing_llink"))
    assert alone < set(CODE_FILES)


INSTALLED = """
import sys, torch
import llink
from llink import LlinkForCausalLM
from transformers import AutoModelForCausalLM
for folder in sys.argv[1:]:
    for load, options in (
        (LlinkForCausalLM, {}),
        (AutoModelForCausalLM, {}),
        (AutoModelForCausalLM, {"trust_remote_code": True}),
        (LlinkForCausalLM, {"trust_remote_code": True}),
    ):
        model = load.from_pretrained(folder, **options)
        assert model.generate(foreign_text="the cat", max_new_tokens=2).shape[0] == 1
    model.save_pretrained(folder.rpartition("/")[2])
print("done")
"""


@pytest.mark.slow
def test_with_llink_installed_nothing_asks_for_trust(saved, tmp_path):
    kinds = ("light", "self-contained")
    assert "done" in run(INSTALLED, tmp_path, *[saved / kind for kind in kinds])
    for kind in kinds:
        assert {p.name for p in (tmp_path / kind).glob("*.py")} == set(CODE_FILES)


def test_the_code_is_copied_flat_and_refers_to_nothing_outside(saved):
    folder = saved / "light"
    assert {p.name for p in folder.glob("*.py")} == set(CODE_FILES)
    here = Path(llink.modeling_llink.__file__).parent
    for name in CODE_FILES:
        text = (folder / name).read_text("utf-8")
        assert not re.search(r"^\s*(from \.\.|import llink|from llink|from \. import)", text, re.MULTILINE), name
        original = here / name if (here / name).is_file() else here.parent / name
        assert text == re.sub(r"^from \.\.", "from .", original.read_text("utf-8"), flags=re.MULTILINE)
