"""`llink prepare`: from a public parallel corpus to clean pairs in honest splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.data_card import check_repository, push_folder
from ..data.prepare import CLEANING, Seconds, prepare
from ..data.prepare_config import PrepareConfig
from ..data.sources import SOURCES
from ..data.splitting import shares_to_reach
from ..evaluation.report import table
from .parsing import parse_arguments, parse_early


@dataclass
class OutputArguments:
    """What is shown, and where the data goes when it is ready."""

    push_to_hub: str | None = field(default=None, metadata={"help": "Dataset repository to push to, NAMESPACE/NAME."})
    private: bool = field(default=False, metadata={"help": "Make a new repository private."})
    examples: bool = field(default=False, metadata={"help": "Print examples of what each step changed or dropped."})
    list_sources: bool = field(default=False, metadata={"help": "Only print the declared corpora and how to get them."})


OPTIONS = (PrepareConfig, OutputArguments)
EXAMPLE = "llink prepare --source paracrawl-en-km --input en-km.tmx.gz --output-dir data"


def run(argv: Sequence[str]) -> int:
    """Prepares a corpus; returns the exit code."""
    if parse_early("prepare", argv, OutputArguments)[0].list_sources:  # nothing else is needed then
        print(_sources())
        return 0
    config, args = parse_arguments("prepare", argv, OPTIONS)
    if args.push_to_hub is not None:
        check_repository(args.push_to_hub)
    manifest, seconds = prepare(config, show_progress=True)
    _show(manifest, seconds, config, args.examples)
    if args.push_to_hub is not None:
        print(f"Pushed: {push_folder(Path(config.output_dir), args.push_to_hub, args.private)}")
    return 0


def _show(manifest: dict[str, Any], seconds: dict[str, Seconds], config: PrepareConfig, examples: bool) -> None:
    print(_steps_table(manifest))
    for item in manifest["inputs"]:
        if (broken := item.get("broken", {})).get("count"):
            first = broken["examples"][0]
            print(f"{item['name']}: {broken['count']} broken, left out; line {first['line']}: {first['reason']}.")
    if examples:
        for step in manifest["steps"]:
            for example in step["examples"]:
                print(f"{step['name']}: {example}")
    print()
    header = ["split", "pairs", "at most", "share"]
    rows = [
        [split["name"], split["pairs"], "all" if split["most"] == -1 else split["most"], split["share"]]
        for split in manifest["splits"]
    ]
    print(table(header, rows))
    needed = shares_to_reach(manifest["splits"])
    remedy = "too few for these sizes" if needed is None else f"--shares {' '.join(map(str, needed))} would reach it"
    for split in manifest["splits"]:
        if config.sizes_given and split["pairs"] < split["most"]:
            share = f"a share of {split['share']:.3g}"
            print(f"{split['name']} has {split['pairs']} of {split['most']} pairs, {share}: {remedy}.")
    print(_time_table(manifest, seconds) if seconds else f"\n{config.output_dir} held this data already.")
    print(f"\nWritten: {config.output_dir}. Read it with load_dataset({config.output_dir!r}).")
    if not config.parquet_only:
        name, language = manifest["splits"][0]["name"], manifest["language"]
        files = [Path(config.output_dir) / f"{name}.{suffix}" for suffix in (config.target_language, language)]
        print(f"Train on it: llink align --pairs {files[0]} {files[1]} --language {language} …")


def _steps_table(manifest: dict[str, Any]) -> str:
    header = ["step", "pairs in", "changed", "dropped", "pairs out", "what"]
    rows = [
        [*(row.get(name, "") for name in ("name", "rows_in", "changed", "dropped", "rows_out")), row["what"]]
        for row in manifest["steps"]
    ]
    return table(header, rows)


def _time_table(manifest: dict[str, Any], seconds: dict[str, Seconds]) -> str:
    pairs = manifest["steps"][0]["rows_in"]
    rows = [
        [name, "" if spent.wall is None else spent.wall, spent.processor, 1e6 * spent.processor / pairs]
        for name, spent in seconds.items()
    ]
    wall = sum(spent.wall or 0.0 for spent in seconds.values())
    header = ["where the time went", "seconds", "of a processor", "µs a pair"]
    note = f"{round(pairs / wall)} pairs a second. `{CLEANING}…` runs in other processes, beside the reading."
    return f"\n{table(header, rows)}\n{note}"


def _sources() -> str:
    rows = [[name, row.title, row.license, row.language or "many"] for name, row in SOURCES.items()]
    details = [f"\n{name}: {row.obtain}. {row.license_note}" for name, row in SOURCES.items()]
    return table(["source", "corpus", "licence", "language"], rows) + "\n" + "\n".join(details)
