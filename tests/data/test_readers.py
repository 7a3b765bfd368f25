"""Reading every format that parallel text comes in, and refusing what is wrong with it."""

import gzip
import logging
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Translation
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_files import compress, make_pairs, tmx, write_moses, write_table, write_tmx

from llink.data import readers as readers_module
from llink.data import streams as streams_module
from llink.data import tmx as tmx_module
from llink.data.errors import DataError
from llink.data.pairs import read_pairs
from llink.data.readers import Input, check_input, find_columns, pin, plan_inputs, read_input
from llink.data.sources import SOURCES, find_source
from llink.data.streams import check_text, open_stream, read_lines
from llink.errors_llink import LlinkConfigError

PAIRS = [("One & <two>.", "មួយ និង ពីរ។"), ('A “quote” "here".', "NA"), ("null", "ទទេ\tទេ"), ("Last.", "ចុង។")]


def nothing(data):
    """A watcher that does not care."""


def read(paths, language="km", columns=None, file_format=None):
    """What `llink prepare` does with inputs: checks, then reads."""
    inputs = plan_inputs([str(path) for path in paths], file_format)
    for item in inputs:
        check_input(item, language, columns, nothing)
    return [pair for item in inputs for pair in read_input(item, language, columns, nothing)]


@pytest.mark.parametrize("ending", ["", "gz", "xz", "zst", "bz2"])
def test_tmx_and_line_files_in_every_compression(tmp_path, ending):
    path = write_tmx(tmp_path / f"a.tmx{ending and '.'}{ending}", PAIRS)
    assert read([path]) == PAIRS
    assert read(write_moses(tmp_path, "b", PAIRS, ending)) == PAIRS


def test_compression_is_told_by_the_content(tmp_path):
    path = tmp_path / "a.tmx"
    path.write_bytes(gzip.compress(tmx(PAIRS).encode()) + b"")
    assert read([path]) == PAIRS
    several = tmp_path / "b.en.gz"
    several.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert list(read_lines(several, nothing)) == ["one", "two"]


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet"])
def test_tables(tmp_path, ending):
    pairs = PAIRS if ending != "tsv" else [(e, f.replace("\t", " ")) for e, f in PAIRS]
    assert read([write_table(tmp_path / f"a.{ending}", pairs)]) == pairs
    assert read([write_table(tmp_path / f"b.{ending}", pairs, ("en", "km"))]) == pairs
    path = write_table(tmp_path / f"c.{ending}", pairs, ("source", "target"))
    assert read([path], columns=["target", "source"]) == [(f, e) for e, f in pairs]
    if ending != "tsv":
        with pytest.raises(DataError, match=r"'english' and 'foreign'.*it has .*source, target.*--columns"):
            read([path])


def test_tsv_without_names_and_with_other_columns(tmp_path):
    path = write_table(tmp_path / "a.tsv", [("http://x", "1", 'One "a.', "មួយ"), ("http://y", "2", "Two", "ពីរ")], None)
    assert read([path], columns=["3", "4"]) == [('One "a.', "មួយ"), ("Two", "ពីរ")]
    gz = tmp_path / "en-km.txt.gz"
    gz.write_bytes(gzip.compress(b"One\tx\r\nTwo\ty\r\n"))
    assert [(e, f.strip()) for e, f in read([gz], file_format="tsv")] == [("One", "x"), ("Two", "y")]


def test_columns_that_hold_no_text(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"english": ["a"], "foreign": [1]}), path)
    with pytest.raises(DataError, match="'foreign' holds int64, not text"):
        read([path])
    assert find_columns(pa.schema([("en", pa.string()), ("km", pa.null())]), None, "km-KH", "x") == ("en", "km")


