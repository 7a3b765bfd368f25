"""`llink prepare` stopped at any point: nothing is lost, nothing is doubled, and the bytes are those of one go."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_files import make_pairs, write_moses, write_tmx

from llink.data import blocks as blocks_module
from llink.data import prepare as prepare_module
from llink.data import prepared_folder
from llink.data.blocks import clean_blocks, finished_blocks
from llink.data.errors import DataError
from llink.data.prepare import prepare
from llink.data.prepare_config import PrepareConfig

pytestmark = pytest.mark.slow

BLOCK_ROWS = 40


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(prepare_module, "BLOCK_ROWS", BLOCK_ROWS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A TMX file of 500 pairs, some of them repeated."""
    return write_tmx(tmp_path_factory.mktemp("corpus") / "c.tmx.gz", make_pairs(450) + make_pairs(50))


def config(folder, *files, **options):
    options = {"language": "km", "workers": 0, "splits": ["train=200", "held_out=80"], **options}
    return PrepareConfig(str(folder), [str(file) for file in files], **options)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """What a run that is never stopped writes."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    prepare(config(folder, corpus))
    return contents(folder)


class Stop(BaseException):
    """Stands for whatever ends a process."""


def stop_at(monkeypatch, module, name, call, after):
    """Makes the n-th call of a function stop the run, before or after it did its work."""
    original, calls = getattr(module, name), [0]

    def counted(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call and not after:
            raise Stop
        result = original(*args, **kwargs)
        if calls[0] == call:
            raise Stop
        return result

    monkeypatch.setattr(module, name, counted)


PLACES = [
    (prepare_module, "check_input", 1),
    (prepare_module, "_claim", 1),
    (blocks_module, "clean", 4),
    (blocks_module.pa.ipc, "new_file", 3),
    (blocks_module.np, "save", 5),
    (blocks_module.os, "replace", 1),
    (blocks_module.os, "replace", 2),
    (blocks_module.os, "replace", 11),
    (prepare_module, "summed_reports", 1),
    (prepare_module, "drop_near_duplicates", 1),
    (prepared_folder.SplitWriter, "write", 3),
    (prepare_module, "write_card", 1),
    (prepare_module, "write_checksums", 1),
    (prepare_module, "move_into_place", 1),
    (prepare_module.shutil, "rmtree", 2),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("module", "name", "call"), PLACES, ids=[f"{getattr(m, '__name__', m)}.{n}-{c}" for m, n, c in PLACES]
)
def test_a_run_goes_on_wherever_it_was_stopped(corpus, whole, tmp_path, module, name, call, after):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_module, "BLOCK_ROWS", BLOCK_ROWS)
        stop_at(patch, module, name, call, after)
        with pytest.raises(Stop):
            prepare(config(tmp_path / "out", corpus))
    moved = (prepare_module, "move_into_place", True), (prepare_module.shutil, "rmtree", True)
    if (module, name, after) not in moved and (module, name) != (prepare_module.shutil, "rmtree"):
        assert not (tmp_path / "out").exists(), "half a folder"
    prepare(config(tmp_path / "out", corpus))
    assert contents(tmp_path / "out") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_finished_blocks_are_not_cleaned_again(corpus, tmp_path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_module, "BLOCK_ROWS", BLOCK_ROWS)
        stop_at(patch, blocks_module, "clean", 6, after=False)
        with pytest.raises(Stop):
            prepare(config(tmp_path / "out", corpus))
    done = finished_blocks(tmp_path / "out.partial" / "blocks")
    assert done == set(range(5))
    cleaned, original = [], blocks_module.clean
    monkeypatch.setattr(blocks_module, "clean", lambda ids, *rest: cleaned.append(ids[0]) or original(ids, *rest))
    prepare(config(tmp_path / "out", corpus))
    assert cleaned == [f"c.tmx.gz:{BLOCK_ROWS * number + 1}" for number in range(5, 13)]


def test_unfinished_work_of_another_run_is_kept(corpus, tmp_path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, blocks_module, "clean", 1, after=True)
        with pytest.raises(Stop):
            prepare(config(tmp_path / "out", corpus))
    with pytest.raises(DataError, match=r"unfinished work of another run: duplicates='either'.*--overwrite"):
        prepare(config(tmp_path / "out", corpus, duplicates="pair"))
    manifest, _ = prepare(config(tmp_path / "out", corpus, duplicates="pair", overwrite=True))
    assert manifest["options"]["duplicates"] == "pair"
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match=r"is not the unfinished work of llink prepare"):
        prepare(config(tmp_path / "new", corpus, overwrite=True))
    assert (tmp_path / "new.partial" / "thesis.txt").exists()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("x")
    assert prepare(config(tmp_path / "out", corpus, duplicates="pair")) == (manifest, {})
    assert (tmp_path / "out.partial" / "thesis.txt").exists()


def test_an_input_that_changes_while_it_is_read(tmp_path):
    """The check saw two good files; what comes after is noticed too."""
    files = write_moses(tmp_path, "a", make_pairs(100))
    inputs = config(tmp_path / "out", *files).inputs()
    files[1].write_text("only\ntwo\n")
    with pytest.raises(DataError, match="changed while it was read"):
        list(prepare_module.read_input(inputs[0], "km", None, lambda data: None))
    with pytest.raises(DataError, match="not line-aligned"):
        prepare(config(tmp_path / "out", *files))


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=6))
def test_columns_of_text(texts):
    column = blocks_module._strings(texts)
    column.validate(full=True)
    assert column.to_pylist() == texts


# --- real processes

#: `prepare` of small blocks, which waits before one of the 13: it is stopped in the middle, however slow the watcher.
DRIVER = """
import sys
import time
from llink.data import prepare as module
from llink.data.prepare_config import PrepareConfig

