"""Checkpoints: light and self-contained ones reload to identical logits, wherever they lie."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor, AutoTokenizer

from llink.building import fit_teacher_space
from llink.hub_cards.verify import passed, verify
from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.checkpoint import bridge_keys, staged
from llink.modeling_llink.errors import LlinkCheckpointError

INPUTS = (["Translate.", "A longer prompt.", "none"], [["the cat"], ["a dog", "ក្មេងទៅសាលា"], []])


def scores(model) -> list[torch.Tensor]:
    mixed = model.processor(*INPUTS)
    return [tiny.logits_of(model, mixed), tiny.logits_of(model, model.processor("text only"))]


def assert_same(model, again) -> None:
    for one, two in zip(scores(model), scores(again), strict=True):
        assert one.dtype == two.dtype
        assert torch.equal(one, two), (one - two).abs().max()


def keys_of(folder: Path) -> set[str]:
    keys = set()
    for path in Path(folder).glob("model*.safetensors"):
        with safe_open(path, "pt") as file:
            keys |= set(file.keys())
    return keys


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
@pytest.mark.parametrize(
    ("decoder", "dtype"),
    [(name, torch.float32) for name in tiny.DECODERS]
    + [(name, torch.bfloat16) for name in ("llama", "llama-untied", "gpt2", "gemma3")],
    ids=str,
)
@pytest.mark.slow(but=["llama-torch.float32-light", "gpt2-torch.float32-self-contained"])
def test_decoders_reload_to_identical_logits(make_model, tmp_path, decoder, dtype, self_contained):
    model = make_model(decoder=decoder, dtype=dtype)
    assert model.decoder.dtype == dtype
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    model.save_pretrained(tmp_path / "a", self_contained=self_contained)
    again = LlinkForCausalLM.from_pretrained(tmp_path / "a")
    assert again.decoder.dtype == dtype
    assert_same(model, again)
    assert not again.training
    trained = {n for n, p in again.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in model.named_parameters() if p.requires_grad}
    again.save_pretrained(tmp_path / "b")  # of the same kind as it was loaded
    assert keys_of(tmp_path / "a") == keys_of(tmp_path / "b")
    assert_same(model, LlinkForCausalLM.from_pretrained(tmp_path / "b"))


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
@pytest.mark.parametrize("encoder", tiny.ENCODERS)
@pytest.mark.slow(but=["xlm-roberta-light", "t5-self-contained"])
def test_encoders_reload_to_identical_logits(make_model, tmp_path, encoder, self_contained):
    model = make_model(encoder=encoder)
    model.save_pretrained(tmp_path, self_contained=self_contained)
    again = LlinkForCausalLM.from_pretrained(tmp_path)
    assert type(again.encoder) is type(model.encoder)
    assert_same(model, again)


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
@pytest.mark.parametrize("halves", [("encoder", "decoder"), ("decoder", "encoder")], ids=str)
@pytest.mark.slow
def test_bases_of_different_dtypes(tmp_path, self_contained, halves):
    """XLM-R comes in float32 and Llama in bfloat16: the most ordinary pair of all."""
    half, whole = halves
    types = {half: torch.bfloat16, whole: torch.float32}
    encoder = tiny.save_encoder("xlm-roberta", tmp_path / "e", dtype=types["encoder"])
    decoder = tiny.save_decoder("llama", tmp_path / "d", dtype=types["decoder"])
    model = tiny.wake(LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, stage="inject"))
    assert (model.encoder.dtype, model.decoder.dtype) == (types["encoder"], types["decoder"])
    model.save_pretrained(tmp_path / "out", self_contained=self_contained)
    again = LlinkForCausalLM.from_pretrained(tmp_path / "out")
    assert (again.encoder.dtype, again.decoder.dtype) == (types["encoder"], types["decoder"])
    assert_same(model, again)


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
@pytest.mark.parametrize(
    "options",
    [
        dict(num_slots=1, slot_adapter="none", teacher_conditioning="none"),
        dict(num_slots=11, teacher_conditioning="center", pooling="max", lora_rank=3),
        dict(slot_expander="tokens", teacher_conditioning="whiten", teacher_components=5, teacher_whitening_power=0.5),
        dict(projector_hidden_size=7, slot_adapter_hidden_size=3, slot_expander_hidden_size=9, encoder_layer=1),
        dict(lora_target_modules=["q_proj"], reserved_token_start=400, max_foreign_chars=20),
    ],
    ids=lambda o: ",".join(o),
)
def test_other_shapes(make_model, tmp_path, options, self_contained):
    model = make_model(**options)
    if options.get("teacher_conditioning", "none") != "none":
        fit_teacher_space(model.teacher_space, torch.randn(40, model.config.hidden_size))
    model.save_pretrained(tmp_path, self_contained=self_contained)
    again = LlinkForCausalLM.from_pretrained(tmp_path)
    assert {k: getattr(again.config, k) for k in options} == options
    assert_same(model, again)
    one, two = model.state_dict(), again.state_dict()
    assert one.keys() == two.keys()
    assert {k: v.dtype for k, v in one.items()} == {k: v.dtype for k, v in two.items()}
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert again.processor.max_foreign_chars == model.config.max_foreign_chars
    assert torch.equal(model.get_teacher_features(["a cat"]), again.get_teacher_features(["a cat"]))


# ------------------------------------------------------------------ what is in it


@pytest.mark.parametrize("decoder", ["llama", "llama-untied", "gpt2"])
def test_a_light_checkpoint_holds_no_base_weight(make_model, tmp_path, decoder):
    model = make_model(decoder=decoder)
    model.save_pretrained(tmp_path)
    keys = keys_of(tmp_path)
    assert keys == bridge_keys(model)
    assert not any(key.startswith("encoder.") for key in keys)
    assert all("lora_" in key for key in keys if key.startswith("decoder."))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained <= keys
    size = sum(p.numel() * p.element_size() for n, p in model.named_parameters() if n in keys)
    file = (tmp_path / "model.safetensors").stat().st_size
    assert size <= file < size + 40_000
    raw = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert raw["self_contained"] is False
    assert raw["encoder_name_or_path"] == model.config.encoder_name_or_path
    assert raw["decoder_name_or_path"] == model.config.decoder_name_or_path
    assert not (tmp_path / "adapter_config.json").exists()


def test_a_self_contained_checkpoint_needs_no_base(make_model, tmp_path):
    encoder = tiny.save_encoder("xlm-roberta", tmp_path / "e")
    decoder = tiny.save_decoder("llama", tmp_path / "d")
    model = tiny.wake(LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, stage="inject"))
    wanted = scores(model)
    model.save_pretrained(tmp_path / "out", self_contained=True)
    shutil.rmtree(encoder)
    shutil.rmtree(decoder)
    moved = shutil.move(tmp_path / "out", tmp_path / "moved")
    again = LlinkForCausalLM.from_pretrained(moved)
    assert all(torch.equal(one, two) for one, two in zip(wanted, scores(again), strict=True))
    others = LlinkForCausalLM.from_encoder_decoder_pretrained(f"{moved}/encoder", f"{moved}/decoder", stage="inject")
    for name in ("tokenizer", "encoder_tokenizer"):
        assert getattr(others.processor, name).get_vocab() == getattr(model.processor, name).get_vocab()
    assert torch.equal(others.get_pooled_features(["សួស្តី"]), model.get_pooled_features(["សួស្តី"]))


def test_a_light_checkpoint_moves_and_its_bases_can_be_replaced(tmp_path):
    encoder = tiny.save_encoder("xlm-roberta", tmp_path / "e")
    decoder = tiny.save_decoder("llama", tmp_path / "d")
    model = tiny.wake(LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, stage="inject"))
    wanted = scores(model)
    model.save_pretrained(tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "elsewhere" / "out")
    again = LlinkForCausalLM.from_pretrained(tmp_path / "elsewhere" / "out")
    assert all(torch.equal(one, two) for one, two in zip(wanted, scores(again), strict=True))
    shutil.move(encoder, tmp_path / "e2")
    shutil.move(decoder, tmp_path / "d2")
    replaced = LlinkForCausalLM.from_pretrained(
        tmp_path / "elsewhere" / "out",
        encoder_name_or_path=str(tmp_path / "e2"),
        decoder_name_or_path=str(tmp_path / "d2"),
    )
    assert all(torch.equal(one, two) for one, two in zip(wanted, scores(replaced), strict=True))


def test_relative_base_folders_still_mean_the_same_elsewhere(tmp_path, monkeypatch):
    tiny.save_encoder("xlm-roberta", tmp_path / "e")
    tiny.save_decoder("llama", tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained("e", "d", stage="inject")
    model.save_pretrained("out")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert_same(model, LlinkForCausalLM.from_pretrained("../out"))


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
def test_subfolders(make_model, tmp_path, self_contained):
    model = make_model()
    model.save_pretrained(tmp_path / "runs" / "best", self_contained=self_contained)
    for auto in (LlinkForCausalLM, AutoModelForCausalLM):
        again = auto.from_pretrained(tmp_path / "runs", subfolder="best")
        assert_same(model, again)
    processor = AutoProcessor.from_pretrained(tmp_path / "runs", subfolder="best")
    assert processor.num_slots == model.config.num_slots


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
def test_the_auto_classes(make_model, tmp_path, self_contained):
    model = make_model()
    model.save_pretrained(tmp_path, self_contained=self_contained)
    for auto in (AutoModel, AutoModelForCausalLM):
        again = auto.from_pretrained(tmp_path)
        assert isinstance(again, LlinkForCausalLM)
        assert_same(model, again)
    assert AutoConfig.from_pretrained(tmp_path).num_slots == 4
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == model.processor.tokenizer.get_vocab()
    assert AutoModelForCausalLM.from_config(model.config).config.num_slots == 4


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
def test_dtype_can_be_chosen_at_loading(make_model, tmp_path, self_contained):
    model = make_model()
    model.save_pretrained(tmp_path, self_contained=self_contained)
    again = LlinkForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert again.decoder.dtype == again.encoder.dtype == torch.bfloat16
    assert {p.dtype for p in again.projector.parameters()} == {torch.float32}
    assert {p.dtype for p in again.slot_embedder.parameters()} == {torch.float32}
    assert {p.dtype for n, p in again.named_parameters() if "lora_" in n} == {torch.float32}
    assert again.generate(foreign_text="the cat", max_new_tokens=3).shape[0] == 1


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
def test_output_loading_info(make_model, tmp_path, self_contained):
    make_model().save_pretrained(tmp_path, self_contained=self_contained)
    again, info = LlinkForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(again, LlinkForCausalLM)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
def test_generation_defaults_travel(make_model, tmp_path, self_contained):
    model = make_model()
    model.generation_config.max_new_tokens = 7
    model.generation_config.repetition_penalty = 1.25
    model.save_pretrained(tmp_path, self_contained=self_contained)
    again = LlinkForCausalLM.from_pretrained(tmp_path)
    assert (again.generation_config.max_new_tokens, again.generation_config.repetition_penalty) == (7, 1.25)


def test_shards_reload(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path, self_contained=True, max_shard_size="30KB")
    assert len(list(tmp_path.glob("decoder/model-*.safetensors"))) > 1, "vacuous unless there are shards"
    assert_same(model, LlinkForCausalLM.from_pretrained(tmp_path))
    model.save_pretrained(tmp_path, self_contained=True)
    assert not list(tmp_path.glob("*/model-*.safetensors")), "old shards are gone"
    assert_same(model, LlinkForCausalLM.from_pretrained(tmp_path))


def test_changing_kinds(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "full", self_contained=True)
    full = LlinkForCausalLM.from_pretrained(tmp_path / "full")
    full.save_pretrained(tmp_path / "light", self_contained=False)
    assert keys_of(tmp_path / "light") == bridge_keys(model)
    assert_same(model, LlinkForCausalLM.from_pretrained(tmp_path / "light"))
    light = LlinkForCausalLM.from_pretrained(tmp_path / "light")
    light.save_pretrained(tmp_path / "full2", self_contained=True)
    assert keys_of(tmp_path / "full2") == keys_of(tmp_path / "full")
    assert_same(model, LlinkForCausalLM.from_pretrained(tmp_path / "full2"))


def test_saving_leaves_the_model_as_it_was(make_model, tmp_path):
    model = make_model()
    before, shown = scores(model), model.config.to_dict()
    model.save_pretrained(tmp_path / "a", self_contained=True)
    model.save_pretrained(tmp_path / "b")
    by_transformers = {"dtype": None, "architectures": None}  # transformers' own save_pretrained fills these in
    assert model.config.to_dict() | by_transformers == shown | by_transformers
    assert all(torch.equal(one, two) for one, two in zip(before, scores(model), strict=True))


def test_load_bridge(make_model, tmp_path):
    trained, fresh = make_model(seed=1), make_model(seed=2, awake=False)
    trained.save_pretrained(tmp_path)
    assert not torch.equal(scores(trained)[0], scores(fresh)[0])
    fresh.load_bridge(tmp_path)
    assert_same(trained, fresh)


# ------------------------------------------------------------------ writing


def test_an_interrupted_save_leaves_the_old_checkpoint(make_model, tmp_path, monkeypatch):
    model = make_model()
    model.save_pretrained(tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("llink.modeling_llink.persistence.write_code", fail)
    with pytest.raises(OSError, match="disk is full"):
        tiny.wake(model, seed=9).save_pretrained(tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "the temporary folder is gone"


def test_old_shards_go_and_other_files_stay(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "model-00001-of-00002.safetensors").write_text("old")
    (target / "model.safetensors.index.json").write_text("old")
    (target / "README.md").write_text("mine")
    with staged(target) as stage:
        (stage / "model.safetensors").write_text("new")
    assert sorted(p.name for p in target.iterdir()) == ["README.md", "model.safetensors"]


def test_a_file_in_the_way_is_refused(make_model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(LlinkCheckpointError, match="is a file"):
        make_model().save_pretrained(tmp_path / "file")


def test_a_light_save_without_names_is_refused(make_model, tmp_path):
    model = make_model()
    model.config.encoder_name_or_path = None
    with pytest.raises(LlinkCheckpointError, match="self_contained=True"):
        model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_the_main_process_writes(make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "out", is_main_process=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("self_contained", [False, True], ids=["light", "self-contained"])
def test_the_attention_can_be_chosen_at_loading(make_model, tmp_path, self_contained):
    make_model().save_pretrained(tmp_path, self_contained=self_contained)
    for attention in ("eager", "sdpa"):
        again = LlinkForCausalLM.from_pretrained(tmp_path, attn_implementation=attention)
        assert again.encoder.config._attn_implementation == attention
        assert again.decoder.config._attn_implementation == attention
        assert again.config.decoder_config is again.decoder.config


# ------------------------------------------------------------------ checkpoints of past releases


def test_a_checkpoint_of_the_first_release_gives_the_same_logits():
    folder = Path(__file__).parent.parent / "checkpoints" / "llink-0.1"
    expected = load_file(f"{folder}.expected.safetensors")
    model = LlinkForCausalLM.from_pretrained(folder)
    inputs = {name: expected[name] for name in expected if name not in ("logits", "text", "text_ids")}
    assert torch.allclose(tiny.logits_of(model, inputs), expected["logits"], atol=1e-4)
    text_only = tiny.logits_of(model, {"input_ids": expected["text_ids"]})
    assert torch.allclose(text_only, expected["text"], atol=1e-4)
    assert passed(verify(folder)), "its canary is in the old layout"
