"""The paper's sizes on a CPU: XLM-R base and Llama-3.2-1B shapes with random weights, end to end.

Builds the model, takes one Stage A step and one Stage B step, generates, saves a light checkpoint and reloads it to
identical logits. Prints one JSON object with seconds, parameter counts, file size and the peak memory.

    python benchmarks/real_size.py

A processor without bfloat16 arithmetic is faster with `--dtype float32`, in twice the memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    XLMRobertaConfig,
    XLMRobertaModel,
    set_seed,
)

import llink
from llink import AlignConfig, AlignTrainer, InjectConfig, InjectTrainer, LlinkForCausalLM
from llink.data.demo_corpus import demo_pairs, generate_instructions
from llink.data.instructions import instruction_dataset

ASSETS = Path(llink.__file__).parent / "assets"
#: The shape of meta-llama/Llama-3.2-1B-Instruct; the embedded tokenizer's ids all lie inside its vocabulary.
LLAMA_3_2_1B = dict(
    vocab_size=128_256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    tie_word_embeddings=True,
    rope_theta=500_000.0,
)
XLM_R_BASE = dict(vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1)


def write_bases(folder: Path, dtype: str) -> None:
    """Random bases of the paper's shapes, with the embedded pair's tokenizers."""
    decoder = LlamaForCausalLM._from_config(LlamaConfig(**LLAMA_3_2_1B), dtype=dtype)
    decoder.save_pretrained(folder / "decoder")
    AutoTokenizer.from_pretrained(ASSETS / "decoder").save_pretrained(folder / "decoder")
    del decoder
    encoder = XLMRobertaModel._from_config(XLMRobertaConfig(**XLM_R_BASE), dtype=dtype, add_pooling_layer=False)
    encoder.save_pretrained(folder / "encoder")
    AutoTokenizer.from_pretrained(ASSETS / "encoder").save_pretrained(folder / "encoder")


def train_one_step_each(model: LlinkForCausalLM, folder: Path) -> dict[str, float]:
    """One step of Stage A, then one of Stage B; returns their losses."""
    common = dict(max_steps=1, report_to=[], save_strategy="no", logging_steps=1, use_cpu=True, disable_tqdm=True)
    pairs = demo_pairs(32)
    align = AlignTrainer(
        model=model,
        args=AlignConfig(output_dir=str(folder / "align"), per_device_train_batch_size=16, **common),
        train_dataset=Dataset.from_list([dict(pair) for pair in pairs]),
    )
    align.train()
    inject = InjectTrainer(
        model=model,
        args=InjectConfig(
            output_dir=str(folder / "inject"), per_device_train_batch_size=2, gradient_accumulation_steps=1, **common
        ),
        train_dataset=instruction_dataset(generate_instructions(pairs[:8])),
    )
    inject.train()
    return {name: trainer.state.log_history[0]["loss"] for name, trainer in (("align", align), ("inject", inject))}


def run(folder: Path, dtype: str) -> dict[str, object]:
    """Everything, in `folder`; returns what was measured."""
    set_seed(0)
    started = time.monotonic()
    write_bases(folder, dtype)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(folder / "encoder", folder / "decoder")
    losses = train_one_step_each(model, folder)
    texts = ["តម្លៃ ២៥ ដុល្លារ។", "សុខា ទៅសាលារៀន។"]
    tokens = model.generate(foreign_text=texts, prompt="Summarize in English.", max_new_tokens=4)
    model.save_pretrained(folder / "light")
    batch = model.processor(["Summarize in English."], texts[:1])
    with torch.no_grad():
        before = model(**batch).logits
    parameters = {name: sum(p.numel() for p in getattr(model, name).parameters()) for name, _ in model.named_children()}
    del model
    reloaded = LlinkForCausalLM.from_pretrained(folder / "light")
    with torch.no_grad():
        identical = torch.equal(before, reloaded(**batch).logits)
    return {
        "dtype": dtype,
        "parameters": parameters,
        "losses": losses,
        "new_tokens": list(tokens.shape),
        "light_checkpoint_mib": round((folder / "light" / "model.safetensors").stat().st_size / 2**20, 1),
        "reload_identical": identical,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "seconds": round(time.monotonic() - started, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16", help="of the bases (bfloat16)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(run(Path(scratch), args.dtype), indent=2))
