"""Parallel pairs: reading line-aligned files, grouping rows that share a sentence, splitting by group.

A *pair* is one row `id, english, foreign, language` of a [`datasets.Dataset`]; a target side that is not English is
called `target` (see [`target_column`]). A *group* is a connected component of
pairs that share a sentence on either side ([`sentence_keys`] says which are the same). Splits never cut a group, as a
held-out row whose sentence was trained on measures memory, not alignment; the contrastive loss masks negatives of the
same group, because they are not negatives (paper 4.1 leaves this open).
"""

from __future__ import annotations

import codecs
import hashlib
import logging
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from ..arguments_llink import checked
from ..characters_llink import half_character
from .characters import sentence_keys
from .cleaning import Side
from .errors import DataError
from .scripts import primary_language
from .target import ENGLISH, TARGET_LANGUAGE, is_english

logger = logging.getLogger(__name__)

#: The columns that every consumer of pairs reads; `language` is carried along for reports.
PAIR_COLUMNS = ("id", "english", "foreign")

_SHOWN = 5


@checked
def read_pairs(
    english_path: str | Path, foreign_path: str | Path, language: str = "und", target_language: str | None = None
) -> Dataset:
    r"""Reads two line-aligned UTF-8 files into pairs, or a split of a folder that `llink prepare` made.

    Lines end with `\n` or `\r\n`; nothing else is stripped (a leading byte order mark is not text and goes). Rows with
    a blank line on either side are dropped; one warning counts them and names the first ones.

    Args:
        english_path: File with one sentence of the target language, English, a line; or the folder.
        foreign_path: File with its translations, line by line; or the name of the split.
        language: BCP-47 tag of the foreign side, copied into every row; `und` when not known. A folder knows it.
        target_language: BCP-47 tag of the target side; English when not given. A folder knows it.

    Returns:
        Dataset with the columns `id` (`<foreign file>:<line>`), `english`, `foreign`, `language`; where the target is
        not English, `target` in place of `english`, and `target_language`.

    Raises:
        DataError: If a file is missing, empty, holds NUL or undecodable bytes (file, line and byte are named), if
            the line counts differ (both are named), or if every row has a blank side; if a folder has no such split, or
            another target language.
    """
    if Path(english_path).is_dir():
        return _read_split(Path(english_path), str(foreign_path), target_language)
    english_path, foreign_path = Path(english_path), Path(foreign_path)
    english, foreign = read_lines(english_path), read_lines(foreign_path)
    if len(english) != len(foreign):
        raise DataError(
            f"The files are not line-aligned: {english_path} has {len(english)} lines, {foreign_path} has "
            f"{len(foreign)}. Give two files whose n-th lines translate each other."
        )
    blank = [number for number, (e, f) in enumerate(zip(english, foreign, strict=True), 1) if _blank(e) or _blank(f)]
    if len(blank) == len(english):
        raise DataError(f"Every row of {english_path} and {foreign_path} has a blank side: there are no pairs.")
    if blank:
        logger.warning(
            "Dropped %d of %d rows of %s and %s: a side is blank (%s).",
            *(len(blank), len(english), english_path, foreign_path, _lines_named(blank)),
        )
    of_english = is_english(target_language or ENGLISH)
    if of_english and _latin_share(english) < 0.5 < _latin_share(foreign):
        logger.warning(
            "%s is hardly in Latin letters, and %s is: the target side (English) comes first, then the "
            "foreign text. Are they swapped?",
            *(english_path, foreign_path),
        )
    dropped = set(blank)
    kept = [number for number in range(1, len(english) + 1) if number not in dropped]
    return Dataset.from_dict(
        {
            "id": [f"{foreign_path.name}:{number}" for number in kept],
            "english" if of_english else "target": [english[number - 1] for number in kept],
            "foreign": [foreign[number - 1] for number in kept],
            "language": [language] * len(kept),
            **({} if of_english else {TARGET_LANGUAGE: [target_language] * len(kept)}),
        }
    )


