"""`llink verify`: what is equal is said to be, and each way in which a copy can be broken is named."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from hub_server import ENCODER, build, reload_here, tiny_hub
from safetensors.torch import load_file, save_file

from llink import LlinkForCausalLM
from llink.cli import main
from llink.hub_cards import publishing
from llink.hub_cards.canary import TEXTS, take_canary
from llink.hub_cards.publishing import push_to_hub
from llink.hub_cards.verify import (
    check_canary,
    compare,
    findings_table,
    passed,
    read_canary,
    save_canary,
    verify,
)
from llink.modeling_llink.errors import BaseModelError, LlinkCheckpointError

KINDS = pytest.mark.parametrize("kind", ["light", "self-contained"])


@pytest.fixture(scope="module")
def saved(make_model, tmp_path_factory):
    """Folders of both kinds."""
    root = tmp_path_factory.mktemp("verify")
    model = make_model()
    for kind in ("light", "self-contained"):
        model.save_pretrained(root / kind, self_contained=kind != "light")
        save_canary(model, root / kind)
    return root


@pytest.fixture
def copy(saved, tmp_path):
    return lambda kind: Path(shutil.copytree(saved / kind, tmp_path / kind))


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def edit_weights(path: Path, name: str, change) -> None:
    state = load_file(path)
    state[name] = change(state[name])
    save_file(state, path, metadata={"format": "pt"})


def save(model, folder: Path) -> None:
    model.save_pretrained(folder)
    save_canary(model, folder)


def different(findings) -> dict[str, str]:
    return {finding.what: finding.detail for finding in findings if not finding.equal}


# ------------------------------------------------------------------ equal


@KINDS
def test_what_was_saved_is_equal_in_everything(saved, kind, capsys):
    findings = verify(saved / kind)
    assert different(findings) == {}
    named = [finding.what for finding in findings]
    assert {f"{part} weights" for part in ("projector", "slot_embedder", "LoRA", "encoder", "decoder")} <= set(named)
    assert {"library versions", "encoder revision", "decoder tokenizer", "slots of three texts"} <= set(named)
    assert main(["verify", str(saved / kind)]) == 0
    assert "It is the model that was saved." in capsys.readouterr().out


@pytest.mark.parametrize("family", tiny.DECODERS)
@pytest.mark.matrix
def test_every_family_is_equal_to_itself(make_model, tmp_path, family):
    save(make_model(decoder=family), tmp_path)
    assert different(verify(tmp_path)) == {}


def test_half_precision_is_equal_to_itself_and_close_to_the_whole(make_model, tmp_path):
    save(make_model(dtype=torch.bfloat16), tmp_path)
    assert different(verify(tmp_path)) == {}
    whole = LlinkForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert set(different(check_canary(whole))) == {"encoder precision", "decoder precision"}
    assert passed(check_canary(whole))


def test_taking_a_canary_leaves_the_model_as_it_was(make_model):
    model = make_model().train()
    model.projector.train()
    modes = [module.training for module in model.modules()]
    random, before = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    one = take_canary(model)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert different(compare(one, take_canary(model))) == {}
    assert one.tensors["slots"].shape == (len(TEXTS), 4, 32)
    assert len({tuple(row.flatten().tolist()) for row in one.tensors["slots"]}) == 3, "vacuous unless texts differ"


def test_no_processor_no_canary_and_old_ones_go(make_model, saved, tmp_path):
    folder = Path(shutil.copytree(saved / "self-contained", tmp_path / "out"))
    model = LlinkForCausalLM(make_model().config)
    model.config.encoder_name_or_path = model.config.decoder_name_or_path = None
    with pytest.warns(UserWarning, match="without a processor"):
        model.save_pretrained(folder, self_contained=True)
    assert read_canary(str(folder)) is None
    assert not list((folder / "canary").glob("*")), "the earlier model's"
    with pytest.raises(LlinkCheckpointError, match="saved without a canary"):
        verify(folder)
    assert main(["verify", str(folder)]) == 2


# ------------------------------------------------------------------ broken


@KINDS
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("projector.up.weight", "projector"),
        ("slot_embedder.scale", "slot_embedder"),
        ("decoder.model.layers.0.self_attn.q_proj.lora_B.default.weight", "LoRA"),
    ],
)
def test_a_reinitialised_bridge(copy, kind, name, part):
    folder = copy(kind)
    edit_weights(folder / "model.safetensors", name, lambda tensor: torch.randn_like(tensor))
    found = different(verify(folder))
    assert name in found[f"{part} weights"]
    assert "slots of three texts" in found or "first-token logits" in found, "it shows in what the model does"
    with pytest.raises(LlinkCheckpointError, match=f"not loaded as it was saved: {part} weights"):
        LlinkForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("base", ["encoder", "decoder"])
def test_reinitialised_bases(copy, base, capsys):
    folder = copy("self-contained")
    path = folder / base / "model.safetensors"
    name = next(name for name, tensor in load_file(path).items() if tensor.dim() == 2)
    edit_weights(path, name, lambda tensor: torch.randn_like(tensor))
    assert "tensors differ, such as" in different(verify(folder))[f"{base} weights"]
    with pytest.raises(BaseModelError, match=rf"{base}.*tensors differ.*allow_other_bases=True"):
        LlinkForCausalLM.from_pretrained(folder)
    assert main(["verify", str(folder)]) == 1
    assert "NOT the model that was saved" in capsys.readouterr().out


def test_one_changed_number_is_found_where_it_is_sampled(copy):
    folder = copy("self-contained")

    def change(tensor):
        tensor[0, 0] += 1e-6
        return tensor

    edit_weights(folder / "encoder" / "model.safetensors", "embeddings.word_embeddings.weight", change)
    assert "embeddings.word_embeddings.weight" in different(verify(folder))["encoder weights"]


@pytest.mark.parametrize(("place", "what"), [("", "decoder tokenizer"), ("encoder_tokenizer", "encoder tokenizer")])
@pytest.mark.parametrize("swapped", ["ab", "xz"], ids=["in the texts", "elsewhere"])
def test_a_wrong_tokenizer(copy, place, what, swapped):
    folder = copy("light")

    def swap(raw):
        vocabulary, (one, two) = raw["model"]["vocab"], swapped
        vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]

    edit_json(folder / place / "tokenizer.json", swap)
    found = different(verify(folder))
    assert "instead of" in found[what]
    assert not [name for name in found if name.endswith("weights")]


def test_changed_versions_are_named_and_harmless(copy):
    folder = copy("light")
    edit_json(folder / "canary" / "facts.json", lambda facts: facts["versions"].update(transformers="4.0.0"))
    findings = verify(folder)
    assert different(findings)["library versions"].startswith("transformers 4.0.0 →")
    assert passed(findings)
    assert "differs, harmless" in findings_table(findings)


def test_a_changed_base_revision(tmp_path, monkeypatch, base_folder, capsys):
    with tiny_hub(monkeypatch, tmp_path / "hf", base_folder) as hub:
        save(build(), tmp_path / "out")
        pinned = hub.repos[ENCODER].heads["main"]
        later = hub.repos[ENCODER].commit(hub.files(ENCODER) | {"README.md": b"new"}, message="a later commit")
        edit_json(tmp_path / "out" / "config.json", lambda config: config.update(encoder_revision=later))
        found = different(verify(tmp_path / "out"))
        assert found == {"encoder revision": f"{ENCODER} at {pinned} → {ENCODER} at {later}"}
        assert main(["verify", str(tmp_path / "out")]) == 1
        assert later in capsys.readouterr().out


def test_another_configuration(copy):
    folder = copy("light")
    edit_json(folder / "config.json", lambda config: config.update(pooling="max"))
    assert set(different(verify(folder))) == {"slots of three texts", "first-token logits"}


def test_damaged_canaries_are_named(copy):
    folder = copy("light")
    (folder / "canary" / "facts.json").write_text("{", "utf-8")
    with pytest.raises(LlinkCheckpointError, match=r"canary of .* is damaged"):
        verify(folder)
    (folder / "canary" / "facts.json").write_text("{}", "utf-8")
    with pytest.raises(LlinkCheckpointError, match="lacks"):
        verify(folder)


# ------------------------------------------------------------------ on the Hub, and by the folder's own code


def test_a_repository_at_a_revision(tmp_path, monkeypatch, base_folder):
    monkeypatch.setattr(publishing, "reload", reload_here)
    with tiny_hub(monkeypatch, tmp_path / "hf", base_folder) as hub:
        repo = "someone/Llama-verified"
        good = push_to_hub(build(), repo).oid
        files = dict(hub.files(repo))
        (tmp_path / "model.safetensors").write_bytes(files["model.safetensors"])
        edit_weights(tmp_path / "model.safetensors", "projector.up.weight", torch.zeros_like)
        hub.repos[repo].commit(files | {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()})
        assert main(["verify", repo, "--revision", good]) == 0
        assert main(["verify", repo]) == 1
        assert main(["verify", "someone/nothing"]) == 2


@pytest.mark.slow
def test_the_folders_own_code_in_a_fresh_process(copy, capsys):
    folder = copy("self-contained")
    path = folder / "layers.py"
    path.write_text(path.read_text("utf-8") + "\n_pool = pool\n\n\ndef pool(*a):\n    return _pool(*a) * -1\n", "utf-8")
    assert main(["verify", str(folder)]) == 0, "the installed code is not the folder's"
    assert main(["verify", str(folder), "--fresh_process"]) == 1
    assert "slots of three texts" in capsys.readouterr().out
    assert main(["verify", "someone/repo", "--fresh_process"]) == 2, "code of strangers is looked at first"
