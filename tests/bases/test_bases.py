"""Bases of many architectures, each through all of a user's steps; and what is said of those that cannot serve."""

import any_base
import own_code
import pytest
import tiny
import torch
import user

from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.errors import BaseModelError, LlinkCheckpointError
from llink.modeling_llink.layers import encoder_states, hidden_states
from llink.modeling_llink.lora import lora_modules

#: One of each kind: plain, composite, embeddings for each layer, scaled embeddings, experts, hybrid, state-space.
DECODERS = ("llama", "gemma3", "gemma4", "gemma4_text", "gemma3n_text", "falcon_h1", "qwen3_next", "glm4_moe", "mamba2")
#: A text part of another name with more than its vocabulary embedded, a Linear router, shared blocks, streams in a row.
DECODERS += ("mllama", "phimoe", "zamba2", "qwen4_exp_text")
ENCODERS = (
    "bert",
    "mt5",
    "m2m_100",
    "modernbert",
    "embedding_gemma2_text",
    "qwen3",
    "t5gemma",
    "t5gemma2",
    "pegasus_x",
)


@pytest.fixture
def bases(tmp_path):
    """A function (encoder, decoder) → their folders."""

    def make(encoder="xlm-roberta", decoder="llama"):
        folder = any_base.save_base("encoder", encoder, tmp_path / "encoder")
        return folder, any_base.save_base("decoder", decoder, tmp_path / "decoder")

    return make


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders(bases, tmp_path, decoder):
    user.Journey(*bases(decoder=decoder), tmp_path).run()


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders(bases, tmp_path, encoder):
    causal = {"encoder_is_causal": True, "pooling": "last"} if encoder in any_base.EMBEDDERS else {}
    user.Journey(*bases(encoder=encoder), tmp_path, **causal).run()


@pytest.mark.slow
def test_bases_with_code_of_their_own(tmp_path):
    encoder, decoder = own_code.save_own("encoder", tmp_path / "e"), own_code.save_own("decoder", tmp_path / "d")
    with pytest.raises(BaseModelError, match="trust_remote_code"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder)
    journey = user.Journey(encoder, decoder, tmp_path)
    journey.options = {"trust_remote_code": True}
    journey.run()


def test_own_code_is_not_run_untrusted_when_a_checkpoint_loads(tmp_path, base_folder):
    encoder = own_code.save_own("encoder", tmp_path / "e")
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        encoder, base_folder("decoder", "llama"), trust_remote_code=True
    )
    for kind in user.SAVED:
        model.save_pretrained(tmp_path / kind, self_contained=kind != "light")
        with pytest.raises(BaseModelError, match="code of its own"):
            LlinkForCausalLM.from_pretrained(tmp_path / kind)
        again = LlinkForCausalLM.from_pretrained(tmp_path / kind, trust_remote_code=True)
        assert torch.equal(again.get_pooled_features(["abc"]), model.get_pooled_features(["abc"]))


def test_lora_stays_out_of_the_vision_tower(bases):
    """Gemma 3 from 4B on: its towers have layers of the same names."""
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(decoder="gemma3"))
    names = [name for name, _ in lora_modules(model.decoder)]
    assert any(name.endswith("q_proj") for name, _ in model.decoder.named_modules() if "vision" in name)  # or vacuous
    assert len(names) == 12
    assert all("language_model" in name for name in names)


def test_lora_stays_out_of_layers_with_a_pass_of_their_own(bases):
    """A router that is a Linear and gives three things; PEFT would add its product to them."""
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(decoder="phimoe"))
    own = [name for name, module in model.decoder.named_modules() if type(module).__name__ == "PhimoeTopKRouter"]
    assert own, "vacuous unless the router is a Linear"
    assert all(isinstance(model.decoder.get_submodule(name), torch.nn.Linear) for name in own)
    assert not {name for name, _ in lora_modules(model.decoder)} & set(own)


def test_lora_is_in_linear_layers_that_are_as_others_but_for_their_class(bases):
    """Falcon's: a class of its own, and an ordinary product."""
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(decoder="falcon"))
    own = [name for name, module in model.decoder.named_modules() if type(module).__name__ == "FalconLinear"]
    adapted = [name for name, _ in lora_modules(model.decoder)]
    assert len(adapted) == 2 * 4
    assert {name.removesuffix(".base_layer") for name in own} == set(adapted)


