"""Pre-train a tiny English-only instruction decoder from dialogues alone.

A Llama architecture with a byte-level BPE tokenizer trained on English text: it knows every byte, so it can be given
any script, but it has merged none but English, and shatters Khmer as Llama-3's tokenizer does. `make_tiny_pair.py` uses
it to build the decoder that llink embeds; rows of your own are JSON lines with `prompt` and `completion`.

    python examples/pretrain_decoder.py --dialogues rows.jsonl --output-dir decoders/tiny
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from atomic_folder import atomic_folder
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    HfArgumentParser,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

logger = logging.getLogger(__name__)

END, USER, ASSISTANT = "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@dataclass
class DecoderArguments:
    """What is built."""

    dialogues: str | None = field(default=None, metadata={"help": "JSON lines with `prompt` and `completion`"})
    vocab_size: int = field(default=2048, metadata={"help": "byte-level BPE vocabulary, special tokens included"})
    hidden_size: int = field(default=192, metadata={"help": "width d of the decoder"})
    num_layers: int = field(default=4, metadata={"help": "number of transformer layers"})
    num_heads: int = field(default=6, metadata={"help": "number of attention heads; divides the hidden size"})
    max_length: int = field(default=512, metadata={"help": "positions of the model"})

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of num_heads={self.num_heads}")
        if self.vocab_size < 256 + 3:
            raise ValueError(f"vocab_size={self.vocab_size} has no room for 256 bytes and 3 special tokens")


@dataclass
class DecoderTrainingArguments(TrainingArguments):
    """`TrainingArguments` with defaults for tiny decoders: batch 64, lr 3e-3 (cosine, 5 % warm-up), 5 epochs."""

    per_device_train_batch_size: int = field(default=64, metadata={"help": "dialogues a step"})
    num_train_epochs: float = field(default=5.0, metadata={"help": "passes over the dialogues"})
    learning_rate: float = field(default=3e-3, metadata={"help": "peak learning rate"})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "learning-rate schedule"})
    warmup_steps: float = field(default=0.05, metadata={"help": "warm-up steps, or their share when below 1"})
    weight_decay: float = field(default=0.05, metadata={"help": "AdamW weight decay"})
    adam_beta2: float = field(default=0.98, metadata={"help": "β₂ of AdamW"})
    train_sampling_strategy: str = field(default="group_by_length", metadata={"help": "how batches are drawn"})
    logging_steps: float = field(default=100, metadata={"help": "log every so many steps"})
    save_steps: float = field(default=1000, metadata={"help": "checkpoint every so many steps"})
    save_total_limit: int | None = field(default=1, metadata={"help": "checkpoints kept"})


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template; all 256 bytes are in its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, extra_special_tokens=[USER, ASSISTANT]
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def encode_dialogues(tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, str]]) -> Dataset:
    """Tokenises `prompt` and `completion` on the chat template: `input_ids` and `length`; every token is learned."""
    texts = [f"{USER}\n{row['prompt']}{END}\n{ASSISTANT}\n{row['completion']}{END}" for row in rows]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return Dataset.from_dict({"input_ids": ids, "length": [len(row) for row in ids]})


def collate(rows: list[dict[str, list[int]]], pad_token_id: int) -> dict[str, Tensor]:
    """Pads on the right: `input_ids`, `attention_mask`, `labels` (B, S)."""
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), length), pad_token_id)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[index, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def build_model(arguments: DecoderArguments, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A randomly initialised Llama with tied embeddings."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=arguments.hidden_size,
        intermediate_size=arguments.hidden_size * 8 // 3 // 32 * 32,
        num_hidden_layers=arguments.num_layers,
        num_attention_heads=arguments.num_heads,
        max_position_embeddings=arguments.max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model


def pretrain_decoder(
    rows: list[dict[str, str]],
    output_dir: str | Path,
    arguments: DecoderArguments,
    training: TrainingArguments,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Trains a decoder on dialogues and writes it, whole or not at all; checkpoints go to `training.output_dir`.

    Args:
        rows: `prompt`, `completion`.
        output_dir: the folder to write.
        arguments: sizes.
        training: the optimiser's settings; `resume_from_checkpoint` as in `Trainer.train`.
        dtype: of the stored weights.

    Raises:
        ValueError: there are no rows, or the saved folder does not load as it was.
    """
    if not rows:
        raise ValueError("there are no dialogues to learn from")
    set_seed(training.seed)
    tokenizer = train_tokenizer([text for row in rows for text in row.values()], arguments.vocab_size)
    model = build_model(arguments, tokenizer)
    if training.use_cpu:
        model.set_attn_implementation("eager")  # on a CPU, the fused attention's backward pass is the slower one
    logger.info("%.2f M parameters", model.num_parameters() / 1e6)
    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=encode_dialogues(tokenizer, rows),
        data_collator=lambda batch: collate(batch, tokenizer.pad_token_id),
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    with atomic_folder(output_dir) as folder:
        model.eval().to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        if report["missing_keys"] or AutoTokenizer.from_pretrained(folder).chat_template != CHAT_TEMPLATE:
            raise ValueError(f"the saved decoder does not load as it was: {report}")
    return Path(output_dir)


def main(argv: list[str] | None = None) -> None:
    """Parses the command line and pre-trains."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = HfArgumentParser((DecoderArguments, DecoderTrainingArguments), description=__doc__)
    arguments, training = parser.parse_args_into_dataclasses(argv)
    if arguments.dialogues is None:
        raise ValueError("--dialogues is needed: JSON lines with `prompt` and `completion`")
    rows = [json.loads(line) for line in Path(arguments.dialogues).read_text("utf-8").splitlines() if line.strip()]
    rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]
    output = Path(training.output_dir)
    training.output_dir = str(output.with_name(f"{output.name}-run"))
    pretrain_decoder(rows, output, arguments, training)


if __name__ == "__main__":
    main()