def test_missing_sides_are_empty_and_counted_later(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"en": "a", "km": null}\n{"en": "b", "km": "ខ"}\n{"km": "គ", "en": null}\n', "utf-8")
    assert read([path]) == [("a", ""), ("b", "ខ"), ("", "គ")]
    units = tmx([("a", "ក")]).replace(
        "</body>",
        '<tu><tuv xml:lang="en"><seg>only</seg></tuv></tu><tu><tuv xml:lang="fr"><seg>x</seg></tuv></tu></body>',
    )
    (tmp_path / "a.tmx").write_text(units, "utf-8")
    assert read([tmp_path / "a.tmx"]) == [("a", "ក"), ("only", ""), ("", "")]


def test_hub_datasets(tmp_path):
    features = Features({"translation": Translation(languages=["en", "km"])})
    rows = {"translation": [{"en": english, "km": foreign} for english, foreign in PAIRS]}
    folder = tmp_path / "corpus" / "en-km"
    folder.mkdir(parents=True)
    Dataset.from_dict(rows, features=features).to_parquet(folder / "train-00000-of-00001.parquet")
    item = Input("corpus", "hub", dataset=(str(tmp_path / "corpus"), None, "train", None))
    facts = check_input(item, "km", None, nothing)
    assert len(facts["sha256"]) == 64
    assert list(read_input(item, "km", None, nothing)) == PAIRS
    assert list(read_input(item, "km", ["translation.km", "translation.en"], nothing)) == [(f, e) for e, f in PAIRS]
    with pytest.raises(DataError, match=r"translation.th.*it has translation, translation.en, translation.km"):
        check_input(item, "th", None, nothing)
    for wrong in (("nobody/nothing", None, "train", None), (str(tmp_path / "corpus"), None, "dev", None)):
        with pytest.raises(DataError, match="cannot be read as hub"):
            check_input(Input("x", "hub", dataset=wrong), "km", None, nothing)


def test_a_hub_dataset_is_read_at_the_commit_that_was_checked(tmp_path, monkeypatch):
    class Hub:
        def dataset_info(self, name, revision):
            assert (name, revision) == ("someone/corpus", "main")
            return SimpleNamespace(sha="c0ffee")

    asked = []

    def load(name, config, **options):
        asked.append((name, config, options))
        return Dataset.from_dict({"en": ["One."], "km": ["មួយ"]}).to_iterable_dataset()

    monkeypatch.setattr(readers_module, "HfApi", Hub)
    monkeypatch.setattr(readers_module, "load_dataset", load)
    item = Input("corpus", "hub", dataset=("someone/corpus", "en-km", "train", "main"))
    facts = check_input(item, "km", None, nothing)
    assert facts == {"name": "corpus", "format": "hub", "config": "en-km", "split": "train", "revision": "c0ffee"}
    assert list(read_input(pin(item, facts), "km", None, nothing)) == [("One.", "មួយ")]
    assert asked[-1] == ("someone/corpus", "en-km", {"split": "train", "revision": "c0ffee", "streaming": True})
    file = Input("a", "tmx", (tmp_path / "a",))
    assert pin(file, {}) is file


# --- TMX


def test_tmx_languages_variants_and_markup(tmp_path):
    document = """<?xml version="1.0"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header/><body>
<tu><tuv xml:lang="KM"><seg>ក<bpt i="1">&lt;b></bpt>ខ<ept i="1">&lt;/b></ept>
<hi>គ</hi><ph>{<sub>no</sub>}</ph></seg></tuv>
<tuv xml:lang="fr"><seg>non</seg></tuv><tuv lang="en-US"><seg>first &amp; &#x41;<![CDATA[<c>]]></seg></tuv>
<tuv xml:lang="en_GB"><seg>second</seg></tuv></tu>
<tu><tuv xml:lang="en"><note>no</note><seg></seg></tuv><tuv xml:lang="km-KH"><seg>ឃ</seg></tuv></tu>
</body></tmx>"""
    path = tmp_path / "a.tmx"
    path.write_text(document, "utf-8")
    assert read([path], "km-KH") == [("first & A<c>", "កខ\nគ"), ("", "ឃ")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_tmx_in_other_encodings(tmp_path, encoding):
    path = tmp_path / "a.tmx"
    path.write_bytes(tmx(PAIRS).replace(' encoding="UTF-8"', "").encode(encoding))
    assert read([path]) == PAIRS


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(categories=["L", "M", "N", "P", "Zs"]), max_size=20)] * 2), max_size=8
    ),
    chunk=st.integers(1, 40),
)
def test_tmx_is_read_the_same_in_any_pieces(tmp_path_factory, rows, chunk):
    rows = [("a", "b"), *rows]
    path = write_tmx(tmp_path_factory.mktemp("tmx") / "a.tmx", rows)
    size = streams_module.CHUNK
    try:
        streams_module.CHUNK = chunk
        assert read([path]) == rows
    finally:
        streams_module.CHUNK = size


