"""What an encoder wants of the texts it reads: a sentence-transformers folder's settings, a language's tag.

Read when a model is built; what comes of it stands in the model's configuration and its processor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES
from transformers.utils.hub import cached_file

from .configuration_llink import LlinkConfig, LlinkConfigError

#: sentence-transformers' names of poolings → llink's.
_POOLINGS = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last"}
_FLAG = "pooling_mode_"

#: ISO 639-1 → the code of NLLB, whose own list says in which script.
_NLLB = """
af:afr am:amh ar:arb as:asm ay:ayr az:azj ba:bak be:bel bg:bul bm:bam bn:ben bo:bod bs:bos ca:cat cs:ces cy:cym da:dan
de:deu dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:pes fi:fin fj:fij fo:fao fr:fra ga:gle gd:gla gl:glg
gn:grn gu:guj ha:hau he:heb hi:hin hr:hrv ht:hat hu:hun hy:hye id:ind ig:ibo is:isl it:ita ja:jpn jv:jav ka:kat kk:kaz
km:khm kn:kan ko:kor ks:kas ku:kmr ky:kir lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lv:lvs mg:plt mi:mri mk:mkd ml:mal
mn:khk mr:mar ms:zsm mt:mlt my:mya nb:nob ne:npi nl:nld nn:nno no:nob ny:nya oc:oci om:gaz or:ory pa:pan pl:pol ps:pbt
pt:por qu:quy rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd sg:sag si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:als
sr:srp ss:ssw st:sot su:sun sv:swe sw:swh ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn tr:tur ts:tso tt:tat
tw:twi ug:uig uk:ukr ur:urd uz:uzn vi:vie wo:wol xh:xho yi:ydd yo:yor zh:zho zu:zul
"""
_THREE_LETTERS = dict(pair.split(":") for pair in _NLLB.split())


@dataclass
class EmbeddingSettings:
    """A sentence-transformers folder's settings.

    Attributes:
        fields: Those that a [`LlinkConfig`] has.
        unused: What it asks for besides, in words.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def embedding_settings(name_or_path: str, revision: str | None = None, **hub: Any) -> EmbeddingSettings | None:
    """Reads what a sentence-transformers folder or repository says of its encoder; None where there is no such thing.

    Args:
        name_or_path, revision: As of a base.
        hub: `token`, `cache_dir`, `local_files_only`.
    """

    hub = {key: value for key, value in hub.items() if key != "trust_remote_code"}

    def read(name: str) -> Any:
        try:
            path = cached_file(
                name_or_path, name, revision=revision, _raise_exceptions_for_missing_entries=False, **hub
            )
        except (OSError, ValueError):  # what is wrong with the base is told when it is read itself
            return None
        return None if path is None else json.loads(Path(path).read_text("utf-8"))

    modules = read("modules.json")
    if modules is None:
        return None
    found = EmbeddingSettings()
    for module in modules:
        kind, path = module["type"].rpartition(".")[2], module.get("path", "")
        if kind == "Transformer":
            found.fields |= {"encoder_subfolder": path} if path else {}
            _read_transformer(read(f"{path}/sentence_bert_config.json" if path else "sentence_bert_config.json"), found)
        elif kind == "Pooling":
            _read_pooling(read(f"{path}/config.json") or {}, found)
        elif kind == "Normalize":
            found.fields["encoder_normalized"] = True
        else:
            found.unused.append(f"its module {path or kind} ({kind}): slots are made of the states before it")
    _read_prompts(read("config_sentence_transformers.json") or {}, found)
    return found


def _read_transformer(config: dict[str, Any] | None, found: EmbeddingSettings) -> None:
    longest = (config or {}).get("max_seq_length")
    if longest and longest < LlinkConfig.max_foreign_tokens:
        found.fields["max_foreign_tokens"] = max(4, longest)
    if (config or {}).get("do_lower_case"):
        found.unused.append("do_lower_case: give text in lower case")


def _read_pooling(config: dict[str, Any], found: EmbeddingSettings) -> None:
    flags = [name.removeprefix(_FLAG) for name, asked in config.items() if asked and name.startswith(_FLAG)]
    flags = [flag.removesuffix("_tokens").removesuffix("_token") for flag in flags]
    named = config.get("pooling_mode")
    modes = ([named] if isinstance(named, str) else list(named)) if named else flags
    if len(modes) == 1 and modes[0] in _POOLINGS:
        found.fields["pooling"] = _POOLINGS[modes[0]]
    elif modes:
        found.unused.append(f"its pooling {' + '.join(modes)}: choose one of {', '.join(_POOLINGS.values())}")
    if config.get("include_prompt") is False:
        found.unused.append("include_prompt=false: the prefix's tokens are pooled too")


def _read_prompts(config: dict[str, Any], found: EmbeddingSettings) -> None:
    prompts = {name: text for name, text in (config.get("prompts") or {}).items() if text}
    chosen = prompts.get(config.get("default_prompt_name") or "")
    if chosen:
        found.fields["encoder_prefix"] = chosen
    elif prompts:
        shown = ", ".join(f"{name}: {text!r}" for name, text in list(prompts.items())[:4])
        found.unused.append(f"its prompts, of which none is its default ({shown}): choose with encoder_prefix")


def language_code(tokenizer: PreTrainedTokenizerBase, language: str | None) -> str | None:
    """What a tokenizer that tags its texts with their language (NLLB, mBART, M2M-100) calls a language.

    Args:
        tokenizer: The encoder's.
        language: BCP-47 tag, such as `km` or `zh-Hant`, or the tokenizer's own code, such as `khm_Khmr`.

    Returns:
        Its code; None for a tokenizer that tags nothing.

    Raises:
        LlinkConfigError: If no language is given, or the tokenizer has none of that name.
    """
    own = getattr(tokenizer, "src_lang", None)
    if own is None:
        return None
    known = _codes(tokenizer)
    if language is None:
        raise LlinkConfigError(
            f"The encoder's tokenizer tags each text with its language, and would tag all as {own!r}. Give the foreign "
            "text's own as source_language (`--source_language km`, `--language km` in training)."
        )
    first, *subtags = language.replace("_", "-").split("-")
    codes = [code for code in known if code.lower() == language.replace("-", "_").lower()]
    codes += [code for code in known if code.partition("_")[0] in (first.lower(), _THREE_LETTERS.get(first.lower()))]
    ends = [code for code in codes if code.partition("_")[2].lower() in {tag.lower() for tag in subtags}]
    if found := ends or codes:
        return found[0]
    raise LlinkConfigError(
        f"source_language={language!r}: the encoder's tokenizer knows no such language. It has {', '.join(known)}."
    )


def script_of(language: str | None) -> str | None:
    """The script (ISO 15924) that a language is written in; None where that is not known."""
    if language is None:
        return None
    first, *subtags = language.replace("_", "-").split("-")
    written = [tag.title() for tag in subtags if len(tag) == 4]
    code = _THREE_LETTERS.get(first.lower(), first.lower())
    scripts = [known.partition("_")[2] for known in FAIRSEQ_LANGUAGE_CODES if known.startswith(f"{code}_")]
    return next(iter([*written, *scripts]), None)


def _codes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """A tokenizer's languages by its own codes."""
    given = getattr(tokenizer, "lang_code_to_id", None) or getattr(tokenizer, "lang_code_to_token", None)
    tokens = given or [token for token in tokenizer.all_special_tokens if _is_code(token)]
    return sorted(tokens)


def _is_code(token: str) -> bool:
    language, line, place = token.partition("_")
    return bool(line) and language.isalpha() and place.isalpha() and len(language) in (2, 3) and len(place) in (2, 4)
