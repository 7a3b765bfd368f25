"""What is compared: systems that answer the same instruction rows, each on its own way of reading the foreign text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import BatchFeature

from ..baselines.direct import raw_text_message
from ..configuration_llink import FOREIGN_TOKEN
from ..modeling_llink import LlinkForCausalLM, LlinkProcessor

Rows = Sequence[Mapping[str, Any]]


class System(ABC):
    """A system under evaluation.

    Args:
        name: What tables and files call it.
        model: Has `generate`, `device` and `generation_config`.
        processor: Renders its prompts.
    """

    def __init__(self, name: str, model: Any, processor: LlinkProcessor) -> None:
        self.name, self.model, self.processor = name, model, processor

    @abstractmethod
    def inputs(self, rows: Rows) -> BatchFeature:
        """The model's inputs: `input_ids` and `attention_mask` (B, S), padded on the left, and what the text became.

        Raises:
            ForeignTextError, PromptError: If a row is unusable.
        """

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
            "pad_token_id": self.processor.pad_token_id,
        }
        if self.model.generation_config.eos_token_id is None:
            options["eos_token_id"] = self.processor.tokenizer.eos_token_id
        answers: list[str] = []
        for start in tqdm(range(0, len(rows), batch_size), desc=self.name, disable=not show_progress):
            inputs = self.inputs(rows[start : start + batch_size]).to(self.model.device)
            tokens = self._new_tokens(inputs, options)
            answers += self.processor.batch_decode(tokens, skip_special_tokens=True)
        return answers

    def _new_tokens(self, inputs: BatchFeature, options: dict[str, Any]) -> Tensor:
        """(B, new) ids of the answers."""
        return self.model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]


class LlinkSystem(System):
    """llink itself: slots in place of the foreign text."""

    def __init__(self, model: LlinkForCausalLM, name: str = "llink") -> None:
        super().__init__(name, model, model.processor)

    def inputs(self, rows: Rows) -> BatchFeature:
        messages = [self.processor.template_message(row["prompt"], row["foreign"], FOREIGN_TOKEN) for row in rows]
        return self.processor.apply_chat_template(
            [[message] for message in messages],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )


class RawTextSystem(System):
    """A decoder that reads the foreign text as its own tokens: the untouched base, or one that was fine-tuned.

    An llink model serves as its own base decoder: prompts without slots run with LoRA off.
    """

    def inputs(self, rows: Rows) -> BatchFeature:
        return self.processor.render_batch([[raw_text_message(self.processor, row)] for row in rows])


def llink_systems(model: LlinkForCausalLM) -> dict[str, System]:
    """The two systems that one llink model holds: `base`, its decoder as its authors left it, and `llink`."""
    return {"base": RawTextSystem("base", model, model.processor), "llink": LlinkSystem(model)}


def load_systems(model: str, baselines: Sequence[str] = (), dtype: str = "auto") -> dict[str, System]:
    """Loads an llink model and the baselines it is compared with.

    Args:
        model: Folder or repository of an llink model.
        baselines: Folders that `llink finetune` and `llink langbridge` wrote.
        dtype: Of the bases.

    Returns:
        By name: `base` and `llink`, then `finetune` and `langbridge` where their folders are given.
    """
    return llink_systems(LlinkForCausalLM.from_pretrained(model, dtype=dtype))
