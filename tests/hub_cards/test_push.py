"""Pushing to a Hub: complete, checked, in one commit, by every way; and what a failing push leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from datasets import Dataset
from hub_server import DECODER, ENCODER, WHOLE, Fault, build, commits, pushed, reload_here
from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer

from llink import AlignConfig, AlignTrainer, InjectConfig, InjectTrainer, LlinkForCausalLM
from llink.cli import main
from llink.data.demo_corpus import demo_pairs, generate_instructions
from llink.data.instructions import instruction_dataset
from llink.hub_cards import publishing
from llink.hub_cards.publishing import push_to_hub
from llink.hub_cards.staging import PICKLES
from llink.hub_cards.upload import LlinkPushError

REPO = "someone/Llama-khmer"
#: What only `push_to_hub` of `llink.hub_cards`, the trainers and the command add: the card and what was checked.
CHECKED = {"README.md", "NOTICE", "canary/facts.json", "canary/expected.safetensors"}
INPUTS = (["Translate.", "A longer prompt."], ["the cat", "a dog"])


# ------------------------------------------------------------------ what arrives


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
@pytest.mark.matrix(only=["light"])
@pytest.mark.slow
def test_one_commit_puts_up_the_whole_model(hub, monkeypatch, self_contained):
    """The light one with the real check: a fresh offline process that cannot import llink."""
    if self_contained:
        monkeypatch.setattr(publishing, "reload", reload_here)
    model = build()
    scores = tiny.logits_of(model, model.processor(*INPUTS))
    hub.requests.clear()
    commit = push_to_hub(model, REPO, commit_message="first", self_contained=self_contained)
    assert commits(hub, REPO) == ["first"]
    assert len(hub.asked("POST", "/commit/")) == 1
    base = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    bases = {f"{kind}/{name}" for kind in ("encoder", "decoder") for name in base}
    bases |= {"decoder/generation_config.json", "decoder/chat_template.jinja"}
    wanted = WHOLE | bases if self_contained else WHOLE
    assert pushed(hub, REPO) == wanted
    assert not [name for name in pushed(hub, REPO) if Path(name).suffix in PICKLES]
    config = json.loads(hub.files(REPO)["config.json"])
    assert config["auto_map"].keys() == {"AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForMultimodalLM"}
    assert config["custom_pipelines"].keys() == {"llink", "feature-extraction"}
    assert config["encoder_revision"] == hub.repos[ENCODER].heads["main"]
    again = LlinkForCausalLM.from_pretrained(REPO, revision=commit.oid)
    assert torch.equal(tiny.logits_of(again, again.processor(*INPUTS)), scores)
    assert hub.files(REPO)["README.md"].decode().count("Built with Llama") >= 1


def training(kind, model, folder, **options):
    quickly = dict(report_to=[], use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, max_steps=2)
    pairs = demo_pairs(24)
    if kind == "align":
        rows = Dataset.from_list([dict(pair, language="km") for pair in pairs])
        sizes = dict(per_device_train_batch_size=8, queue_size=16, hard_negatives=4)
        return AlignTrainer(model, AlignConfig(str(folder), **sizes, **quickly, **options), train_dataset=rows)
    rows = instruction_dataset(generate_instructions(pairs))
    sizes = dict(per_device_train_batch_size=4, gradient_accumulation_steps=1, cosine_weight=0, nce_weight=0)
    return InjectTrainer(model, InjectConfig(str(folder), **sizes, **quickly, **options), train_dataset=rows)


@pytest.mark.parametrize("kind", ["align", "inject"])
@pytest.mark.slow
def test_every_way_puts_up_the_same(hub, quick, tmp_path, kind):
    trainer = training(kind, build(), tmp_path / "run", save_strategy="no", hub_model_id="someone/Llama-a")
    trainer.train()
    trainer.push_to_hub()
    model = trainer.llink_model
    push_to_hub(model, "someone/Llama-b")
    assert main(["push", str(tmp_path / "run"), "someone/Llama-c", "--message", "by command"]) == 0
    model.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="someone/Llama-d")
    repos = [f"someone/Llama-{letter}" for letter in "abcd"]
    whole = WHOLE | {"llink_run.json"}
    assert [pushed(hub, repo) for repo in repos] == [whole, whole, whole, whole - CHECKED]
    assert [len(commits(hub, repo)) for repo in repos] == [1] * 4
    same = pushed(hub, repos[0]) - {"README.md", "llink_run.json"} - CHECKED
    for repo in repos[1:]:
        assert [name for name in sorted(same) if hub.files(repo)[name] != hub.files(repos[0])[name]] == []
    record = json.loads(hub.files(repos[0])["llink_run.json"])["stages"][-1]
    assert record["stage"] == kind
    assert record["data"]["train_rows"] == len(trainer.train_dataset)
    assert record["steps"] == 2
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.slow
def test_pushes_while_training_are_whole_and_many(hub, quick, tmp_path):
    options = dict(save_strategy="steps", save_steps=1, push_to_hub=True, hub_model_id=REPO)
    trainer = training("inject", build(), tmp_path, hub_strategy="every_save", hub_always_push=True, **options)
    trainer.train()
    assert commits(hub, REPO) == ["Training in progress, step 1", "Training in progress, step 2"]
    for _, _, sha in hub.repos[REPO].log[1:]:
        assert set(hub.files(REPO, sha)) - {".gitattributes"} == WHOLE | {"llink_run.json"}
    first, second = (sha for _, _, sha in hub.repos[REPO].log[1:])
    steps = [json.loads(hub.files(REPO, s)["llink_run.json"])["stages"][-1]["steps"] for s in (first, second)]
    assert steps == [1, 2]
    with torch.no_grad():
        trainer.model.slot_embedder.scale.add_(1)  # unchanged files would make no commit
    trainer.save_model()
    assert commits(hub, REPO)[-1] == "Model save"


def test_a_trainer_refuses_at_once_what_it_could_not_push(hub, tmp_path, make_model):
    options = dict(push_to_hub=True, hub_model_id=REPO)
    with pytest.raises(LlinkPushError, match="pickles"):
        training("inject", build(), tmp_path, hub_strategy="checkpoint", **options)
    with pytest.raises(LlinkPushError, match="no repository that others can load"):
        training("inject", make_model(), tmp_path, **options)
    with pytest.raises(LlinkPushError, match="must begin with 'Llama'"):
        training("inject", build(), tmp_path, push_to_hub=True, hub_model_id="someone/khmer")
    assert REPO not in hub.repos


@pytest.mark.slow
def test_a_push_that_fails_while_training_does_not_stop_it(hub, quick, impatient, tmp_path, caplog):
    options = dict(save_strategy="steps", save_steps=1, push_to_hub=True, hub_model_id=REPO)
    hub.faults.append(Fault("POST", "/commit/", 500, times=99))
    trainer = training("inject", build(), tmp_path, hub_strategy="every_save", hub_always_push=True, **options)
    trainer.train()
    trainer.save_model()
    assert trainer.state.global_step == 2
    assert commits(hub, REPO) == []
    assert caplog.text.count("training goes on") == 2
    assert "is saved in" in caplog.text
    assert LlinkForCausalLM.from_pretrained(tmp_path).config.stage == "inject"


@pytest.mark.slow
def test_a_private_repository_a_branch_and_a_pull_request(hub, quick, tmp_path):
    build().save_pretrained(tmp_path / "out")
    push = ["push", str(tmp_path / "out"), REPO]
    assert main([*push, "--private"]) == 0
    assert hub.repos[REPO].private
    head = hub.repos[REPO].heads["main"]
    assert main([*push, "--revision", "v2", "--message", "on a branch"]) == 0
    (tmp_path / "out" / "README.md").write_text("Mine.")
    assert main([*push, "--create_pr", "True"]) == 0
    assert hub.repos[REPO].heads["main"] == head
    assert pushed(hub, REPO, branch="v2") == pushed(hub, REPO, branch="refs/pr/1") == WHOLE
    assert "Mine." in hub.files(REPO, "refs/pr/1")["README.md"].decode()


def test_the_processor_alone(hub, tmp_path):
    processor = build().processor
    processor.push_to_hub("someone/only-a-processor", commit_message="processor")
    assert commits(hub, "someone/only-a-processor") == ["processor"]
    again = AutoProcessor.from_pretrained("someone/only-a-processor", trust_remote_code=True)
    assert again.encoder_tokenizer.get_vocab() == processor.encoder_tokenizer.get_vocab()
    for place, own in (("", processor.tokenizer), ("encoder_tokenizer", processor.encoder_tokenizer)):
        alone = AutoTokenizer.from_pretrained("someone/only-a-processor", subfolder=place)
        assert alone.get_vocab() == own.get_vocab()
    assert again(*INPUTS).keys() == processor(*INPUTS).keys()


# ------------------------------------------------------------------ re-pushing


def test_what_is_stale_goes_and_what_is_the_readers_stays(hub, quick, tmp_path):
    model = build()
    push_to_hub(model, REPO, self_contained=True, max_shard_size="30KB")
    assert len([name for name in pushed(hub, REPO) if name.startswith("decoder/model-")]) > 1, (
        "vacuous unless there are shards"
    )
    repo = hub.repos[REPO]
    repo.commit(hub.files(REPO) | {"notes.txt": b"mine", "training_args.bin": b"a pickle"}, message="by hand")
    push_to_hub(model, REPO)
    assert pushed(hub, REPO) == WHOLE | {"notes.txt"}


@pytest.mark.slow
def test_a_readers_text_and_metadata_survive(hub, quick):
    model = build()
    push_to_hub(model, REPO, tags=["first"])
    card = hub.files(REPO)["README.md"].decode()
    head, start, tail = card.partition("survives every push. -->\n")
    own = "## Thanks\n\nTo <b>Sokha</b> & `friends` | ខ្មែរ."
    edited = (head.replace("tags:\n", "datasets:\n- someone/data\ntags:\n- by-hand\n") + start + own + tail).replace(
        "## Limits", "## Unlimited"
    )
    hub.repos[REPO].commit(hub.files(REPO) | {"README.md": edited.encode()}, message="on the website")
    push_to_hub(model, REPO, tags=["second"])
    again = hub.files(REPO)["README.md"].decode()
    assert again.count(own) == 1
    assert "## Limits" in again, "what is generated is generated anew"
    assert all(f"- {tag}\n" in again for tag in ("by-hand", "first", "second", "llink"))
    assert "datasets:\n- someone/data" in again
    push_to_hub(model, REPO)
    assert hub.files(REPO)["README.md"].decode() == again


def test_a_card_without_markers_is_kept_as_the_readers_text(hub, quick):
    hub.add(REPO, Path("/nonexistent"))
    hub.repos[REPO].commit({"README.md": b"---\nlicense: mit\nthumbnail: x.png\n---\nWritten long ago."})
    push_to_hub(build(), REPO)
    card = hub.files(REPO)["README.md"].decode()
    assert card.count("Written long ago.") == 1
    assert "thumbnail: x.png" in card
    assert "license: llama3.2" in card, "the reader's licence is not stricter than the bases'"


WITHOUT_LLINK = """
import sys
sys.modules["llink"] = None
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
model.push_to_hub(sys.argv[2], commit_message="again")
"""


@pytest.mark.slow
def test_pushing_again_without_llink_is_complete(hub, quick, tmp_path):
    """What was loaded with trust_remote_code is re-pushed by its own code: all that loading needs, in one commit."""
    model = build()
    model.run_record = {"stages": []}
    push_to_hub(model, REPO)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LLINK, REPO, "someone/Llama-other"],
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert commits(hub, "someone/Llama-other") == ["again"]
    one, two = hub.files(REPO), hub.files("someone/Llama-other")
    assert pushed(hub, "someone/Llama-other") == pushed(hub, REPO) - CHECKED
    by_library = {"tokenizer_config.json", "encoder_tokenizer/tokenizer_config.json"}  # whether it was loaded locally
    assert {name for name in two if one[name] != two[name]} <= by_library
    again = LlinkForCausalLM.from_pretrained("someone/Llama-other")
    assert torch.equal(tiny.logits_of(again, again.processor(*INPUTS)), tiny.logits_of(model, model.processor(*INPUTS)))


@pytest.mark.slow
def test_guard_the_auto_class_pushes_the_same(hub, quick):
    push_to_hub(build(), REPO)
    push_to_hub(AutoModelForCausalLM.from_pretrained(REPO), "someone/Llama-again")
    assert pushed(hub, "someone/Llama-again") == pushed(hub, REPO)
    assert DECODER in hub.files("someone/Llama-again")["README.md"].decode()
