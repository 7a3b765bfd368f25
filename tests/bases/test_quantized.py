"""Quantised bases, really quantised: the bridge and LoRA stay exact, and a light checkpoint loads on any base."""

import pytest
import torch
import user

from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.errors import LlinkCheckpointError


def quantization(name: str):
    if name == "torchao int8":
        config = pytest.importorskip("torchao.quantization").Int8WeightOnlyConfig()
        from transformers import TorchAoConfig

        return TorchAoConfig(config)
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    if name == "bitsandbytes 8 bits":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)


def own_state(model) -> dict[str, torch.Tensor]:
    parts = ("projector.", "slot_embedder.", "teacher_space.")
    return {key: value for key, value in model.state_dict().items() if key.startswith(parts) or "lora_" in key}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bitsandbytes 8 bits", "bitsandbytes 4 bits", "torchao int8"])
def test_training_on_quantised_bases(base_folder, tmp_path, name):
    loading = {"quantization_config": quantization(name), "dtype": torch.float32}
    journey = user.Journey(base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama"), tmp_path)
    journey.options = loading
    journey.build()
    assert journey.model.decoder.is_quantized
    journey.train()  # all stages; the bases do not move
    journey.answer()
    journey.model.save_pretrained(tmp_path / "light")
    wanted = own_state(journey.model)
    inputs = journey.inputs(user.PROMPTS, user.PASSAGES)
    for given in ({}, loading):
        again = LlinkForCausalLM.from_pretrained(tmp_path / "light", **given)
        found = own_state(again)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
        assert {value.dtype for value in found.values()} <= {torch.float32, torch.bool}
        assert again.generate(foreign_text="the cat", prompt="Translate.", max_new_tokens=2).shape[0] == 1
        if given:
            assert torch.equal(user.last_logits(again, inputs), user.last_logits(journey.model, inputs))
    with pytest.raises(LlinkCheckpointError, match="self_contained=False"):
        journey.model.save_pretrained(tmp_path / "self", self_contained=True)
    with pytest.raises(LlinkCheckpointError, match="without quantisation"):
        journey.model.merge_and_unload()


@pytest.mark.slow
def test_a_dynamically_quantised_encoder(base_folder, tmp_path):
    """torch's own, after loading: bridge and decoder stay as they are."""
    given = base_folder("encoder", "xlm-roberta"), base_folder("decoder", "llama")
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*given)
    wanted, state = model.get_pooled_features(user.PASSAGES), own_state(model)
    model.encoder = torch.ao.quantization.quantize_dynamic(model.encoder, {torch.nn.Linear}, dtype=torch.qint8)
    found = model.get_pooled_features(user.PASSAGES)
    assert 0 < (found - wanted).abs().max() / wanted.std() < 0.5
    assert all(torch.equal(value, state[key]) for key, value in own_state(model).items())
    assert model.generate(foreign_text="the cat", prompt="Translate.", max_new_tokens=2).shape[0] == 1
