"""What a store finds, costs and keeps, measured: `python benchmarks/store.py MODEL --help-texts libreoffice-help.tsv`.

1. Finding: English headings of LibreOffice's help as questions, the Khmer paragraphs of its documents as the
   collection; how often is a paragraph of the right document among the first 1, 5, 20?
2. Scale: vectors of that collection, repeated with noise, in the index alone: seconds to build, bytes, milliseconds a
   search, and the share of the truly nearest that it finds.
3. Kept slots: bytes, and how many answers change; beside what else was tried. And a hundred questions about one
   passage, with kept slots against encoding each time.
4. Answering (`--headings`, `--trained-on`): such a heading is asked, and the answer compared with the English of the
   paragraph below it; beside it the base decoder with the raw Khmer, and with the question alone.

Each part is left out with a size of 0. Writes JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from datasets import Dataset
from store_answers import PROMPT, answering
from torch import Tensor

from llink import LlinkForCausalLM, SlotStore
from llink.data.demo_corpus import demo_splits
from llink.store.index import VectorIndex
from llink.store.slot_codec import bytes_of_slot, pack_slots, unpack_slots

RANKS = (1, 5, 20)


def finding(model: LlinkForCausalLM, rows: list[dict[str, str]], questions: int, folder: Path) -> dict[str, Any]:
    """Recall of the right document; the headings themselves are no part of the collection."""
    headings = [row for row in rows if row["paragraph"].startswith("hd_")]
    passages = [
        {"text": row["khmer"], "document": row["document"], "id": f"{row['document']}#{row['paragraph']}"}
        for row in rows
        if not row["paragraph"].startswith("hd_")
    ]
    known = {row["document"] for row in passages}
    headings = [row for row in headings if row["document"] in known]
    headings = random.Random(0).sample(headings, min(questions, len(headings)))
    start = time.perf_counter()
    store = SlotStore.build(model, passages, folder, show_progress=True)
    seconds = time.perf_counter() - start
    vectors = model.encode([row["english"] for row in headings], side="english")
    start = time.perf_counter()
    found = [store.index.search(vector, max(RANKS)) for vector in vectors]
    searched = time.perf_counter() - start
    documents = store.rows["document"][:]
    places = [[documents[place] for _, place in one] for one in found]
    pairs = list(zip([row["document"] for row in headings], places, strict=True))
    hits = {rank: sum(wanted in of_one[:rank] for wanted, of_one in pairs) for rank in RANKS}
    return {
        "questions": len(headings),
        "passages": len(passages),
        "documents": len(known),
        "pieces": len(store),
        "recall": {str(rank): round(count / len(headings), 3) for rank, count in hits.items()},
        "index_seconds": round(seconds, 1),
        "search_ms": round(1000 * searched / len(headings), 2),
        "bytes_a_piece": round(sum(shard["bytes"] for shard in store.manifest.shards) / len(store)),
    }


def scale(vectors: np.ndarray, size: int, noise: float, wanted: int, folder: Path) -> dict[str, Any]:
    """The index of `size` vectors: the given ones (N, d) again and again, each time with noise of its own.

    With `wanted` they are first turned into a space of that width, where the noise is as wide.
    """
    draw, width = np.random.default_rng(0), wanted or vectors.shape[1]
    if wanted:
        turned, _ = np.linalg.qr(
            draw.standard_normal((wanted, vectors.shape[1]))
        )  # (wanted, d) of columns at right angles
        vectors = (vectors @ turned.T).astype(np.float32)
    tables = []
    for start in range(0, size, 50_000):
        rows = vectors[np.arange(start, min(start + 50_000, size)) % len(vectors)]
        rows = rows + noise / np.sqrt(width) * draw.standard_normal(rows.shape, dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        flat = pa.array(rows.astype(np.float16).ravel())
        tables.append(pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, width)}))
    file = folder / "rows.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    del tables
    data = Dataset.from_file(str(file))
    start = time.perf_counter()
    index = VectorIndex(data, folder / "index.faiss")
    built = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    queries = vectors[draw.choice(len(vectors), 100, replace=False)]
    exact = _nearest(data, queries, 10)
    start = time.perf_counter()
    found = [[row for _, row in index.search(query, 10)] for query in queries]
    searched = time.perf_counter() - start
    kept = (folder / "index.faiss").stat().st_size if not index.exact else size * width * 4
    shared = [len(set(own) & set(true)) for own, true in zip(found, exact, strict=True)]
    return {
        "vectors": size,
        "width": width,
        "exact": index.exact,
        "noise": noise,
        "build_seconds": round(built, 1),
        "process_peak_mb": peak,
        "index_bytes": kept,
        "vector_bytes": file.stat().st_size,
        "search_ms": round(10 * searched, 2),
        "recall_of_10": round(sum(shared) / (10 * len(queries)), 3),
    }


def _nearest(data: Dataset, queries: np.ndarray, k: int) -> list[list[int]]:
    """The k rows with the greatest products, by comparing with all."""
    scores, places = np.full((len(queries), k), -2.0, np.float32), np.zeros((len(queries), k), int)
    for start in range(0, len(data), 50_000):
        block = np.array(data.with_format("numpy")[start : start + 50_000]["vector"], dtype=np.float32)
        both = np.concatenate([scores, queries @ block.T], axis=1)
        rows = np.concatenate([places, np.tile(np.arange(start, start + len(block)), (len(queries), 1))], axis=1)
        order = np.argsort(-both, axis=1)[:, :k]
        scores, places = np.take_along_axis(both, order, 1), np.take_along_axis(rows, order, 1)
    return places.tolist()


# ---------------------------------------------------------------------- slots


def pursued(slots: Tensor, words: Tensor, count: int) -> Tensor:
    """Slots (M, d) as mixtures of `count` embeddings (V, d) each, chosen greedily (orthogonal matching pursuit)."""
    chosen, left = torch.zeros(len(slots), 0, dtype=torch.long), slots
    for number in range(count):
        scores = (left @ words.T).abs().scatter_(1, chosen, -1)
        chosen = torch.cat([chosen, scores.argmax(dim=1, keepdim=True)], dim=1)
        own = words[chosen]  # (M, number + 1, d)
        gram = own @ own.transpose(1, 2) + 1e-4 * torch.eye(number + 1)
        weights = torch.linalg.solve(gram, own @ slots.unsqueeze(-1))  # (M, number + 1, 1)
        left = slots - (own * weights).sum(dim=1)
    return slots - left


def answers(model: LlinkForCausalLM, slots: list[Tensor], new: int) -> list[str]:
    """What greedy decoding says of each passage."""
    found = []
    for start in range(0, len(slots), 25):
        options = {"prompt": PROMPT, "max_new_tokens": new, "do_sample": False}
        tokens = model.generate(foreign_slots=slots[start : start + 25], **options)
        found += model.processor.batch_decode(tokens, skip_special_tokens=True)
    return found


def kept_slots(model: LlinkForCausalLM, texts: list[str], new: int) -> dict[str, Any]:
    """Bytes a slot and the share of answers that stay the same, of eight bits and of what else was tried."""
    rows = [row.detach().cpu() for row in model.encode_foreign(texts)]
    slots, width = torch.cat(rows), model.config.hidden_size
    ids = torch.arange(model.config.vocab_size, device=model.device)
    words = F.normalize(model.get_input_embeddings()(ids).detach().float().cpu(), dim=-1)
    mixed = {f"{count}_embeddings": (pursued(slots, words, count), 6 * count) for count in (8, 16, 32)}
    kinds = {
        "float16": (slots.half().float(), 2 * width),
        "eight_bits": (unpack_slots(pack_slots(slots), width), bytes_of_slot(width)),
        **mixed,
    }
    lengths = [len(row) for row in rows]
    true, results = answers(model, rows, new), {}
    for name, (kept, size) in kinds.items():
        found = answers(model, list(kept.split(lengths)), new)
        same = sum(one == other for one, other in zip(true, found, strict=True)) / len(true)
        cosine = F.cosine_similarity(kept, slots, dim=-1).mean()
        results[name] = {
            "bytes": size,
            "of_float16": round(size / (2 * width), 3),
            "cosine": round(float(cosine), 4),
            "same_answers": round(same, 4),
        }
    return {"passages": len(texts), "slots": len(slots), "width": width, "new_tokens": new, "kinds": results}


def asked_again(model: LlinkForCausalLM, text: str, questions: int) -> dict[str, Any]:
    """Questions about one passage: with its kept slots, and encoding it each time; one new token each."""
    prompts = [f"{PROMPT} {number}" for number in range(questions)]
    options = {"max_new_tokens": 1, "do_sample": False}
    slots = model.encode_foreign([text])
    seconds = {"kept": 0.0, "encoded": 0.0}
    for prompt in prompts:  # by turns, so that whatever else the machine does falls on both
        start = time.perf_counter()
        model.generate(foreign_slots=[slots[0]], prompt=prompt, **options)
        middle = time.perf_counter()
        model.generate(foreign_text=[text], prompt=prompt, **options)
        seconds["kept"] += middle - start
        seconds["encoded"] += time.perf_counter() - middle
    ratio = seconds["encoded"] / seconds["kept"]
    return {"questions": questions, "slots": len(slots[0]), "encoded_over_kept": round(ratio, 2)}


def main() -> None:
    """Runs the parts that are asked for and writes what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="Folder of a trained model.")
    parser.add_argument("--help-texts", type=Path, help="TSV with document, paragraph, english, khmer.")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--documents", type=int, default=0, help="Only so many documents; all when 0.")
    parser.add_argument("--headings", type=int, default=0, help="Headings that are asked and answered.")
    parser.add_argument("--trained-on", type=Path, help="Khmer texts, one a line; documents with one are not asked.")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--noise", type=float, default=0.3, help="Length of the noise on vectors of length one.")
    parser.add_argument("--width", type=int, default=0, help="Of those vectors; the model's own when 0.")
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--answer-tokens", type=int, default=48, help="Of an answer to a heading at most.")
    parser.add_argument("--again", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/store.json"))
    args = parser.parse_args()
    model = LlinkForCausalLM.from_pretrained(args.model)
    results = json.loads(args.output.read_text("utf-8")) if args.output.is_file() else {}
    with tempfile.TemporaryDirectory(prefix="llink-store-") as folder:
        for name, found in _parts(model, args, Path(folder)):
            results[name] = {"bases": _bases(model), **found}
            print(name, json.dumps(found, indent=1))
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")


def _bases(model: LlinkForCausalLM) -> str:
    """What the figures were measured on, by its sizes: names of folders say nothing to others."""
    kinds = f"{model.config.encoder_config.model_type} and {model.config.decoder_config.model_type}"
    return f"{kinds}, d = {model.config.hidden_size}, {model.config.slot_expander} slots, stage {model.config.stage}"


def _parts(model: LlinkForCausalLM, args: argparse.Namespace, folder: Path) -> Any:
    texts = [pair.foreign for pair in demo_splits()["test"]]
    if args.help_texts is not None:
        csv.field_size_limit(sys.maxsize)
        with args.help_texts.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        if args.documents:
            names = sorted({row["document"] for row in rows})
            chosen = set(random.Random(0).sample(names, args.documents))
            rows = [row for row in rows if row["document"] in chosen]
        texts = [row["khmer"] for row in rows]
        if args.questions:
            yield "finding", finding(model, rows, args.questions, folder / "store")
        if args.headings and model.config.stage == "inject":
            trained = set() if args.trained_on is None else set(args.trained_on.read_text("utf-8").splitlines())
            yield "answering", answering(model, rows, trained, args.headings, args.answer_tokens, folder / "asked")
    if args.vectors:
        yield "scale", scale(model.encode(texts[:3000]), args.vectors, args.noise, args.width, folder)
    if args.answers and model.config.stage == "inject":
        chosen = random.Random(1).sample(texts, min(args.answers, len(texts)))
        yield "slots", kept_slots(model, chosen, args.new_tokens)
    if args.again and model.config.stage == "inject":
        yield "asked_again", asked_again(model, max(texts[:200], key=len), args.again)


if __name__ == "__main__":
    main()
