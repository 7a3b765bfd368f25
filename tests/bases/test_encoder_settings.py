"""What an encoder wants of its texts: a prefix, a sentence-transformers folder's settings."""

import json
import shutil
import warnings

import any_base
import pytest
import torch

from llink.encoder_settings import embedding_settings
from llink.modeling_llink import LlinkForCausalLM, LlinkProcessor

TEXTS = ["the cat", "ក្មេងទៅសាលា at noon 12"]


def built(base_folder, **config):
    encoder, decoder = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    return LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, **config)


# ------------------------------------------------------------------ the prefix


def test_a_prefix_is_read_and_stands_in_no_slot(base_folder):
    plain, model = (built(base_folder, slot_expander="tokens", encoder_prefix=prefix) for prefix in ("", "query. "))
    before = len("query. ")  # a token a character
    for text in TEXTS:
        (bare,), (piece,) = plain.processor.read_passages([text])[0], model.processor.read_passages([text])[0]
        assert model.processor.encoder_tokenizer.decode(piece.ids[1 : before + 1]) == "query. "
        assert piece.ids == [bare.ids[0], *piece.ids[1 : before + 1], *bare.ids[1:]]
        assert piece.slots == [0] * before + bare.slots
        assert (piece.tokens, piece.text) == (bare.tokens, bare.text)
        assert piece.spans[before + 1 :] == bare.spans[1:]


def test_training_and_inference_read_the_same_prefix(base_folder, tmp_path):
    model = built(base_folder, encoder_prefix="query. ")
    wanted = model.get_pooled_features(TEXTS)
    assert not torch.allclose(wanted, built(base_folder).get_pooled_features(TEXTS), atol=1e-3)
    model.save_pretrained(tmp_path)
    assert LlinkProcessor.from_pretrained(tmp_path).encoder_prefix == "query. "
    assert torch.equal(LlinkForCausalLM.from_pretrained(tmp_path).get_pooled_features(TEXTS), wanted)


def test_long_passages_have_the_prefix_before_each_piece(base_folder):
    model = built(base_folder, encoder_prefix="query. ", max_foreign_tokens=24)
    pieces = model.processor.read_passages(["the cat sat. a dog runs. we eat rice."])[0]
    assert len(pieces) > 1
    assert all(len(piece.ids) <= 24 for piece in pieces)
    assert all(model.processor.encoder_tokenizer.decode(p.ids).startswith("<s>query. ") for p in pieces)


def test_a_normalised_vector_has_one_length(base_folder):
    model, plain = built(base_folder, encoder_normalized=True), built(base_folder)
    pooled = model.get_pooled_features(["abc"])
    assert pooled.norm().item() == pytest.approx(24**0.5, rel=1e-4)
    assert torch.cosine_similarity(pooled, plain.get_pooled_features(["abc"])).item() == pytest.approx(1, abs=1e-4)


# ------------------------------------------------------------------ sentence-transformers


@pytest.fixture
def folder(tmp_path):
    """A function that writes a sentence-transformers folder around a tiny decoder-architecture encoder."""

    def make(place="0_Transformer", pooling=None, prompts=None, more=(), model_type="qwen3", **sentence_bert):
        root = tmp_path / "sentences"
        any_base.save_base("encoder", model_type, root / place)
        modules = [("", "Transformer", place), ("", "Pooling", "1_Pooling"), *more]
        rows = [
            dict(idx=i, name=str(i), path=path, type=f"sentence_transformers.models.{kind}")
            for i, (_, kind, path) in enumerate(modules)
        ]
        (root / "modules.json").write_text(json.dumps(rows))
        (root / "1_Pooling").mkdir()
        (root / "1_Pooling" / "config.json").write_text(json.dumps(pooling or {"pooling_mode_lasttoken": True}))
        (root / place / "sentence_bert_config.json").write_text(json.dumps(sentence_bert))
        (root / "config_sentence_transformers.json").write_text(json.dumps(prompts or {}))
        return root

    return make


def test_a_folders_settings_are_used_and_travel(folder, base_folder, tmp_path):
    prompts = {"prompts": {"query": "query. ", "document": ""}, "default_prompt_name": "query"}
    root = folder(prompts=prompts, more=[("", "Normalize", "2_Normalize")], max_seq_length=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LlinkForCausalLM.from_encoder_decoder_pretrained(root, base_folder("decoder", "llama"))
    config = model.config
    found = config.pooling, config.encoder_prefix, config.encoder_normalized, config.max_foreign_tokens
    assert found == ("last", "query. ", True, 40)
    assert (config.encoder_subfolder, config.encoder_is_causal) == ("0_Transformer", True)
    wanted = model.get_pooled_features(TEXTS)
    for kind in ("light", "self-contained"):
        model.save_pretrained(tmp_path / kind, self_contained=kind != "light")
    shutil.rmtree(root / "1_Pooling")  # what was read is stored
    for kind in ("light", "self-contained"):
        again = LlinkForCausalLM.from_pretrained(tmp_path / kind)
        assert torch.equal(again.get_pooled_features(TEXTS), wanted)


def test_what_the_user_says_stands_above_the_folder(folder, base_folder):
    given = dict(pooling="mean", encoder_prefix="", encoder_normalized=False)
    prompts = {"prompts": {"query": "query. "}, "default_prompt_name": "query"}
    root = folder(prompts=prompts, more=[("", "Normalize", "2_Normalize")])
    config = LlinkForCausalLM.from_encoder_decoder_pretrained(root, base_folder("decoder", "llama"), **given).config
    assert {name: getattr(config, name) for name in given} == given


def test_what_cannot_be_used_is_named(folder, base_folder):
    root = folder(
        pooling={"pooling_mode_weightedmean_tokens": True, "pooling_mode_cls_token": False, "include_prompt": False},
        prompts={"prompts": {"query": "Instruct: find. "}},
        more=[("", "Dense", "2_Dense")],
        do_lower_case=True,
    )
    with pytest.warns(UserWarning, match="is not used") as caught:
        LlinkForCausalLM.from_encoder_decoder_pretrained(root, base_folder("decoder", "llama"))
    said = str(caught[0].message)
    for part in ("weightedmean", "2_Dense", "do_lower_case", "Instruct: find. ", "include_prompt"):
        assert part in said


def test_an_ordinary_folder_has_no_settings(base_folder):
    assert embedding_settings(base_folder("encoder", "xlm-roberta")) is None