def _latin_share(lines: Sequence[str]) -> float:
    """Of the letters in the first lines."""
    return Side(["\n".join(lines[:1000])]).script_share("Latn")[0]


def _read_split(folder: Path, split: str, target_language: str | None) -> Dataset:
    files = sorted((folder / "data").glob(f"{split}-*.parquet")) if "/" not in split else []
    if not files:
        there = sorted({path.name.rsplit("-", 3)[0] for path in (folder / "data").glob("*-*-of-*.parquet")})
        raise DataError(
            f"Cannot read the split {split!r} of the folder {folder}; its splits are {', '.join(there) or 'none'}. "
            "Give two line-aligned files, or a folder of `llink prepare` and the name of a split."
        )
    try:
        pairs = Dataset(pa.concat_tables(map(pq.read_table, files)))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"Cannot read the split {split!r} of {folder}: {error}") from error
    own = target_language_of(pairs)
    if target_language is not None and primary_language(target_language) != primary_language(own):
        raise DataError(f"The target language is given as {target_language!r}, but that of {folder} is {own!r}.")
    return pairs


def target_language_of(pairs: Dataset) -> str:
    """Tag of the target side; English where the rows do not say.

    Raises:
        DataError: If there are several.
    """
    found = pairs.unique(TARGET_LANGUAGE) if TARGET_LANGUAGE in pairs.column_names else [ENGLISH]
    if len(found) != 1:
        raise DataError(f"The pairs are in several target languages: {', '.join(map(str, found))}. Give them apart.")
    return found[0] or ENGLISH


def target_column(columns: Collection[str], where: str) -> str:
    """What the target side is called among the columns of pairs, or of instruction rows: `target` or `english`.

    Raises:
        DataError: If it has both names.
    """
    if "target" in columns and "english" in columns:
        raise DataError(f"{where}: english and target are two names of one side; leave one of them out.")
    return "target" if "target" in columns else "english"


def sentences(dataset: Dataset, side: str) -> list[str]:
    """A column as a list, read at once by a slice; the target side's is called `english`, whatever its name is."""
    rows = dataset.with_format(None)  # numpy's or torch's strings are others
    return rows[target_column(rows.column_names, "The pairs") if side == "english" else side][:]


def pair_groups(english: Sequence[str], foreign: Sequence[str]) -> list[int]:
    """Numbers the connected components of pairs that share a sentence on either side.

    Args:
        english: N sentences of the target side.
        foreign: N foreign sentences, aligned with them.

    Returns:
        N group numbers, 0, 1, … in order of first appearance. Rows i and j have the same number if and only if a chain
        of shared sentences joins them.

    Raises:
        DataError: If the two lengths differ.
    """
    if len(english) != len(foreign):
        raise DataError(f"{len(english)} target and {len(foreign)} foreign sentences are not aligned.")
    parent = list(range(len(english)))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]  # path halving keeps the trees flat
            row = parent[row]
        return row

    for side in (english, foreign):
        first: dict[int, int] = {}
        for row, key in enumerate(sentence_keys(side).tolist()):
            a, b = find(first.setdefault(key, row)), find(row)
            parent[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(find(row), len(numbers)) for row in range(len(parent))]


