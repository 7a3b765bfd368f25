"""Small tokenizers that cut digits as the families of decoders do."""

from functools import cache

import tiny
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "On 4 March 2021 at 7:30 the 1st of 1,000 people paid 3.5 km 25th 2020s 30MW",
    'In 2020 and 2021, 590 of 8,500 <a id="1" id="2"> at 10:30 or 12:30. 100 200 300 1.5 3.5 22 25 20 2021-03-04',
]
LETTERS = "abcdefghijklmnopqrstuvwxyzACHNMOTW 0123456789.,:;()-/%=\"'\n"
NAMES = ["alone", "three", "mixed", "▁", "tiny"]


def digits_alone() -> Tokenizer:
    """Byte-level, a token a digit, as SmolLM2, Qwen and Gemma have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return byte_level(tokenizer)


def digits_by_three() -> Tokenizer:
    """Byte-level, up to three digits a token, as Llama-3 has it."""
    tokenizer = Tokenizer(models.BPE())
    three = pre_tokenizers.Split(Regex(r"[0-9]{1,3}|[^0-9]+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([three, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return byte_level(tokenizer)


def digits_mixed() -> Tokenizer:
    """Byte-level, tokens that begin and end anywhere: ":30", "1st", " 20", "km 25"."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return byte_level(tokenizer)


def byte_level(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """▁ for a space, and bytes where there is no token; these hold digits too: <0x37>."""
    pieces = ["<unk>", "<|end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *dict.fromkeys(LETTERS.replace(" ", "").replace("7", "").replace("\n", ""))]
    pieces += ["▁1", "▁2", "20", "▁20", ":3", "1s", "▁(1", "▁a", "an", "Ġ"]
    merges = [("▁", "1"), ("▁", "2"), ("2", "0"), ("▁2", "0"), (":", "3"), ("1", "s"), ("▁", "a"), ("a", "n")]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


@cache
def make(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of one of `NAMES`, with an added token that is special and one that is not."""
    if name == "tiny":
        return tiny.decoder_tokenizer("llama")
    tokenizer = {"alone": digits_alone, "three": digits_by_three, "mixed": digits_mixed, "▁": sentencepiece}[name]()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.add_tokens([AddedToken("<|reserved_7|>", special=True), "<tool_2>"])
    return fast
