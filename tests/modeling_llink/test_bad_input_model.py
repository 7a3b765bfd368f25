"""What users get wrong with models and folders: an error of our own that names the value and the remedy."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from llink.configuration_llink import LlinkConfigError
from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.errors import BaseModelError, LlinkCheckpointError

KINDS = pytest.mark.parametrize("kind", ["light", "self-contained"])


@pytest.fixture(scope="module")
def saved(make_model, tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    model = make_model()
    model.save_pretrained(root / "light")
    model.save_pretrained(root / "self-contained", self_contained=True)
    return root


@pytest.fixture
def copy(saved, tmp_path):
    def make(kind):
        return Path(shutil.copytree(saved / kind, tmp_path / kind))

    return make


def edit(folder: Path, **fields) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")


# ------------------------------------------------------------------ bases


def build(base_folder, **changes):
    names = {"encoder": base_folder("encoder", "xlm-roberta"), "decoder": base_folder("decoder", "llama"), **changes}
    return LlinkForCausalLM.from_encoder_decoder_pretrained(names["encoder"], names["decoder"])


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("name", ["/no/such/folder", "nobody/no-such-model", "", "a b c", "../missing"])
def test_a_missing_base_is_named(base_folder, kind, name):
    with pytest.raises(BaseModelError, match=kind):
        build(base_folder, **{kind: name})


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_an_empty_folder_is_no_base(base_folder, tmp_path, kind):
    with pytest.raises(BaseModelError, match=kind):
        build(base_folder, **{kind: str(tmp_path)})


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_a_decoder_is_no_encoder(base_folder, family):
    with pytest.raises(BaseModelError, match="is a decoder"):
        build(base_folder, encoder=base_folder("decoder", family))


@pytest.mark.parametrize("family", tiny.ENCODERS)
@pytest.mark.parametrize("head", [False, True], ids=["bare", "with its head"])
def test_an_encoder_is_no_decoder(base_folder, family, head):
    """With its masked-LM head, XLM-R would load as a causal model whose attention looks both ways."""
    with pytest.raises(BaseModelError, match=r"decoder .* is not a causal language model"):
        build(base_folder, decoder=base_folder("encoder", family, head=head))


def test_an_llink_model_is_no_base(base_folder, saved):
    for kind in ("encoder", "decoder"):
        with pytest.raises(BaseModelError, match=kind):
            build(base_folder, **{kind: str(saved / "self-contained")})


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_truncated_base_weights(base_folder, tmp_path, kind):
    family = {"encoder": "xlm-roberta", "decoder": "llama"}[kind]
    folder = Path(shutil.copytree(base_folder(kind, family), tmp_path / "base"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(BaseModelError, match=kind):
        build(base_folder, **{kind: str(folder)})


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_base_weights_that_are_not_there(base_folder, tmp_path, kind):
    family = {"encoder": "xlm-roberta", "decoder": "llama"}[kind]
    folder = Path(shutil.copytree(base_folder(kind, family), tmp_path / "base"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match=kind):
        build(base_folder, **{kind: str(folder)})


def test_a_base_with_missing_parameters_would_be_random(base_folder, tmp_path):
    folder = Path(shutil.copytree(base_folder("decoder", "llama"), tmp_path / "base"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3, "layer_types": None}), "utf-8")
    with pytest.raises(BaseModelError, match="random"):
        build(base_folder, decoder=str(folder))


def test_an_unknown_base_architecture(base_folder, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "not-a-model"}')
    with pytest.raises(BaseModelError, match="cannot be read"):
        build(base_folder, decoder=str(tmp_path))


def test_bad_options_show_before_any_weights_are_read(base_folder, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("weights were read")

    monkeypatch.setattr("llink.modeling_llink.persistence.load_base", fail)
    with pytest.raises(LlinkConfigError, match="num_slots"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(
            base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama"), num_slots=-1
        )
    with pytest.raises(BaseModelError, match="is a decoder"):
        build(base_folder, encoder=base_folder("decoder", "llama"))


def test_a_misspelt_option_is_no_silent_attribute(base_folder):
    with pytest.raises((LlinkConfigError, TypeError), match="num_slot"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(
            base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama"), num_slot=3
        )


def test_lora_targets_that_the_decoder_does_not_have(base_folder):
    with pytest.raises((LlinkConfigError, LlinkCheckpointError, ValueError), match="no_such_proj"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(
            base_folder("encoder", "xlm-roberta"),
            base_folder("decoder", "llama"),
            lora_target_modules=["no_such_proj"],
        )


# ------------------------------------------------------------------ folders


@pytest.mark.parametrize("name", ["/no/such/folder", "nobody/no-such-model", "", "a b c"])
def test_a_missing_model(name):
    with pytest.raises(LlinkCheckpointError):
        LlinkForCausalLM.from_pretrained(name)


def test_folders_that_hold_no_llink_model(base_folder, tmp_path):
    with pytest.raises(LlinkCheckpointError, match="holds no llink model"):
        LlinkForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(LlinkCheckpointError, match="no llink model, but a 'llama' one"):
        LlinkForCausalLM.from_pretrained(base_folder("decoder", "llama"))
    with pytest.raises(LlinkCheckpointError, match="'xlm-roberta'"):
        LlinkForCausalLM.from_pretrained(base_folder("encoder", "xlm-roberta"))
    (tmp_path / "config.json").write_text("{ not json")
    with pytest.raises(LlinkCheckpointError, match="holds no llink model"):
        LlinkForCausalLM.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LlinkCheckpointError):
        LlinkForCausalLM.from_pretrained(tmp_path)


@KINDS
@pytest.mark.parametrize("left", [0, 7, 1000, -100])
def test_truncated_weights(copy, kind, left):
    folder = copy(kind)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:left])
    for auto in (LlinkForCausalLM, AutoModelForCausalLM):
        with pytest.raises(LlinkCheckpointError, match=r"truncated|damaged"):
            auto.from_pretrained(folder)


@KINDS
def test_missing_weights(copy, kind):
    folder = copy(kind)
    (folder / "model.safetensors").unlink()
    with pytest.raises(LlinkCheckpointError, match=r"model\.safetensors"):
        LlinkForCausalLM.from_pretrained(folder)


@KINDS
@pytest.mark.parametrize(
    "field",
    ["num_slots", "projector_hidden_size", "slot_adapter_hidden_size", "slot_expander_hidden_size", "lora_rank"],
)
def test_numbers_that_do_not_fit_the_weights(copy, kind, field):
    folder = copy(kind)
    edit(folder, **{field: 3})
    with pytest.raises(LlinkCheckpointError, match=r"shape|fit|mismatch|size"):
        LlinkForCausalLM.from_pretrained(folder)


@KINDS
@pytest.mark.parametrize(
    "changes",
    [
        dict(slot_adapter="none"),
        dict(slot_expander_hidden_size=5),
        dict(teacher_conditioning="whiten"),
        dict(lora_target_modules=["q_proj"]),
        dict(lora_target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_the_weights(copy, kind, changes):
    folder = copy(kind)
    edit(folder, **changes)
    with pytest.raises(LlinkCheckpointError):
        LlinkForCausalLM.from_pretrained(folder)


@KINDS
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_slots", 10**9),
        ("num_slots", -2),
        ("num_slots", 0),
        ("projector_hidden_size", -5),
        ("slot_expander_hidden_size", 10**12),
        ("lora_rank", -1),
        ("pooling", "sum"),
        ("reserved_token_start", 5),
        ("num_slots", "eight"),
        ("slot_layers", [1]),
        ("teacher_template", 5),
    ],
)
def test_impossible_numbers_in_config_json(copy, kind, field, value):
    folder = copy(kind)
    edit(folder, **{field: value})
    with pytest.raises((LlinkConfigError, LlinkCheckpointError), match=field):
        LlinkForCausalLM.from_pretrained(folder)


@KINDS
def test_a_config_without_bases(copy, kind):
    for field in ("encoder_config", "decoder_config"):
        folder = copy(kind)
        edit(folder, **{field: None})
        with pytest.raises((LlinkConfigError, LlinkCheckpointError, BaseModelError), match=field.partition("_")[0]):
            LlinkForCausalLM.from_pretrained(folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize("field", ["encoder_name_or_path", "decoder_name_or_path"])
def test_a_light_checkpoint_whose_base_is_gone(copy, field):
    folder = copy("light")
    edit(folder, **{field: "/gone/away"})
    with pytest.raises(BaseModelError, match=rf"/gone/away.*{field}"):
        LlinkForCausalLM.from_pretrained(folder)
    edit(folder, **{field: None})
    with pytest.raises(LlinkCheckpointError, match=field):
        LlinkForCausalLM.from_pretrained(folder)


def test_a_light_checkpoint_on_bases_of_other_widths(copy, tmp_path):
    wide = tiny.save_decoder("llama", tmp_path / "wide", hidden_size=64, head_dim=16)
    deep = tiny.save_decoder("llama", tmp_path / "deep", num_hidden_layers=3, layer_types=None)
    other = tiny.save_decoder("gpt2", tmp_path / "other")
    encoder = tiny.save_encoder("xlm-roberta", tmp_path / "e", hidden_size=32)
    folder = copy("light")
    for changes in (
        dict(decoder_name_or_path=wide),
        dict(decoder_name_or_path=deep),
        dict(decoder_name_or_path=other),
        dict(encoder_name_or_path=encoder),
    ):
        with pytest.raises(LlinkCheckpointError):
            LlinkForCausalLM.from_pretrained(folder, **changes)


def test_a_light_checkpoint_on_a_larger_vocabulary(copy, tmp_path):
    larger = tiny.save_decoder("llama", tmp_path / "larger", vocab_size=500)
    with pytest.raises(LlinkCheckpointError, match=r"reserved|vocabulary"):
        LlinkForCausalLM.from_pretrained(copy("light"), decoder_name_or_path=larger)


@KINDS
def test_a_processor_of_another_k_is_noticed(copy, kind):
    folder = copy(kind)
    path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "num_slots": 2}), "utf-8")
    model = LlinkForCausalLM.from_pretrained(folder)
    with pytest.raises(LlinkCheckpointError, match="K=2"):
        model.generate(foreign_text="cat", max_new_tokens=1)


def test_a_folder_that_is_not_there_is_no_repository():
    with pytest.raises(LlinkCheckpointError, match=r"The folder \./nowhere does not exist"):
        LlinkForCausalLM.from_pretrained("./nowhere")


def test_load_bridge_refuses_what_does_not_fit(saved, make_model, tmp_path):
    model = make_model(num_slots=2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(LlinkCheckpointError, match="does not exist"):
        model.load_bridge(tmp_path)
    with pytest.raises(LlinkCheckpointError, match="shape"):
        model.load_bridge(saved / "light")
    after = model.state_dict()
    assert all((before[k] == after[k]).all() for k in before), "a refused bridge changes nothing"


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_base_without_its_tokenizer(tmp_path, kind):
    """transformers would make up an empty one for this encoder, and every text would be the same to it."""
    encoder = tiny.save_encoder("xlm-roberta", tmp_path / "encoder")
    decoder = tiny.save_decoder("llama", tmp_path / "decoder")
    for file in (tmp_path / kind).glob("*token*"):
        file.unlink()
    if kind == "encoder":
        assert len(AutoTokenizer.from_pretrained(encoder)) < 10, "vacuous if transformers raises by itself"
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder)
    with pytest.raises(BaseModelError, match=f"{kind} '.*holds no tokenizer.*Save the one"):
        _ = model.processor
