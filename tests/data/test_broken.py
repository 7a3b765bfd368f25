"""What is broken in a corpus is an error, or skipped and counted; and TMX 1.4b, element by element."""

import json
from pathlib import Path

import pytest
from prepare_files import make_pairs, tmx

from llink.cli import main
from llink.data.broken import without_broken
from llink.data.errors import DataError
from llink.data.prepare_config import PrepareConfig
from llink.data.readers import check_input, plan_inputs, read_input
from llink.data.streams import LONGEST, unpack

PAIRS = [("One.", "មួយ។"), ("Two.", "ពីរ។"), ("Three.", "បី។")]


def read(*paths):
    """What the inputs give, as `llink prepare` reads them."""
    (item,) = plan_inputs(list(map(str, paths)))
    check_input(item, "km", None, lambda data: None)
    return list(read_input(item, "km", None, lambda data: None))


def mended(folder, *paths):
    """The pairs without what is broken, and (line, reason) of that."""
    (item,) = plan_inputs(list(map(str, paths)))
    made = folder / "made"
    made.mkdir()
    item, broken = without_broken(item, made)
    check_input(item, "km", None, lambda data: None)
    pairs = list(read_input(item, "km", None, lambda data: None))
    assert broken["count"] == len(broken["examples"])
    return pairs, [(one["line"], one["reason"]) for one in broken["examples"]]


# ------------------------------------------------------------------ what is skipped