LOL = '<!DOCTYPE tmx [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'
BAD_TMX = [
    (tmx(PAIRS)[:-200].encode(), r"line \d+, column \d+: not well-formed XML.*truncated"),
    (tmx(PAIRS).replace("មួយ", "\xff", 1).encode("latin-1", "ignore"), "not well-formed XML"),
    (tmx(PAIRS).replace("</seg>", "", 1).encode(), "not well-formed XML .mismatched tag"),
    (tmx([("&", "x")], head=LOL).replace("&amp;", "&b;").encode(), "XML entity 'a'; entities are refused"),
    (tmx([("a", "b")], head='<!DOCTYPE tmx [<!ENTITY f SYSTEM "file:///etc/passwd">]>').encode(), "XML entity 'f'"),
    (tmx([("&", "b")], head='<!DOCTYPE tmx SYSTEM "x.dtd">').replace("&amp;", "&nbsp;").encode(), "XML entity 'nbsp'"),
    (tmx([("&", "b")]).replace("&amp;", "&nbsp;").encode(), "undefined entity"),
    (b"<html><body>Not found</body></html>", "not TMX: its outermost element is <html>"),
    (tmx(PAIRS).replace("UTF-8", "x-klingon").encode(), "encoding"),
    (b"", "no element found"),
    (compress(tmx(PAIRS).encode(), "gz")[:-20], "truncated or damaged"),
    (b"PK\x03\x04rest", "is a zip archive: unpack"),
    (b"\x1f\x8bnonsense", "truncated or damaged"),
]


@pytest.mark.parametrize(("content", "message"), BAD_TMX)
def test_bad_tmx_is_refused_before_anything_is_read(tmp_path, content, message):
    path = tmp_path / "a.tmx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        check_input(*plan_inputs([str(path)]), "km", None, nothing)
    assert str(path) in str(caught.value)


def test_an_entity_bomb_costs_nothing(tmp_path):
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    head = f'<!DOCTYPE tmx [<!ENTITY l0 "ha">{entities}]>'
    path = tmp_path / "bomb.tmx"
    path.write_text(tmx([("X", "b")], head=head).replace("X", "&l11;"), "utf-8")
    for function in (check_input, lambda *args: list(read_input(*args))):
        tracemalloc.start()
        with pytest.raises(DataError, match="bombs"):
            function(*plan_inputs([str(path)]), "km", None, nothing)
        assert tracemalloc.get_traced_memory()[1] < 5e6
        tracemalloc.stop()


def test_tmx_without_the_languages(tmp_path, monkeypatch):
    path = write_tmx(tmp_path / "a.tmx", PAIRS, tags=("en-GB", "th"))
    with pytest.raises(DataError, match=r"none of 4 translation units has both 'en' and 'km'.*en-GB, th.*--language"):
        read([path])
    monkeypatch.setattr(tmx_module, "PATIENCE", 10)
    path = write_tmx(tmp_path / "b.tmx", PAIRS * 5000, tags=("en", "th"))
    passed = []
    with pytest.raises(DataError, match="none of"):
        list(read_input(*plan_inputs([str(path)]), "km", None, lambda data: passed.append(len(data))))
    assert sum(passed) < path.stat().st_size / 2, "it does not read on to the end"


