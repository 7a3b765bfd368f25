"""Duplicates and splits over a whole corpus: nothing crosses, now or later, and memory holds a part at a time."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llink.data import splitting
from llink.data.characters import sentence_keys
from llink.data.cleaning import Side, block_keys
from llink.data.near_duplicates import BANDS
from llink.data.splitting import (
    Corpus,
    Split,
    assign_splits,
    drop_duplicates,
    drop_near_duplicates,
    drop_split_conflicts,
    pair_hash,
    parse_splits,
)
from llink.errors_llink import LlinkConfigError

HALVES = [Split("train", -1, 0.5), Split("held_out", -1, 0.5)]


@pytest.fixture(scope="module")
def make_corpus(tmp_path_factory):
    """A function (pairs, rows of a block) → corpus of their keys on disk."""
    counter, tmp_path = itertools.count(), tmp_path_factory.mktemp("corpora")

    def make(pairs, rows=3):
        files = []
        for start in range(0, len(pairs), rows):
            block = pairs[start : start + rows]
            english, foreign = (Side([pair[side] for pair in block]) for side in (0, 1))
            files.append(tmp_path / f"{next(counter)}.npy")
            np.save(files[-1], block_keys(english, foreign, np.ones(len(block), bool)))
        return Corpus(files)

    return make


def splits_of(corpus, splits=HALVES, rule="english", duplicates="either"):
    """The split of each pair, by name, None for those without; as the pipeline does it."""
    drop_split_conflicts(corpus, splits, rule, 1)
    if duplicates:
        drop_duplicates(corpus, duplicates, 2)
    assigned, _ = assign_splits(corpus, splits, 4)
    return [splits[number].name if number >= 0 else None for number in assigned]


def zone(sentence, splits=HALVES):
    point = int(sentence_keys([sentence])[0]) / 2**64
    ends = list(itertools.accumulate(split.share for split in splits))
    return next((split.name for split, end in zip(splits, ends, strict=True) if point < end), None)


def sentences_by_split(pairs, assigned):
    found = {}
    for pair, split in zip(pairs, assigned, strict=True):
        if split is not None:
            for side in (0, 1):
                found.setdefault(split, set()).add((side, pair[side]))
    return found


def assert_nothing_crosses(*runs):
    """No sentence of either side in two different splits of these runs."""
    place = {}
    for pairs, assigned in runs:
        for split, found in sentences_by_split(pairs, assigned).items():
            for sentence in found:
                assert place.setdefault(sentence, split) == split, sentence


# --- what the user asks for


def test_shares_follow_sizes():
    train, held_out = parse_splits(["train=100000", "held_out=40000"])
    assert (train.size, held_out.size, train.share + held_out.share) == (100000, 40000, 1.0)
    spread = (140000 * held_out.share * train.share) ** 0.5  # of how many of 140,000 sentences fall to either
    assert 0 < 140000 * held_out.share - 40000 < 2 * spread, "the smaller is more easily missed"
    assert [split.share for split in parse_splits(["train=-1", "dev=1024", "test=1024"])] == [0.9, 0.05, 0.05]
    assert [split.share for split in parse_splits(["a=-1", "b=-1"], [0.6, 0.2])] == [0.6, 0.2]
    assert parse_splits(["all=-1"]) == [Split("all", -1, 1.0)]


@pytest.mark.parametrize(
    ("splits", "shares", "message"),
    [
        (["train"], None, "NAME=PAIRS"),
        (["train=0"], None, "NAME=PAIRS"),
        (["train=-2"], None, "NAME=PAIRS"),
        (["tr-ain=5"], None, "NAME=PAIRS"),
        ([], None, "one or more"),
        (["a=1", "a=2"], None, "each name once"),
        (["a=-1", "b=-1"], None, "need --shares"),
        (["a=1", "b=2"], [0.5], "give 2 positive"),
        (["a=1", "b=2"], [0.5, 0.6], "sum to at most 1"),
        (["a=1", "b=2"], [0.5, 0], "positive"),
    ],
)
def test_splits_that_make_no_sense(splits, shares, message):
    with pytest.raises(LlinkConfigError, match=message):
        parse_splits(splits, shares)


# --- nothing crosses

tiny = st.lists(st.tuples(*[st.integers(0, 7).map("sentence number {}".format)] * 2), min_size=1, max_size=24)


@given(tiny, tiny, st.randoms(use_true_random=False), st.sampled_from(["either", "pair", None]))
def test_no_sentence_crosses_in_this_run_or_with_more_data(make_corpus, first, more, rng, duplicates):
    later = first + more
    rng.shuffle(later)
    runs = [(pairs, splits_of(make_corpus(pairs), duplicates=duplicates)) for pairs in (first, later)]
    assert_nothing_crosses(*runs)


@given(tiny, tiny, st.sampled_from(["either", "pair", None]))
@pytest.mark.slow
def test_by_both_sides_no_sentence_crosses_between_any_two_runs(make_corpus, one, other, duplicates):
    runs = [(pairs, splits_of(make_corpus(pairs), rule="both", duplicates=duplicates)) for pairs in (one, other)]
    assert_nothing_crosses(*runs)


def pairs_of_zones():
    """Sentences by zone, so that tests can build what would cross."""
    found = {"train": [], "held_out": []}
    for number in range(60):
        found[zone(f"sentence number {number}")].append(f"sentence number {number}")
    assert min(map(len, found.values())) > 10, "vacuous unless both zones are there"
    return found


def test_a_conflict_drops_all_pairs_of_the_foreign_sentence_and_nothing_else(make_corpus):
    zones = pairs_of_zones()
    a, b, c = zones["train"][0], zones["held_out"][0], zones["train"][1]
    pairs = [(a, "shared"), (c, "other"), (b, "shared"), (b, "alone"), (c, "shared too"), (a, "shared too")]
    corpus = make_corpus(pairs)
    examples = drop_split_conflicts(corpus, HALVES, "english", 1)
    assert corpus.fate.tolist() == [1, 0, 1, 0, 0, 0]
    assert examples == [(0, -1), (2, -1)]


def test_a_conflict_is_seen_although_a_duplicate_would_have_gone(make_corpus):
    """The earlier run had only (b, f): had duplicates gone first, f would cross to a's split."""
    zones = pairs_of_zones()
    a, b = zones["train"][0], zones["held_out"][0]
    early, late = [(b, "f")], [(a, "f"), (b, "f")]
    runs = [(pairs, splits_of(make_corpus(pairs))) for pairs in (early, late)]
    assert runs[0][1] == ["held_out"]
    assert runs[1][1] == [None, None]
    assert_nothing_crosses(*runs)