def endless(*args):
    for block in blocks(*args):
        if block.number == int(last):
            time.sleep(3600)
        yield block

if __name__ == "__main__":
    module.BLOCK_ROWS = 40
    blocks, module._raw_blocks = module._raw_blocks, endless
    corpus, folder, workers, last = sys.argv[1:]
    splits = ["train=200", "held_out=80"]
    try:
        module.prepare(PrepareConfig(folder, [corpus], language="km", splits=splits, workers=int(workers)))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture
def start(corpus, tmp_path):
    """A function (workers, blocks it reads) → a running `prepare`, stopped at the end if it still runs."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    running = []

    def run(workers, last):
        command = [sys.executable, script, corpus, tmp_path / "out", str(workers), str(last)]
        # What runs in a shell's background ignores SIGINT, and so would its children.
        heeding = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=heeding))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.wait()


def wait_for_blocks(folder, number, process, seconds=900):
    end = time.monotonic() + seconds
    while len(finished_blocks(folder / "blocks")) < number and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.001)


def children(process):
    """Processes that a process has started, by their numbers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process.pid and fields[0] != "Z":
                found.append(int(status.parent.name))
    return found


def alive(number):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc")
def test_killed_and_killed_again(corpus, whole, tmp_path, start):
    for number, last in ((1, 2), (6, 8)):  # the second run begins with no more than two, and so needs its process
        process = start(1, last)
        wait_for_blocks(tmp_path / "out.partial", number, process)
        workers = children(process)
        process.kill()
        process.wait()
        assert not (tmp_path / "out").exists(), "vacuous unless it was killed in the middle"
        end = time.monotonic() + 900
        while any(map(alive, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(map(alive, workers)), "nobody outlives the main process"
        assert workers, "vacuous unless there were processes"
    prepare(config(tmp_path / "out", corpus))
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("workers", [0, 1])
def test_interrupted_by_the_user(corpus, whole, tmp_path, start, workers):
    process = start(workers, 8)
    wait_for_blocks(tmp_path / "out.partial", 1, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=900) == 130
    assert not (tmp_path / "out").exists()
    prepare(config(tmp_path / "out", corpus))
    assert contents(tmp_path / "out") == whole


def test_a_cleaning_process_that_dies_is_told(corpus, tmp_path):
    def blocks():
        yield from prepare_module._raw_blocks(config("x", corpus).inputs(), config("x", corpus), lambda data: None)
        me = [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/stat") if _parent(p) == os.getpid()]
        for number in me:
            if "spawn_main" in Path(f"/proc/{number}/cmdline").read_text():
                os.kill(number, signal.SIGKILL)
        yield from prepare_module._raw_blocks(config("x", corpus).inputs(), config("x", corpus), lambda data: None)

    with pytest.raises(DataError, match="A cleaning process died: for want of memory"):
        clean_blocks(blocks(), tmp_path, config("x", corpus).rules(), workers=1)


def _parent(status):
    with contextlib.suppress(OSError):
        return int(status.read_text().rpartition(")")[2].split()[1])
    return None
