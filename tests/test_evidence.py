"""The pages of what was measured say what the records say."""

import importlib.util
import json
from pathlib import Path

import pytest

EVIDENCE = Path(__file__).parent.parent / "benchmarks" / "evidence"


@pytest.fixture(scope="module")
def tables():
    """`benchmarks/evidence/tables.py` as a module."""
    spec = importlib.util.spec_from_file_location("tables", EVIDENCE / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_what_the_records_hold(tables):
    assert len(tables.PAGES) > 3
    text = "".join(page.read_text("utf-8") for page in tables.PAGES)
    assert text.count("<!-- end -->") == len(tables.BLOCK.findall(text)) >= 10
    assert tables.filled(text) == text, "run `python benchmarks/evidence/tables.py`"
    emptied = tables.BLOCK.sub(r"\1\5", text)
    assert len(emptied) < len(text) - 1000, "vacuous unless the tables hold something"
    assert tables.filled(emptied) == text


def test_every_record_says_how_it_was_made():
    records = sorted((EVIDENCE / "results").glob("*.json"))
    assert len(records) >= 5
    for path in records:
        record = json.loads(path.read_text("utf-8"))
        assert {"kind", "results", "arguments", "versions", "machine"} <= record.keys(), path.name
        assert {"torch", "transformers", "llink"} <= record["versions"].keys()


def test_no_record_names_a_place_on_somebodys_machine():
    for path in (EVIDENCE / "results").glob("*.json"):
        arguments = json.dumps(json.loads(path.read_text("utf-8"))["arguments"])
        assert '"/' not in arguments, path.name
