"""The time to the first token, and of each further one, of llink and of what a user would use instead.

    python benchmarks/inference.py --encoder FOLDER --decoder FOLDER --texts FILE
    python benchmarks/inference.py --small     # the embedded pair, in a minute

A batch is one passage of the texts, repeated: by length those at `--shares` for a single row, the middle one for the
larger batches. Every system is asked the same, greedily, one after the other in each round:

| system | what is in the prompt |
|---|---|
| `raw_text` | the passage, as the bare decoder's tokens |
| `equal_length` | as many tokens of text as there are with slots, to the bare decoder: the limit |
| `slots` | slots, from the text on |
| `slots_merged` | the same, LoRA merged into the decoder |
| `kept_slots` | slots that were made before |
| `kept_slots_and_prefix` | the same, behind the keys and values of template and instruction, which were made before |
| `langbridge` | a LangBridge-style bridge: a linear map of every encoder token |
| `encoder` | no answer: the encoder and what makes the slots, alone |

Weights need no training for this: no time depends on them. Writes JSON and a picture. Seconds are processor time of
this process on one thread, and wall time beside it.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import cache_bytes, in_turns, machine, middle, peak_mib, ratio
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

from llink import LlinkForCausalLM
from llink.baselines.direct import RawTextProcessor, like
from llink.baselines.langbridge import LangBridgeForCausalLM, LangBridgeModelConfig, LangBridgeProcessor
from llink.data.demo_corpus import demo_splits
from llink.demo import ASSETS
from llink.evaluation.report import new_figure, save_figure

PROMPT = "Translate to English."
#: Writes so many tokens into an empty cache.
Task = Callable[[int, DynamicCache], Any]


class Systems:
    """The models, on the same two bases, and how each is asked about a passage.

    Args:
        encoder, decoder: Folders of the bases.
    """

    def __init__(self, encoder: str | Path, decoder: str | Path) -> None:
        options = dict(dtype="float32", slot_expander="tokens", stage="inject")
        self.model = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, **options).eval()
        self.merged = LlinkForCausalLM.from_encoder_decoder_pretrained(encoder, decoder, **options).eval()
        self.merged.processor = self.model.processor
        self.merged.merge_and_unload()
        self.bare = AutoModelForCausalLM.from_pretrained(decoder, dtype="float32").eval()
        config = LangBridgeModelConfig(reserved_token_start=self.model.config.reserved_token_start)
        processor = like(LangBridgeProcessor, self.model.processor, num_slots=1)
        self.bridge = LangBridgeForCausalLM(config, self.model.encoder, self.bare, processor).eval()
        self.raw = like(RawTextProcessor, self.model.processor)

    def new_cache(self) -> DynamicCache:
        """An empty cache of the decoder."""
        return DynamicCache(config=self.bare.config)

    def asked(self, text: str, batch: int) -> tuple[dict[str, Task], dict[str, int]]:
        """A task for each system, which takes how many tokens to write and an empty cache; and its prompt's tokens."""
        texts, prompts = [text] * batch, [PROMPT] * batch
        raw, slotted = self.raw(prompts, texts), self.model.processor(prompts, texts)
        ids, length = slotted["input_ids"], slotted["input_ids"].shape[1]
        start = self.model.config.reserved_token_start
        plain = {"input_ids": ids.masked_fill(ids >= start, self.model.config.filler_token_id)}
        plain["attention_mask"] = torch.ones_like(ids)
        kept = self.model.encode_foreign(texts)
        bridged = self.bridge.processor(prompts, texts)

        def written(model: Any, **inputs: Any) -> Task:
            return lambda tokens, cache: model.generate(
                **inputs, **greedy(tokens), past_key_values=cache, use_cache=True
            )

        tasks: dict[str, Task] = {
            "raw_text": written(self.bare, **raw),
            "equal_length": written(self.bare, **plain),
            "slots": written(self.model, foreign_text=texts, prompt=PROMPT),
            "slots_merged": written(self.merged, foreign_text=texts, prompt=PROMPT),
            "kept_slots": written(self.model, foreign_slots=kept, prompt=PROMPT),
            "langbridge": written(self.bridge, **bridged),
        }
        tokens = dict.fromkeys(tasks, length)
        tokens |= {"raw_text": raw["input_ids"].shape[1], "langbridge": bridged["input_ids"].shape[1]}
        return tasks, tokens

    def behind_prefix(self, text: str, batch: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor], int]:
        """The first token from kept slots by a plain pass: of the whole prompt, and behind its kept beginning.

        Returns:
            The two tasks, and how many tokens the second reads.
        """
        model, texts = self.model, [text] * batch
        ids = model.processor([PROMPT] * batch, texts)["input_ids"]
        slots, mask = model.stack_slots(model.encode_foreign(texts))
        here = ids[0] >= model.config.reserved_token_start  # (S,)
        start, count = int(here.nonzero()[0]), int(here.sum())  # where the passage begins, and its slots
        slots, mask = slots[:, :, :count], mask[:, :, :count]
        beginning = self.new_cache()
        options = dict(reads_slots=[True] * batch, use_cache=True, logits_to_keep=1)
        with torch.no_grad():
            model(input_ids=ids[:, :start], past_key_values=beginning, **options)
        passage = dict(foreign_slots=slots, foreign_mask=mask, **options)

        @torch.no_grad()
        def whole() -> Tensor:
            return model(input_ids=ids, past_key_values=self.new_cache(), **passage).logits.argmax(-1)

        @torch.no_grad()
        def rest() -> Tensor:
            cache, mask = copy.deepcopy(beginning), torch.ones_like(ids)
            return model(input_ids=ids[:, start:], attention_mask=mask, past_key_values=cache, **passage).logits.argmax(
                -1
            )

        if not torch.equal(whole(), rest()):
            raise SystemExit(
                "A prompt behind its kept beginning gives another token: what is measured is not the same."
            )
        return whole, rest, ids.shape[1] - start


