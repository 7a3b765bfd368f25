"""Output rows: files that read back, systems that must fit together, runs that go on where they were killed."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llink.data.errors import DataError
from llink.data.one_writer import one_writer
from llink.evaluation.outputs import (
    OutputRow,
    aligned_outputs,
    check_resumable,
    generate_outputs,
    output_rows,
    read_outputs,
    source_of,
    write_outputs,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def row(place: int, **changes) -> OutputRow:
    content = dict(id=f"r{place}", task="t", foreign=["ក"], prompt="<foreign_emb>", reference="a", english="a")
    return OutputRow(**{**content, "output": f"o{place}", **changes})


def instructions(count: int) -> list[dict]:
    return [
        dict(id=f"r{i}", foreign=[f"ក{i}"], prompt="P <foreign_emb>", completion=f"c{i}", task="", english="")
        for i in range(count)
    ]


class Fake:
    """Answers with the row's id; dies before its `lives`-th batch."""

    name = "fake"

    def __init__(self, lives: int = 1000) -> None:
        self.lives, self.asked = lives, []

    def answer(self, rows, batch_size=16, max_new_tokens=64, show_progress=False):
        self.lives -= 1
        if self.lives < 0:
            raise KeyboardInterrupt
        assert len(rows) <= batch_size
        self.asked += [row["id"] for row in rows]
        return [f"{row['id']} {max_new_tokens}\nsecond line" for row in rows]

    def prompt_tokens(self, rows):
        return [len(row["prompt"]) for row in rows]


# ------------------------------------------------------------------ files


ROWS = st.builds(OutputRow, TEXT, TEXT, st.lists(TEXT), TEXT, TEXT, TEXT, TEXT)


@given(st.lists(ROWS, min_size=1, max_size=4, unique_by=lambda row: row.id))
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round" / "x.jsonl"
    write_outputs(path, rows)
    assert read_outputs(path) == rows


def test_a_repeated_id_is_refused_and_two_runs_do_not_write_one_file(tmp_path):
    path = tmp_path / "x.jsonl"
    write_outputs(path, [row(1), row(2), row(1)])
    with pytest.raises(DataError, match=r"holds 'r1' more than once \(1 such ids\): write it anew"):
        read_outputs(path)
    with (
        one_writer(tmp_path / "y.jsonl"),
        pytest.raises(DataError, match=r"Another run \(process \d+, since .*y.jsonl"),
    ):
        generate_outputs(Fake(), instructions(3), tmp_path / "y.jsonl", {"model": "m"})


def test_columns_come_from_the_instruction_row():
    (made,) = output_rows([dict(id=3, foreign=["ក"], prompt="p", completion="c")], ["o"])
    assert made == OutputRow("3", "", ["ក"], "p", "c", "", "o")
    with pytest.raises(DataError, match="2 answers for 1 instruction rows"):
        output_rows(instructions(1), ["a", "b"])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not one JSON object"),
        ("[1]", "holds list"),
        (json.dumps({**asdict(row(1)), "extra": 1}), "extra"),
        (json.dumps({k: v for k, v in asdict(row(1)).items() if k != "output"}), "exactly id"),
        (json.dumps({**asdict(row(1)), "output": None}), "output is None; it must be a string"),
        (json.dumps({**asdict(row(1)), "foreign": "ក"}), "foreign is 'ក'; it must be a list"),
        (json.dumps({**asdict(row(1)), "foreign": [1]}), "foreign"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, complaint):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(asdict(row(0))) + "\n\n" + line + "\n", "utf-8")
    with pytest.raises(DataError, match=f"x.jsonl, line 3.*{complaint}"):
        read_outputs(path)


def test_missing_empty_and_undecodable_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="do not exist"):
        read_outputs(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no outputs"):
        read_outputs(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(DataError, match="line 1"):
        read_outputs(tmp_path / "latin.jsonl")


# ------------------------------------------------------------------ several systems


def test_systems_that_answered_the_same_rows_fit(tmp_path):
    base = [row(i) for i in range(3)]
    other = [replace(r, output="x") for r in base]
    write_outputs(tmp_path / "base.jsonl", base)
    assert aligned_outputs(tmp_path / "base.jsonl", other) == [base, other]


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ([row(0), row(1)], "holds 3 outputs and outputs 1 2"),
        ([row(0), row(2), row(1)], "Row 2 .* differ in id: 'r1' and 'r2'"),
        ([row(0), row(1), row(2, reference="b")], "Row 3 .* differ in reference"),
        ([row(0), row(1, foreign=["ខ"]), row(2)], "Row 2 .* differ in foreign"),
    ],
)
def test_systems_that_do_not_fit_are_refused(other, complaint):
    with pytest.raises(DataError, match=complaint):
        aligned_outputs([row(i) for i in range(3)], other)


