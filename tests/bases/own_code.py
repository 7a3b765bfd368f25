"""Tiny bases with code of their own: an encoder and a decoder whose classes no library knows."""

from __future__ import annotations

import json
from pathlib import Path

import tiny
import torch

CONFIG = """
from transformers import PretrainedConfig

class OwnConfig(PretrainedConfig):
    model_type = "{name}"

    def __init__(self, vocab_size=400, wide=32, num_hidden_layers=2, **kwargs):
        self.vocab_size, self.wide, self.num_hidden_layers = vocab_size, wide, num_hidden_layers
        self.hidden_size = wide
        super().__init__(**kwargs)
"""
MODEL = """
import torch
from torch import nn
from transformers import PreTrainedModel, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast
from .configuration_{name} import OwnConfig

class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.wide)
        self.mix = nn.ModuleList([nn.Linear(config.wide, config.wide) for _ in range(config.num_hidden_layers)])
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, output_hidden_states=False, **kwargs):
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        mask = torch.ones(x.shape[:2], device=x.device) if attention_mask is None else attention_mask
        mask = mask.to(x.dtype).unsqueeze(-1)
        states = [x]
        for layer in self.mix:
            before = (x * mask).cumsum(dim=1) / mask.cumsum(dim=1).clamp(min=1)
            x = torch.tanh(layer(x + before))
            states.append(x)
        return BaseModelOutput(last_hidden_state=x, hidden_states=tuple(states) if output_hidden_states else None)

class OwnForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = OwnConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.model = OwnModel(config)
        self.lm_head = nn.Linear(config.wide, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, labels=None, logits_to_keep=0, **kwargs):
        x = self.model(input_ids, attention_mask, inputs_embeds).last_hidden_state
        logits = self.lm_head(x[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else x[:, logits_to_keep])
        loss = None if labels is None else self.loss_function(logits, labels, self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {{"input_ids": input_ids, "attention_mask": kwargs.get("attention_mask")}}
"""


def save_own(kind: str, folder: Path) -> str:
    """A base of `kind` in a folder, its code beside it."""
    from safetensors.torch import save_file
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    name = f"own_{kind}"
    folder.mkdir(parents=True)
    (folder / f"configuration_{name}.py").write_text(CONFIG.format(name=name))
    (folder / f"modeling_{name}.py").write_text(MODEL.format(name=name))
    main = "AutoModel" if kind == "encoder" else "AutoModelForCausalLM"
    own = "OwnModel" if kind == "encoder" else "OwnForCausalLM"
    auto_map = {"AutoConfig": f"configuration_{name}.OwnConfig", main: f"modeling_{name}.{own}"}
    fields = {"model_type": name, "auto_map": auto_map, "vocab_size": 400, "wide": 32, "num_hidden_layers": 2}
    ids = {"pad_token_id": 1, "eos_token_id": 0 if kind == "decoder" else 2}
    (folder / "config.json").write_text(json.dumps(fields | ids))
    model_class = get_class_from_dynamic_module(auto_map[main], str(folder))
    config = model_class.config_class.from_pretrained(folder)
    torch.manual_seed(5)
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = tiny.encoder_tokenizer("xlm-roberta") if kind == "encoder" else tiny.decoder_tokenizer("llama")
    tokenizer.save_pretrained(folder)
    return str(folder)