UNITS = [  # of the second of three units: what is changed, into what, and the reason
    ("Two.", "Two & more.", "not well-formed XML"),
    ("Two.", "Two &nbsp; more.", "undefined entity"),
    ("Two.", "Two \x0b more.", "not well-formed XML"),
    ("Two.", "Two &#x1f; more.", "invalid character number"),
    ("Two.</seg>", "Two.", "mismatched tag"),
    ("Two.", "<b>Two.", "mismatched tag"),
    (' xml:lang="en"><prop type="url">x</prop><seg>Two.', "><seg>Two.", "does not say its language"),
    ("Two.", "Two." * (LONGEST // 4 + 1), "a segment has more than"),
]


@pytest.mark.parametrize(("old", "new", "reason"), UNITS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("comment", ["", "<!-- <tu><tuv> </tu> -->"])
def test_a_bad_unit_is_an_error_or_skipped_with_its_line(tmp_path, old, new, reason, comment):
    text = tmx(PAIRS).replace("<body>", f"<body>{comment}")
    (tmp_path / "a.tmx").write_text(text.replace(old, new, 1), "utf-8")
    pairs, broken = mended(tmp_path, tmp_path / "a.tmx")
    assert pairs == [PAIRS[0], PAIRS[2]]
    ((line, told),) = broken
    assert reason in told
    assert line == text[: text.index('tuid="1"')].count("\n") + 1
    with pytest.raises(DataError):
        read(tmp_path / "a.tmx")


def test_bytes_of_another_encoding_and_a_missing_end(tmp_path):
    data = tmx(PAIRS).encode()
    (tmp_path / "a.tmx").write_bytes(data.replace(b"Two.", b"Two \xe9."))
    assert mended(tmp_path, tmp_path / "a.tmx")[0] == [PAIRS[0], PAIRS[2]]


@pytest.mark.parametrize("cut", ['</tu>\n <tu tuid="2"', "</body>"])
def test_a_unit_without_an_end(tmp_path, cut):
    text = tmx(PAIRS)
    text = text[: text.index(cut)] if cut == "</body>" else text.replace(cut, cut.removeprefix("</tu>"), 1)
    (tmp_path / "a.tmx").write_text(text, "utf-8")
    pairs, broken = mended(tmp_path, tmp_path / "a.tmx")
    assert pairs == (PAIRS if cut == "</body>" else [PAIRS[0], PAIRS[2]])
    assert len(broken) == (0 if cut == "</body>" else 1)


def test_units_over_the_pieces_that_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("llink.data.streams.CHUNK", 37)
    many = make_pairs(40)
    (tmp_path / "a.tmx").write_text(tmx(many).replace(many[7][0], "a & b", 1), "utf-8")
    pairs, broken = mended(tmp_path, tmp_path / "a.tmx")
    assert pairs == [*many[:7], *many[8:]]
    assert len(broken) == 1


ROWS = [
    ("a.jsonl", [json.dumps(dict(zip(("en", "km"), pair, strict=True))) for pair in PAIRS], ["{", "[1]", "5", '"x"']),
    ("a.tsv", ["en\tkm", *("\t".join(pair) for pair in PAIRS)], ["a", "a\tb\tc"]),
    ("a.csv", ["en,km", *(",".join(pair) for pair in PAIRS)], ["a", "a,b,c"]),
]


@pytest.mark.parametrize(("name", "lines", "wrong"), ROWS, ids=["jsonl", "tsv", "csv"])
def test_a_bad_row_is_skipped_with_its_line(tmp_path, name, lines, wrong):
    for number, one in enumerate([*(text.encode() for text in wrong), b"\xff\xfe", lines[1].encode() + b"\0"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        encoded = [line.encode() for line in lines]
        (folder / name).write_bytes(b"\n".join([*encoded[:2], one, *encoded[2:]]) + b"\n")
        pairs, broken = mended(folder, folder / name)
        assert pairs == PAIRS
        assert [line for line, _ in broken] == [3]


def test_a_bad_line_goes_with_its_partner(tmp_path):
    (tmp_path / "a.en").write_bytes(b"One.\n\xff\xfe\nThree.\n")
    (tmp_path / "a.km").write_text("".join(f"{foreign}\n" for _, foreign in PAIRS), "utf-8")
    assert mended(tmp_path, tmp_path / "a.en", tmp_path / "a.km")[0] == [PAIRS[0], PAIRS[2]]
    (tmp_path / "a.en").write_bytes(b"\xff\n\xff\n\xff\n")
    (tmp_path / "made").rmdir() if not any((tmp_path / "made").iterdir()) else None
    with pytest.raises(DataError, match="everything in it is broken, 3 in all, the first in line 1: byte 0xff"):
        without_broken(plan_inputs([str(tmp_path / "a.en"), str(tmp_path / "a.km")])[0], tmp_path)


def test_quoted_rows_keep_their_texts(tmp_path):
    text = 'en,km\n"One, ""two""\nand three.",មួយ\nwrong\n"Four","ពីរ"\n'
    (tmp_path / "a.csv").write_text(text, "utf-8")
    pairs, broken = mended(tmp_path, tmp_path / "a.csv")
    assert pairs == [('One, "two"\nand three.', "មួយ"), ("Four", "ពីរ")]
    assert broken == [(4, "1 columns where the first row has 2")]


def test_prepare_counts_what_it_skips_and_goes_on_with_it(tmp_path, capsys):
    many = make_pairs(60)
    (tmp_path / "a.tmx").write_text(tmx(many).replace(many[7][0], "a & b", 1), "utf-8")
    command = ["prepare", "--input", str(tmp_path / "a.tmx"), "--language", "km", "--output_dir", str(tmp_path / "out")]
    command += ["--splits", "train=-1", "held_out=10", "--workers", "0"]
    assert main(command) == 2
    assert "not well-formed XML" in capsys.readouterr().err
    assert main([*command, "--skip_broken"]) == 0
    assert "a.tmx: 1 broken, left out; line 40: not well-formed XML" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["inputs"][0]["broken"]["count"] == 1
    assert manifest["steps"][0]["rows_in"] == 59
    assert main([*command, "--skip_broken"]) == 0
    assert "held this data already" in capsys.readouterr().out


# ------------------------------------------------------------------ TMX 1.4b


def memory(units: str, head: str = "<header/>", before: str = '<?xml version="1.0"?>') -> str:
    return f'{before}<tmx version="1.4">{head}<body>{units}</body></tmx>'


def unit(english: str = "One.", foreign: str = "មួយ។", inside: str = "", of: str = "", more: str = "") -> str:
    return (
        f'<tu {of}>{inside}<tuv xml:lang="en">{inside}<seg>{english}</seg></tuv>'
        f'<tuv xml:lang="km"><seg>{foreign}</seg></tuv>{more}</tu>'
    )


HEADER = (
    '<header creationtool="x" creationtoolversion="1" segtype="sentence" o-tmf="x" adminlang="en" srclang="*all*" '
    'datatype="PlainText" o-encoding="iso-8859-1"><note>N</note><prop type="p">P</prop>'
    '<ude name="U" base="x"><map unicode="#xF8FF" code="#xF0" ent="a" subst="b"/></ude></header>'
)
ONE = [("One.", "មួយ។")]
STANDARD = {
    "header, note, prop, ude, map, srclang *all*": (memory(unit(), HEADER), ONE),
    "note and prop of a unit and of a variant": (memory(unit(inside='<note>N</note><prop type="t">P</prop>')), ONE),
    "attributes of a unit": (memory(unit(of='tuid="1" srclang="km" usagecount="2" segtype="block"')), ONE),
    "bpt and ept": (memory(unit('O<bpt i="1" x="1">&lt;b&gt;</bpt>n<ept i="1">&lt;/b&gt;</ept>e.')), ONE),
    "it and ph": (memory(unit('On<it pos="begin">{i}</it>e<ph x="1" assoc="p">{x}</ph>.')), ONE),
    "ut": (memory(unit("On<ut>{\\b}</ut>e.")), ONE),
    "hi marks text": (memory(unit('O<hi type="term">n</hi>e.')), ONE),
    "hi in hi, codes in it": (memory(unit('O<hi>n<hi>e<ph x="1">c</ph></hi></hi>.')), ONE),
    "sub is a text of its own": (memory(unit('One<ph x="1">&lt;img alt="<sub>A cat</sub>"&gt;</ph>.')), ONE),
    "lang of TMX 1.1": (memory(unit().replace("xml:lang", "lang")), ONE),
    "tags in any case, with regions": (memory(unit().replace('"en"', '"EN-US"').replace('"km"', '"KM_kh"')), ONE),
    "three letters": (memory(unit().replace('"en"', '"eng"').replace('"km"', '"khm"')), ONE),
    "three letters with a script": (memory(unit().replace('"km"', '"khm-Khmr"')), ONE),
    "entities of XML and characters by number": (memory(unit("&lt;&#79;&#x6E;e.&gt; &amp;")), [("<One.> &", "មួយ។")]),
    "CDATA": (memory(unit("<![CDATA[<One.>]]>")), [("<One.>", "មួយ។")]),
    "an empty variant": (memory(unit("") + unit("Two.")), [("", "មួយ។")]),
    "several variants in a language": (
        memory(unit().replace("</tu>", '<tuv xml:lang="en"><seg>1.</seg></tuv></tu>')),
        ONE,
    ),
    "other languages": (memory(unit().replace("</tu>", '<tuv xml:lang="fr"><seg>Un.</seg></tuv></tu>')), ONE),
    "the foreign side first": (
        memory('<tu><tuv xml:lang="km"><seg>មួយ។</seg></tuv><tuv xml:lang="en"><seg>One.</seg></tuv></tu>'),
        ONE,
    ),
    "the doctype of the standard": (
        memory(unit(), before='<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "tmx14.dtd">'),
        ONE,
    ),
    "white space around segments": (memory(unit("\n One. \n")), [("\n One. \n", "មួយ។")]),
    "comments and instructions": (memory(f"<!-- a -->{unit('O<!-- b -->ne.')}<?x y?>"), ONE),
}


@pytest.mark.parametrize("name", STANDARD)
def test_the_elements_of_the_standard(name, tmp_path):
    text, wanted = STANDARD[name]
    for encoding, mark in (("utf-8", ""), ("utf-8", "\ufeff"), ("utf-16-le", "\ufeff"), ("utf-16-be", "\ufeff")):
        (tmp_path / "a.tmx").write_bytes((mark + text).encode(encoding))
        assert read(tmp_path / "a.tmx")[:1] == wanted, encoding
    (tmp_path / "a.tmx").write_text(text, "utf-8")
    assert mended(tmp_path, tmp_path / "a.tmx")[1] == [], "nothing of the standard is broken"


@pytest.mark.parametrize("declared", ["utf-16", "UTF-8", ""])
def test_prepare_reads_utf_16_whatever_it_declares(tmp_path, declared):
    text = tmx(make_pairs(60)).replace(' encoding="UTF-8"', f' encoding="{declared}"' if declared else "")
    (tmp_path / "a.tmx").write_text(text, "utf-16")
    command = ["prepare", "--input", str(tmp_path / "a.tmx"), "--language", "km", "--output_dir", str(tmp_path / "out")]
    assert main([*command, "--splits", "train=-1", "held_out=10", "--workers", "0"]) == 0


def test_only_the_declaration_of_xml_is_touched_in_utf_16(tmp_path):
    (tmp_path / "new").mkdir()
    for text in ('say encoding="x" twice', 'a, encoding="utf-16" and <?xml version="1.0" encoding="utf-16"?>'):
        (tmp_path / "a.en").write_text(text, "utf-16")
        (copy,) = unpack([str(tmp_path / "a.en")], ["en", "km"], tmp_path / "new")
        assert Path(copy).read_text("utf-8") == text
    (tmp_path / "a.tmx").write_text('<?xml version="1.0" encoding="utf-16"?><tmx/>', "utf-16")
    (copy,) = unpack([str(tmp_path / "a.tmx")], ["en", "km"], tmp_path / "new")
    assert "encoding" not in Path(copy).read_text("utf-8")


@pytest.mark.parametrize(("code", "tag"), [("khm", "km"), ("mya", "my"), ("bur", "my"), ("amh", "am")])
def test_three_letters_on_the_command_line_are_the_same_language(code, tag, tmp_path):
    made = [PrepareConfig(str(tmp_path), ["a.tmx"], language=one, target_language="eng") for one in (code, tag)]
    assert made[0].foreign_language() == made[1].foreign_language() == tag
    assert made[0].target_language == "en"
    assert made[0].content() == made[1].content()
