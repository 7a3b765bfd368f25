"""Reading, grouping and splitting parallel pairs."""

import logging
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from llink.data.errors import DataError
from llink.data.pairs import (
    apart_from,
    check_pairs,
    overlapping_rows,
    pair_groups,
    pairs_digest,
    read_pairs,
    split_pairs,
    warn_of_leaks,
)


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def make(english: list, foreign: list) -> Dataset:
    ids = [f"row{row}" for row in range(len(english))]
    return Dataset.from_dict({"id": ids, "english": english, "foreign": foreign})


def test_read_pairs_keeps_everything_but_line_ends(tmp_path):
    english = write(tmp_path, "a.en", b"\xef\xbb\xbf one \r\ntwo\xe2\x80\xa8still two\n")
    foreign = write(tmp_path, "a.km", "មួយ\nពីរ\x0b".encode())  # no final line end; a vertical tab inside
    pairs = read_pairs(english, foreign, "km")
    assert pairs["english"] == [" one ", "two\u2028still two"]
    assert pairs["foreign"] == ["មួយ", "ពីរ\x0b"]
    assert pairs["id"] == ["a.km:1", "a.km:2"]
    assert pairs["language"] == ["km", "km"]


def test_swapped_files_are_noticed(tmp_path, caplog):
    english, foreign = write(tmp_path, "a.en", b"one\ntwo\n"), write(tmp_path, "a.km", "មួយ\nពីរ\n".encode())
    read_pairs(english, foreign)
    read_pairs(english, write(tmp_path, "a.sw", b"moja\nmbili\n"))
    assert not caplog.text
    assert read_pairs(foreign, english)["english"] == ["មួយ", "ពីរ"], "it may be meant"
    assert "a.km is hardly in Latin letters" in caplog.text
    assert "swapped?" in caplog.text


def test_blank_rows_are_dropped_and_counted(tmp_path, caplog):
    english = write(tmp_path, "a.en", b"one\n\nthree\nfour\n")
    foreign = write(tmp_path, "a.km", "១\n២\n \t\n៤\n".encode())
    with caplog.at_level(logging.WARNING):
        pairs = read_pairs(english, foreign)
    assert pairs["id"] == ["a.km:1", "a.km:4"]
    assert "Dropped 2 of 4 rows" in caplog.text
    assert "lines 2, 3" in caplog.text


@pytest.mark.parametrize(
    ("english", "foreign", "message"),
    [
        (b"a\nb\nc\n", b"x\ny\n", r"3 lines.*\n?.*2\."),
        (b"", b"x\n", "a.en is empty"),
        (b"a\nb\xff\n", b"x\ny\n", "a.en, line 2: byte 0xff at position 2"),
        (b"a\nb\n", b"x\n\xe1\x9e\n", "a.km, line 2: byte 0xe1"),
        (b"a\n\0b\n", b"x\ny\n", "a.en, line 2: NUL at byte 1"),
        ("a\nb\n".encode("utf-16"), b"x\ny\n", "line 1: NUL.*UTF-16"),
        (b" \n\n", b"x\ny\n", "no pairs"),
    ],
)
def test_bad_files(tmp_path, english, foreign, message):
    with pytest.raises(DataError, match=message):
        read_pairs(write(tmp_path, "a.en", english), write(tmp_path, "a.km", foreign))


def test_missing_file_and_folder(tmp_path):
    english = write(tmp_path, "a.en", b"a\n")
    with pytest.raises(DataError, match=r"gone.km"):
        read_pairs(english, tmp_path / "gone.km")
    with pytest.raises(DataError, match="Cannot read"):
        read_pairs(tmp_path, english)


def test_groups_join_over_either_side_and_normalise():
    english = ["Caf\u00e9  now", "Cafe\u0301 now ", "other", "third", "alone"]
    foreign = ["a", "b", "b", "c", "c2"]
    assert pair_groups(english, foreign) == [0, 0, 0, 1, 2]
    assert pair_groups(["It is HOT.", "it is hot!", "…", "!"], ["a", "b", "c", "d"]) == [0, 0, 1, 2]
    with pytest.raises(DataError, match="not aligned"):
        pair_groups(["a"], [])


def test_a_sentence_of_one_side_does_not_join_the_other_side():
    assert pair_groups(["ok", "x"], ["y", "ok"]) == [0, 1]


sentences = st.integers(0, 12).map(str)