# ------------------------------------------------------------------ runs


@pytest.mark.parametrize("lives", [0, 1, 2, 3])
@pytest.mark.parametrize("torn", [b"", b'{"id": "r', '{"id": "r2", "foreign": ["ក'.encode()[:-1]])
def test_a_killed_run_goes_on_where_it_stopped(tmp_path, lives, torn):
    rows = instructions(7)
    path, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    generate_outputs(Fake(), rows, whole, {"model": "m"}, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        generate_outputs(Fake(lives), rows, path, {"model": "m"}, batch_size=2)
    with path.open("ab") as file:
        file.write(torn)
    again = Fake()
    result = generate_outputs(again, rows, path, {"model": "m"}, batch_size=2)
    assert again.asked == [f"r{i}" for i in range(2 * lives, 7)]
    assert path.read_bytes() == whole.read_bytes()
    assert [r.output for r in read_outputs(path)] == [f"r{i} 64\nsecond line" for i in range(7)]
    assert (result["n"], result["prompt_tokens"]) == (7, len("P <foreign_emb>"))
    assert json.loads(path.with_suffix(".json").read_text())["answers"] == 7


def test_a_finished_run_answers_nothing_again_and_a_longer_one_only_the_rest(tmp_path):
    path, system = tmp_path / "x.jsonl", Fake()
    generate_outputs(system, instructions(3), path, {})
    before = path.read_bytes()
    fewer = generate_outputs(system, instructions(2), path, {})
    assert (fewer["n"], fewer["prompt_tokens"]) == (2, len("P <foreign_emb>")), "of the same rows"
    assert generate_outputs(system, instructions(3), path, {})["n"] == 3
    assert path.read_bytes() == before
    assert generate_outputs(system, instructions(5), path, {})["n"] == 5
    assert system.asked == ["r0", "r1", "r2", "r3", "r4"]
    assert path.read_bytes().startswith(before)


def test_seconds_add_up_over_runs(tmp_path):
    path = tmp_path / "x.jsonl"
    first = generate_outputs(Fake(), instructions(2), path, {})
    log = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**log, "seconds": 100.0}))
    second = generate_outputs(Fake(), instructions(4), path, {})
    assert first["seconds"] < 1
    assert 100 <= second["seconds"] < 101
    assert second["seconds_per_answer"] == pytest.approx(25, abs=0.3)


def test_answers_of_other_rows_or_settings_are_not_mixed(tmp_path):
    path = tmp_path / "x.jsonl"
    generate_outputs(Fake(), instructions(2), path, {"model": "m"})
    kept = path.read_bytes()
    with pytest.raises(DataError, match=r"other settings .model"):
        generate_outputs(Fake(), instructions(3), path, {"model": "n"})
    with pytest.raises(DataError, match="max_new_tokens"):
        generate_outputs(Fake(), instructions(3), path, {"model": "m"}, max_new_tokens=5)
    with pytest.raises(DataError, match=r"Line 1 .*'r0'.*'r1'"):
        generate_outputs(Fake(), instructions(3)[1:], path, {"model": "m"})
    changed = [{**r, "completion": "other"} for r in instructions(3)]
    with pytest.raises(DataError, match="Line 1"):
        check_resumable(path, changed, {"model": "m", "max_new_tokens": 64})
    path.with_suffix(".json").unlink()
    with pytest.raises(DataError, match="other settings"):
        generate_outputs(Fake(), instructions(3), path, {"model": "m"})
    assert path.read_bytes() == kept


def test_damage_before_the_last_line_is_not_repaired(tmp_path):
    path = tmp_path / "x.jsonl"
    generate_outputs(Fake(), instructions(3), path, {})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{broken\n" + lines[2])
    with pytest.raises(DataError, match="line 2"):
        generate_outputs(Fake(), instructions(3), path, {})


def test_a_model_that_was_trained_on_is_another_one(tmp_path):
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(b"one")
    one = source_of(tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(weights, moved)
    assert one == source_of(str(tmp_path)) == source_of(moved), "a run's folder may move"
    weights.write_bytes(b"two")
    assert source_of(tmp_path) != one
    assert source_of("owner/name") == "owner/name"
