"""Arguments of `llink prepare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..errors_llink import LlinkConfigError
from .cleaning import CLEANING_STEPS, CleaningRules
from .language_identification import check_language
from .readers import FORMATS, Input, plan_inputs
from .scripts import SCRIPTS, length_ratio, primary_language, script_code
from .sources import Source, find_source
from .splitting import DUPLICATE_SCOPES, SKIPPABLE, SPLIT_RULES, Split, fit_shares, parse_splits
from .streams import unpack
from .target import ENGLISH, is_english, language_tag

#: What decides the bytes of the output; the rest decides where they go and how fast.
_CONTENT = (
    *(
        "source",
        "language",
        "target_language",
        "script",
        "columns",
        "delimiter",
        "skip",
        "zero_width_space",
        "english_length",
    ),
    *("foreign_length", "ratio", "min_script_share", "identify_languages", "duplicates", "near_duplicate_similarity"),
    *("splits", "shares", "split_by", "parquet_only"),
)


_DEFAULT_SPLITS = ("train=-1", "held_out=2000")
#: What is held out of a small corpus when the splits are not given.
_MOST_HELD_OUT = 0.1


@dataclass
class PrepareConfig:
    """Turns a public parallel corpus into clean pairs in honest splits (paper 5.1: ParaCrawl, 100k and 40k pairs)."""

    output_dir: str = field(metadata={"help": "Folder to make: Parquet, a dataset card, a manifest, checksums."})
    input: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Files: TMX, TSV, CSV, JSONL, Parquet (told by their endings), or line-aligned ones in pairs, "
            "the target side (English) first. gzip, xz, zstd and bzip2 are read as they are."
        },
    )
    dataset: str | None = field(
        default=None, metadata={"help": "Dataset of the Hub, or folder, with a translation feature or two columns."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Its configuration, such as en-km."})
    dataset_split: str = field(default="train", metadata={"help": "Its split."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Its branch, tag or commit."})
    source: str | None = field(
        default=None,
        metadata={"help": "Declared corpus that --input holds (see --list_sources): licence, citation, columns."},
    )
    language: str | None = field(default=None, metadata={"help": "Foreign side: a BCP-47 tag, such as km, or a name."})
    target_language: str = field(
        default=ENGLISH,
        metadata={
            "help": "BCP-47 tag of the side that the decoder will answer in, with its script if not the usual one."
        },
    )
    script: str | None = field(
        default=None, metadata={"help": "The foreign side's script (ISO 15924), if not the usual one."}
    )
    format: str | None = field(default=None, metadata={"help": f"What all --input files are: {', '.join(FORMATS)}."})
    columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "Target and foreign column of a table: names (translation.km is a field of translation), or "
            "numbers from 1 for a TSV without names. Found by themselves when they are called english (or target) "
            "and foreign, as the two languages, or translation; 1 and 2 in a TSV."
        },
    )
    delimiter: str | None = field(
        default=None, metadata={"help": "What separates a CSV's columns; found by itself among , ; tab and | ."}
    )
    skip: list[str] = field(
        default_factory=list,
        metadata={"help": f"Steps to leave out, of {', '.join([*CLEANING_STEPS, *SKIPPABLE])}."},
    )
    zero_width_space: Literal["keep", "remove", "space"] = field(
        default="keep",
        metadata={"help": "What becomes of U+200B where it separates words (Khmer, Thai, Lao, Burmese, Tai Tham)."},
    )
    english_length: list[int] | None = field(
        default=None,
        metadata={"help": "Fewest and most characters of the target side; its script's (3 and 1000) when not given."},
    )
    foreign_length: list[int] | None = field(
        default=None, metadata={"help": "The same for the foreign side; its script's when not given."}
    )
    ratio: list[float] | None = field(
        default=None,
        metadata={"help": "Fewest and most foreign characters per target one; the scripts' when not given."},
    )
    min_script_share: float = field(
        default=0.5, metadata={"help": "Least share of a side's letters that are of its script."}
    )
    identify_languages: bool = field(
        default=False, metadata={"help": "Also drop pairs with a side in another language (extra `langid`)."}
    )
    duplicates: Literal["either", "pair"] = field(
        default="either",
        metadata={"help": "Drop a pair when either side has been seen before, or only when both have, together."},
    )
    near_duplicate_similarity: float = field(
        default=0.8, metadata={"help": "Jaccard similarity of both sides from which two pairs count as one."}
    )
    splits: list[str] = field(
        default_factory=lambda: list(_DEFAULT_SPLITS),
        metadata={
            "help": "Splits and the most pairs of each; -1 takes all that fall to it (paper 5.1: 100k, 40k). When not "
            "given, a tenth is held out, 2,000 pairs at most."
        },
    )
    shares: list[float] | None = field(
        default=None,
        metadata={
            "help": "Share of all sentences that falls to each split. Keep them from run to run: they decide where a "
            "sentence goes. When not given they follow from the sizes, so that each is reached but "
            "for one of -1, which takes the rest."
        },
    )
    split_by: Literal["english", "both"] = field(
        default="english",
        metadata={
            "help": "Whose hash decides. english: the target side's; a foreign sentence whose translations fall to "
            "different splits is dropped; holds for every later run with more data. both: also pairs whose two sides "
            "disagree are dropped; holds between any two runs, and costs half the pairs at 100k/40k."
        },
    )
    parquet_only: bool = field(
        default=False,
        metadata={
            "help": "Leave out SPLIT.TARGET and SPLIT.LANGUAGE, one sentence a line, which --pairs of others read."
        },
    )
    skip_broken: bool = field(
        default=False,
        metadata={
            "help": "Leave out units of TMX, pairs of lines and rows that cannot be read, counted in the manifest with "
            "their lines; an error otherwise."
        },
    )
    workers: int | None = field(default=None, metadata={"help": "Cleaning processes; one a core when not given."})
    overwrite: bool = field(
        default=False, metadata={"help": "Replace what an earlier run of this command left at --output_dir."}
    )

    def __post_init__(self) -> None:
        self.language = None if self.language is None else language_tag(self.language)
        self.target_language = language_tag(self.target_language)
        self._check_choices()
        self._check_limits()

    def _check_choices(self) -> None:
        for name, choices in (
            ("zero_width_space", ("keep", "remove", "space")),
            ("duplicates", DUPLICATE_SCOPES),
            ("split_by", SPLIT_RULES),
            ("format", (None, *FORMATS)),
        ):
            if getattr(self, name) not in choices:
                known = ", ".join(str(choice) for choice in choices if choice)
                raise LlinkConfigError(f"--{name} {getattr(self, name)!r} is none of {known}.")
        if unknown := sorted(set(self.skip) - {*CLEANING_STEPS, *SKIPPABLE}):
            raise LlinkConfigError(f"--skip {unknown}: the steps are {', '.join([*CLEANING_STEPS, *SKIPPABLE])}.")
        if bool(self.input) == bool(self.dataset):
            raise LlinkConfigError("Give either --input FILE… or --dataset NAME.")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise LlinkConfigError(f"--delimiter {self.delimiter!r}: give one character, such as ';'.")
        if self.columns is not None and len(self.columns) != 2:
            raise LlinkConfigError(f"--columns takes two names, target then foreign; got {self.columns}.")

    def _check_limits(self) -> None:
        for name in ("english_length", "foreign_length", "ratio"):
            value = getattr(self, name)
            if value is not None and (len(value) != 2 or not 0 <= value[0] <= value[1]):
                raise LlinkConfigError(f"--{name} {value}: give two numbers, the fewest and the most.")
        for name in ("min_script_share", "near_duplicate_similarity"):
            if not 0 <= getattr(self, name) <= 1:
                raise LlinkConfigError(f"--{name} {getattr(self, name)} must be between 0 and 1.")
        if self.workers is not None and self.workers < 0:
            raise LlinkConfigError(f"--workers {self.workers} must be 0 (this process) or more.")
        self.split_plan()
        self.rules()
        if self.identify_languages:
            for language in (self.target_language, self.foreign_language()):
                check_language(primary_language(language))

    def declared(self) -> Source | None:
        """The row of `--source`.

        Raises:
            LlinkConfigError: If there is none, or it is in other languages.
        """
        source = None if self.source is None else find_source(self.source, self.language)
        if source is not None and source.language and not is_english(self.target_language):
            raise LlinkConfigError(f"The source {self.source} has no {self.target_language!r} side: it is English's.")
        return source

    def foreign_language(self) -> str:
        """Tag of the foreign side.

        Raises:
            LlinkConfigError: If neither `--language` nor the source says it, or if it is the target language.
        """
        source = self.declared()
        language = self.language or (source.language if source else None)
        if language is None:
            raise LlinkConfigError("Give --language, the BCP-47 tag of the foreign side, such as km.")
        if primary_language(language) == primary_language(self.target_language):
            name = "English" if is_english(language) else "the target language"
            raise LlinkConfigError(f"--language {language!r}: the foreign side cannot be {name}.")
        return language

    def inputs(self, unpacked: Path | None = None) -> list[Input]:
        """What to read.

        Args:
            unpacked: Folder for what archives hold, and for UTF-16 as UTF-8; refused when not given.

        Raises:
            DataError: As [`plan_inputs`].
        """
        if self.dataset is None:
            languages = self.target_language, self.foreign_language()
            files = self.input if unpacked is None else unpack(self.input, languages, unpacked)
            return [replace(item, delimiter=self.delimiter) for item in plan_inputs(files, self.format)]
        place = (self.dataset, self.dataset_config, self.dataset_split, self.dataset_revision)
        return [Input(Path(self.dataset).name, "hub", dataset=place)]

    def table_columns(self, item: Input) -> Sequence[str] | None:
        """The columns of an input that is a table: those given, or the source's for a TSV."""
        source = self.declared()
        return self.columns or (source.columns if source and item.format == "tsv" else None)

    def split_plan(self) -> list[Split]:
        """The splits, with sizes and shares.

        Raises:
            LlinkConfigError: If they are not to be understood.
        """
        return parse_splits(self.splits, self.shares)

    @property
    def fits_shares(self) -> bool:
        """Whether the shares follow from the corpus, so that the sizes are reached."""
        return self.shares is None and any(split.size == -1 for split in self.split_plan())

    @property
    def sizes_given(self) -> bool:
        """Whether somebody asked for these sizes."""
        return self.splits != list(_DEFAULT_SPLITS)

    def fitted_splits(self, pairs: int) -> list[Split]:
        """The splits of a corpus of so many distinct pairs."""
        splits = self.split_plan()
        most = 1.0 if self.sizes_given else _MOST_HELD_OUT
        return fit_shares(splits, pairs, most) if self.fits_shares else splits

    def rules(self) -> CleaningRules:
        """What the cleaning steps go by, with the scripts' limits where none are given.

        Raises:
            LlinkConfigError: If the script of a language is not known.
        """
        language = self.foreign_language()
        code = script_code(language, self.script)
        target = script_code(self.target_language)
        ratio = length_ratio(code, None if is_english(self.target_language) else target)
        return CleaningRules(
            language=language,
            script=code,
            target_language=self.target_language,
            target_script=target,
            zero_width_space=self.zero_width_space,
            english_length=tuple(self.english_length or SCRIPTS[target].length),
            foreign_length=tuple(self.foreign_length or SCRIPTS[code].length),
            ratio=tuple(self.ratio or ratio),
            min_script_share=self.min_script_share,
            identify_languages=self.identify_languages,
            skip=tuple(self.skip),
        )

    def content(self) -> dict[str, Any]:
        """Every option that decides the bytes of the output, resolved, as JSON holds it."""
        rules = asdict(self.rules())
        options = {name: rules.get(name, getattr(self, name)) for name in _CONTENT}
        del options["shares"]  # the splits hold them
        splits = [asdict(split) | ({"share": None} if self.fits_shares else {}) for split in self.split_plan()]
        return json.loads(json.dumps({**options, "splits": splits}))
