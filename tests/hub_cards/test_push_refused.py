"""Pushes that must not happen, and pushes that break: nothing changes on the Hub or in the folder."""

import shutil
from pathlib import Path

import huggingface_hub.utils._http
import pytest
import torch
from hub_server import WHOLE, Fault, build, commits, pushed
from safetensors.torch import load_file, save_file

from llink import LlinkForCausalLM
from llink.cli import main
from llink.hub_cards import publishing
from llink.hub_cards.publishing import push_to_hub
from llink.hub_cards.upload import LlinkPushError
from llink.hub_cards.verify import save_canary
from llink.modeling_llink.weights import Finding

REPO = "someone/Llama-khmer"


def save(model, folder: Path) -> None:
    model.save_pretrained(folder)
    save_canary(model, folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------ what is not pushed


def test_bases_that_nobody_else_can_load(hub, quick, make_model, tmp_path):
    model = make_model()
    with pytest.raises(LlinkPushError, match=r"no repository that others can load.*self_contained=True"):
        push_to_hub(model, REPO)
    pinned = build()
    pinned.config.decoder_revision = "main"
    with pytest.raises(LlinkPushError, match="not pinned to a commit"):
        push_to_hub(pinned, REPO)
    assert REPO not in hub.repos
    push_to_hub(model, REPO, self_contained=True)
    texts = [data for name, data in hub.files(REPO).items() if name.endswith((".json", ".md", ".py"))]
    assert not [1 for data in texts if model.config.decoder_name_or_path.encode() in data], "a folder of this machine"


@pytest.mark.parametrize("name", ["optimizer.pt", "canary/extra.pkl"])
def test_a_pickle_never_leaves(hub, quick, tmp_path, name):
    save(build(), tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(b"x")
    if "/" in name:
        with pytest.raises(LlinkPushError, match=r"extra\.pkl may be a pickle"):
            push_to_hub(tmp_path / "out", REPO)
        assert REPO not in hub.repos
    else:  # of a run's own files only those of a checkpoint are staged
        push_to_hub(tmp_path / "out", REPO)
        assert pushed(hub, REPO) == WHOLE


@pytest.mark.slow
def test_weights_that_are_not_those_of_the_canary_never_leave(hub, tmp_path):
    """With the real check."""
    save(build(), tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    state = load_file(path)
    state["projector.up.weight"] = torch.randn_like(state["projector.up.weight"])
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(LlinkPushError, match=r"projector weights.*projector\.up\.weight"):
        push_to_hub(tmp_path / "out", REPO)
    assert REPO not in hub.repos


def test_what_reloads_as_another_model_never_leaves(hub, monkeypatch):
    findings = [
        Finding("encoder tokenizer", False, "other tokens"),
        Finding("x", False, "", True),
    ]
    monkeypatch.setattr(publishing, "reload", lambda *_: findings)
    with pytest.raises(LlinkPushError, match=r"another model.*encoder tokenizer: other tokens"):
        push_to_hub(build(), REPO)
    assert REPO not in hub.repos


def test_incomplete_folders_are_named(hub, quick, tmp_path):
    save(build(), tmp_path / "out")
    for name in ("processor_config.json", "encoder_tokenizer/config.json", "canary/facts.json"):
        folder = Path(shutil.copytree(tmp_path / "out", tmp_path / name.replace("/", "-")))
        (folder / name).unlink()
        with pytest.raises(LlinkPushError, match=name.replace(".", r"\.")):
            publishing.publish(folder, REPO)
    state = load_file(tmp_path / "out" / "model.safetensors")
    state["projector.up.bias"][0] = float("nan")
    save_file(state, tmp_path / "out" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LlinkPushError, match=r"projector\.up\.bias holds NaN"):
        publishing.publish(tmp_path / "out", REPO)
    assert main(["push", str(tmp_path / "nothing"), REPO]) == 2
    assert REPO not in hub.repos


def test_a_folder_without_a_canary_gets_one(hub, quick, tmp_path):
    save(build(), tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "canary")
    push_to_hub(tmp_path / "out", REPO)
    assert pushed(hub, REPO) == WHOLE


def test_an_adapter_configuration_would_redirect_loading(hub, quick):
    hub.add(REPO, Path("/nonexistent"))
    hub.repos[REPO].commit({"adapter_config.json": b"{}"})
    with pytest.raises(LlinkPushError, match=r"adapter_config\.json"):
        push_to_hub(build(), REPO)


def test_a_name_that_the_licence_does_not_allow(hub, quick):
    with pytest.raises(LlinkPushError, match=r"Llama 3\.2 Community License.*Push to Llama-khmer"):
        push_to_hub(build(), "someone/khmer")
    assert "someone/khmer" not in hub.repos


# ------------------------------------------------------------------ faults


FAULTS = {
    "a 500 in the commit": Fault("POST", "/commit/", 500, times=99),
    "a commit that breaks off": Fault("POST", "/commit/", None, times=99),
    "an upload that breaks off": Fault("PUT", "/lfs/", None, times=99),
    "a 500 in the upload": Fault("PUT", "/lfs/", 500, times=99),
    "no upload modes": Fault("POST", "/preupload/", 503, times=99),
    "no batch": Fault("POST", "/objects/batch", 500, times=99),
    "a token that expires": Fault("POST", "/commit/", 401, times=99),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.slow(but=["a 500 in the commit"])
def test_a_failed_push_changes_nothing_and_can_be_repeated(hub, quick, impatient, tmp_path, fault):
    push_to_hub(build(lora_rank=2), REPO, commit_message="good")
    model = build(lora_rank=3)
    model.save_pretrained(tmp_path / "out")
    before, there = contents(tmp_path / "out"), dict(hub.files(REPO))
    hub.faults.append(Fault(fault.method, fault.path, fault.status, fault.times))
    with pytest.raises(LlinkPushError, match=r"was not pushed.*Nothing was changed"):
        push_to_hub(tmp_path / "out", REPO)
    assert hub.faults[0].times < 99, "vacuous unless the fault struck"
    assert hub.files(REPO) == there
    assert commits(hub, REPO) == ["good"]
    assert contents(tmp_path / "out") == before
    hub.faults.clear()
    push_to_hub(tmp_path / "out", REPO, commit_message="repeated")
    assert commits(hub, REPO) == ["good", "repeated"]
    assert LlinkForCausalLM.from_pretrained(REPO).config.lora_rank == 3


@pytest.mark.slow
def test_passing_faults_are_ridden_out(hub, quick, impatient):
    hub.faults += [Fault("PUT", "/lfs/", 500), Fault("POST", "/preupload/", 503)]
    push_to_hub(build(), REPO)
    assert not any(fault.times for fault in hub.faults), "vacuous unless they struck"
    assert pushed(hub, REPO) == WHOLE


def test_a_commit_that_arrives_without_an_answer_is_told(hub, quick, impatient):
    hub.faults.append(Fault("POST", "/commit/", late=True))
    with pytest.raises(LlinkPushError, match="the commit arrived after all"):
        push_to_hub(build(), REPO)
    assert pushed(hub, REPO) == WHOLE, "whole all the same"


@pytest.mark.parametrize(
    ("repo", "options", "message"),
    [
        (REPO, dict(token="hf_wrong"), r"401|Unauthorized|log in"),
        ("someone-else/Llama-x", {}, r"403|cannot create|write"),
        (REPO, dict(revision="refs/pr/7"), r"refs/pr/7|rev|Revision"),
        ("a/b/c", {}, "a/b/c"),
    ],
    ids=["wrong token", "someone else's", "wrong revision", "wrong name"],
)
def test_refused_pushes_say_why(hub, quick, impatient, repo, options, message):
    model = build()
    with pytest.raises((LlinkPushError, ValueError), match=message):
        push_to_hub(model, repo, **options)
    assert not hub.asked("POST", "/commit/")


@pytest.mark.slow
def test_a_push_on_top_of_an_unseen_commit_is_refused(hub, quick, monkeypatch):
    model = build()
    push_to_hub(model, REPO)
    look = publishing.look

    def look_and_be_late(*arguments):
        seen = look(*arguments)
        hub.repos[REPO].commit(hub.files(REPO) | {"notes.txt": b"meanwhile"}, message="meanwhile")
        return seen

    monkeypatch.setattr(publishing, "look", look_and_be_late)
    with pytest.raises(LlinkPushError, match="push again"):
        push_to_hub(build(lora_rank=3), REPO)
    assert commits(hub, REPO)[-1] == "meanwhile"


def test_offline_mode_is_named(hub, quick, monkeypatch):
    model = build()
    model.processor  # noqa: B018 - loaded while that is possible
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(LlinkPushError, match="HF_HUB_OFFLINE"):
        push_to_hub(model, REPO)