def test_a_composite_whose_text_part_has_no_entry_of_its_own(bases):
    """Llama 3.2 Vision: its text part's configuration is in no list, and it embeds more than its vocabulary."""
    encoder, decoder = bases(decoder="mllama")
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder)
    assert type(model.decoder).__name__ == "MllamaForCausalLM"
    assert model.config.reserved_token_start == model.get_input_embeddings().weight.shape[0] > model.config.vocab_size
    with pytest.raises(BaseModelError, match="encoder_is_causal=True"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(decoder, decoder)


def test_an_encoders_layers_are_counted_in_itself(bases):
    """T5Gemma's encoder and decoder may differ in depth and width."""
    encoder, decoder = bases(encoder="t5gemma")
    config = any_base.small_config("t5gemma", "encoder")
    config.decoder.num_hidden_layers, config.decoder.hidden_size = 1, 48
    config.decoder.layer_types = config.decoder.layer_types[:1]
    torch.manual_seed(0)
    any_base.AutoModel.from_config(config).save_pretrained(encoder)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        encoder, decoder, slot_expander="tokens", slot_layers=[1, -1]
    )
    assert (model.config.encoder_hidden_size, model.config.states_width) == (32, 64)
    assert model.get_pooled_features(["abc"]).shape == (1, 32)
    assert sum("decoder" in name for name, _ in model.encoder.named_parameters()) == 0


def test_the_last_layer_is_one_whatever_else_is_read(bases):
    """Reformer's is twice as wide as the last of the states that it lists."""
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(encoder="reformer"), slot_expander="tokens")
    ids = torch.arange(40, 47).unsqueeze(0)
    (alone,), (_, beside) = (hidden_states(model.encoder, layers, input_ids=ids) for layers in ([-1], [1, -1]))
    listed = model.encoder(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    assert listed.shape != alone.shape, "vacuous unless the last that is listed is another"
    assert torch.equal(alone, beside)
    assert model.config.states_width == 32 + 32 + 64
    assert len(model.encode_foreign(["abc"])) == 1


def test_layers_of_other_widths_are_refused(base_folder, monkeypatch):
    from llink import base_checks

    def wide(*given):
        return [states.repeat(1, 1, 2) for states in encoder_states(*given)]

    monkeypatch.setattr(base_checks, "encoder_states", wide)
    given = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    with pytest.raises(BaseModelError, match=r"slot_layers=\[-1\]"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(*given, slot_expander="tokens")


def test_what_stands_beside_the_tokens_is_no_state(bases):
    """PEGASUS-X fills its blocks of 512 and carries states of the whole text."""
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(encoder="pegasus_x"))
    ids = torch.arange(40, 47).unsqueeze(0)
    assert model.passage_states(ids, torch.ones_like(ids), [0, 1, 2]).shape == (1, 7, 3 * 32)


def test_lora_of_blocks_that_share_weights_is_not_merged(bases):
    """Zamba: each place has LoRA of its own, and one weight cannot hold both."""
    model = tiny.wake(LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(decoder="zamba2")))
    before = {name: tensor.clone() for name, tensor in model.decoder.state_dict().items()}
    with pytest.raises(LlinkCheckpointError, match="are one weight"):
        model.merge_and_unload()
    assert not model.config.lora_merged
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.decoder.state_dict().items())


def test_streams_that_stand_side_by_side_are_one_state(bases):
    """Qwen 4's blocks pass on hc_count streams in one row; the last state is one."""
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(decoder="qwen4_exp_text"))
    ids, part = torch.tensor([[150, 160, 170]]), model.decoder.model
    blocks: list = []
    with torch.no_grad(), part.layers[1].register_forward_pre_hook(lambda _, args: blocks.append(args[0])):
        first, middle, last = hidden_states(part, [0, 1, -1], input_ids=ids)
        (alone,) = hidden_states(part, [1], input_ids=ids)
        (end,) = hidden_states(part, [-1], input_ids=ids)
    assert blocks[0].shape == (1, 3, 64), "vacuous unless streams stand side by side"
    assert torch.allclose(middle, (blocks[0][..., :32] + blocks[0][..., 32:]) / 2, atol=1e-6)
    assert torch.equal(middle, alone)
    assert torch.equal(last, end)
    assert torch.allclose(first, part.embed_tokens(ids), atol=1e-6)


