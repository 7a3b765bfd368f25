"""Files as spreadsheets, data frames and translation memories really write them."""

import codecs
import json

import pytest

from llink.data.errors import DataError
from llink.data.readers import check_input, plan_inputs, read_input
from llink.data.scripts import primary_language
from llink.data.target import LANGUAGE_NAMES

PAIRS = [("One.", "មួយ។"), ("Two, and more.", "ពីរ។"), ("Three.", "បី។")]


def read(path, language="km"):
    (item,) = plan_inputs([str(path)])
    check_input(item, language, None, lambda data: None)
    return list(read_input(item, language, None, lambda data: None))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("header", ["english\tforeign", "id\tenglish\tforeign\tscore", ""])
def test_tab_separated_with_any_line_end(end, mark, header, tmp_path):
    wide = header.startswith("id")
    rows = [f"{i}\t{a}\t{b}\t0.5" if wide else f"{a}\t{b}" for i, (a, b) in enumerate(PAIRS)]
    (tmp_path / "a.tsv").write_bytes(
        mark + "".join(line + end for line in ([header] if header else []) + rows).encode()
    )
    assert read(tmp_path / "a.tsv") == PAIRS


def test_a_carriage_return_within_a_line_is_text(tmp_path):
    (tmp_path / "a.tsv").write_bytes("english\tforeign\nA\rB\tមួយ\n".encode())
    assert read(tmp_path / "a.tsv") == [("A\rB", "មួយ")]


def test_a_column_without_a_name_and_others_of_any_kind_are_not_read(tmp_path):
    lines = [",english,foreign,note"] + [f'{i},"{a}","{b}",' + "x" * i for i, (a, b) in enumerate(PAIRS)]
    (tmp_path / "pandas.csv").write_text("\n".join(lines) + "\n", "utf-8")
    assert read(tmp_path / "pandas.csv") == PAIRS
    rows = [{"english": a, "foreign": b, "meta": {"x": [i]} if i else "none"} for i, (a, b) in enumerate(PAIRS)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    assert read(tmp_path / "a.jsonl") == PAIRS


def memory(first: str, second: str, text: str = "<seg>{}</seg>") -> str:
    units = "".join(
        f'<tu><tuv xml:lang="{first}">{text.format(a)}</tuv><tuv xml:lang="{second}">{text.format(b)}</tuv></tu>'
        for a, b in PAIRS
    )
    return f'<?xml version="1.0"?><tmx version="1.4"><header/><body>{units}</body></tmx>'


@pytest.mark.parametrize(("first", "second"), [("eng", "khm"), ("EN-us", "km-KH"), ("en", "khm_Khmr")])
def test_languages_of_two_and_three_letters(first, second, tmp_path):
    (tmp_path / "a.tmx").write_text(memory(first, second), "utf-8")
    assert read(tmp_path / "a.tmx") == PAIRS


def test_a_memory_without_segments_says_what_it_lacks(tmp_path):
    (tmp_path / "a.tmx").write_text(memory("en", "km", "{}"), "utf-8")
    with pytest.raises(DataError, match=r"of 3 translation units none holds text .* in its <seg> elements"):
        read(tmp_path / "a.tmx")


def test_codes_of_three_letters_are_of_languages_that_are_known():
    codes = dict(eng="en", khm="km", mya="my", bur="my", amh="am", jpn="ja", zho="zh", chi="zh", ger="de", deu="de")
    assert {code: primary_language(code) for code in codes} == codes
    assert primary_language("ceb") == "ceb"
    assert set(codes.values()) <= set(LANGUAGE_NAMES)