def greedy(tokens: int) -> dict[str, Any]:
    """Arguments of `generate` for exactly so many tokens."""
    return dict(max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0, eos_token_id=None)


def measured(systems: Systems, text: str, batch: int, new: int, repeats: int) -> dict[str, Any]:
    """All systems on one passage: seconds, ratios to raw text and to the limit, memory, bytes of keys and values."""
    asked, tokens = systems.asked(text, batch)
    first: dict[str, Callable[[], Any]] = {
        name: (lambda task=task: task(1, systems.new_cache())) for name, task in asked.items()
    }
    whole, rest, behind = systems.behind_prefix(text, batch)
    first |= {"encoder": lambda: systems.model.encode_foreign([text] * batch), "plain_pass": whole, "behind": rest}
    later = {name: (lambda task=task: task(1 + new, systems.new_cache())) for name, task in asked.items()}
    to_first, to_last = in_turns(first, repeats), in_turns(later, repeats, warm=False)
    found: dict[str, Any] = {}
    for name, task in asked.items():
        cache = systems.new_cache()
        task(1, cache)
        steps = [
            {kind: (one[kind] - other[kind]) / new for kind in one}
            for one, other in zip(to_last[name], to_first[name], strict=True)
        ]
        found[name] = {
            "prompt_tokens": tokens[name],
            "first_token_seconds": middle(to_first[name]),
            "further_token_seconds": middle(steps),
            "tokens_a_second": round(batch / middle(steps)["cpu"], 1),
            "cache_bytes": cache_bytes(cache),
            "peak_mib": peak_mib(first[name]),
            "first_token_of_raw_text": ratio(to_first[name], to_first["raw_text"]),
            "first_token_of_equal_length": ratio(to_first[name], to_first["equal_length"]),
            "whole_answer_of_equal_length": ratio(to_last[name], to_last["equal_length"]),
        }
    return {
        "batch": batch,
        "characters": len(text),
        "systems": found,
        "encoder": {"seconds": middle(to_first["encoder"])},
        "slots_over_equal_length_and_encoder": ratio(
            to_first["slots"],
            [
                {"cpu": encoder["cpu"] + limit["cpu"]}
                for encoder, limit in zip(to_first["encoder"], to_first["equal_length"], strict=True)
            ],
        ),
        "kept_prefix": {
            "prompt_tokens_read": behind,
            "first_token_seconds": middle(to_first["behind"]),
            "times_faster": ratio(to_first["plain_pass"], to_first["behind"]),
        },
    }


def plot(results: dict[str, Any], path: Path) -> None:
    """The time to the first token of each system, as a share of the one with raw text."""
    figure, axes = new_figure(figsize=(9, 4))
    runs = results["runs"]
    names = list(runs[0]["systems"])
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        heights = [run["systems"][name]["first_token_of_raw_text"] for run in runs]
        axes.bar([place + number * width for place in range(len(runs))], heights, width, label=name)
    labels = [f"{run['batch']} × {run['characters']} characters" for run in runs]
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(runs))], labels)
    axes.set_ylabel("time to the first token\n(raw text = 1)")
    figure.legend(ncols=len(names), fontsize="small", loc="outside lower center")
    save_figure(figure, path)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default=ASSETS / "encoder", help="a folder (the embedded one)")
    parser.add_argument("--decoder", default=ASSETS / "decoder", help="a folder (the embedded one)")
    parser.add_argument("--texts", type=Path, help="passages, one a line (the embedded corpus)")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.5, 0.9], help="from the shortest, 0, to 1")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, nargs="+", default=[7, 3, 1], help="rounds, for each size of batch")
    parser.add_argument("--new-tokens", type=int, default=16, help="further tokens that are timed")
    parser.add_argument("--small", action="store_true", help="batches of 1 and 4, few rounds")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/inference.json"))
    args = parser.parse_args()
    if args.small:
        args.batches, args.repeats, args.new_tokens = [1, 4], [3, 2], 8
    if len(args.batches) != len(args.repeats):
        parser.error(f"--repeats has {len(args.repeats)} values for {len(args.batches)} sizes of batch.")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.set_verbosity_error()
    if args.texts is None:
        texts = [pair.foreign for pair in demo_splits()["test"]]
    else:
        texts = [line for line in args.texts.read_text("utf-8").splitlines() if line.strip()]
    texts.sort(key=len)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    systems = Systems(args.encoder, args.decoder)
    results: dict[str, Any] = {"machine": machine(), "runs": []}
    results["bases"] = {kind: Path(getattr(args, kind)).name for kind in ("encoder", "decoder")}
    for batch, repeats in zip(args.batches, args.repeats, strict=True):
        for share in args.shares if batch == 1 else (0.5,):
            text = texts[int(share * (len(texts) - 1))]
            results["runs"].append(measured(systems, text, batch, args.new_tokens, repeats))
            print(json.dumps(results["runs"][-1], indent=1), flush=True)
            args.output.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    plot(results, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
