"""Makes the tiny encoder and decoder that llink embeds (`assets/`), from the demo corpus alone.

The encoder sees the Khmer sentences of the training split, the decoder English dialogues about the same split; the
`dev` and `test` pairs stay unseen by both. Two processor cores need about 20 minutes. Weights are stored in float16.

    python examples/make_tiny_pair.py --output-dir assets
"""

import argparse
import logging
import shutil
from pathlib import Path

import torch
from atomic_folder import atomic_folder
from demo_corpus.dialogues import english_instruction_dialogues
from pretrain_decoder import DecoderArguments, DecoderTrainingArguments, pretrain_decoder
from pretrain_encoder import EncoderArguments, EncoderTrainingArguments, pretrain_encoder
from transformers import AutoModel, AutoTokenizer

from llink.data.demo_corpus import demo_splits

MAX_MIB = 12


def make_encoder(khmer: list[str], output_dir: Path, run: Path, epochs: float) -> None:
    """Masked LM and the contrastive phase on the Khmer side; stored in float16."""
    arguments = EncoderArguments(
        vocab_size=3000, max_piece_length=16, hidden_size=128, num_layers=3, num_heads=4, contrastive_epochs=1
    )
    training = EncoderTrainingArguments(
        output_dir=str(run),
        num_train_epochs=epochs,
        learning_rate=1e-3,
        report_to=[],
        use_cpu=True,
        bf16=True,
        save_strategy="no",
    )
    made = pretrain_encoder(khmer, run / "encoder", arguments, training)
    with atomic_folder(output_dir) as folder:
        AutoModel.from_pretrained(made, add_pooling_layer=False).to(torch.float16).save_pretrained(folder)
        AutoTokenizer.from_pretrained(made).save_pretrained(folder)


def main() -> None:
    """Trains both, checks their size, cleans up."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", type=Path, default=Path("assets"))
    parser.add_argument("--encoder-epochs", type=float, default=3)
    parser.add_argument("--decoder-epochs", type=float, default=5)
    parser.add_argument("--only", choices=("encoder", "decoder"))
    args = parser.parse_args()
    train = demo_splits()["train"]
    run = args.output_dir / "tiny-pair-run"
    if args.only != "encoder":
        dialogues = english_instruction_dialogues(train, seed=0)
        rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in dialogues]
        training = DecoderTrainingArguments(
            output_dir=str(run / "decoder"),
            num_train_epochs=args.decoder_epochs,
            report_to=[],
            use_cpu=True,
            bf16=True,
            save_strategy="no",
        )
        pretrain_decoder(rows, args.output_dir / "decoder", DecoderArguments(), training, dtype=torch.float16)
    if args.only != "decoder":
        make_encoder([pair.foreign for pair in train], args.output_dir / "encoder", run, args.encoder_epochs)
    shutil.rmtree(run, ignore_errors=True)
    files = [path for name in ("encoder", "decoder") for path in (args.output_dir / name).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**20
    print(f"{size:.1f} MiB in {len(files)} files (at most {MAX_MIB})")
    if size > MAX_MIB:
        raise SystemExit(f"The pair is larger than {MAX_MIB} MiB: lower its widths.")


if __name__ == "__main__":
    main()
