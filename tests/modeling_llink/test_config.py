"""LlinkConfig: the paper's sizes, derived widths, strict fields, round trips."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PretrainedConfig

from llink.configuration_llink import LlinkConfig, LlinkConfigError
from llink.modeling_llink import LlinkForCausalLM

PAPER_ENCODER = {"model_type": "xlm-roberta", "vocab_size": 250002, "hidden_size": 768, "max_position_embeddings": 514}
PAPER_DECODER = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "tie_word_embeddings": True,
}


def small(**fields) -> LlinkConfig:
    encoder = {"model_type": "xlm-roberta", "hidden_size": 24, "max_position_embeddings": 80, "pad_token_id": 1}
    decoder = {"model_type": "llama", "hidden_size": 32, "vocab_size": 300}
    return LlinkConfig(encoder_config=encoder, decoder_config=decoder, **fields)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_papers_sizes():
    config = LlinkConfig(encoder_config=PAPER_ENCODER, decoder_config=PAPER_DECODER)
    with torch.device("meta"):
        model = LlinkForCausalLM(config)
    assert count(model.projector) == 8_659_968
    assert config.projector_hidden_size == 3072
    assert count(model.slot_embedder.expander) == pytest.approx(75.5e6, rel=2e-3)
    adapted = {name.rpartition(".")[2] for name in config.lora_target_modules}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"}
    lora = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    per_layer = 16 * (2 * (2048 + 2048) + 2 * (2048 + 512) + 2 * (2048 + 8192))
    assert lora == 16 * per_layer


def test_derived_fields():
    config = small(num_slots=5)
    assert (config.encoder_hidden_size, config.hidden_size, config.vocab_size) == (24, 32, 300)
    assert config.projector_hidden_size == 96
    assert config.max_foreign_tokens == 78  # XLM-R counts positions from pad_token_id + 1
    assert config.teacher_components == 32


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_slots", 0),
        ("num_slots", -1),
        ("num_slots", 10**9),
        ("projector_hidden_size", -3),
        ("projector_hidden_size", 10**12),
        ("slot_adapter_hidden_size", -1),
        ("slot_expander_hidden_size", 10**9),
        ("lora_rank", 0),
        ("lora_dropout", 1.5),
        ("projector_dropout", -0.1),
        ("max_foreign_chars", 0),
        ("max_foreign_tokens", 0),
        ("teacher_components", 0),
        ("pooling", "average"),
        ("slot_adapter", "linear"),
        ("slot_expander", "huge"),
        ("teacher_conditioning", "whitened"),
        ("teacher_state", "last"),
        ("teacher_template", "no text here"),
        ("teacher_template", "{text} and {text}"),
        ("reserved_token_start", 12),
        ("reserved_token_start", -1),
        ("stage", "done"),
    ],
)
def test_a_field_outside_its_valid_set_is_named(field, value):
    with pytest.raises(LlinkConfigError, match=field):
        small(**{field: value})


@pytest.mark.parametrize(("field", "value"), [("num_slots", "eight"), ("pooling", 3), ("lora_rank", 4.5)])
def test_types_are_strict(field, value):
    with pytest.raises((StrictDataclassError, LlinkConfigError), match=field):
        small(**{field: value})


def test_an_explicit_zero_is_an_error_and_not_the_default():
    for field in ("projector_hidden_size", "slot_adapter_hidden_size", "slot_expander_hidden_size"):
        with pytest.raises(LlinkConfigError, match=field):
            small(**{field: 0})


def test_layers_that_the_bases_do_not_have_are_refused():
    for field in ("encoder_layer", "teacher_layer"):
        small(**{field: 0})
        with pytest.raises(LlinkConfigError, match=field):
            small(**{field: 99})


def test_a_share_of_the_layers_becomes_a_layers_number(tmp_path):
    bases = {
        "encoder_config": AutoConfig.for_model("xlm-roberta", num_hidden_layers=4),
        "decoder_config": AutoConfig.for_model("llama", num_hidden_layers=30),
    }
    config = LlinkConfig(**bases, encoder_layer=0.5, teacher_layer=1 / 3)
    assert (config.encoder_layer, config.teacher_layer) == (2, 10)
    config.save_pretrained(tmp_path)
    assert LlinkConfig.from_pretrained(tmp_path).teacher_layer == 10
    assert LlinkConfig(teacher_layer=0.5).teacher_layer == 0.5, "not known before there is a base"
    found = small(encoder_layer=1.0, teacher_layer=-1.0)  # as a command's option of either kind
    assert (found.encoder_layer, found.teacher_layer) == (1, -1)
    assert isinstance(found.encoder_layer, int)
    for wrong in (1.5, -0.5, float("nan"), float("inf"), True):
        with pytest.raises((StrictDataclassError, LlinkConfigError), match="teacher_layer"):
            small(teacher_layer=wrong)


def test_a_share_of_layers_that_nobody_counts_is_refused():
    uncounted = type("UncountedConfig", (PretrainedConfig,), {"model_type": "uncounted"})
    base = uncounted(hidden_size=24)
    assert LlinkConfig(encoder_config=base, encoder_layer=2).encoder_layer == 2
    with pytest.raises(
        LlinkConfigError, match=r"uncounted does not say how many layers it has\. Give the layer's number"
    ):
        LlinkConfig(encoder_config=base, encoder_layer=0.5)


def test_unknown_model_types_are_named():
    with pytest.raises(LlinkConfigError, match="no-such-model"):
        LlinkConfig(encoder_config={"model_type": "no-such-model"})
    with pytest.raises(LlinkConfigError, match="model_type"):
        LlinkConfig(encoder_config={"hidden_size": 3})


def test_round_trip_through_json(tmp_path):
    config = small(num_slots=3, pooling="cls", teacher_conditioning="center", lora_alpha=32, encoder_revision="abc")
    config.save_pretrained(tmp_path)
    again = LlinkConfig.from_pretrained(tmp_path)
    by_auto = AutoConfig.from_pretrained(tmp_path)
    place = {"_name_or_path": None}
    assert again.to_dict() | place == config.to_dict() | place == by_auto.to_dict() | place
    assert type(again.encoder_config).__name__ == "XLMRobertaConfig"
    raw = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert raw["model_type"] == "llink"
    assert raw["num_slots"] == 3


def test_it_exists_without_bases():
    assert LlinkConfig().num_slots == 8
    assert "num_slots" in LlinkConfig().to_json_string(use_diff=False)


def test_building_does_not_change_the_callers_dicts():
    encoder, decoder = dict(PAPER_ENCODER), dict(PAPER_DECODER)
    LlinkConfig(encoder_config=encoder, decoder_config=decoder)
    assert (encoder, decoder) == (PAPER_ENCODER, PAPER_DECODER)


def test_the_attention_of_the_bases_survives():
    encoder = AutoConfig.for_model("xlm-roberta", hidden_size=24, attn_implementation="eager")
    decoder = AutoConfig.for_model("llama", hidden_size=32, attn_implementation="eager")
    config = LlinkConfig(encoder_config=encoder, decoder_config=decoder)
    assert config.encoder_config._attn_implementation == "eager"
    assert config.decoder_config._attn_implementation == "eager"
