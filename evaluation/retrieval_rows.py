"""The rows of table 1 for one model: the vectors on both sides of retrieval, system by system (paper 5.2 and 6.1).

On the English side stands the teacher, for every row but `encoder`. On the foreign side:

- `encoder`: the frozen encoder's pooled vectors, without any training; its English side is its own too;
- `base`: the untouched decoder's state for the foreign text, read where the teacher's is;
- `finetune`: the same with a direct fine-tune's LoRA;
- `stage_a`: p_F, or `untrained` where nothing was trained;
- `full`: the mean of the slots after Stage B, or the first where the others stand for words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..data.errors import DataError
from ..data.features import condition
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.encoding import teacher_inputs
from ..modeling_llink.lora import lora_rows
from ..modeling_llink.pieces import cut_text


def retrieval_rows(
    model: LlinkForCausalLM,
    english: Sequence[str],
    foreign: Sequence[str],
    finetuned: PreTrainedModel | None = None,
    batch_size: int = 32,
    show_progress: bool = False,
    rows: Sequence[str] = (),
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Computes the vectors of each row that the model can have; each base reads each text once a row at most.

    Args:
        model: Its LoRA and weights stay as they are.
        english: N sentences.
        foreign: Their N translations.
        finetuned: The decoder of a direct fine-tune, its LoRA on, for the row `finetune`.
        batch_size: Texts in one forward pass.
        show_progress: Whether to show bars.
        rows: Names of the rows that are computed; all that the model can have when empty.

    Yields:
        The row's name, its foreign and its English vectors, both (N, width) on the CPU. Nothing is kept of a row that
        was used, but z_F and the teacher's vectors.

    Raises:
        DataError: If the fine-tuned decoder is not the model's, or if `rows` names one that cannot be had.
        NotFittedError: If the teacher's space was never fitted.
        ForeignTextError: If a text is empty or not usable.
    """
    _check_decoder(model, finetuned)
    wanted = _wanted_rows(model, finetuned, rows)
    model.teacher_space.check_fitted()
    options = {"batch_size": batch_size, "show_progress": show_progress}
    pooled = model.get_pooled_features(foreign, **options)  # z_F (N, d_e)
    if "encoder" in wanted:
        yield "encoder", pooled, model.get_pooled_features(english, **options)
    teachers = condition(model.teacher_space, model.get_teacher_states(english, **options))  # h_E (N, d)
    if "base" in wanted:
        with lora_rows(False):
            states = raw_text_states(model, model.decoder, foreign, **options)
        yield "base", condition(model.teacher_space, states), teachers
    if finetuned is not None and "finetune" in wanted:
        states = raw_text_states(model, finetuned, foreign, **options)
        yield "finetune", condition(model.teacher_space, states), teachers
    for name in wanted & {"untrained", "stage_a"}:
        yield name, model.project(pooled), teachers  # p_F (N, d)
    if "full" in wanted:
        yield "full", slot_features(model, foreign, **options), teachers


def slot_features(
    model: LlinkForCausalLM, texts: Sequence[str], batch_size: int = 32, show_progress: bool = False
) -> Tensor:
    """Foreign texts → the full model's embeddings (N, d), float32 on the CPU.

    They are the means of the slots, which Stage B's auxiliaries hold near the teacher (paper 4.2), so they are
    comparable with `get_teacher_features`. Nothing holds slots of tokens there: with them it is p_F.

    Raises:
        ForeignTextError: If a text is unusable.
    """
    if model.slot_embedder.reads_states:
        return model.get_foreign_features(texts, batch_size)
    slots = model.encode_foreign(texts, batch_size, show_progress)  # N of (K, d)
    return torch.stack([of_text.mean(dim=0) for of_text in slots]).cpu()


def _wanted_rows(model: LlinkForCausalLM, finetuned: PreTrainedModel | None, rows: Sequence[str]) -> set[str]:
    possible = ["encoder", "base"] + ["finetune"] * (finetuned is not None)
    trained = {"untrained": ["untrained"], "inject": ["stage_a", "full"]}
    possible += trained.get(model.config.stage, ["stage_a"])
    if unknown := set(rows) - set(possible):
        raise DataError(f"There is no row {', '.join(sorted(unknown))} here: choose from {', '.join(possible)}.")
    return set(rows or possible)


def _check_decoder(model: LlinkForCausalLM, finetuned: PreTrainedModel | None) -> None:
    if finetuned is None:
        return
    own, other = model.decoder.config.get_text_config(), finetuned.config.get_text_config()
    for name in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size"):
        if getattr(own, name) != getattr(other, name):
            raise DataError(
                f"The fine-tuned decoder has {name}={getattr(other, name)}, the model's own {getattr(own, name)}: "
                "compare with a fine-tune of the same decoder."
            )


def raw_text_states(
    model: LlinkForCausalLM,
    decoder: PreTrainedModel,
    texts: Sequence[str],
    batch_size: int = 32,
    show_progress: bool = False,
) -> Tensor:
    """A decoder's states for raw foreign text where the teacher's are read for English (paper 5.2), not conditioned.

    The text is cut at the characters at which llink cuts its passages, not at the teacher's `teacher_max_tokens`, which
    would leave half a Khmer sentence.

    Args:
        model: Gives the template, the state, the layer and the tokenizer.
        decoder: The model's own, or one of the same architecture; LoRA is used as it is set.
        texts: N texts.
        batch_size: Texts in one forward pass.
        show_progress: Whether to show a bar.

    Returns:
        (N, d) float32 on the CPU.
    """
    config = model.config
    texts = [cut_text(text.strip(), config.max_foreign_chars).rstrip() for text in texts]
    frame = teacher_inputs(model.processor, ["a"], config.teacher_template, 1)["input_ids"].shape[1]
    room = getattr(decoder.config.get_text_config(), "max_position_embeddings", 1_000_000) - frame
    return model.read_states(decoder, texts, room, batch_size, show_progress)
