"""Cleaning in blocks of pairs: each block becomes three files, in any process, in any order, and only once.

`N.arrow` holds the pairs that are left, `N.npy` their keys for the corpus' steps, `N.json` what the steps did. The last
is written last and moved into place: a block that has it is done, whenever the run was stopped.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .cleaning import CleaningRules, StepReport, block_keys, clean
from .errors import DataError

#: Pairs of a block. The bytes of the output do not depend on it, the examples in the manifest neither.
BLOCK_ROWS = 1 << 13
_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "english", "foreign")])
_AHEAD = 2  # blocks that wait for a process, beyond one each


@dataclass(frozen=True)
class RawBlock:
    """Consecutive pairs of an input, as they were read.

    Args:
        number: Of the block, over all inputs.
        name: The input's.
        first: Number of the first pair in its input, from 1.
        english, foreign: N texts each.
    """

    number: int
    name: str
    first: int
    english: list[str]
    foreign: list[str]


def block_file(folder: Path, number: int, kind: str) -> Path:
    """A file of a block: `arrow`, `npy` or `json`."""
    return folder / f"{number:06d}.{kind}"


def finished_blocks(folder: Path) -> set[int]:
    """The numbers of the blocks that are done."""
    return {int(path.stem) for path in folder.glob("[0-9]*.json")}


def clean_blocks(blocks: Iterable[RawBlock], folder: Path, rules: CleaningRules, workers: int) -> None:
    """Cleans blocks and writes their files.

    Args:
        blocks: Read one by one, never more than a few ahead.
        folder: Where the files go.
        rules: What the steps go by.
        workers: Processes beside this one; 0 does everything here.

    Raises:
        DataError: If a process died.
        OSError: If a file cannot be written.
    """
    if workers == 0:
        for block in blocks:
            _clean_block(block, folder, rules)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_follow_parent) as pool:
        pending: deque[Future] = deque()
        try:
            for block in blocks:
                pending.append(pool.submit(_clean_block, block, folder, rules))
                while len(pending) > workers + _AHEAD:
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "A cleaning process died: for want of memory (give fewer --workers; the same command goes on), or "
                "because a script calls prepare() outside of `if __name__ == '__main__':` (do that, or give workers=0)."
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _follow_parent() -> None:
    """In a cleaning process: the main process decides what an interrupt means, and nobody outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _clean_block(raw: RawBlock, folder: Path, rules: CleaningRules) -> None:
    ids = [f"{raw.name}:{number}" for number in range(raw.first, raw.first + len(raw.english))]
    started = time.process_time()
    english, foreign, alive, reports = clean(ids, raw.english, raw.foreign, rules)
    cleaned = time.process_time()
    keys = block_keys(english, foreign, alive)
    signed = time.process_time()
    kept = np.flatnonzero(alive).tolist()
    columns = [_strings([texts[row] for row in kept]) for texts in (ids, english.texts, foreign.texts)]
    table = pa.Table.from_arrays(columns, schema=_SCHEMA)
    target = block_file(folder, raw.number, "arrow")
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    with pa.ipc.new_file(temporary, _SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    os.replace(temporary, target)
    with temporary.open("wb") as file:
        np.save(file, keys)
    os.replace(temporary, block_file(folder, raw.number, "npy"))
    seconds = {
        "normalising and folding": cleaned - started - sum(report.seconds for report in reports),
        "signatures": signed - cleaned,
        "intermediate files": time.process_time() - signed,
    }
    content = {"steps": [asdict(report) for report in reports], "seconds": seconds}
    temporary.write_text(json.dumps(content), "utf-8")  # ASCII, so that broken characters survive
    os.replace(temporary, block_file(folder, raw.number, "json"))


def _strings(texts: list[str]) -> pa.StringArray:
    """What `pa.array(texts)` gives, without its import of pandas: half a second and 40 MiB in every process."""
    encoded = [text.encode() for text in texts]
    ends = np.zeros(len(texts) + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=ends[1:])
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def summed_reports(folder: Path, blocks: int) -> tuple[list[StepReport], dict[str, float]]:
    """What the steps did to all blocks, in order, and the seconds that went elsewhere."""
    total: dict[str, StepReport] = {}
    seconds: dict[str, float] = {}
    for number in range(blocks):
        content = json.loads(block_file(folder, number, "json").read_text("utf-8"))
        for fields in content["steps"]:
            report = StepReport(**fields)
            if report.name in total:
                total[report.name].add(report)
            else:
                total[report.name] = report
        for name, value in content["seconds"].items():
            seconds[name] = seconds.get(name, 0.0) + value
    return list(total.values()), seconds


def block_tables(folder: Path, blocks: int) -> Iterator[pa.Table]:
    """The pairs that are left of each block: columns `id`, `english`, `foreign`."""
    for number in range(blocks):
        yield _read_table(folder, number)


def _read_table(folder: Path, number: int) -> pa.Table:
    with pa.OSFile(str(block_file(folder, number, "arrow"))) as file:
        return pa.ipc.open_file(file).read_all()


def pairs_by_number(folder: Path, sizes: list[int], numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
    """A few pairs by their number among all that the cleaning left."""
    wanted, first = sorted(set(numbers)), 0
    found: dict[int, dict[str, Any]] = {}
    for block, size in enumerate(sizes):
        mine = [number for number in wanted if first <= number < first + size]
        if mine:
            table = _read_table(folder, block)
            found |= dict(zip(mine, table.take([number - first for number in mine]).to_pylist(), strict=True))
        first += size
    return found