@given(st.lists(st.tuples(sentences, sentences), max_size=30))
def test_groups_are_the_connected_components(rows):
    english, foreign = [e for e, _ in rows], [f for _, f in rows]
    naive = list(range(len(rows)))
    changed = True
    while changed:  # spread the smallest label until nothing moves
        changed = False
        for i in range(len(rows)):
            for j in range(len(rows)):
                if (english[i] == english[j] or foreign[i] == foreign[j]) and naive[j] < naive[i]:
                    naive[i], changed = naive[j], True
    groups = pair_groups(english, foreign)
    assert [groups.index(group) for group in groups] == [naive.index(label) for label in naive]


@settings(max_examples=25)
@given(st.lists(st.tuples(sentences, sentences), min_size=12, max_size=40), st.integers(0, 5))
def test_splits_share_no_sentence(rows, seed):
    pairs = make([e for e, _ in rows], [f for _, f in rows])
    try:
        splits = split_pairs(pairs, {"train": -1, "dev": 2, "test": 3}, seed)
    except DataError:
        return
    assert {name: len(splits[name]) for name in ("dev", "test")} == {"dev": 2, "test": 3}
    assert sum(map(len, splits.values())) == len(rows)
    assert not overlapping_rows(splits["train"], splits["dev"])
    assert not overlapping_rows(splits["train"], splits["test"])
    assert not overlapping_rows(splits["dev"], splits["test"])


def test_split_is_deterministic_and_moves_with_the_seed():
    pairs = make([f"e{i}" for i in range(50)], [f"f{i}" for i in range(50)])
    first, again, other = (split_pairs(pairs, {"a": 20, "b": 10}, seed) for seed in (1, 1, 2))
    assert first["a"]["id"] == again["a"]["id"]
    assert first["a"]["id"] != other["a"]["id"]


def test_distinct_split_takes_one_row_of_a_group():
    pairs = make(["same"] * 5 + [f"e{i}" for i in range(10)], [f"f{i}" for i in range(15)])
    for seed in range(5):
        dev = split_pairs(pairs, {"train": 3, "dev": 8}, seed, distinct=["dev"])["dev"]
        assert len(set(dev["english"])) == len(dev) == 8


@pytest.mark.parametrize("sizes", [{}, {"a": 0}, {"a": -1, "b": -1}, {"a": -2}])
def test_bad_sizes(sizes):
    with pytest.raises(DataError, match="sizes="):
        split_pairs(make(["a"], ["b"]), sizes, 0)


def test_not_enough_pairs():
    pairs = make(["same"] * 6, [f"f{i}" for i in range(6)])
    with pytest.raises(DataError, match=r"6 pairs in 1 groups.*largest has 6"):
        split_pairs(pairs, {"a": 3, "b": 3}, 0)
    with pytest.raises(DataError, match="distinct names"):
        split_pairs(pairs, {"a": 3}, 0, distinct=["c"])


def test_rows_apart_from_what_is_held_out(caplog):
    train = make(["a", "b", "c ", "d"], ["1", "2", "3", "4"])
    assert apart_from(train, {"dev": make(["c"], ["9"]), "test": make(["z"], ["1"])})["english"] == ["b", "d"]
    assert "Dropped 2 of 4" in caplog.text
    assert apart_from(train, {"dev": make(["z"], ["9"])}) is train


def test_warn_of_leaks(caplog):
    train = make(["a", "b"], ["1", "2"])
    warn_of_leaks(make(["z", "y"], ["8", "9"]), train, "dev")
    assert not caplog.text
    warn_of_leaks(make(["z", "z", "b"], ["8", "9", "7"]), train, "dev")
    assert "1 of 3 pairs of dev share" in caplog.text
    assert "1 of 3 pairs of dev repeat" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ([{"id": "a"}], "is a list"),
        (Dataset.from_dict({"en": ["a"], "id": ["b"]}), r"lacks the columns \['english', 'foreign'\].*\['en', 'id'\]"),
        (make(["a"], ["b"]), "holds 1 pairs; at least 2"),
        (make(["a", "b", "c"], ["x", " ", None]), r"foreign side of 2 pairs.*row1 \(' '\), row2 \(None\)"),
        (make(["a", "b\0"], ["x", "y"]), "english side of 1 pairs.*row1"),
    ],
)
def test_check_pairs(dataset, message):
    with pytest.raises(DataError, match=message):
        check_pairs(dataset, "train_dataset", 2)


def test_digest_tells_sides_and_order_apart():
    digests = {
        pairs_digest(make(*sides))
        for sides in ((["a", "b"], ["c", "d"]), (["c", "d"], ["a", "b"]), (["b", "a"], ["d", "c"]))
    }
    assert len(digests) == 3
