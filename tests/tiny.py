"""Tiny random bases of every family that llink meets, and what tests do with them.

Weights are drawn wide (standard deviation 0.3): logits then differ clearly between tokens, so that a wrong slot, mask
or position shows as a large difference and not as noise.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from llink.modeling_llink import LlinkForCausalLM
from llink.modeling_llink.lora import lora_modules

DECODERS = ("llama", "llama-untied", "gpt2", "qwen2", "gemma2", "gemma3")
ENCODERS = ("xlm-roberta", "bert", "t5", "mt5", "modernbert", "m2m100")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
KHMER = "កខគឃងចឆជឈញដឋឌឍណតថទធនបផពភមយរលវសហឡអាិីឹឺុូួើឿៀេែៃោៅំះ្០១២៣៤៥៦៧៨៩។"
SENTENCES = ["the cat sat on the mat", "a dog runs", "we eat rice at noon", "ក្មេងទៅសាលា", "he has two books", "goodbye"]


def decoder_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE; special control tokens, one added token that is not special, and (but for GPT-2) a template."""
    control = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"] if family != "gpt2" else ["<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=control,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Translate to English. Summarize in English. the cat sat on the mat"] * 5, trainer)
    pad = {} if family == "gpt2" else {"pad_token": control[0]}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=control[0], **pad)
    fast.add_tokens(["<tool_call>"])
    if family != "gpt2":
        fast.chat_template = TEMPLATE
    return fast


def encoder_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """One token a character, framed as the family frames its texts; `<lang>` is added, but not special."""
    bert = family in ("bert", "modernbert")
    frame = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"] if bert else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = list(dict.fromkeys("abcdefghijklmnopqrstuvwxyz ABCSEPMKLU<>[]|/_0123456789." + KHMER))
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(frame + letters)}, unk_token=frame[3]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    single = f"$A {frame[2]}" if family in ("t5", "mt5") else f"{frame[0]} $A {frame[2]}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(frame[0], 0), (frame[2], 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token=frame[0],
        pad_token=frame[1],
        sep_token=frame[2],
        eos_token=frame[2],
        unk_token=frame[3],
        mask_token=frame[4],
    )
    fast.add_tokens(["<lang>"])
    return fast


def decoder_config(family: str, tokenizer: PreTrainedTokenizerFast):
    ids = dict(eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=tokenizer.pad_token_id)
    shape = dict(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
    )
    if family == "gpt2":
        return AutoConfig.for_model(
            "gpt2",
            vocab_size=len(tokenizer),
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=512,
            initializer_range=0.3,
            **ids,
        )
    if family.startswith("llama"):
        return AutoConfig.for_model("llama", **shape, tie_word_embeddings=family == "llama", **ids)
    if family == "qwen2":
        return AutoConfig.for_model("qwen2", **{**shape, "vocab_size": len(tokenizer) + 61}, **ids)
    name = {"gemma2": "gemma2", "gemma3": "gemma3_text"}[family]
    return AutoConfig.for_model(name, **shape, head_dim=8, sliding_window=64, **ids)


def encoder_config(family: str, tokenizer: PreTrainedTokenizerFast):
    vocab = len(tokenizer)
    shape = dict(
        vocab_size=vocab,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=120,
        pad_token_id=1,
        initializer_range=0.3,
    )
    if family in ("t5", "mt5"):
        return AutoConfig.for_model(
            family, vocab_size=vocab, d_model=24, d_kv=6, d_ff=40, num_layers=2, num_heads=4, pad_token_id=1
        )
    if family == "m2m100":
        return AutoConfig.for_model(
            "m2m_100",
            vocab_size=vocab,
            d_model=24,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=40,
            decoder_ffn_dim=40,
            max_position_embeddings=120,
            pad_token_id=1,
            init_std=0.3,
        )
    if family == "modernbert":
        ids = dict(cls_token_id=0, sep_token_id=2, bos_token_id=0, eos_token_id=2)
        return AutoConfig.for_model("modernbert", **shape, **ids, local_attention=16, global_attn_every_n_layers=2)
    return AutoConfig.for_model(family, **shape)


def save_decoder(family: str, folder: Path, dtype: torch.dtype = torch.float32, seed: int = 0, **changes) -> str:
    """A tiny decoder of `family` with its tokenizer in `folder`."""
    tokenizer = decoder_tokenizer(family)
    config = decoder_config(family, tokenizer)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_encoder(
    family: str, folder: Path, dtype: torch.dtype = torch.float32, seed: int = 1, head: bool = False, **changes
) -> str:
    """A tiny encoder of `family` with its tokenizer; `head` saves the masked-LM or seq2seq model that hubs hold."""
    tokenizer = encoder_tokenizer(family)
    config = encoder_config(family, tokenizer)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    auto = AutoModel
    if head:
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForMaskedLM
    auto.from_config(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def wake(model: LlinkForCausalLM, seed: int = 3) -> LlinkForCausalLM:
    """Gives LoRA weights of its own (its second matrices start at zero and would hide whether it is on), and slots of
    tokens what a dictionary would have.
    """
    if model.config.slot_expander == "tokens":
        model.slot_embedder.fitted.fill_(True)
        torch.nn.init.normal_(model.slot_embedder.down.weight, std=0.1, generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed)
    for _, module in lora_modules(model.decoder):
        for linear in module.lora_B.values():
            linear.weight.data = torch.randn(linear.weight.shape, generator=generator).to(linear.weight) * 0.3
    return model


def logits_of(model, inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def passage_inputs(processor, rows) -> dict[str, torch.Tensor]:
    """What a processor makes of rows of passages alone."""
    inputs = processor(foreign_text=rows)
    return {name: tensor for name, tensor in inputs.items() if name.startswith("foreign_")}


def count_calls(module: torch.nn.Module) -> list:
    """A list that grows by one at each forward of `module`, ended early or not."""
    calls: list = []
    handle = module.register_forward_pre_hook(lambda *_: calls.append(1))
    calls_with_handle = _Calls(calls, handle)
    return calls_with_handle


class _Calls:
    def __init__(self, calls: list, handle) -> None:
        self.calls, self.handle = calls, handle

    def __enter__(self) -> list:
        return self.calls

    def __exit__(self, *_) -> None:
        self.handle.remove()
