"""The report page: what stands in it, and that a real browser shows it."""

import dataclasses
import json
import os
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llink.cli import main
from llink.evaluation.page import Picture, Table, headlines, page_blocks, read_records, to_html, value_blocks
from llink.evaluation.plot_ablation import plot_ablation
from llink.evaluation.record import write_record

INTERVAL = {"r@1": [0.4, 0.6]}
RETRIEVAL = {"foreign_to_english": {"stage_a": {"r@1": 0.5, "n": 12, "intervals": INTERVAL}, "full": {"r@1": 0.25}}}
SAMPLES = [{"foreign": "<b>ក</b> | ខ", "llink": "one\ntwo"}] * 12
ABLATION = {"width | depth": {"as set": {"r@1": 0.5, "r@1_std": 0.1}, "x=1": {"r@1": 0.25, "r@1_std": 0.0}}}


@pytest.fixture
def run(tmp_path):
    """A folder with three records and one plot."""
    folder = tmp_path / "run"
    write_record(folder, "retrieval", RETRIEVAL, {"model": "out/b", "limit": None})
    write_record(folder, "translation", {"llink": {"chrf": 41.5, "bleu": 9.0}, "samples": SAMPLES}, {})
    write_record(folder, "ablation", ABLATION, {"study": "s.yaml"})
    plot_ablation(ABLATION, folder / "ablation.png")
    (folder / "trainer_state.json").write_text("{}")  # not a record
    return folder


def test_the_command_writes_html_markdown_and_json(run, capsys):
    assert main(["report", str(run)]) == 0
    folder = run / "report"
    assert capsys.readouterr().out.strip() == str(folder / "index.html")
    report = json.loads((folder / "report.json").read_text())
    assert report["headlines"]["run"] == {"R@1, Stage A": 0.5, "R@1, full": 0.25, "chrF++, llink": 41.5}
    assert set(report["runs"]["run"]) == {"retrieval", "translation", "ablation"}
    markdown = (folder / "report.md").read_text("utf-8")
    assert "0.500 (0.400 to 0.600)" in markdown
    assert "2 more are in the record" in markdown
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert len(pictures) == 1
    assert all((folder / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    page = (folder / "index.html").read_text("utf-8")
    assert "<b>ក</b>" not in page, "text of users is escaped"
    assert 'src="data:' in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "the page needs no other file"


def test_every_row_of_a_markdown_table_has_its_columns(run):
    main(["report", str(run)])
    tables = re.findall(r"(?:^\|.*\n)+", (run / "report" / "report.md").read_text("utf-8"), flags=re.MULTILINE)
    assert len(tables) >= 4, "vacuous unless there are tables"
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines.splitlines()}) == 1


def test_two_runs_stand_side_by_side(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    assert main(["report", str(run), str(other), "--output-dir", str(tmp_path / "page"), "--title", "Both"]) == 0
    page = (tmp_path / "page" / "index.html").read_text("utf-8")
    assert "<h1>Both</h1>" in page
    assert page.count("<h2>") == 2


def test_bad_folders_are_refused(tmp_path, run, capsys):
    (tmp_path / "empty").mkdir()
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    (damaged / "usage.json").write_text("{")
    for folders, words in (
        ([tmp_path / "none"], "not a folder"),
        ([tmp_path / "empty"], "no record"),
        ([damaged], "usage.json"),
        ([run, run], "twice"),
    ):
        assert main(["report", *map(str, folders)]) == 2
        assert words in capsys.readouterr().err
        assert not (folders[0] / "report").exists()


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-99, 99)
values = st.recursive(
    numbers | st.text(max_size=5) | st.none() | st.booleans(),
    lambda inner: st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1, max_size=4), values, max_size=5))
def test_any_result_can_be_shown(results):
    blocks = list(value_blocks(results, 2))
    for block in blocks:
        if isinstance(block, Table):
            assert {len(row) for row in block.rows} == {len(block.header)}
    assert to_html(blocks, "t").count("<table>") == sum(isinstance(block, Table) for block in blocks)


