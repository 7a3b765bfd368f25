"""What llink computes, counted: `make bench` fails when a count is not what `benchmarks/results/bench.json` says.

Only what no machine changes: passes of the bases and tokens that they read, FLOPs of matrix products by torch's own
counter, rows of logits, bytes of caches and checkpoints, and graphs that torch.compile makes of a decode step. The
embedded pair is counted, on fixed texts, from the raw text to a trained checkpoint.

    python benchmarks/bench.py            # compares
    python benchmarks/bench.py --accept   # takes what was counted as what is expected

Seconds are measured by `inference.py` and `training.py` beside this file.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from timing import QUICK, cache_bytes
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, set_seed
from transformers.utils import logging

from llink import (
    AlignConfig,
    AlignTrainer,
    InjectConfig,
    InjectTrainer,
    LexiconConfig,
    LexiconTrainer,
    LlinkForCausalLM,
    renew_slots,
)
from llink.baselines.direct import RawTextProcessor, like
from llink.data.demo_corpus import demo_pairs, generate_instructions
from llink.data.features import compute_features
from llink.data.instructions import instruction_dataset
from llink.demo import ASSETS
from llink.modeling_llink.lora import text_part

EXPECTED = Path(__file__).parent / "results" / "bench.json"
#: What counts depend on besides llink's own code.
LIBRARIES = ("torch", "transformers", "peft")
ROWS, NEW_TOKENS, PROMPT = 4, 8, "Translate to English."
PAIRS = 64

Counts = dict[str, int]


@contextmanager
def counting(model: LlinkForCausalLM) -> Iterator[Counts]:
    """Counts what runs in the block; the counts stand in the dict after it."""
    found: Counts = dict.fromkeys(("encoder_passes", "encoder_tokens", "decoder_passes", "decoder_tokens", "logits"), 0)

    def read(kind: str, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        found[f"{kind}_passes"] += 1
        found[f"{kind}_tokens"] += (args[0] if args else kwargs["input_ids"]).numel()

    def written(module: Any, args: tuple, output: torch.Tensor) -> None:
        found["logits"] += output.shape[:-1].numel()

    bases = {"encoder": model.encoder, "decoder": text_part(model.decoder)}
    hooks = [
        module.register_forward_pre_hook(functools.partial(read, kind), with_kwargs=True)
        for kind, module in bases.items()
    ]
    hooks.append(model.get_output_embeddings().register_forward_hook(written))
    try:
        with FlopCounterMode(display=False) as flops:
            yield found
    finally:
        for hook in hooks:
            hook.remove()
    found["flops"] = flops.get_total_flops()


def new_model(slots: str) -> LlinkForCausalLM:
    """The embedded pair with an untrained bridge; without LoRA's dropout, whose masks no counter sees."""
    return LlinkForCausalLM.from_encoder_decoder_pretrained(
        ASSETS / "encoder",
        ASSETS / "decoder",
        dtype="float32",
        attn_implementation="eager",  # products that torch's counter knows on every device
        slot_expander=slots,
        lora_dropout=0.0,
        encoder_layer=2,
    )


def pairs() -> Dataset:
    """Pairs of the embedded corpus."""
    return Dataset.from_list([dict(pair) for pair in demo_pairs(PAIRS)])


