"""The model card, made from nothing but a checkpoint's folder: configuration, run record, evaluation records, plots."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id
from transformers.utils.hub import cached_file

from ..data.errors import DataError
from ..evaluation.page import read_records
from ..evaluation.report import table
from ..modeling_llink.persistence import RECORD_FILE
from ..modeling_llink.slots import SLOTS
from ..modeling_llink.weights import BASES
from .evaluations import evaluation_results, evaluation_sections
from .licences import Licence, licence_of, strictest
from .staging import EVALUATION_FOLDER, TRAINING_PLOT
from .upload import OWN_END, OWN_START, README, own_text

TEMPLATE = Path(__file__).parent / "model_card.md.jinja"
STAGES = {
    "untrained": "It is not trained.",
    "align": "Only Stage A is trained: its vectors are comparable with the decoder's own, but it does not answer yet.",
    "lexicon": "Stage A and the slots' dictionary are trained; the decoder has not learned to read them yet.",
    "inject": "It is trained in full.",
}
#: A short sentence to try a model with, by language.
EXAMPLES = {
    "km": "ខ្ញុំចូលចិត្តអានសៀវភៅនៅពេលល្ងាច។",
    "ja": "私は夕方に本を読むのが好きです。",
    "lo": "ຂ້ອຍມັກອ່ານປຶ້ມໃນຕອນແລງ.",
    "my": "ညနေပိုင်းမှာ စာအုပ်ဖတ်ရတာ ကြိုက်တယ်။",
    "th": "ฉันชอบอ่านหนังสือตอนเย็น",
    "am": "ማታ ላይ መጽሐፍ ማንበብ እወዳለሁ።",
    "hi": "मुझे शाम को किताबें पढ़ना पसंद है।",
}


def escape(value: Any) -> str:
    """Text of others as it is, in Markdown: no tag, link, table cell or code of theirs takes effect."""
    text = html.escape(str(value), quote=False).replace("\n", " ")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", text)


def is_language(tag: str) -> bool:
    """Whether it looks like a BCP-47 tag, as the Hub wants languages."""
    return tag != "und" and re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", tag) is not None


def write_card(folder: Path, repo_id: str, ask_hub: bool = False) -> ModelCard:
    """Writes `README.md` of a checkpoint's folder; the reader's own text of the one that lies there stays.

    Args:
        folder: A checkpoint; `llink_run.json` and `evaluation/` in it are read where they exist.
        repo_id: The model's name, `user/name` or just a name.
        ask_hub: Whether the bases' repositories may be asked for their licences; else the cache and a table answer.

    Returns:
        The card, whose metadata has passed huggingface_hub's validation.

    Raises:
        DataError: If the folder holds no llink model or a damaged record.
    """
    path = folder / README
    own = own_text(path.read_text("utf-8")) if path.is_file() else ""
    card = build_card(folder, repo_id, own, ask_hub)
    path.write_text(str(card), "utf-8")
    return card


def build_card(folder: Path, repo_id: str, own: str = "", ask_hub: bool = False) -> ModelCard:
    """The card of a checkpoint's folder; see [`write_card`].

    Raises:
        DataError: If the folder holds no llink model or a damaged record.
    """
    config = _read(folder / "config.json")
    if config.get("model_type") != "llink":
        raise DataError(f"{folder} holds no llink model, so there is no card to write.")
    stages = _read(folder / RECORD_FILE, optional=True).get("stages", [])
    records = _records(folder / EVALUATION_FOLDER)
    named = {name for stage in stages for name in stage["data"].get("languages", ())} | {config.get("source_language")}
    languages = sorted(name for name in named if name not in (None, "und"))
    licences = bases_licences(config, ask_hub)
    samples = shown_samples(records)
    pictures = sorted((folder / EVALUATION_FOLDER).glob("*.png"), key=_picture_place)
    title = repo_id.rpartition("/")[2]
    template = jinja2.Template(
        TEMPLATE.read_text("utf-8"), keep_trailing_newline=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = template.render(
        card_data=_metadata(config, title, languages, licences, records, samples).to_yaml(),
        title=escape(title),
        shown=sorted({licence.shown for licence in licences.values() if licence.shown}),
        languages_text=_languages_text(languages),
        slots=f"{config['num_slots']} soft slots" if config["num_slots"] else "a soft slot for each token of",
        stage_text=STAGES[config["stage"]],
        snippet=snippet(repo_id, languages),
        own_start=OWN_START,
        own_text=own,
        own_end=OWN_END,
        bases_table=_bases_table(config),
        kind_text=_kind_text(config),
        licence_text=_licence_text(licences),
        licence_table=table(["base", "licence"], [(escape(b), _linked(licence)) for b, licence in licences.items()]),
        duties=list(_duties(licences)),
        stages=[_stage(stage) for stage in stages],
        training_table=_training_table(stages),
        evaluations=evaluation_sections(records, escape),
        example=_example_table(samples),
        plots=[{"title": escape(path.stem), "path": f"{EVALUATION_FOLDER}/{path.name}"} for path in pictures],
        slots_text=_slots_text(config),
        numeric_text=_numeric_text(records),
        long_text=f"Of text longer than {config['max_foreign_chars']} characters "
        + ("only the beginning is read." if config.get("long_passages", "cut") == "cut" else "the pieces are read."),
    )
    return ModelCard(text)


def snippet(repo_id: str, languages: Sequence[str] = ()) -> str:
    """The card's usage example, which runs as it stands."""
    text = _example_text(languages)
    return f"""from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({repo_id!r}, trust_remote_code=True)
tokens = model.generate(foreign_text={text!r}, prompt="Translate to English.", max_new_tokens=64)
print(model.processor.batch_decode(tokens, skip_special_tokens=True)[0])"""


