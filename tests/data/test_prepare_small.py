"""Small corpora and the files of ordinary people: sizes that are reached, spreadsheets, archives, swapped sides."""

import random
import zipfile

import pytest

from llink.cli import main
from llink.configuration_llink import LlinkConfigError
from llink.data.demo_corpus import demo_pairs
from llink.data.errors import DataError
from llink.data.pairs import read_pairs
from llink.data.prepare import prepare
from llink.data.prepare_config import PrepareConfig
from llink.data.splitting import Split, fit_shares
from llink.data.target import language_tag


def pairs(count):
    found = {pair.english: pair.foreign for pair in demo_pairs()}
    return random.Random(1).sample(sorted(found.items()), count)


def lines(folder, rows, names=("a.en", "a.km")):
    paths = [folder / name for name in names]
    for path, side in zip(paths, zip(*rows, strict=True), strict=True):
        path.write_text("".join(f"{text}\n" for text in side), "utf-8")
    return [str(path) for path in paths]


def sizes(manifest):
    return {split["name"]: split["pairs"] for split in manifest["splits"]}


def run(folder, files, **options):
    return prepare(PrepareConfig(str(folder), files, **{"language": "km", "workers": 0, **options}))[0]


def test_a_tenth_of_a_small_corpus_is_held_out(tmp_path):
    found = sizes(run(tmp_path / "out", lines(tmp_path, pairs(300))))
    assert 10 <= found["held_out"] <= 50
    assert sum(found.values()) > 250
    assert fit_shares([Split("train", -1, 0.95), Split("held_out", 2000, 0.05)], 10**6, 0.1)[1].share < 0.0025


def test_sizes_are_reached_exactly(tmp_path):
    found = sizes(run(tmp_path / "out", lines(tmp_path, pairs(800)), splits=["train=-1", "held_out=80"]))
    assert found["held_out"] == 80
    assert found["train"] > 600


def test_sizes_of_all_splits_are_reached_from_hardly_more_pairs(tmp_path):
    found = sizes(run(tmp_path / "out", lines(tmp_path, pairs(800)), splits=["train=680", "held_out=80"]))
    assert found == {"train": 680, "held_out": 80}


def test_sizes_that_nobody_asked_for_are_not_missed(tmp_path, capsys):
    files = lines(tmp_path, pairs(300))
    command = [
        "prepare",
        "--input",
        *files,
        "--language",
        "km",
        "--workers",
        "0",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "| held_out |" in said, "vacuous unless there is such a split"
    assert "too few" not in said
    assert "would reach" not in said


def test_excels_unicode_text_is_a_table(tmp_path):
    rows = "".join(f"{english}\t{foreign}\r\n" for english, foreign in pairs(300))
    (tmp_path / "sheet.txt").write_text("english\tforeign\r\n" + rows, "utf-16")
    assert sum(sizes(run(tmp_path / "out", [str(tmp_path / "sheet.txt")])).values()) > 250


def test_the_share_that_would_reach_a_size_is_named_and_does(tmp_path, capsys):
    files = lines(tmp_path, pairs(800))
    command = ["prepare", "--input", *files, "--language", "Khmer", "--workers", "0", "--splits", "train=-1", "dev=80"]
    assert main([*command, "--output_dir", str(tmp_path / "one"), "--shares", "0.95", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "of 80 pairs, a share of 0.05: --shares " in said
    shares = said.split("--shares ")[1].split(" would")[0].split()
    assert main([*command, "--output_dir", str(tmp_path / "two"), "--shares", *shares]) == 0
    assert len(read_pairs(tmp_path / "two", "dev")) == 80
    assert main([*command[:-2], "train=-1", "dev=900", "--output_dir", str(tmp_path / "three")]) == 0
    assert "of 900 pairs, a share of 0.5: too few for these sizes." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "tag"),
    [("Khmer", "km"), ("khmer", "km"), ("Khmr", "km"), ("km-KH", "km-KH"), ("Thai", "th"), ("xx", "xx")],
)
def test_languages_are_understood(given, tag):
    assert language_tag(given) == tag


@pytest.mark.parametrize("given", ["klingonish", "the language of Cambodia", "k", "1"])
def test_what_is_no_language_is_refused(given):
    with pytest.raises(LlinkConfigError, match="is no language: give a BCP-47 tag"):
        language_tag(given)
    with pytest.raises(LlinkConfigError, match=r"\(Khmer\?\)"):
        language_tag("Kmher")


def test_a_script_of_many_languages_is_none():
    with pytest.raises(LlinkConfigError, match=r"'Deva' is a script, in which bho, hi, mai"):
        PrepareConfig("x", ["a.tsv"], language="Deva")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_spreadsheets(tmp_path, delimiter, encoding):
    rows = pairs(40)
    path = tmp_path / "sheet.csv"
    quoted = [delimiter.join(f'"{text}"' for text in row) for row in [("English", "Khmer"), *rows]]
    path.write_text("\r\n".join(quoted), encoding, newline="")
    columns = ["English", "Khmer"]
    made = run(tmp_path / "out", [str(path)], columns=columns, splits=["all=-1"], skip=["duplicate", "near_duplicate"])
    assert sizes(made) == {"all": 40}
    assert sorted(read_pairs(tmp_path / "out", "all")["english"][:]) == sorted(e for e, _ in rows)


def test_a_delimiter_is_given(tmp_path):
    path = tmp_path / "sheet.csv"
    path.write_text("en~km\n" + "".join(f"{e}~{f}\n" for e, f in pairs(20)), "utf-8")
    assert sizes(run(tmp_path / "out", [str(path)], delimiter="~", splits=["all=-1"]))["all"] > 10
    with pytest.raises(DataError, match="is one column\\. Say what separates columns"):
        run(tmp_path / "other", [str(path)], splits=["all=-1"])
    with pytest.raises(LlinkConfigError, match="one character"):
        PrepareConfig("x", ["a.csv"], language="km", delimiter=";;")


def test_an_archive_of_opus(tmp_path):
    lines(tmp_path, pairs(40), ("Demo.en-km.en", "Demo.en-km.km"))
    archive = tmp_path / "en-km.txt.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("README", "OPUS")
        for name in ("Demo.en-km.km", "Demo.en-km.en"):
            made.write(tmp_path / name, name)
    assert sizes(run(tmp_path / "out", [str(archive)], splits=["all=-1"]))["all"] > 30
    again = PrepareConfig(str(tmp_path / "out"), [str(archive)], language="km", workers=0, splits=["all=-1"])
    assert prepare(again)[1] == {}, "the same archive is the same data"
    with pytest.raises(DataError, match=r"no files of \.en and \.th"):
        run(tmp_path / "th", [str(archive)], language="th")
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(DataError, match="truncated or damaged"):
        run(tmp_path / "broken", [str(archive)])


def test_swapped_sides_and_a_wrong_language_are_named(tmp_path):
    files = lines(tmp_path, pairs(60))
    with pytest.raises(DataError, match="foreign side is Latin script: they are swapped"):
        run(tmp_path / "out", files[::-1])
    with pytest.raises(DataError, match="foreign side is Khmer script; en is written in Latin, th in Thai"):
        run(tmp_path / "out", files, language="th")
    with pytest.raises(DataError, match="No pair is left"):
        run(tmp_path / "out", files, language="th", skip=["script"], ratio=[9, 9])
