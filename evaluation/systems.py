"""What is compared: systems that answer the same instruction rows, each reading the foreign text in its own way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import BatchFeature

from ..arguments_llink import checked
from ..baselines.direct import ADAPTER_CONFIG, RawTextProcessor, like, load_direct
from ..baselines.langbridge import LangBridgeForCausalLM, is_langbridge
from ..data.errors import DataError
from ..data.shapes import row_messages
from ..modeling_llink import LlinkForCausalLM, LlinkProcessor

Rows = Sequence[Mapping[str, Any]]


class System:
    """A model that answers instruction rows, through a processor that decides how it reads the foreign text.

    Args:
        name: What tables and files call it.
        model: Has `generate`, `device` and `generation_config`.
        processor: Renders its prompts.
    """

    def __init__(self, name: str, model: Any, processor: LlinkProcessor) -> None:
        self.name, self.model, self.processor = name, model, processor

    def inputs(self, rows: Rows) -> BatchFeature:
        """The model's inputs: `input_ids` and `attention_mask` (B, S), padded on the left, and encoder tokens.

        Raises:
            ForeignTextError, PromptError: If a row is unusable.
        """
        return self.processor.apply_chat_template(
            [row_messages(row, row["foreign"]) for row in rows],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )

    def prompt_tokens(self, rows: Rows) -> list[int]:
        """Positions that each row's prompt takes in the decoder, chat template included."""
        return [int(self.inputs([row])["attention_mask"].sum()) for row in rows]

    @torch.no_grad()
    def answer(
        self, rows: Rows, batch_size: int = 16, max_new_tokens: int = 64, show_progress: bool = False
    ) -> list[str]:
        """Greedy answers.

        Args:
            rows: N instruction rows, of which `foreign` (list of strings) and `prompt` are read.
            batch_size: Rows in one generation.
            max_new_tokens: Length of an answer at most.
            show_progress: Whether to show a bar.

        Returns:
            N answers, without control tokens.

        Raises:
            ForeignTextError, PromptError: If a row is unusable.
        """
        rows = list(rows)
        options = {
            "max_new_tokens": max_new_tokens,
            "do_sample": False,
            "num_beams": 1,
            # A decoder's own penalties fall on its prompt too, and only some systems have the source in theirs.
            "repetition_penalty": 1.0,
            "no_repeat_ngram_size": 0,
            "pad_token_id": self.processor.pad_token_id,
        }
        if self.model.generation_config.eos_token_id is None:
            options["eos_token_id"] = self.processor.tokenizer.eos_token_id
        answers: list[str] = []
        for start in tqdm(range(0, len(rows), batch_size), desc=self.name, disable=not show_progress):
            inputs = self.inputs(rows[start : start + batch_size]).to(self.model.device)
            tokens = self.model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
            answers += self.processor.batch_decode(tokens, skip_special_tokens=True)
        return answers


class LlinkSystem(System):
    """llink itself: slots in place of the foreign text."""

    def __init__(self, model: LlinkForCausalLM) -> None:
        super().__init__("llink", model, model.processor)


class RawTextSystem(System):
    """A decoder that reads the foreign text as its own tokens: the untouched base, or one that was fine-tuned.

    An llink model serves as its own base decoder: prompts without slots run with LoRA off.

    Args:
        name: What tables and files call it.
        model: A decoder, or an llink model.
        processor: With the decoder's tokenizer; an llink model's own will do.
    """

    def __init__(self, name: str, model: Any, processor: LlinkProcessor) -> None:
        super().__init__(name, model, like(RawTextProcessor, processor))


class LangBridgeSystem(System):
    """A LangBridge-style bridge: one soft token for each encoder token in place of the foreign text."""

    def __init__(self, model: LangBridgeForCausalLM) -> None:
        super().__init__("langbridge", model, model.processor)


def llink_systems(model: LlinkForCausalLM) -> dict[str, System]:
    """The two systems that one llink model holds: `base`, its decoder as its authors left it, and `llink`."""
    return {"base": RawTextSystem("base", model, model.processor), "llink": LlinkSystem(model)}


def baseline_kinds(folders: Sequence[str]) -> dict[str, str]:
    """What baselines' folders hold, read from their files alone.

    Args:
        folders: Written by `llink finetune` and `llink langbridge`.

    Returns:
        Folder by name: `finetune` or `langbridge`.

    Raises:
        DataError: If a folder holds neither, or two hold the same.
    """
    kinds: dict[str, str] = {}
    for folder in folders:
        adapter = (Path(folder) / ADAPTER_CONFIG).is_file()
        if not adapter and not is_langbridge(folder):
            raise DataError(
                f"{folder} holds no baseline: give a folder that `llink finetune` or `llink langbridge` wrote."
            )
        name = "finetune" if adapter else "langbridge"
        if name in kinds:
            raise DataError(f"{kinds[name]} and {folder} are both a {name}: compare with one at a time.")
        kinds[name] = str(folder)
    return kinds


def system_names(baselines: Collection[str] = (), only: Collection[str] | None = None) -> list[str]:
    """What is compared: `base`, `llink`, and `finetune` and `langbridge` where their folders are given.

    Args:
        baselines: Folders that `llink finetune` and `llink langbridge` wrote.
        only: Of those names; all when not given.

    Raises:
        DataError: If a folder holds no baseline, two hold the same kind, or a name is none of them.
    """
    names = ["base", "llink", *baseline_kinds(baselines)]
    if only is None:
        return names
    wanted = [str(name) for name in only]
    if not wanted or (unknown := set(wanted) - set(names)):
        wrong = ", ".join(sorted(unknown)) if wanted else "nothing"
        raise DataError(f"--systems names {wrong}: choose of {', '.join(names)}; baselines come by --baselines FOLDER.")
    return [name for name in names if name in wanted]


@checked
def load_systems(
    model: str,
    baselines: Collection[str] = (),
    dtype: str | torch.dtype = "auto",
    only: Collection[str] | None = None,
    **loading: Any,
) -> dict[str, System]:
    """Loads an llink model and the baselines that it is compared with.

    Args:
        model: Folder or repository of an llink model.
        baselines: Folders that `llink finetune` and `llink langbridge` wrote.
        dtype: Of the bases.
        only: Names of the systems wanted; all when not given.
        loading: As `from_pretrained` takes it: `attn_implementation`, `device_map`, … .

    Returns:
        By name: `base`, `llink`, and `finetune` and `langbridge` where their folders are given.

    Raises:
        DataError: If a folder holds no baseline, two hold the same kind, or a name is none of the systems'; before
            anything is loaded.
        LlinkCheckpointError, BaseModelError: If a model cannot be loaded.
    """
    names = system_names(baselines, only)
    loading |= {"dtype": dtype}
    systems: dict[str, System] = {}
    if {"base", "llink"} & set(names):
        both = llink_systems(LlinkForCausalLM.from_pretrained(model, **loading))
        systems = {name: system for name, system in both.items() if name in names}
    for name, folder in baseline_kinds(baselines).items():
        if name not in names:
            continue
        if name == "finetune":
            systems[name] = RawTextSystem(name, *load_direct(folder, **loading))
        else:
            systems[name] = LangBridgeSystem(LangBridgeForCausalLM.from_pretrained(folder, **loading))
    return systems