def bases_licences(config: Mapping[str, Any], ask_hub: bool = False) -> dict[str, Licence]:
    """The licences of the bases by their names; a base without a public name counts as unknown."""
    found = {}
    for kind in BASES:
        name = public_name(config.get(f"{kind}_name_or_path"))
        declared = _declared(name, config.get(f"{kind}_revision"), ask_hub) if name else None
        found[name or f"the {kind}"] = licence_of(name, declared)
    return found


def shown_samples(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Of the held-out sentences that were translated one that came out right, where there is one, and one that did not.

    Each holds `foreign`, `reference` and `llink`; the first of its kind in the record, so that none is picked.
    """
    rows = [row for row in records.get("translation", {}).get("results", {}).get("samples", ()) if row.get("llink")]
    right = [row for row in rows if _plain(row["llink"]) == _plain(row["reference"])]
    wrong = [row for row in rows if _plain(row["llink"]) != _plain(row["reference"])]
    return right[:1] + wrong[:1]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def public_name(name: str | None) -> str | None:
    """A repository's name; None for a folder."""
    if not name or os.path.isabs(name):
        return None
    try:
        validate_repo_id(name)
    except ValueError:
        return None
    return name


def _declared(name: str, revision: str | None, ask_hub: bool) -> str | None:
    """What a base's own card says about its licence; None if it cannot be read."""
    try:
        path = cached_file(
            name, README, revision=revision, local_files_only=not ask_hub, _raise_exceptions_for_missing_entries=False
        )
        data = ModelCard(Path(path).read_text("utf-8"), ignore_metadata_errors=True).data if path else None
    except (OSError, ValueError):
        return None
    licence = data.license if data is not None else None
    return data.license_name if licence == "other" else licence if isinstance(licence, str) else None


def _read(path: Path, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): save the model again.") from error


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    if not list(folder.glob("*.json")):
        return {}
    try:
        return read_records(folder)
    except DataError as error:
        raise DataError(str(error)) from error


# ------------------------------------------------------------------ metadata


def _metadata(
    config: Mapping[str, Any],
    title: str,
    languages: Sequence[str],
    licences: Mapping[str, Licence],
    records: Mapping[str, Mapping[str, Any]],
    samples: Sequence[Mapping[str, str]],
) -> ModelCardData:
    """The card's YAML head, with a `model-index` of what was measured, and texts to try with what they gave."""
    names = [name for kind in BASES if (name := public_name(config.get(f"{kind}_name_or_path")))]
    licence = strictest(list(licences.values()))
    results: list[EvalResult] = evaluation_results(records)
    return ModelCardData(
        language=[*filter(is_language, languages), "en"],
        license=licence.id if licence.on_hub else "other",
        license_name=None if licence.on_hub else licence.id,
        license_link=(licence.link or None) if not licence.on_hub else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["llink", f"llink-{config['stage']}", "cross-lingual", "soft-slots"],
        base_model=names or None,
        base_model_relation="adapter" if names and not config["self_contained"] else None,
        model_name=title,
        eval_results=results or None,
        widget=[{"text": row["foreign"], "output": {"text": row["llink"]}} for row in samples]
        or [{"text": _example_text(languages)}],
    )


# ------------------------------------------------------------------ text


def _example_text(languages: Sequence[str]) -> str:
    return next((EXAMPLES[language] for language in languages if language in EXAMPLES), EXAMPLES["km"])


def _example_table(samples: Sequence[Mapping[str, str]]) -> str:
    """What it made of sentences that it had not seen, beside what a person made of them; empty without any."""
    columns = ("foreign", "reference", "llink")
    rows = [[escape(row[name]) for name in columns] for row in samples]
    return table(["text", "a person's translation", "this model's answer"], rows) if rows else ""


def _picture_place(path: Path) -> tuple[bool, str]:
    """The curves of the training come last."""
    return path.name == TRAINING_PLOT, path.name


def _languages_text(languages: Sequence[str]) -> str:
    return ", ".join(map(escape, languages)) or "foreign text"


def _bases_table(config: Mapping[str, Any]) -> str:
    rows = []
    for kind in BASES:
        name = public_name(config.get(f"{kind}_name_or_path"))
        linked = f"[{escape(name)}](https://huggingface.co/{name})" if name else "a local base"
        kind_of = (config.get(f"{kind}_config") or {}).get("model_type", "")
        if kind == "encoder" and (reads := _reads_text(config)):
            kind_of = f"{kind_of}, {reads}"
        rows.append([kind, linked, f"`{config.get(f'{kind}_revision') or 'no commit'}`", escape(kind_of)])
    return table(["part", "base", "revision", "architecture"], rows)


def _reads_text(config: Mapping[str, Any]) -> str:
    """How the encoder reads texts, as far as that was chosen for it."""
    prefix, language = config.get("encoder_prefix"), config.get("source_language")
    said = [f"{prefix!r} before each text"] if prefix else []
    return ", ".join(said + ([f"texts in {language}"] if language else []))


def _kind_text(config: Mapping[str, Any]) -> str:
    if config.get("lora_merged"):
        return "Everything is in this repository; LoRA is merged into the decoder."
    if config["self_contained"]:
        return "Everything is in this repository, the bases too."
    return "This repository holds the bridge and LoRA; the bases are loaded from these commits, and no others."


def _licence_text(licences: Mapping[str, Licence]) -> str:
    licence = strictest(list(licences.values()))
    return f"The strictest licence of the bases holds for the model: **{licence.title}**. Those of the bases:"


def _linked(licence: Licence) -> str:
    return f"[{escape(licence.title)}]({licence.link})" if licence.link else escape(licence.title)


def _duties(licences: Mapping[str, Licence]) -> Iterator[str]:
    """What the licences ask of whoever uses or passes on the model, each once."""
    said = set()
    for licence in licences.values():
        lines = [
            f"{licence.title}: the name of every model built on it begins with “{licence.name_begins}”."
            if licence.name_begins
            else "",
            f"{licence.title}: display “{licence.shown}” prominently." if licence.shown else "",
            *(f"{licence.title}: {duty}" for duty in licence.duties),
            licence.notice,
        ]
        for line in lines:
            if line and line not in said:
                said.add(line)
                yield escape(line)


def _stage(stage: Mapping[str, Any]) -> dict[str, str]:
    """One stage of training, for the template."""
    versions = ", ".join(f"{name} {version}" for name, version in stage["versions"].items())
    return {
        "title": _stage_title(stage),
        "metrics": table(["last metric", "value"], [(escape(k), v) for k, v in stage["metrics"].items()]),
        "settings": table(["setting", "value"], [(escape(k), escape(v)) for k, v in stage["settings"].items()]),
        "versions": f"Trained with {escape(versions)}.",
    }


def _stage_title(stage: Mapping[str, Any]) -> str:
    return {"align": "Stage A", "lexicon": "Dictionary", "inject": "Stage B"}.get(
        stage["stage"], escape(stage["stage"])
    )


def _training_table(stages: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for stage in stages:
        data = stage["data"]
        counts = [f"{data['train_rows']} rows"]
        counts += [f"{count} {escape(task)}" for task, count in (data.get("tasks") or {}).items()]
        files = ", ".join(escape(name) for name in data.get("files", ()))
        epochs = f"{stage['epochs']:.4g}" if stage.get("epochs") is not None else ""
        rows.append([_stage_title(stage), ", ".join(counts), files, stage["steps"], epochs, stage["seed"]])
    return table(["stage", "data", "files", "steps", "epochs", "seed"], rows)


def _slots_text(config: Mapping[str, Any]) -> str:
    """What a passage's slots keep of it."""
    return SLOTS[config["slot_expander"]].described


def _numeric_text(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Whether numbers come through, in how many texts exactly, or that nobody has measured it."""
    found = records.get("numeric", {}).get("results", {}).get("systems", {}).get("llink", {})
    exact, n = found.get("exact"), found.get("n")
    if exact is None or not n:
        return "Nobody has measured it for this model; take it that they are not."
    return f"In {exact:.0%} of the texts that hold some, every one was kept exactly (measured below)."