@checked
def split_pairs(
    dataset: Dataset, sizes: Mapping[str, int], seed: int, distinct: Collection[str] = ()
) -> dict[str, Dataset]:
    """Splits pairs by group, deterministically: no sentence of either side stands in two splits.

    Groups are shuffled by `seed`; the smallest split is filled first. Rows beyond the sizes are left out.

    Args:
        dataset: Pairs.
        sizes: Rows of each split; one of them may be -1, everything that is left.
        seed: Decides which group goes where.
        distinct: Names of splits that take one row of a group only, so that no two of their rows share a sentence
            (for retrieval, where a repeated sentence has no single right answer). The group's other rows go nowhere.

    Returns:
        The splits by name, rows in the dataset's order.

    Raises:
        DataError: If a size is invalid, or if the groups cannot fill the splits.
    """
    check_pairs(dataset)
    rest = [name for name, size in sizes.items() if size == -1]
    if not sizes or len(rest) > 1 or any(size < 1 for name, size in sizes.items() if name not in rest):
        raise DataError(f"sizes={dict(sizes)!r}: give a positive number of rows each; at most one may be -1.")
    if unknown := set(distinct) - set(sizes):
        raise DataError(f"distinct names {sorted(unknown)}, which are no splits; the splits are {list(sizes)}.")
    members: dict[int, list[int]] = {}
    for row, group in enumerate(dataset_groups(dataset)):
        members.setdefault(group, []).append(row)
    order = list(members)
    random.Random(seed).shuffle(order)
    names = sorted((name for name in sizes if name not in rest), key=lambda name: sizes[name]) + rest
    rows: dict[str, list[int]] = {name: [] for name in names}
    for group in order:
        for name in names:
            candidates = members[group][:1] if name in distinct else members[group]
            if name in rest or len(rows[name]) + len(candidates) <= sizes[name]:
                rows[name].extend(candidates)
                break
    short = {name: len(rows[name]) for name in names if len(rows[name]) < max(sizes[name], 1)}
    if short:
        largest = max(map(len, members.values()))
        raise DataError(
            f"{len(dataset)} pairs in {len(members)} groups of shared sentences (the largest has {largest}) cannot "
            f"fill {dict(sizes)}: only {short} could be placed. Ask for smaller splits or bring more distinct pairs."
        )
    return {name: dataset.select(sorted(rows[name])) for name in sizes}


def apart_from(train: Any, held_out: Mapping[str, Dataset]) -> Any:
    """What to train on without the rows that share a sentence, on the same side, with a held-out one.

    Args:
        train: Pairs, or [`FrozenFeatures`] of pairs.
        held_out: Evaluation pairs by name.

    Returns:
        The same object where nothing is shared; one warning counts what was dropped.
    """
    pairs = getattr(train, "pairs", train)
    shared = {row for dataset in held_out.values() for row in overlapping_rows(pairs, dataset)}
    if not shared:
        return train
    logger.warning(
        "Dropped %d of %d training pairs that share a sentence with a held-out pair.", len(shared), len(pairs)
    )
    return train.select([row for row in range(len(pairs)) if row not in shared])


def overlapping_rows(train: Dataset, held_out: Dataset) -> list[int]:
    """Rows of `train` that share a sentence, on the same side, with a row of `held_out`."""
    shared = np.zeros(len(train), bool)
    for side in ("english", "foreign"):
        shared |= np.isin(sentence_keys(sentences(train, side)), sentence_keys(sentences(held_out, side)))
    return np.flatnonzero(shared).tolist()


def dataset_groups(dataset: Dataset) -> list[int]:
    """[`pair_groups`] of a dataset's rows."""
    return pair_groups(sentences(dataset, "english"), sentences(dataset, "foreign"))


def pairs_digest(dataset: Dataset) -> str:
    """A hash of the sentences and their order: equal if and only if two datasets hold the same pairs."""
    digest = hashlib.sha256()
    for side in ("english", "foreign"):
        for text in sentences(dataset, side):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def warn_of_leaks(held_out: Dataset, train: Dataset, name: str) -> None:
    """Logs how many held-out pairs share a sentence with training, and how many repeat one of their own."""
    if shared := overlapping_rows(held_out, train):
        logger.warning(
            "%d of %d pairs of %s share a sentence with a training pair: its metrics measure memory too. "
            "Use apart_from or split_pairs.",
            *(len(shared), len(held_out), name),
        )
    if repeated := len(held_out) - 1 - max(dataset_groups(held_out)):
        logger.warning(
            "%d of %d pairs of %s repeat a sentence of another: they count as ties, against the model.",
            *(repeated, len(held_out), name),
        )


