"""A tiny random base of any architecture that the installed transformers has, made as its own model testers make them.

A configuration is made small field by field: sizes by [`SMALL`], lists of a layer's kinds to one of each kind. What
needs more is in [`SPECIAL`].
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import tiny
import torch
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
)

#: Listed as causal language models, and none: they make sound, or draft for another model, whose states they read.
NO_LANGUAGE_MODELS = {"gemma4_assistant", "gemma4_unified_assistant", "musicgen", "musicgen_melody"}
DECODERS = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - NO_LANGUAGE_MODELS)
#: Embedding models that transformers lists under no text head.
_EMBEDDERS = {"embedding_gemma2_text", "longt5", "mt5", "umt5", "m2m_100", "nllb-moe", "switch_transformers", "fsmt"}
#: Text parts of vision models that transformers lists as text encoders; they are decoders.
_TEXT_PARTS = {"emu3", "llama4", "mllama", "molmo2_text"}
ENCODERS = sorted(
    ({*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES, *_EMBEDDERS} - _TEXT_PARTS)
    | ({"bart", "bigbird_pegasus", "blenderbot", "led", "marian", "mvp", "pegasus", "pegasus_x", "plbart", "t5gemma2"})
)
#: Decoder architectures that are tried as encoders too: with attention in both directions, or taken as they are.
EMBEDDERS = ("gemma3_text", "qwen3", "mistral", "llama", "qwen2")

VOCAB = 400
_HEADS, _WIDTH, _LAYERS = 4, 32, 2
SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size", "encoder_vocab_size"), VOCAB),
    **dict.fromkeys(("decoder_vocab_size", "src_vocab_size", "tgt_vocab_size"), VOCAB),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "hidden_dim", "emb_dim", "embedding_size"), _WIDTH),
    **dict.fromkeys(("embedding_dim", "word_embed_proj_dim", "backbone_hidden_size", "out_hidden_size"), _WIDTH),
    **dict.fromkeys(("attention_hidden_size", "lru_width", "input_embedding_size", "output_embedding_size"), _WIDTH),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "dff", "d_inner", "ffn_hidden_size", "dim_ff"), 48),
    **dict.fromkeys(
        ("encoder_ffn_dim", "decoder_ffn_dim", "n_inner", "intermediate_size_mlp", "feed_forward_size"), 48
    ),
    **dict.fromkeys(("shared_intermediate_size", "dense_intermediate_size", "expert_ffn_hidden_size"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"), _LAYERS),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers", "num_encoder_layers", "depth"), _LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), _HEADS),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "swa_num_attention_heads"), _HEADS),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads", "linear_num_heads"), _HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(
        ("head_dim", "d_kv", "dim_head", "swa_head_dim", "global_head_dim", "linear_head_dim", "d_head"), 8
    ),
    **dict.fromkeys(("v_head_dim", "swa_v_head_dim", "index_head_dim", "attention_head_size", "kv_channels"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 4),
    **dict.fromkeys(("qk_head_dim", "attention_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"), 16),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "n_group", "topk_group"), 1),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("linear_num_value_heads",), 4),
    **dict.fromkeys(("linear_num_key_heads",), 2),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_d_ssm",), 64),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 16),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 512),
    **dict.fromkeys(("max_source_positions", "max_target_positions"), 512),
    **dict.fromkeys(("sliding_window", "local_attention", "attention_chunk_size", "attention_window_size"), 64),
    **dict.fromkeys(("hidden_size_per_layer_input", "laurel_rank"), 8),
    **dict.fromkeys(("num_kv_shared_layers", "first_k_dense_replace", "num_nextn_predict_layers"), 0),
    **dict.fromkeys(("index_n_heads",), 2),
    **dict.fromkeys(("index_topk",), 128),
    **dict.fromkeys(("image_size", "input_size"), 16),
    **dict.fromkeys(("patch_size",), 8),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts"), 1),
    "rotary_dim": 8,
    "type_vocab_size": 2,
    "initializer_range": 0.2,
    "init_std": 0.2,
    "moe_layer_start_index": 0,
}
#: What an architecture needs besides.
_ROTARY = {"head_dim": 4, "num_key_value_heads": 4}
_DOTS3 = {"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 1, "head_dim": 8}
_DOTS3_SOUND = {"hidden_size": _WIDTH, "adapter_input_size": _WIDTH, "adapter_out_dim": _WIDTH}
_QWEN4 = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 64}
_QWEN4 |= {
    "indexer_compress_ratio": 4,
    "ple_embed_dim": 16,
    "ple_layer_ids": [1],
    "ngram_vocab_size_base": 500,
    "heads_per_ngram": 1,
    "hc_count": 2,
    "hc_lowrank": 8,
}
SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa", "youtu"), _ROTARY),
    **dict.fromkeys(("glm4_moe_lite", "kimi_linear", "minicpm3", "sarvam_mla"), _ROTARY),
    "bailing_hybrid": {**_ROTARY, "n_group": 1, "topk_group": 1, "num_local_experts": 4, "num_experts_per_tok": 1},
    "bert-generation": {"is_decoder": True},
    "bamba": {"attn_layer_indices": [1]},
    "deepseek_v2": {**_ROTARY, "num_experts_per_tok": 1},
    "deepseek_v4": {"num_key_value_heads": 1},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 16, "n_shared_experts": 1},
    "mamba2": {"num_heads": 8},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
        }
        | {"full_attention": None},
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8}, "ffn_config": {"ffn_hidden_size": 48}},
    "dory": {
        **{"n_input_layers": 1, "n_recurrent_layers": 1, "n_output_layers": 1, "num_hidden_layers": 3},
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "dots3_note": {
        "text_config": _DOTS3,
        "vision_config": {"adapter_in_dim": _WIDTH, "adapter_out_dim": _WIDTH},
        "audio_config": _DOTS3_SOUND,
    },
    "dots3_note_text": _DOTS3,
    "embedding_gemma2_text": {"embedding_dim": 24},  # its last state is projected
    "esm": {"vocab_size": VOCAB, "pad_token_id": 1, "mask_token_id": 3},
    "esmc": {"num_key_value_heads": 4},
    "funnel": {"architectures": ["FunnelModel"], "block_sizes": [1, 1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "kimi_linear": {**_ROTARY, "num_experts_per_token": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "longcat_flash": {**_ROTARY, "moe_topk": 2},
    "luke": {"entity_vocab_size": 10},
    "nemotron_h": {"n_groups": 2, "layers_block_type": ["mamba", "attention", "moe", "mlp"], "num_hidden_layers": 4},
    "mllama": {"text_config": {"cross_attention_layers": [], "vocab_size": VOCAB}},
    "neomme": {"head_dim": 16},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {"num_hidden_layers": 3, "block_types": ["recurrent", "recurrent", "attention"]},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [16, 32], "is_decoder": True},
    "roc_bert": {"pronunciation_vocab_size": 10, "shape_vocab_size": 10},
    "xlstm": {"hidden_size": 64, "embedding_dim": 64, "qk_dim_factor": 1.0},
    "zamba": {
        "num_hidden_layers": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "layers_block_type": ["mamba", "hybrid"] * 2,
    },
    "zamba2": {
        "num_hidden_layers": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "hybrid_layer_ids": [1, 3],
        "layers_block_type": ["mamba", "hybrid"] * 2,
    },
}
#: What needs a library for its vision tower is made of its text part where that library is not installed.
TEXT_PART = {} if importlib.util.find_spec("timm") else {"gemma3n": "gemma3n_text"}
#: Languages of architectures that ask for one.
LANGUAGES = {"xmod": {"default_language": "en_XX", "languages": ["en_XX"]}}
SPECIAL |= LANGUAGES
_IDS = {"pad_token_id": 1, "eos_token_id": 0, "bos_token_id": 0, "cls_token_id": 0, "sep_token_id": 2}


def small_config(model_type: str, kind: str) -> PretrainedConfig:
    """The configuration of a tiny base; `kind` is `encoder` or `decoder`."""
    model_type = TEXT_PART.get(model_type, model_type)
    ids = _IDS | ({"eos_token_id": 2} if kind == "encoder" else {})
    return _small(CONFIG_MAPPING[model_type], ids, SPECIAL.get(model_type, {}))


def _small(config_class: type[PretrainedConfig], ids: dict[str, int], special: dict[str, Any]) -> PretrainedConfig:
    stock = config_class()
    fields: dict[str, Any] = {}
    for name in vars(stock):
        value = vars(stock)[name]
        if name in config_class.sub_configs and isinstance(value, PretrainedConfig):
            fields[name] = _small(type(value), ids, special.get(name, {})).to_dict()
        elif name in SMALL and (isinstance(value, (int, float)) or (value is None and name in _WANTED)):
            fields[name] = SMALL[name] if not isinstance(value, bool) else value
        elif name in ids:
            fields[name] = ids[name]
    kinds = list(dict.fromkeys(getattr(stock, "layer_types", None) or ()))
    layers = max(_LAYERS, len(kinds))
    if kinds and not isinstance(_own(config_class, "layer_types"), property):
        fields["layer_types"] = [*kinds, *kinds, *kinds][:layers]
        fields |= {name: layers for name in ("num_hidden_layers", "n_layer") if name in fields}
    if getattr(stock, "mlp_layer_types", None):
        own = list(dict.fromkeys(stock.mlp_layer_types))
        fields["mlp_layer_types"] = [*own, *own, *own, *own][:layers]
    fields = {name: value for name, value in fields.items() if not isinstance(_own(config_class, name), property)}
    if "layers_block_type" in special:
        fields.pop("layer_types", None)
    own = {name: value for name, value in special.items() if name not in config_class.sub_configs}
    return config_class(**{**fields, **own})


def _own(config_class: type, name: str) -> Any:
    return getattr(config_class, config_class.attribute_map.get(name, name), None)


#: Fields that stock configurations leave open, and that would follow the stock sizes.
_WANTED = ("head_dim", "num_key_value_heads", "n_inner")


def save_base(kind: str, model_type: str, folder: Path, seed: int = 0) -> str:
    """A tiny base of an architecture with its tokenizer in a folder."""
    tokenizer = tiny.encoder_tokenizer("xlm-roberta") if kind == "encoder" else tiny.decoder_tokenizer("llama")
    config = small_config(model_type, kind)
    torch.manual_seed(seed)
    auto = AutoModel if kind == "encoder" else AutoModelForCausalLM
    model = auto.from_config(config)
    with torch.no_grad():  # stock weights are so small that a wrong slot, mask or position would not show
        for parameter in model.parameters():
            if parameter.dim() == 2 and parameter.std() < 0.1:
                torch.nn.init.normal_(parameter, std=0.2)
        for module in model.modules():  # a trained checkpoint's padding is no zero
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                torch.nn.init.normal_(module.weight[module.padding_idx], std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def seq_to_seq(model_type: str) -> bool:
    return model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
