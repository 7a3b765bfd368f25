"""A served model under load, on this machine alone: `python benchmarks/serving.py MODEL`.

1. Tokens a second of several users at once, each with one request after the other, and of one user: in one run, as a
   ratio.
2. Many clients and requests: seconds to an answer, and whether each is what `generate` answers by itself.
3. Questions about one passage, with its slots kept and encoding it each time; one new token each.
4. Prompts that share a long system prompt, against those whose own begins otherwise; one new token each.

A part is left out with a size of 0. With `--engine-url` a running vLLM answers, which serves the model's exported
decoder and does not copy numbers. Writes JSON, one entry an engine. The server runs in a thread of this process, and
its clients share the processor with it.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn

from llink import LlinkForCausalLM
from llink.data.demo_corpus import demo_splits
from llink.serving.app import build
from llink.serving.engine import Limits
from llink.serving.transformers_engine import TransformersEngine
from llink.serving.vllm_engine import VllmEngine

_PROMPT = "Translate to English."


@contextmanager
def served(model: LlinkForCausalLM, limits: Limits, vllm: str | None = None) -> Iterator[str]:
    """The address of a model's server while the block runs."""
    engine = TransformersEngine(model, limits) if vllm is None else VllmEngine(model, vllm, limits)
    # uvicorn opens the socket, as in `llink serve`: it sends small packets at once only on one whose protocol it chose.
    server = uvicorn.Server(uvicorn.Config(build(engine, "model"), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def messages(text: str, prompt: str = _PROMPT) -> list[dict[str, Any]]:
    """A request about one passage."""
    content = [{"type": "text", "text": prompt}, {"type": "foreign_text", "text": text}]
    return [{"role": "user", "content": content}]


def load(url: str, texts: list[str], users: int, tokens: int) -> tuple[list[dict[str, Any]], list[float], float]:
    """Answers to all texts by so many users at once, seconds of each, and of all."""
    with httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_connections=users)) as http:

        def ask(text: str) -> tuple[dict[str, Any], float]:
            start = time.perf_counter()
            body = {"messages": messages(text), "max_tokens": tokens, "temperature": 0}
            answer = http.post("/v1/chat/completions", json=body).raise_for_status()
            return answer.json(), time.perf_counter() - start

        start = time.perf_counter()
        with ThreadPoolExecutor(users) as pool:
            found = list(pool.map(ask, texts))
        seconds = time.perf_counter() - start
    return [answer for answer, _ in found], [each for _, each in found], seconds


def rate(answers: list[dict[str, Any]], seconds: float) -> float:
    """Written tokens a second."""
    return sum(answer["usage"]["completion_tokens"] for answer in answers) / seconds


