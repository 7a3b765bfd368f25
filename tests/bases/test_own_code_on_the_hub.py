"""Bases with code of their own on the Hub: pinned with their code, and loadable by others from what is saved."""

import json
import os
import subprocess
import sys
from pathlib import Path

import own_code
import pytest
import tiny
import user
from hub_server import Repo

from llink.building import plan_config
from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.errors import BaseModelError

NAMES = {"encoder": "someone/own-encoder", "decoder": "someone/own-decoder"}


@pytest.fixture
def commits(hub, tmp_path):
    """The two bases on the Hub; their commits, by kind."""
    return {kind: hub.add(name, Path(own_code.save_own(kind, tmp_path / kind))) for kind, name in NAMES.items()}


def elsewhere(hub, work, kind, folder):
    """Loads a checkpoint on what is another machine: an empty cache, no llink."""
    return subprocess.run(
        [sys.executable, user.__file__, str(work), json.dumps([str(folder)])],
        env={**os.environ, **hub.environment(work / kind), "HF_MODULES_CACHE": str(work / kind / "modules")},
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_checkpoints_of_bases_with_code_load_elsewhere(hub, commits, tmp_path):
    """A light one takes bases and code from their commits, a self-contained one needs no other repository."""
    journey = user.Journey(NAMES["encoder"], NAMES["decoder"], tmp_path)
    journey.options = {"trust_remote_code": True}
    journey.build()
    config = journey.model.config
    assert {kind: getattr(config, f"{kind}_revision") for kind in NAMES} == commits
    journey.reload = lambda: None
    journey.train()
    journey.save()
    for kind, name in NAMES.items():  # whoever takes the newest code gets an error
        files = hub.files(name)
        broken = {path: b"raise RuntimeError('other code')" for path in files if path.endswith(".py")}
        assert broken
        assert hub.repos[name].commit(files | broken) != commits[kind]
    light = elsewhere(hub, tmp_path, "light", tmp_path / "light")
    assert light.returncode == 0, light.stderr[-3000:]
    for name in NAMES.values():
        del hub.repos[name]
    whole = elsewhere(hub, tmp_path, "self-contained", tmp_path / "self-contained")
    assert whole.returncode == 0, whole.stderr[-3000:]
    assert elsewhere(hub, tmp_path, "again", tmp_path / "light").returncode, "vacuous unless the light one asks the Hub"


def test_untrusted_code_is_refused_before_anything_is_loaded(hub, commits, tmp_path):
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*NAMES.values(), trust_remote_code=True)
    for kind in user.SAVED:
        model.save_pretrained(tmp_path / kind, self_contained=kind != "light")
        with pytest.raises(BaseModelError, match="code of its own"):
            LlinkForCausalLM.from_pretrained(tmp_path / kind)
    hub.requests.clear()
    with pytest.raises(BaseModelError, match=r"Read that code, then pass trust_remote_code=True"):
        plan_config(*NAMES.values())
    assert not hub.asked("GET", "safetensors")


@pytest.mark.slow
def test_code_that_lies_in_another_repository(hub, commits, tmp_path):
    """As that of many embedding models: a light checkpoint takes it from there, a self-contained one has a copy."""
    for kind, name in NAMES.items():
        files = hub.files(name)
        config = json.loads(files["config.json"])
        config["auto_map"] = {auto: f"someone/{kind}-code--{place}" for auto, place in config["auto_map"].items()}
        code = {path: content for path, content in files.items() if path.endswith(".py")}
        hub.repos[f"someone/{kind}-code"] = Repo()
        hub.repos[f"someone/{kind}-code"].commit(code)
        rest = {path: content for path, content in files.items() if path not in code}
        hub.repos[name].commit(rest | {"config.json": json.dumps(config).encode()})
    journey = user.Journey(NAMES["encoder"], NAMES["decoder"], tmp_path)
    journey.options = {"trust_remote_code": True}
    journey.reload = lambda: None
    journey.build()
    tiny.wake(journey.model)
    journey.save()
    light = elsewhere(hub, tmp_path, "light", tmp_path / "light")
    assert light.returncode == 0, light.stderr[-3000:]
    hub.repos.clear()
    whole = elsewhere(hub, tmp_path, "self-contained", tmp_path / "self-contained")
    assert whole.returncode == 0, whole.stderr[-3000:]


ENCODER_DECODER = """

class OwnWhole(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.encoder, self.decoder = OwnModel(config), OwnModel(config)
        self.post_init()

    def get_encoder(self, *_, **__):
        return self.encoder
"""


def test_a_part_of_a_model_with_code_is_refused_before_training(hub, commits, tmp_path):
    """What is saved of it would name the whole's class, which it is not."""
    folder = tmp_path / "encoder"
    code = folder / "modeling_own_encoder.py"
    code.write_text(code.read_text() + ENCODER_DECODER)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoModel"] = "modeling_own_encoder.OwnWhole"
    (folder / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    whole = {f"{part}.{name}": tensor.clone() for part in ("encoder", "decoder") for name, tensor in state.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    hub.add("someone/whole", folder)
    with pytest.raises(BaseModelError, match="part of a model with code of its own"):
        LlinkForCausalLM.from_encoder_decoder_pretrained("someone/whole", NAMES["decoder"], trust_remote_code=True)