@pytest.mark.parametrize(("kind", "model_type"), [("decoder", "blt"), ("encoder", "perceiver")])
def test_bases_that_read_no_tokens_are_refused(tmp_path, base_folder, kind, model_type):
    """Of bytes in patches, or of latents: told from the configuration, before any weights are there."""
    folder = tmp_path / "base"
    any_base.CONFIG_MAPPING[model_type]().save_pretrained(folder)
    other = {"encoder": base_folder("encoder", "xlm-roberta"), "decoder": base_folder("decoder", "llama")}
    with pytest.raises(BaseModelError, match=f"hidden_size.*Choose another {kind}"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(**{**other, kind: str(folder)})


def test_a_base_that_needs_another_library_says_which(bases, monkeypatch):
    def needs(*_, **__):
        raise ImportError("TimmWrapperModel requires the timm library but it was not found in your environment.")

    given = bases()
    monkeypatch.setattr(any_base.AutoModelForCausalLM, "from_pretrained", needs)
    with pytest.raises(BaseModelError, match=r"requires the timm library.*Install what it names"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(*given)


def test_padding_is_looked_up_where_slots_stand(bases):
    """Embeddings for each layer are looked up by id: at slots the padding's."""
    model = tiny.wake(LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(decoder="gemma4_text")))
    inputs = model.processor(["Translate."], ["the cat"])
    seen = []
    table = model.decoder.model.embed_tokens_per_layer
    with torch.no_grad(), table.register_forward_hook(lambda _, args, __: seen.append(args[0])):
        model(**inputs)
    slots = inputs["input_ids"] >= model.config.reserved_token_start
    assert slots.any()
    assert torch.equal(seen[0][~slots], inputs["input_ids"][~slots])
    assert set(seen[0][slots].tolist()) == {model.decoder.config.pad_token_id}


def test_slots_are_scaled_as_the_decoder_scales_its_embeddings(bases):
    """Falcon-H1 multiplies what it looks up itself: a slot that is a token's embedding reads as that token."""
    encoder, decoder = bases(decoder="falcon_h1")
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, num_slots=1, slot_expander="mlp")
    model.decoder.model.embedding_multiplier = 3.0
    ids = torch.tensor([[5, 6, 7, 8]])
    marked = ids.clone()
    marked[0, 2] = model.config.reserved_token_start
    slot = model.get_input_embeddings()(ids[:, 2:3]).unsqueeze(1)  # (1, 1, 1, d)
    with torch.no_grad():
        wanted, found = model.decoder(input_ids=ids).logits, model(input_ids=marked, foreign_slots=slot).logits
    assert torch.allclose(found, wanted, atol=1e-5)


def test_the_last_width_is_read_from_the_model(bases):
    encoder, decoder = bases(encoder="embedding_gemma2_text")
    config = any_base.small_config("embedding_gemma2_text", "encoder")
    config.embedding_dim = 24
    torch.manual_seed(0)
    any_base.AutoModel.from_config(config).save_pretrained(encoder)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, slot_expander="tokens")
    assert (model.config.encoder_hidden_size, model.config.states_width) == (24, 32 + 32 + 24)
    assert model.get_pooled_features(["abc"]).shape == (1, 24)
    assert model.encode_foreign(["abc"])[0].shape[-1] == 32


def test_a_decoders_architecture_as_encoder_must_be_asked_for(bases):
    encoder, decoder = bases(encoder="qwen3")
    with pytest.raises(BaseModelError, match="encoder_is_causal=True"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, encoder_is_causal=True, pooling="last")
    one, two = model.get_pooled_features(["abc", "abcdefgh"])
    assert torch.allclose(model.get_pooled_features(["abc"])[0], one, atol=1e-5)  # padding is not the last token
    assert not torch.allclose(one, two, atol=1e-2)


def test_targets_that_the_decoder_lacks_are_named_with_those_it_has(bases):
    with pytest.raises(LlinkCheckpointError, match=r"are no linear layers of LlamaForCausalLM.*down_proj, gate_proj"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(), lora_target_modules=["query"])