def side_by_side(url: str, texts: list[str], users: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Users at once against one by one, in turns, so that a busy machine slows both.

    Tokens a second of the clock, and of this process's processors: server and clients, whatever else the machine does.
    """
    load(url, texts[:2], 2, 2)
    rates: dict[str, dict[str, list[float]]] = {kind: {"alone": [], "together": []} for kind in ("clock", "processor")}
    for _ in range(rounds):
        for name, asked, clients in (("alone", texts[:users], 1), ("together", texts, users)):
            start = time.process_time()
            answers, _, seconds = load(url, asked, clients, tokens)
            rates["processor"][name].append(rate(answers, time.process_time() - start))
            rates["clock"][name].append(rate(answers, seconds))
    ratios = {kind: np.divide(found["together"], found["alone"]) for kind, found in rates.items()}
    return {
        "users": users,
        "tokens_of_an_answer": tokens,
        "one_by_one_tokens_a_second": round(float(np.median(rates["clock"]["alone"])), 1),
        "together_tokens_a_second": round(float(np.median(rates["clock"]["together"])), 1),
        "ratio": round(float(np.median(ratios["clock"])), 2),
        "ratios": [round(float(one), 2) for one in ratios["clock"]],
        "processor_ratio": round(float(np.median(ratios["processor"])), 2),
        "processor_ratios": [round(float(one), 2) for one in ratios["processor"]],
    }


def many(
    model: LlinkForCausalLM, url: str, texts: list[str], clients: int, tokens: int, copy_numbers: bool | None
) -> dict[str, Any]:
    """Each answer beside `generate`'s own to its text."""
    answers, each, seconds = load(url, texts, clients, tokens)
    own = {}
    for text in dict.fromkeys(texts):
        options = {"max_new_tokens": tokens, "do_sample": False, "copy_numbers": copy_numbers}
        new = model.generate(messages=messages(text), **options)
        own[text] = model.processor.batch_decode(new, skip_special_tokens=True)[0]
    contents = [answer["choices"][0]["message"]["content"] for answer in answers]
    return {
        "clients": clients,
        "requests": len(texts),
        "answered": len(answers),
        "distinct_answers": len(set(own.values())),
        "same_as_generate": sum(own[text] == content for text, content in zip(texts, contents, strict=True)),
        "tokens_a_second": round(rate(answers, seconds), 1),
        "p50_seconds": round(float(np.percentile(each, 50)), 3),
        "p95_seconds": round(float(np.percentile(each, 95)), 3),
    }


def again(urls: dict[str, str], text: str, questions: int) -> dict[str, Any]:
    """The same questions about one passage to several servers by turns: whatever else the machine does falls on all."""
    seconds = dict.fromkeys(urls, 0.0)
    with httpx.Client(timeout=600) as http:
        for number in range(-1, questions):  # the first finds everything cold
            for name, url in urls.items():
                body = {"messages": messages(text, f"{_PROMPT} {number}"), "max_tokens": 1, "temperature": 0}
                start = time.perf_counter()
                http.post(f"{url}/v1/chat/completions", json=body).raise_for_status()
                seconds[name] += (time.perf_counter() - start) * (number >= 0)
    kept, encoded = seconds["kept"], seconds["encoded"]
    times = {f"{name}_ms": round(1000 * each / questions, 2) for name, each in seconds.items()}
    return {"questions": questions, "characters": len(text), **times, "encoded_over_kept": round(encoded / kept, 2)}


def beginnings(url: str, text: str, system: str, questions: int) -> dict[str, Any]:
    """The same passage behind the same system prompt and behind one of its own, by turns."""
    seconds = {"shared": 0.0, "own": 0.0}
    with httpx.Client(base_url=url, timeout=600) as http:
        for number in range(-1, questions):  # the first finds everything cold
            for name, content in (("shared", system), ("own", f"{number} {system}")):
                said = [{"role": "system", "content": content}, *messages(text, f"{_PROMPT} {number}")]
                start = time.perf_counter()
                answer = http.post("/v1/chat/completions", json={"messages": said, "max_tokens": 1, "temperature": 0})
                answer.raise_for_status()
                seconds[name] += (time.perf_counter() - start) * (number >= 0)
    tokens = answer.json()["usage"]["prompt_tokens"]
    times = {f"{name}_ms": round(1000 * each / questions, 2) for name, each in seconds.items()}
    ratio = round(seconds["own"] / seconds["shared"], 2)
    return {"questions": questions, "prompt_tokens": tokens, **times, "own_over_shared": ratio}


def main() -> None:
    """Measures all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Folder or repository of a model that Stage B trained.")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--again", type=int, default=100)
    parser.add_argument("--beginnings", type=int, default=100)
    parser.add_argument("--engine-url", help="A running vLLM.")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/serving.json"))
    args = parser.parse_args()
    model = LlinkForCausalLM.from_pretrained(args.model)
    texts = [pair.foreign for pair in demo_splits()["test"]]
    chosen = random.Random(0).choices(texts[:100], k=args.requests)
    system = " ".join(pair.english for pair in demo_splits()["test"][100:120])
    limits = {"max_batch": args.users, "max_waiting": args.clients}
    results = json.loads(args.output.read_text("utf-8")) if args.output.is_file() else {}
    with (
        served(model, Limits(**limits), args.engine_url) as url,
        served(model, Limits(**limits, cache_bytes=0), args.engine_url) as without_cache,
    ):
        found = results.setdefault("transformers" if args.engine_url is None else "vllm", {})
        found["decoder_parameters"] = sum(weight.numel() for weight in model.decoder.parameters())
        found["threads"] = torch.get_num_threads()
        if args.rounds:
            four = texts[: 4 * args.users]
            found["side_by_side"] = side_by_side(url, four, args.users, args.tokens, args.rounds)
        if args.requests:
            copying = None if args.engine_url is None else False
            found["many"] = many(model, url, chosen, args.clients, args.tokens, copying)
        if args.again:
            found["again"] = again({"kept": url, "encoded": without_cache}, " ".join(texts[:8]), args.again)
        if args.beginnings:
            found["beginnings"] = beginnings(url, texts[0], system, args.beginnings)
    print(json.dumps(results, indent=1))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
