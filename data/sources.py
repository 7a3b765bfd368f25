"""Public parallel corpora that llink knows: what they are, how to get them, under which terms, how to cite them.

llink downloads none of them: a row says where a file comes from; `llink prepare --source NAME --input FILE` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors_llink import LlinkConfigError

_PARACRAWL = """\
@inproceedings{banon-etal-2020-paracrawl,
  title = {{ParaCrawl}: Web-Scale Acquisition of Parallel Corpora},
  author = {Ba{\\~n}{\\'o}n, Marta and Chen, Pinzhen and Haddow, Barry and Heafield, Kenneth and Hoang, Hieu and
    Espl{\\`a}-Gomis, Miquel and Forcada, Mikel L. and Kamran, Amir and Kirefu, Faheem and Koehn, Philipp and
    Ortiz Rojas, Sergio and Pla Sempere, Leopoldo and Ram{\\'\\i}rez-S{\\'a}nchez, Gema and Sarr{\\'\\i}as, Elsa and
    Strelec, Marek and Thompson, Brian and Waites, William and Wiggins, Dion and Zaragoza, Jaume},
  booktitle = {Proceedings of the 58th Annual Meeting of the Association for Computational Linguistics},
  year = {2020}, url = {https://aclanthology.org/2020.acl-main.417}
}
@inproceedings{koehn-2024-neural,
  title = {Neural Methods for Aligning Large-Scale Parallel Corpora from the Web for {South} and {East} {Asian}
    Languages},
  author = {Koehn, Philipp},
  booktitle = {Proceedings of the Ninth Conference on Machine Translation},
  year = {2024}, url = {https://aclanthology.org/2024.wmt-1.132}
}"""
_OPUS = """\
@inproceedings{tiedemann-2012-parallel,
  title = {Parallel Data, Tools and Interfaces in {OPUS}},
  author = {Tiedemann, J{\\"o}rg},
  booktitle = {Proceedings of the Eighth International Conference on Language Resources and Evaluation (LREC'12)},
  year = {2012}
}"""
_CCALIGNED = """\
@inproceedings{elkishky-etal-2020-ccaligned,
  title = {{CCAligned}: A Massive Collection of Cross-Lingual Web-Document Pairs},
  author = {El-Kishky, Ahmed and Chaudhary, Vishrav and Guzm{\\'a}n, Francisco and Koehn, Philipp},
  booktitle = {Proceedings of the 2020 Conference on Empirical Methods in Natural Language Processing},
  year = {2020}, url = {https://aclanthology.org/2020.emnlp-main.480}
}"""
_TICO = """\
@inproceedings{anastasopoulos-etal-2020-tico,
  title = {{TICO}-19: the Translation Initiative for {CO}vid-19},
  author = {Anastasopoulos, Antonios and Cattelan, Alessandro and Dou, Zi-Yi and Federico, Marcello and Federmann,
    Christian and Genzel, Dmitriy and Guzm{\\'a}n, Francisco and Hu, Junjie and Hughes, Macduff and Koehn, Philipp and
    others},
  booktitle = {Proceedings of the 1st Workshop on NLP for COVID-19 (Part 2) at EMNLP 2020},
  year = {2020}
}"""
_OPUS_FILES = "https://object.pouta.csc.fi/OPUS-{corpus}/{version}"


@dataclass(frozen=True)
class Source:
    """A declared corpus.

    Args:
        title: What it is called.
        homepage: Where it is published.
        license: Identifier for a card on the Hub.
        license_note: What the identifier does not say.
        citation: BibTeX.
        obtain: How to get the file.
        language: Tag of the foreign side, or None when the corpus has many.
        columns: Columns of the file when it is a table without names, English first.
    """

    title: str
    homepage: str
    license: str
    license_note: str
    citation: str
    obtain: str
    language: str | None = None
    columns: tuple[str, str] | None = None


def _opus(corpus: str, version: str, license_id: str, note: str, citation: str = "") -> Source:
    place = _OPUS_FILES.format(corpus=corpus, version=version)
    return Source(
        f"{corpus} {version}, from OPUS",
        f"https://opus.nlpl.eu/{corpus}",
        license_id,
        note,
        f"{citation}\n{_OPUS}".strip(),
        f"{place}/tmx/en-LANGUAGE.tmx.gz as it is, or {place}/moses/en-LANGUAGE.txt.zip, unpacked into two files; the "
        "two languages stand in alphabetical order",
    )


#: Name → row. OPUS's licences are those that each corpus states there: read them before you publish.
SOURCES: dict[str, Source] = {
    "paracrawl-en-km": Source(
        "ParaCrawl English–Khmer, version 2",
        "https://paracrawl.eu",
        "cc0-1.0",
        "The packaging is CC0; the texts were crawled from the web and stay their authors'.",
        _PARACRAWL,
        "the English–Khmer file among the bonus releases of https://paracrawl.eu (TMX, or text with a tab between "
        "English and Khmer: then also --format tsv). OPUS has it as ParaCrawl-Bonus v9: "
        + _OPUS_FILES.format(corpus="ParaCrawl-Bonus", version="v9")
        + "/tmx/en-km.tmx.gz",
        "km",
        ("1", "2"),
    ),
    "opus-paracrawl-bonus": _opus("ParaCrawl-Bonus", "v9", "cc0-1.0", "Crawled texts.", _PARACRAWL),
    "opus-ccaligned": _opus("CCAligned", "v1", "other", "No claim on the preparation; crawled texts.", _CCALIGNED),
    "opus-nllb": _opus("NLLB", "v1", "odc-by", "Mined by NLLB's recipe; the terms of Common Crawl hold too."),
    "opus-wikimatrix": _opus("WikiMatrix", "v1", "cc-by-sa-4.0", "Mined from Wikipedia."),
    "opus-ted2020": _opus("TED2020", "v1", "cc-by-nc-nd-4.0", "TED's terms: no commercial use, no derivatives."),
    "opus-tatoeba": _opus("Tatoeba", "v2023-04-12", "cc-by-2.0", "Sentences by Tatoeba's contributors."),
    "opus-qed": _opus("QED", "v2.0a", "other", "For research; see the corpus' page."),
    "opus-gnome": _opus("GNOME", "v1", "other", "Interface texts under the licences of GNOME's programs."),
    "opus": Source(
        "A corpus from OPUS",
        "https://opus.nlpl.eu",
        "other",
        "Each corpus of OPUS states its own licence.",
        _OPUS,
        "choose a corpus and English with your language at https://opus.nlpl.eu and take its TMX, or unpack its Moses "
        "archive into two files",
    ),
    "tico-19": Source(
        "TICO-19",
        "https://tico-19.github.io",
        "cc0-1.0",
        "Medical texts about COVID-19, professionally translated.",
        _TICO,
        "the TMX or TSV of English and your language at https://tico-19.github.io",
    ),
}


def find_source(name: str, language: str | None) -> Source:
    """The row of a source.

    Args:
        name: A key of `SOURCES`.
        language: The tag that the user gave, if any.

    Raises:
        LlinkConfigError: If there is no such source, or if it is in another language.
    """
    if name not in SOURCES:
        raise LlinkConfigError(
            f"There is no source {name!r}; declared are {', '.join(SOURCES)}. Files need no --source."
        )
    source = SOURCES[name]
    if source.language and language and language.partition("-")[0] != source.language:
        raise LlinkConfigError(f"The source {name} is in {source.language!r}, not in {language!r}.")
    return source