@given(st.dictionaries(st.text(min_size=1, max_size=4), numbers, min_size=1, max_size=5))
def test_no_plain_number_is_lost(results):
    (table,) = value_blocks(results, 2)
    assert dict(table.rows) == results


def test_intervals_stand_beside_their_values_at_every_depth():
    usage = {"loss": 1.25, "zeroed_gap": 0.5, "n": 4, "intervals": {"zeroed_gap": [0.25, 0.75]}}
    usage |= {"tasks": {"qa": {"zeroed_gap": 1.0, "n": 2, "intervals": {"zeroed_gap": [0.5, 1.5]}}}}
    whole, heading, tasks = value_blocks(usage, 2)
    assert dict(whole.rows) == {"loss": 1.25, "zeroed_gap": "0.500 (0.250 to 0.750)", "n": 4}
    assert heading.text == "tasks"
    assert tasks.rows == [["qa", "1.000 (0.500 to 1.500)", 2]]


def test_intervals_without_a_value_are_not_lost():
    shown = to_html(list(value_blocks({"n": 4, "intervals": {"other": [0.25, 0.75]}}, 2)), "t")
    assert "intervals" in shown
    assert "0.250" in shown
    assert "0.750" in shown


def test_numbers_in_lists_are_rounded():
    items = [{"gap": 0.12345, "interval": [1 / 3, 2], "more": {"x": [0.98765]}}]
    (shown,) = value_blocks(items, 2)
    assert shown.rows == [[0.12345, "[0.333, 2]", '{"x": [0.988]}']]


def test_headlines_of_every_kind():
    ratio = {"km": {"ratio": {"tokens": 9.5}}}
    results = {
        "judge": {"judge": {"n": 1}, "llink vs. base": {"all": {"preference": 0.75}}},
        "numeric": {"systems": {"base": {"f1": None}, "llink": {"f1": 0.5}}},
        "tokens": {"costs": ratio},
    }
    runs = {"one": {kind: {"results": found} for kind, found in results.items()}}
    runs["two"] = {"tokens": {"results": {"costs": {**ratio, "lo": ratio["km"]}}}, "usage": {"results": {}}}
    wanted = {"exact F1, llink": 0.5, "preferred to base": 0.75, "prompt tokens, raw over slots": 9.5}
    assert headlines(runs) == {"one": wanted}, "of several languages none is the headline"


def test_blocks_end_with_where_the_figures_come_from(run):
    runs = {"run": read_records(run)}
    blocks = list(page_blocks(runs, "t"))
    assert sum(isinstance(block, Picture) for block in blocks) == 1
    assert "model=out/b" in to_html(blocks, "t")
    assert "limit" not in to_html(blocks, "t"), "options that were not given say nothing"
    assert headlines({"x": {}}) == {}
    assert all(dataclasses.is_dataclass(block) for block in blocks)


@pytest.mark.skipif(
    not shutil.which("chromium") and not os.environ.get("LLINK_BROWSER_REQUIRED"),
    reason="needs the program `chromium`; CI installs it",
)
@pytest.mark.slow
def test_a_browser_shows_the_page_and_its_pictures(run, tmp_path):
    main(["report", str(run)])
    page = (run / "report" / "index.html").read_text("utf-8")
    probe = "document.title = [...document.images].map(i => i.naturalWidth > 100).join() + document.fonts.status"
    (tmp_path / "probe.html").write_text(page.replace("</body>", f"<script>onload=()=>{{{probe}}}</script></body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--no-first-run", "--disable-sync", "--disable-component-update", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path}/probe.html"], capture_output=True, text=True, timeout=120
    )
    assert "<title>trueloaded</title>" in done.stdout, done.stderr[-2000:]
    assert "0.500 (0.400 to 0.600)" in done.stdout