def test_endless_segments_and_lines_are_refused(tmp_path, monkeypatch):
    for module in (tmx_module, streams_module):
        monkeypatch.setattr(module, "LONGEST", 1000)
    with pytest.raises(DataError, match="line 8: a segment has more than 1000 characters"):
        read([write_tmx(tmp_path / "a.tmx", [("a", "b" * 1001)])])
    assert len(read([write_tmx(tmp_path / "b.tmx", [("a", "b" * 1000)])])) == 1
    with pytest.raises(DataError, match="line 2 has more than"):
        read(write_moses(tmp_path, "c", [("a", "b"), ("a", "b" * 4001)]))


def test_tmx_memory_does_not_grow(tmp_path):
    peaks = []
    for number in (2_000, 20_000):
        path = write_tmx(tmp_path / f"{number}.tmx.gz", make_pairs(500) * (number // 500))
        tracemalloc.start()
        assert sum(1 for _ in read_input(*plan_inputs([str(path)]), "km", None, nothing)) == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 1e5


# --- line-aligned text and what the user can get wrong


@pytest.mark.parametrize(
    ("english", "foreign", "message"),
    [
        (b"a\nb\nc\n", b"x\ny\n", r"a.en has 3 lines, .*a.km has 2"),
        (b"a\nb", b"x\ny\n\n", "has 2 lines, .*a.km has 3"),
        (b"a\n", b"", "a.km is empty"),
        (b"a\nb\nc\n", b"x\ny\xff\nz\n", "a.km, line 2: byte 0xff is not UTF-8"),
        ("a\nb\n".encode("utf-16"), b"x\ny\n", "line 1: NUL.*UTF-16"),
        (compress(b"a\nb\n" * 99, "gz")[:-9], b"x\n" * 198, "a.en is truncated or damaged"),
        (compress(b"a\nb\n" * 99, "xz")[:-9], b"x\n" * 198, "a.en is truncated or damaged"),
        (compress(b"a\nb\n" * 99, "zst")[:-4], b"x\n" * 198, "a.en is truncated or damaged"),
    ],
)
def test_bad_line_files(tmp_path, english, foreign, message):
    paths = [tmp_path / "a.en", tmp_path / "a.km"]
    for path, content in zip(paths, (english, foreign), strict=True):
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        check_input(*plan_inputs([str(path) for path in paths]), "km", None, nothing)


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=9), min_size=1))
def test_lines_are_ended_by_line_feeds_only(tmp_path_factory, lines):
    lines[0] = "x" + lines[0]  # a byte order mark at the very beginning is not text
    path = tmp_path_factory.mktemp("lines") / "a.km"
    path.write_bytes("\r\n".join([*lines, "last"]).encode())
    assert check_text(path, nothing) == len(lines) + 1
    assert list(read_lines(path, nothing)) == [*lines, "last"]


@pytest.mark.parametrize("at", range(6))
def test_a_broken_character_between_two_pieces_is_found_in_its_line(tmp_path, monkeypatch, at):
    monkeypatch.setattr(streams_module, "CHUNK", 4)
    path = tmp_path / "a"
    path.write_bytes(b"x" * at + b"\n" + "ក".encode() + b"\n\xe1\x9e\nrest\n")
    with pytest.raises(DataError, match="line 3: byte 0xe1 is not UTF-8"):
        check_text(path, nothing)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"english\tforeign\nc\td\te\n", "first row has 2 columns, the second 3"),
        ("a.tsv", b"a\tb\nc\td\nc\td\te\n", "cannot be read as tsv.*Expected 2 fields in line 3, saw 3"),
        ("a.csv", b'english,foreign\n"c\nc",d\nc,d,e\n', "cannot be read as csv.*Expected 2 fields in line 3, saw 3"),
        ("a.tsv", b"a\tb\nc\t\xff\n", "a.tsv, line 2: byte 0xff"),
        ("a.tsv", b"one column\n", r"it has 1\. Name two of them with --columns"),
        ("a.csv", b"english,foreign\n", "has no rows"),
        ("a.jsonl", b'{"en": "a", "km": "b"}\n{"en": "a",\n', "cannot be read as jsonl"),
        ("a.jsonl", b'{"en": "a", "text": "b"}\n', "no columns .*it has en, text"),
        ("a.parquet", b"PAR1 or not", "cannot be read as parquet"),
    ],
)
def test_bad_tables(tmp_path, name, content, message, caplog):
    caplog.set_level(logging.CRITICAL, "datasets")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read([tmp_path / name])


