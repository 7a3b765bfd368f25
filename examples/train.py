"""A bridge for your language, from files to a saved model: both stages, with the slots' dictionary between them.

    python examples/train.py --encoder FacebookAI/xlm-roberta-base --decoder meta-llama/Llama-3.2-1B-Instruct \
        --pairs train.en train.km --eval_pairs dev.en dev.km --language km --output_dir out

Copy it and change what you need. Stage B learns to translate here; for questions and summaries too, read rows of your
own with `llink.read_instructions` in place of `translation_instructions`. `torchrun` starts it on several GPUs.
"""

from dataclasses import dataclass, field

from transformers import HfArgumentParser

from llink import (
    AlignConfig,
    AlignTrainer,
    InjectConfig,
    InjectTrainer,
    LexiconConfig,
    LexiconTrainer,
    LlinkForCausalLM,
    read_pairs,
    renew_slots,
)
from llink.data.instructions import translation_instructions


@dataclass
class Arguments:
    """What to train on, and how long."""

    encoder: str = field(metadata={"help": "Frozen multilingual encoder."})
    decoder: str = field(metadata={"help": "Frozen instruction-tuned decoder."})
    pairs: list[str] = field(metadata={"help": "Two line-aligned files: English, then foreign."})
    eval_pairs: list[str] = field(metadata={"help": "The same, held out."})
    language: str = field(default="und", metadata={"help": "BCP-47 tag of the foreign side, such as km."})
    output_dir: str = field(default="out", metadata={"help": "Where the model goes, and what each stage leaves."})
    epochs: float = field(default=3, metadata={"help": "Passes of Stage B over its rows."})
    max_steps: int = field(default=-1, metadata={"help": "Steps of each stage, to try it out; -1 for all."})


def main() -> None:
    """Trains, evaluates, saves, and answers once."""
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    train, held_out = (read_pairs(*files, language=args.language) for files in (args.pairs, args.eval_pairs))
    language = None if args.language == "und" else args.language
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(args.encoder, args.decoder, source_language=language)
    common = {"max_steps": args.max_steps, "save_strategy": "no", "report_to": []}

    config = AlignConfig(f"{args.output_dir}/align", **common)
    align = AlignTrainer(model, config, train_dataset=train, eval_dataset=held_out)
    align.train()
    print("Stage A:", align.evaluate())

    renew_slots(model, slot_expander="tokens")
    config = LexiconConfig(f"{args.output_dir}/lexicon", **common)
    LexiconTrainer(model, config, train_dataset=train).train()

    rows, eval_rows = translation_instructions(train), translation_instructions(held_out)
    config = InjectConfig(f"{args.output_dir}/inject", num_train_epochs=args.epochs, **common)
    inject = InjectTrainer(model, config, train_dataset=rows, eval_dataset=eval_rows)
    inject.train()
    print("Stage B:", inject.evaluate())

    if inject.is_world_process_zero():
        model.save_pretrained(f"{args.output_dir}/model")
        tokens = model.generate(foreign_text=held_out[0]["foreign"], prompt="Translate to English.", max_new_tokens=64)
        print(held_out[0]["english"], "→", model.processor.batch_decode(tokens, skip_special_tokens=True)[0])


if __name__ == "__main__":
    main()