def test_a_decoder_of_two_widths_is_refused(bases):
    encoder, decoder = bases(decoder="opt")
    config = any_base.small_config("opt", "decoder")
    config.word_embed_proj_dim = 16
    any_base.AutoModelForCausalLM.from_config(config).save_pretrained(decoder)
    with pytest.raises(BaseModelError, match="16 wide and its layers 32"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder)


# ------------------------------------------------------------------ what a build checks


@pytest.mark.parametrize(
    ("kind", "model_type", "said"),
    [
        ("decoder", "rwkv", "beside a longer one"),
        ("decoder", "bart", "beside a longer one"),
        ("encoder", "fnet", "beside a longer one"),
    ],
)
def test_bases_that_do_not_leave_out_padding_are_refused(bases, kind, model_type, said):
    with pytest.raises(BaseModelError, match=f"The {kind} .*{said}.*Choose another {kind}"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(**{kind: model_type}))


ANSWER = {"foreign_text": user.PASSAGES[:2], "prompt": user.PROMPTS[:2], "do_sample": False}
ANSWER |= {"max_new_tokens": 6, "min_new_tokens": 6}


@pytest.mark.parametrize("decoder", ["llama", "mamba", "openai-gpt", "own"])
def test_answers_are_the_same_with_and_without_the_cache(bases, tmp_path, decoder):
    """Each step's inputs are the decoder's own: Mamba's mask ends with the prompt, others keep nothing."""
    encoder, folder = bases(decoder="llama" if decoder == "own" else decoder)
    folder = own_code.save_own("decoder", tmp_path / "own") if decoder == "own" else folder
    torch.manual_seed(0)
    given = dict(slot_expander="tokens", trust_remote_code=True)
    model = tiny.wake(LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, folder, **given))
    assert model.generation_config.use_cache is not False
    answers = model.generate(**ANSWER)
    assert torch.equal(answers, model.generate(**ANSWER, use_cache=False))
    assert answers.unique().numel() > 2, "vacuous unless what follows depends on what stands before"


def test_a_cache_that_changes_answers_is_not_used(bases, tmp_path):
    """GIT counts positions of padded rows otherwise from its cache; that it is left out is said once, and travels."""
    with pytest.warns(UserWarning, match="answers otherwise with its cache than without"):
        model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases(decoder="git"))
    tiny.wake(model)
    assert torch.equal(model.generate(**ANSWER), model.generate(**ANSWER, use_cache=False))
    model.save_pretrained(tmp_path / "light")
    assert LlinkForCausalLM.from_pretrained(tmp_path / "light").generation_config.use_cache is False


def test_lora_that_never_gets_a_gradient_is_refused(base_folder, monkeypatch):
    """A layer whose weight is read without calling it, as fused kernels do."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    def fused(self, x):
        gate = torch.nn.functional.linear(x, self.gate_proj.weight) * torch.nn.functional.linear(x, self.up_proj.weight)
        return torch.nn.functional.linear(gate, self.down_proj.weight)

    monkeypatch.setattr(LlamaMLP, "forward", fused)
    given = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    with pytest.raises(BaseModelError, match="no gradient: these layers are not called"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(*given, lora_target_modules=["down_proj"])
    LlinkForCausalLM.from_encoder_decoder_pretrained(*given)


def test_a_decoder_that_does_not_read_its_slots_is_refused(base_folder, monkeypatch):
    from llink.modeling_llink import slots

    given = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    monkeypatch.setattr(slots, "_inject", lambda embedding, inputs, embeds: slots._waiting.get().clear())
    with pytest.raises(BaseModelError, match="slots would mean nothing"):
        LlinkForCausalLM.from_encoder_decoder_pretrained(*given)


def test_a_decoder_whose_answers_cannot_end_is_refused(bases):
    encoder, decoder = bases()
    tokenizer = tiny.decoder_tokenizer("llama")
    tokenizer.eos_token = tokenizer.chat_template = None
    tokenizer.save_pretrained(decoder)
    (any_base.Path(decoder) / "chat_template.jinja").unlink()
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder)
    with pytest.raises(BaseModelError, match="no end-of-sequence token"):
        model.processor  # noqa: B018