def test_what_cannot_be_planned(tmp_path):
    (tmp_path / "a.en").write_text("x\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.tsv").write_text("x\ty\n")
    (tmp_path / "sub" / "b.tsv").write_text("x\ty\n")
    with pytest.raises(DataError, match=r"No such file: .*gone.en"):
        plan_inputs([str(tmp_path / "a.en"), str(tmp_path / "gone.en")])
    with pytest.raises(DataError, match=r"a.en is taken as one side.*--format \(tmx, moses"):
        plan_inputs([str(tmp_path / "a.en")])
    with pytest.raises(DataError, match=r"Several inputs are called b\.tsv"):
        plan_inputs([str(tmp_path / "b.tsv"), str(tmp_path / "sub" / "b.tsv")])


def test_a_file_that_vanishes_or_may_not_be_read(tmp_path):
    with pytest.raises(DataError, match="Cannot read"), open_stream(tmp_path / "gone"):
        pass
    with pytest.raises(DataError, match="Cannot read"), open_stream(tmp_path):
        pass
    if os.geteuid() != 0:
        (tmp_path / "a").write_text("x")
        (tmp_path / "a").chmod(0)
        with pytest.raises(DataError, match="Cannot read"), open_stream(tmp_path / "a"):
            pass


def test_facts_tell_inputs_apart(tmp_path):
    paths = write_moses(tmp_path, "a", PAIRS)
    (item,) = plan_inputs([str(path) for path in paths])
    seen = []
    facts = check_input(item, "km", None, lambda data: seen.append(len(data)))
    assert sum(seen) == item.bytes == sum(path.stat().st_size for path in paths)
    paths[0].write_bytes(paths[0].read_bytes().replace(b"Last", b"Past"))
    again = check_input(item, "km", None, nothing)
    assert facts["files"][0]["sha256"] != again["files"][0]["sha256"]
    assert facts["files"][1] == again["files"][1]


# --- sources, and reading what was prepared


def test_sources_say_what_a_user_needs():
    for name, source in SOURCES.items():
        assert source.homepage.startswith("https://"), name
        assert source.license, name
        assert source.citation.count("@") >= 1, name
        assert source.citation.count("{") == source.citation.count("}"), name
        assert len(source.obtain) > 40, name
    assert find_source("paracrawl-en-km", None).license == "cc0-1.0"
    assert find_source("paracrawl-en-km", "km-KH").columns == ("1", "2")
    with pytest.raises(LlinkConfigError, match="declared are paracrawl-en-km, opus"):
        find_source("nothing", None)
    with pytest.raises(LlinkConfigError, match="is in 'km', not in 'my'"):
        find_source("paracrawl-en-km", "my")


def test_read_pairs_reads_a_split_of_a_folder(tmp_path):
    (tmp_path / "data").mkdir()
    for shard in range(2):
        table = {name: [f"{name} {shard}"] for name in ("id", "english", "foreign", "language")}
        pq.write_table(pa.table(table), tmp_path / "data" / f"held_out-{shard:05d}-of-00002.parquet")
    pairs = read_pairs(tmp_path, "held_out")
    assert pairs["english"] == ["english 0", "english 1"]
    assert pairs.column_names == ["id", "english", "foreign", "language"]
    with pytest.raises(DataError, match=r"Cannot read the split 'train'.*its splits are held_out"):
        read_pairs(tmp_path, "train")
    next((tmp_path / "data").iterdir()).write_bytes(b"no")
    with pytest.raises(DataError, match="Cannot read the split 'held_out'"):
        read_pairs(tmp_path, "held_out")
    with pytest.raises(DataError, match="splits are none"):
        read_pairs(Path(tmp_path / "data"), "train")