def test_english_decides_alone_or_both_must_agree(make_corpus):
    rng = random.Random(0)
    pairs = [(f"english {rng.random()}", f"foreign {rng.random()}") for _ in range(400)]
    assert splits_of(make_corpus(pairs, 100)) == [zone(pair[0]) for pair in pairs]
    both = splits_of(make_corpus(pairs, 100), rule="both")
    expected = [zone(pair[0]) if zone(pair[0]) == zone(pair[1]) else None for pair in pairs]
    assert both == expected
    assert 0.4 < sum(split is not None for split in both) / len(pairs) < 0.6, "half, at two halves"


def test_case_and_punctuation_do_not_make_another_sentence(make_corpus):
    pairs = [("The house is big", "a"), ("the  HOUSE is big!", "b"), ("The house is bigger", "c")]
    corpus = make_corpus(pairs)
    assert drop_duplicates(corpus, "either", 2) == [(1, 0)]
    assert corpus.fate.tolist() == [0, 2, 0]


# --- sizes


def test_sizes_take_the_smallest_hashes_and_are_not_exceeded(make_corpus):
    pairs = [(f"english {number}", f"foreign {number}") for number in range(200)]
    splits = [Split("train", 30, 0.6), Split("dev", 10, 0.2)]  # a fifth of all sentences falls to no split
    corpus = make_corpus(pairs, 23)
    assigned, examples = assign_splits(corpus, splits, 4)
    hashes = np.concatenate([pair_hash(block) for _, block in corpus.blocks()])
    for number, split in enumerate(splits):
        mine = np.flatnonzero(assigned == number)
        inside = [row for row, pair in enumerate(pairs) if zone(pair[0], splits) == split.name]
        assert len(mine) == split.size
        assert len(inside) > split.size, "vacuous unless something is left out"
        assert set(mine) == set(sorted(inside, key=lambda row: hashes[row])[: split.size])
    assert (corpus.fate[assigned < 0] == 4).all()
    assert len(examples) == 5
    assert examples[0][0] == np.flatnonzero(assigned < 0)[0]


def test_repeated_pairs_do_not_overfill_a_split(make_corpus):
    pairs = [("the same", "pair")] * 10
    assigned, _ = assign_splits(make_corpus(pairs), [Split("all", 4, 1.0)], 4)
    assert assigned.tolist() == [0, 0, 0, 0] + [-1] * 6


def test_the_choice_does_not_depend_on_the_order(make_corpus):
    pairs = [(f"english {number}", f"foreign {number}") for number in range(60)]
    splits = [Split("train", 20, 0.7), Split("dev", 5, 0.3)]
    chosen = []
    for seed in range(3):
        random.Random(seed).shuffle(pairs)
        assigned, _ = assign_splits(make_corpus(pairs, 7), splits, 4)
        chosen.append({pair: number for pair, number in zip(pairs, assigned.tolist(), strict=True) if number >= 0})
    assert chosen[0] == chosen[1] == chosen[2]


