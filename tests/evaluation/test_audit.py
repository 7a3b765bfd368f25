"""`llink audit`: the sheet that people fill in, and what filled-in sheets say."""

from __future__ import annotations

import csv
import json

import pytest

from llink.cli import main
from llink.data.errors import DataError
from llink.evaluation.audit import COLUMNS, audited, drawn, read_sheet

HOSTILE = '<script>alert(1)</script> </script> "quoted", ៣០ MW'


def rows(count=12):
    tasks = ["translate_to_english", "qa_about_text", "qa_about_text"]
    return [
        {
            "id": f"r{n}",
            "foreign": [f"ខ {n}", HOSTILE],
            "prompt": f"Say {n}: <foreign_emb><foreign_emb>",
            "completion": f"It is {n}.",
            "task": tasks[n % 3],
            "english": f"It is {n}.",
        }
        for n in range(count)
    ]


@pytest.fixture
def sheet(tmp_path):
    """Rows drawn, written, and read as a spreadsheet would."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), "utf-8")
    command = ["audit", str(tmp_path / "rows.jsonl"), "--limit", "8", "--output-dir", str(tmp_path / "out")]
    assert main(command) == 0
    with open(tmp_path / "out" / "audit.csv", encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def filled(path, sheet, **answers):
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(
            {**row, **{name: words[place] for name, words in answers.items()}} for place, row in enumerate(sheet)
        )
    return str(path)


def test_a_sheet_has_as_many_of_each_task_and_the_page_is_its_rows(sheet, tmp_path):
    assert list(sheet[0]) == list(COLUMNS)
    tasks = [row["task_name"] for row in sheet]
    assert {task: tasks.count(task) for task in tasks} == {"translate_to_english": 4, "qa_about_text": 4}
    assert all(HOSTILE in row["foreign"] and row["task"] == row["content"] == "" for row in sheet)
    page = (tmp_path / "out" / "audit.html").read_text("utf-8")
    assert "alert(1)" in page, "vacuous unless the text is shown"
    assert "<script>alert(1)" not in page
    start = page.index('id="rows">') + len('id="rows">')
    assert [row["id"] for row in json.loads(page[start : page.index("</script>", start)])] == [r["id"] for r in sheet]


def test_synthesize_writes_a_sheet_of_its_rows(tmp_path):
    texts = [
        ("It is day " + chr(97 + n) * 4 + " and all is well here.", "នេះជាថ្ងៃ" + "កខគឃង"[n % 5] * (4 + n))
        for n in range(12)
    ]
    for name, side in zip(("a.en", "a.km"), zip(*texts, strict=True), strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in side), "utf-8")
    command = [
        "synthesize",
        "--pairs",
        str(tmp_path / "a.en"),
        str(tmp_path / "a.km"),
        "--language",
        "km",
        "--rule-made",
    ]
    assert main([*command, "--splits", "train=4", "--audit", "3", "--output-dir", str(tmp_path / "rows")]) == 0
    with open(tmp_path / "rows-audit" / "audit.csv", encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_shares_and_agreement_are_what_was_filled_in(sheet, tmp_path, capsys):
    ann = filled(tmp_path / "ann.csv", sheet, task=["yes"] * 6 + ["no"] * 2, content=["yes"] * 8)
    bob = filled(
        tmp_path / "bob.csv", sheet, task=["y", "Y", "1", "yes", "yes", "no", "no", "N"], content=[""] * 7 + ["yes"]
    )
    assert main(["audit", ann, bob, "--output-dir", str(tmp_path / "record")]) == 0
    found = json.loads((tmp_path / "record" / "audit.json").read_text("utf-8"))["results"]
    everything = found["shares"]["ann"]["task"]["all"]
    assert (everything["yes"], everything["n"]) == (0.75, 8)
    assert everything["intervals"]["yes"][0] < 0.75 < everything["intervals"]["yes"][1]
    both = found["agreement"]["ann and bob"]
    assert (both["task"]["n"], both["task"]["same"]) == (8, 0.875)
    assert both["task"]["kappa"] == pytest.approx((0.875 - 0.5625) / (1 - 0.5625))
    assert both["task"]["differ"] == [sheet[5]["id"]]
    assert (both["content"]["n"], both["content"]["kappa"]) == (1, None), "nothing tells agreement from habit"
    assert "Cohen's kappa" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n", "is no sheet"),
        ("id,task_name,task,content\n1,t,maybe,\n", "row 1: task is 'maybe'; answer yes or no"),
        ("id,task_name,task,content\n1,t,yes,\n1,t,no,\n", "row 2: '1' stands there twice"),
        ("id,task_name,task,content\n1,t,,\n", "Nothing is filled in"),
        ("", "is no sheet"),
    ],
)
def test_other_sheets_are_refused(tmp_path, text, complaint):
    (tmp_path / "a.csv").write_text(text, "utf-8")
    with pytest.raises(DataError, match=complaint):
        read_sheet(tmp_path / "a.csv")


def test_sheets_about_other_rows_and_repeated_ids_are_refused():
    one = {"a": {"task_name": "t", "task": True, "content": None}}
    with pytest.raises(DataError, match="no answered row in common"):
        audited({"ann": one, "bob": {"b": one["a"]}})
    with pytest.raises(DataError, match="same id"):
        drawn([*rows(2), *rows(1)], 3)


def test_files_that_do_not_go_together_are_refused(tmp_path, capsys):
    for files in (["a.csv", "b.jsonl"], ["a.jsonl", "b.jsonl"], ["a.txt"], ["a.jsonl"]):
        assert main(["audit", *files]) == 2
    errors = capsys.readouterr().err
    assert errors.count("filled-in sheets (.csv)") == 3
    assert "--output-dir" in errors