def check_training_pairs(train: Dataset | None, held_out: Mapping[str, Dataset], min_held_out: int) -> list[int]:
    """Checks everything that can be wrong with the pairs of a contrastive run before any base model runs.

    Args:
        train: Training pairs, or None for a run that only evaluates.
        held_out: Evaluation pairs by name; sentences shared with training, and repeated ones, are logged.
        min_held_out: The fewest rows of each evaluation set.

    Returns:
        The group of each training pair; empty without training pairs.

    Raises:
        DataError: As [`check_pairs`], or if no training pair is a negative of another.
    """
    for name, dataset in held_out.items():
        check_pairs(dataset, name, min_held_out)
    if train is None:
        return []
    check_pairs(train, "train_dataset", 2)
    groups = dataset_groups(train)
    if max(groups) == 0:
        raise DataError(
            f"All {len(train)} training pairs share sentences: none is a negative of another. "
            "Bring pairs with different sentences."
        )
    for name, dataset in held_out.items():
        warn_of_leaks(dataset, train, name)
    return groups


def check_pairs(dataset: Dataset, name: str = "dataset", minimum: int = 1) -> None:
    """Checks that a dataset holds usable pairs before anything long is run on them.

    Args:
        dataset: What should hold the columns `id`, `english` (or `target`), `foreign`.
        name: How messages call it.
        minimum: The fewest rows that will do.

    Raises:
        DataError: If it is no dataset with columns, if a column is missing or there twice, if there are too few rows,
            or if a sentence is not a string, blank, or holds NUL (the first rows are named).
    """
    columns = getattr(dataset, "column_names", None) if isinstance(dataset, Dataset) else None
    if not isinstance(columns, list):
        raise DataError(f"{name} is a {type(dataset).__name__}; give a datasets.Dataset of pairs (see read_pairs).")
    target = target_column(columns, name)
    if missing := [column for column in ("id", target, "foreign") if column not in columns]:
        raise DataError(
            f"{name} lacks the columns {missing}: it has {columns}. Pairs have {list(PAIR_COLUMNS)}; rename yours "
            "with dataset.rename_column, or read files with read_pairs."
        )
    if len(dataset) < minimum:
        raise DataError(f"{name} holds {len(dataset)} pairs; at least {minimum} are needed.")
    for side in (target, "foreign"):
        wrong = [row for row, text in enumerate(sentences(dataset, side)) if not _usable(text)]
        if wrong:
            shown = [f"{dataset[row]['id']} ({dataset[row][side]!r})" for row in wrong[:_SHOWN]]
            raise DataError(
                f"{name}: the {side} side of {len(wrong)} pairs is blank, holds NUL or half a character, or is no "
                f"string: {', '.join(shown)}. Drop or repair these rows."
            )


def _usable(text: object) -> bool:
    return isinstance(text, str) and not _blank(text) and "\0" not in text and half_character(text) is None


def _blank(text: str) -> bool:
    return not text.strip()


def _lines_named(numbers: Iterable[int]) -> str:
    numbers = list(numbers)
    more = ", …" if len(numbers) > _SHOWN else ""
    return "lines " + ", ".join(map(str, numbers[:_SHOWN])) + more


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, as they are.

    Raises:
        DataError: If the file cannot be read, is empty, or holds what is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content:
        raise DataError(f"{path} is empty; give a file with one sentence a line.")
    # Not str.splitlines: it also splits at U+2028, U+0085 and form feeds, which may stand inside a sentence.
    raw = content.removesuffix(b"\n").split(b"\n")
    return [_decode(line.removesuffix(b"\r"), path, number) for number, line in enumerate(raw, 1)]


def _decode(line: bytes, path: Path, number: int) -> str:
    if (column := line.find(b"\0")) >= 0:
        raise DataError(
            f"{path}, line {number}: NUL at byte {column + 1}. The file is binary or UTF-16; convert it to UTF-8."
        )
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: byte 0x{line[error.start]:02x} at position {error.start + 1} is not UTF-8 "
            f"({error.reason}). Convert the file to UTF-8."
        ) from error