def answers(model: LlinkForCausalLM) -> dict[str, Counts]:
    """The first token of a batch, however its passages are given; the further tokens; beams; a second turn."""
    texts = [pair.foreign for pair in demo_pairs(ROWS)]
    raw, kept = like(RawTextProcessor, model.processor)([PROMPT] * ROWS, texts), model.encode_foreign(texts)
    given = {
        "raw_text": dict(raw),
        "slots": dict(foreign_text=texts, prompt=PROMPT),
        "kept_slots": dict(foreign_slots=kept, prompt=PROMPT),
    }
    options = dict(do_sample=False, pad_token_id=0)
    found = {}
    for name, inputs in given.items():
        cache = DynamicCache(config=model.decoder.config)
        with counting(model) as found[f"first_token_{name}"]:
            model.generate(**inputs, **options, max_new_tokens=1, past_key_values=cache)
        found[f"first_token_{name}"]["cache_bytes"] = cache_bytes(cache)
    whole = dict(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    with counting(model) as found["answer"]:
        model.generate(**given["slots"], **options, **whole)
    with counting(model) as found["answer_beams"]:
        model.generate(**given["slots"], **options, **whole, num_beams=2)
    cache = DynamicCache(config=model.decoder.config)
    content = [{"type": "text", "text": PROMPT}, {"type": "foreign_text", "text": texts[0]}]
    turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
    new = model.generate(messages=turns, past_key_values=cache, **options, max_new_tokens=2)
    answer = model.processor.batch_decode(new, skip_special_tokens=True)[0]
    turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And in one word?"}]
    with counting(model) as found["second_turn"]:
        model.generate(messages=turns, past_key_values=cache, **options, max_new_tokens=1)
    return found


def compiled_steps(model: LlinkForCausalLM) -> Counts:
    """Graphs that torch.compile makes of the steps of an answer with a static cache: one, were it not broken."""
    forward, counter = model.forward, CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    step = torch.compile(forward, backend=counter)

    @functools.wraps(forward)
    def by_length(*args: Any, **kwargs: Any) -> Any:
        return (step if kwargs["input_ids"].shape[1] == 1 else forward)(*args, **kwargs)

    model.forward = by_length
    try:
        asked = dict(foreign_text=demo_pairs(1)[0].foreign, prompt=PROMPT, do_sample=False, pad_token_id=0)
        asked |= dict(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, cache_implementation="static")
        model.generate(**asked)
    finally:
        del model.forward
        torch._dynamo.reset()
    return {"graphs": counter.frame_count}


def features(model: LlinkForCausalLM, folder: Path) -> dict[str, Counts]:
    """The frozen features of pairs, half of whose sentences come twice; then once more, out of the cache."""
    rows = Dataset.from_list([*pairs(), *({**pair, "id": f"{pair['id']}-again"} for pair in pairs())])
    found = {}
    for name in ("features", "features_again"):
        with counting(model) as found[name]:
            made = compute_features(model, rows, folder / "features", show_progress=False)
    found["features"]["kept_bytes"] = made.pooled.nbytes // 2 + made.teacher_states.nbytes // 2
    return found


def trained(model: LlinkForCausalLM, folder: Path) -> dict[str, Counts]:
    """Stage A, the dictionary where slots are made of tokens, and Stage B: everything that their steps compute."""
    found, own = {}, folder / model.config.slot_expander
    quick = dict(QUICK, feature_cache_dir=str(folder / "features"))

    def train(name: str, trainer: Any) -> None:
        with counting(model) as found[name]:
            trainer.train()

    align = AlignConfig(str(own / "a"), per_device_train_batch_size=32, queue_size=64, num_train_epochs=2, **quick)
    train("align", AlignTrainer(model, align, train_dataset=pairs()))
    if model.config.slot_expander == "tokens":
        lexicon = LexiconConfig(str(own / "words"), per_device_train_batch_size=16, num_train_epochs=2, **quick)
        train("lexicon", LexiconTrainer(model, lexicon, train_dataset=pairs()))
        found["lexicon"]["kept_bytes"] = sum(path.stat().st_size for path in (folder / "features").glob("*.states"))
    rows = instruction_dataset(generate_instructions(demo_pairs(PAIRS)[:24]))
    inject = InjectConfig(
        str(own / "b"),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_steps=3,
        usage_weight=0.05,  # for slots of tokens too: its second pass is counted
        **quick,
    )
    train("inject", InjectTrainer(model, inject, train_dataset=rows))
    model.save_pretrained(own / "model")
    found["checkpoint"] = {"bytes": (own / "model" / "model.safetensors").stat().st_size // 1024 * 1024}
    return found


def count_all(folder: Path) -> Counts:
    """Every count, by `slots/what/count`."""
    torch.set_num_threads(1)  # many small products: threads would wait for each other
    set_seed(0)
    logging.set_verbosity_error()
    found: dict[str, dict[str, Counts]] = {}
    for slots in ("mlp", "tokens"):
        model = new_model("mlp")
        parts = features(model, folder) if slots == "mlp" else {}
        if slots == "tokens":
            renew_slots(model, slot_expander="tokens")
        parts |= trained(model, folder)
        model.eval()
        found[slots] = parts | answers(model) | {"compiled": compiled_steps(model)}
    return {
        f"{slots}/{what}/{name}": value
        for slots, parts in found.items()
        for what, counts in parts.items()
        for name, value in counts.items()
    }


def differences(expected: Counts, found: Counts) -> list[str]:
    """One line for each count that is another one, or not in both."""
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        before, now = expected.get(name), found.get(name)
        if before == now:
            continue
        times = f" ({now / before:.3f} times)" if before and now is not None else ""
        lines.append(f"{name}: {before} expected, {now} counted{times}")
    return lines


def main() -> None:
    """Counts, and compares or accepts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="write the counts as those that are expected from now on")
    parser.add_argument("--expected", type=Path, default=EXPECTED, help="the file of the expected counts")
    args = parser.parse_args()
    if not args.accept and not args.expected.is_file():
        sys.exit(f"{args.expected} is missing: write it with --accept.")
    libraries = {name: version(name) for name in LIBRARIES}
    with tempfile.TemporaryDirectory() as folder:
        found = count_all(Path(folder))
    if args.accept:
        text = json.dumps({"libraries": libraries, "counts": found}, indent=1)
        args.expected.write_text(text + "\n", "utf-8")
        print(f"{len(found)} counts written to {args.expected}.")
        return
    known = json.loads(args.expected.read_text("utf-8"))
    if lines := differences(known["counts"], found):
        print("\n".join(lines))
        if known["libraries"] != libraries:
            print(f"Counted with {libraries}, expected of {known['libraries']}: the libraries may be why.")
        sys.exit(f"{len(lines)} counts have moved. If that is meant: python benchmarks/bench.py --accept")
    print(f"All {len(found)} counts are as expected.")


if __name__ == "__main__":
    main()