# --- duplicates


@given(tiny, st.sampled_from(["either", "pair"]))
def test_duplicates_go_and_the_first_stays(make_corpus, pairs, scope):
    corpus = make_corpus(pairs)
    examples = drop_duplicates(corpus, scope, 2)
    left = [pair for pair, fate in zip(pairs, corpus.fate, strict=True) if not fate]
    if scope == "pair":
        assert left == list(dict.fromkeys(pairs))
    else:
        by_english = {}
        for pair in pairs:
            by_english.setdefault(pair[0], pair)
        by_both = {}
        for pair in by_english.values():
            by_both.setdefault(pair[1], pair)
        assert left == list(by_both.values())
    for later, earlier in examples:
        assert earlier < later
        assert pairs[later][0] == pairs[earlier][0] or pairs[later][1] == pairs[earlier][1]


def near_pairs(number=40):
    """Pairs of long random sentences, each followed at once by itself with one word changed on either side."""
    rng = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    khmer = [chr(point) for point in range(0x1780, 0x17A3)]
    pairs = []
    for _ in range(number):
        sides = [["".join(rng.choices(alphabet, k=6)) for _ in range(25)] for alphabet in (letters, khmer)]
        pairs.append(tuple(" ".join(words) for words in sides))
        for words in sides:
            words[rng.randrange(25)] = "x" * 6
        pairs.append(tuple(" ".join(words) for words in sides))
    return pairs


def test_near_duplicates_go_and_others_stay(make_corpus):
    pairs = near_pairs()
    corpus = make_corpus(pairs, 11)
    examples = drop_near_duplicates(corpus, 0.75, 3)
    dropped = np.flatnonzero(corpus.fate == 3)
    assert (dropped % 2 == 1).all(), "only the changed ones"
    assert len(dropped) >= 0.9 * len(pairs) / 2
    assert examples == [(row, row - 1) for row in dropped[:5].tolist()]
    corpus = make_corpus(pairs, 11)
    drop_near_duplicates(corpus, 1.0, 3)
    assert not corpus.fate.any(), "at a similarity of 1 only the same text counts"


def test_one_side_alone_makes_no_near_duplicate(make_corpus):
    pairs = near_pairs()
    pairs = [(english, pairs[row][1] if row % 2 == 0 else f"ខ្មែរ {row} " * 9) for row, (english, _) in enumerate(pairs)]
    corpus = make_corpus(pairs, 11)
    drop_near_duplicates(corpus, 0.8, 3)
    assert not corpus.fate.any()


# --- parts and blocks


def test_parts_and_blocks_change_nothing(make_corpus, monkeypatch):
    rng = random.Random(3)
    pairs = [(f"english {rng.randrange(60)}", f"foreign {rng.randrange(60)}") for _ in range(150)] + near_pairs(20)
    fates = []
    for rows, part_rows in ((1000, 1 << 20), (7, 1 << 20), (13, 40)):
        monkeypatch.setattr(splitting, "PART_ROWS", part_rows)
        corpus = make_corpus(pairs, rows)
        assert corpus.parts == max(1, -(-len(pairs) // part_rows))
        drop_split_conflicts(corpus, HALVES, "english", 1)
        drop_duplicates(corpus, "either", 2)
        drop_near_duplicates(corpus, 0.7, 3)
        assigned, _ = assign_splits(corpus, [Split("train", 20, 0.5), Split("held_out", 9, 0.5)], 4)
        fates.append((corpus.fate.tolist(), assigned.tolist()))
    assert all(fate == fates[0] for fate in fates)
    assert set(fates[0][0]) == {0, 1, 2, 3, 4}, "vacuous unless every step dropped something"


def test_gather_keeps_the_order_asked_for(make_corpus):
    pairs = [(f"english {number}", f"foreign {number}") for number in range(10)]
    corpus = make_corpus(pairs, 3)
    numbers = np.array([9, 0, 4, 4, 7])
    expected = sentence_keys([pairs[number][1] for number in numbers])
    assert corpus.gather(numbers, [1])[0].tolist() == expected.tolist()
    assert corpus.gather(np.zeros(0, np.int64), range(2, 2 + BANDS)).shape == (BANDS, 0)


def test_blocks_without_pairs(make_corpus, tmp_path):
    corpus = make_corpus([("a house", "b")], 1)
    np.save(tmp_path / "empty.npy", np.zeros((2 + BANDS, 0), np.uint64))
    corpus = Corpus([tmp_path / "empty.npy", *corpus._files, tmp_path / "empty.npy"])
    assert splits_of(corpus) == [zone("a house")]
    assert splits_of(Corpus([tmp_path / "empty.npy"])) == []
    assert splits_of(Corpus([])) == []
