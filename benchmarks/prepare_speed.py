"""How fast `llink prepare` is and where the time goes, with all default steps, and what memory it takes at two sizes.

Makes gzipped TMX files of English–Khmer units with the markup of published ones; a tenth of the units is a duplicate, a
near duplicate, or something that a step drops. Each size runs in a process of its own on `--cores` cores; the memory
is the sum over all its processes (proportional set size).

    python benchmarks/prepare_speed.py --pairs 100000 300000 --cores 2
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from llink.data.prepare import CLEANING
from llink.evaluation.report import table, write_json

#: Run with `-c`: the cleaning processes then start without importing this file.
_RUN = """
import json, sys
from llink.data.prepare import prepare
from llink.data.prepare_config import PrepareConfig
manifest, seconds = prepare(PrepareConfig(**json.loads(sys.argv[1])))
steps = {step["name"]: step.get("dropped", step.get("changed")) for step in manifest["steps"]}
print(json.dumps({"seconds": seconds, "steps": steps, "splits": {s["name"]: s["pairs"] for s in manifest["splits"]}}))
"""
_SAMPLE_SECONDS = 0.25
_KHMER_CONSONANTS = [chr(point) for point in range(0x1780, 0x17A3)]
_KHMER_VOWELS = [chr(point) for point in range(0x17B6, 0x17C6)] + [""]


def units(number: int, seed: int) -> Iterator[tuple[str, str]]:
    """Pairs of 4 to 28 words drawn from vocabularies in which few words are frequent, as in any language."""
    rng = random.Random(seed)
    english = ["".join(rng.choices("etaoinshrdlucmfwypvbgk", k=rng.randint(2, 9))) for _ in range(20_000)]
    khmer = [
        "".join(
            rng.choice(_KHMER_CONSONANTS) + rng.choice(["", "", "្" + rng.choice(_KHMER_CONSONANTS)])
            + rng.choice(_KHMER_VOWELS)
            for _ in range(rng.randint(1, 3))
        )
        for _ in range(20_000)
    ]  # fmt: skip
    weights = [1 / (rank + 5) for rank in range(20_000)]
    stock: list[tuple[str, str]] = []
    while number > 0:
        lengths = [rng.randint(4, 28) for _ in range(2000)]
        words = rng.choices(range(20_000), weights, k=sum(lengths))
        for length in lengths[:number]:
            mine, words = words[:length], words[length:]
            pair = (
                " ".join(english[word] for word in mine).capitalize() + ".",
                ("\u200b" if rng.random() < 0.3 else "").join(khmer[word] for word in mine) + "។",
            )
            if stock and rng.random() < 0.1:
                pair = _spoilt(rng, pair, rng.choice(stock))
            elif len(stock) < 1000:
                stock.append(pair)
            yield pair
        number -= min(number, len(lengths))


def _spoilt(rng: random.Random, pair: tuple[str, str], earlier: tuple[str, str]) -> tuple[str, str]:
    """A duplicate, a near duplicate, a pair that a step drops, or one that a step changes."""
    english, foreign = pair
    return rng.choice(
        [
            earlier,
            (earlier[0].upper(), earlier[1]),
            ("So " + earlier[0], earlier[1] + " ណា"),
            (english, english),
            (english, foreign * 6),
            (english, "…"),
            (english, "Not Khmer at all, but Latin"),
            (f" {english}\u00a0 ", f"\ufeff{foreign}\u200b"),
        ]
    )


def write_tmx(path: Path, number: int, seed: int = 0) -> None:
    """A file of `number` units."""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=4) as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n')
        file.write('<tmx version="1.4">\n <header srclang="en" segtype="sentence"/>\n <body>\n')
        for place, (english, foreign) in enumerate(units(number, seed)):
            file.write(
                f'  <tu tuid="{place}" datatype="Text">\n   <prop type="score-aligner">0.8</prop>\n'
                f'   <tuv xml:lang="en">\n    <prop type="source-document">http://example.org/{place}</prop>\n'
                f'    <seg>{english}</seg>\n   </tuv>\n   <tuv xml:lang="km">\n'
                f'    <prop type="source-document">http://example.org/km/{place}</prop>\n'
                f"    <seg>{foreign}</seg>\n   </tuv>\n  </tu>\n"
            )
        file.write(" </body>\n</tmx>\n")


def measure(path: Path, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Runs `prepare` in a process of its own: its own account, the wall clock, processor time, and peak memory."""
    arguments = {"output_dir": str(folder), "input": [str(path)], "language": "km", **options}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", _RUN, json.dumps(arguments)], stdout=subprocess.PIPE)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory(process.pid))
        time.sleep(_SAMPLE_SECONDS)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"prepare ended with {process.returncode}.")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(process.stdout.read())
    return {**found, "wall": wall, "processor": processor, "peak_mib": peak / 2**20}


def _memory(number: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):  # it ended while it was looked at
        parent = psutil.Process(number)
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total


def show(results: dict[int, dict[str, Any]], cores: int) -> None:
    """Prints the tables."""
    for pairs, result in results.items():
        rows = [
            [name, "" if wall is None else wall, processor, 1e6 * processor / pairs]
            for name, (wall, processor) in result["seconds"].items()
        ]
        print(table([f"{pairs} pairs", "seconds", "of a processor", "µs a pair"], rows))
        print(f"Changed or dropped: {result['steps']}; left: {result['splits']}\n")
    header = ["pairs", "pairs a second", f"on {cores} free cores", "with start-up", "peak memory, MiB"]
    rows = []
    for pairs, result in results.items():
        wall = sum(wall or 0 for wall, _ in result["seconds"].values())
        rates = (pairs / spent for spent in (wall, free_seconds(result["seconds"], cores), result["wall"]))
        rows.append([pairs, *map(round, rates), round(result["peak_mib"])])
    print(table(header, rows))
    print(
        f"`{CLEANING}…` runs in other processes, beside the reading. `on {cores} free cores` is what the times of a "
        "processor add up to when nothing else runs on them."
    )


def free_seconds(seconds: dict[str, tuple[float | None, float]], cores: int) -> float:
    """What the wall clock would show with the cores to oneself: the parts one after the other, the cleaning beside."""
    cleaning = sum(processor for name, (_, processor) in seconds.items() if name.startswith(CLEANING))
    main = {name: processor for name, (wall, processor) in seconds.items() if wall is not None}
    reading = main.pop("reading and cleaning")
    return sum(main.values()) + max(reading, (reading + cleaning) / cores)


def main() -> None:
    """Generates, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[100_000, 300_000])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--folder", type=Path, help="keep the generated files here")
    parser.add_argument("--json", type=Path, help="also write the results here")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    options = {"workers": args.cores if args.workers is None else args.workers}
    results = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for number in args.pairs:
            path = (args.folder or Path(folder)) / f"{number}.tmx.gz"
            if not path.exists():
                write_tmx(path, number)
            results[number] = measure(path, Path(folder) / str(number), options)
    show(results, args.cores)
    if args.json:
        rate = "pairs_a_second_on_free_cores"
        rows = {n: {**row, rate: n / free_seconds(row["seconds"], args.cores)} for n, row in results.items()}
        write_json(args.json, {str(pairs): row for pairs, row in rows.items()})


if __name__ == "__main__":
    main()
