"""Licences of known bases, the strictest of two, and what they ask of whoever publishes a model built on them.

This is no legal advice: it puts the well-known duties where they cannot be overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Licence:
    """One licence.

    Args:
        id: The Hub's identifier, or our own for one that the Hub calls `other`.
        title: For people.
        strictness: 0 permissive … 5 unknown; the higher one of two bases is the model's.
        link: Its text.
        on_hub: Whether the Hub knows the identifier; `license: other` with a name otherwise.
        name_begins: What the name of every model built on it must begin with.
        shown: What must be displayed prominently.
        notice: The line that every copy must keep.
        duties: What else to do.
    """

    id: str
    title: str
    strictness: int
    link: str = ""
    on_hub: bool = True
    name_begins: str = ""
    shown: str = ""
    notice: str = ""
    duties: Sequence[str] = field(default_factory=tuple)


def _llama(version: str, name_begins: str = "Llama", shown: str = "Built with Llama", meta: str = "") -> Licence:
    product = f"{meta}Llama {version}"
    return Licence(
        id=f"llama{version}",
        title=f"{product} Community License",
        strictness=2,
        link=f"https://www.llama.com/llama{version.replace('.', '_')}/license/",
        name_begins=name_begins,
        shown=shown,
        notice=f"{product} is licensed under the {product} Community License, Copyright © Meta Platforms, Inc. All "
        "Rights Reserved.",
        duties=("Give a copy of the licence with the model.", "Keep to its acceptable use policy."),
    )


LICENCES: dict[str, Licence] = {
    licence.id: licence
    for licence in (
        Licence("mit", "MIT", 0, "https://opensource.org/license/mit"),
        Licence("bsd-3-clause", "BSD 3-Clause", 0, "https://opensource.org/license/bsd-3-clause"),
        Licence("apache-2.0", "Apache 2.0", 1, "https://www.apache.org/licenses/LICENSE-2.0"),
        Licence("cc-by-4.0", "CC BY 4.0", 1, "https://creativecommons.org/licenses/by/4.0/"),
        Licence(
            *("gemma", "Gemma Terms of Use", 2, "https://ai.google.dev/gemma/terms"),
            notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
            duties=("Pass the terms' use restrictions on to whoever gets the model.",),
        ),
        _llama("2", name_begins="", shown=""),
        _llama("3", name_begins="Llama 3", shown="Built with Meta Llama 3", meta="Meta "),
        *(_llama(version) for version in ("3.1", "3.2", "3.3", "4")),
        Licence(
            *("qwen", "Qwen License Agreement", 2, "https://huggingface.co/Qwen/Qwen2.5-72B/blob/main/LICENSE", False),
            shown="Built with Qwen",
        ),
        Licence(
            "cc-by-nc-4.0", "CC BY-NC 4.0 (not for commerce)", 4, "https://creativecommons.org/licenses/by-nc/4.0/"
        ),
        Licence(
            *("qwen-research", "Qwen Research License (not for commerce)", 4),
            *("https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE", False),
            shown="Built with Qwen",
        ),
        Licence(
            UNKNOWN, "not known", 5, on_hub=False, duties=("Find out the base's licence before you share this model.",)
        ),
    )
}

#: Name of a base (without case) → licence; the first pattern that matches counts.
BASES: tuple[tuple[str, str], ...] = (
    (r"meta-llama/(meta-)?llama-?3\.3", "llama3.3"),
    (r"meta-llama/(meta-)?llama-?3\.2", "llama3.2"),
    (r"meta-llama/(meta-)?llama-?3\.1", "llama3.1"),
    (r"meta-llama/(meta-)?llama-?3(?![.\d])", "llama3"),
    (r"meta-llama/(meta-)?llama-?2", "llama2"),
    (r"meta-llama/(meta-)?llama-?4", "llama4"),
    (r"google/gemma", "gemma"),
    (r"qwen/qwen2\.5-(math-|coder-)?3b", "qwen-research"),
    (r"qwen/qwen2(\.5)?-(math-|coder-)?72b", "qwen"),
    (r"qwen/qwen(2|2\.5|3)-", "apache-2.0"),
    (r"mistralai/(mistral-7b|mixtral|mistral-nemo)", "apache-2.0"),
    (r"huggingfacetb/smollm", "apache-2.0"),
    (r"microsoft/phi", "mit"),
    (r"facebook/(nllb|seamless)|facebook/.*sonar", "cc-by-nc-4.0"),
    (r"facebook/m2m100", "mit"),
    (r"(facebookai/)?xlm-roberta", "mit"),
    (r"facebook/xlm-roberta|facebook/xlm-v", "mit"),
    (r"intfloat/multilingual-e5", "mit"),
    (r"baai/bge", "mit"),
    (r"jhu-clsp/mmbert", "mit"),
    (
        r"sentence-transformers/|google/(mt5|byt5|canine|rembert|muril)|(google-bert/)?bert-base-multilingual",
        "apache-2.0",
    ),
)


def licence_of(name: str | None, declared: str | None = None) -> Licence:
    """A base's licence: as its repository declares it, else from the table of known bases, else unknown.

    Args:
        name: The base's repository.
        declared: The `license` (or, for `other`, `license_name`) of its card.
    """
    if declared in LICENCES:
        return LICENCES[declared]
    if declared:
        return Licence(declared, declared, 3, f"https://huggingface.co/{name}", on_hub=False)
    for pattern, licence in BASES:
        if re.match(pattern, (name or "").lower()):
            return LICENCES[licence]
    return LICENCES[UNKNOWN]


def strictest(licences: Sequence[Licence]) -> Licence:
    """The one that allows least; the first of equals."""
    return max(licences, key=lambda licence: licence.strictness)


def name_problem(repo_id: str, licences: Mapping[str, Licence]) -> str | None:
    """Why a model on these bases may not be published under this name, if so.

    Args:
        repo_id: `user/name`.
        licences: By base.
    """
    name = repo_id.rpartition("/")[2]
    for base, licence in licences.items():
        wanted = licence.name_begins.replace(" ", "-")
        if wanted and not name.replace("_", "-").startswith(wanted):
            return (
                f"{base} is under the {licence.title}: the name of a model built on it must begin with "
                f"{licence.name_begins!r}, and {name!r} does not. Push to {wanted}-{name}, for example."
            )
    return None
