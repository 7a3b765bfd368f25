"""Between the stages: the slots of a lexicon learn which words of the decoder stand for what."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from ..data.collators import PassageBank
from ..data.frozen import apart_from
from ..data.pairs import check_pairs, sentences, warn_of_leaks
from ..modeling_llink.errors import NotFittedError
from ..modeling_llink.layers import device_of
from .base import Evaluated, LlinkTrainer, Optimizers, check_arguments, named_sets, split_groups
from .drawing import draw_anew
from .lexicon_config import LexiconConfig

logger = logging.getLogger(__name__)

#: In place of a word's index: no word, and a word that the vocabulary does not hold.
PADDING, UNKNOWN = -1, -2


def bag_of_words_loss(log_probabilities: Tensor, words: Tensor) -> Tensor:
    r"""How badly the slots foretell the words of the reference, in whatever order.

    −1/|W| Σ_{w∈W} log 1/K Σ_k p_k(w): each word comes from one of the slots, no matter which (IBM model 1, Brown et
    al. 1993, section 4.4, with contextual slots in place of source words).

    Args:
        log_probabilities: (B, K, V') log p of each slot.
        words: (B, R) indices of the reference's distinct words in the vocabulary; below 0 where there is none.

    Returns:
        (B,) nats a word; 0 where a reference has no word of the vocabulary.
    """
    known = words >= 0  # (B, R)
    index = words.clamp(min=0).unsqueeze(1).expand(-1, log_probabilities.shape[1], -1)  # (B, K, R)
    each = log_probabilities.float().gather(2, index)  # (B, K, R)
    mixed = each.logsumexp(dim=1) - math.log(each.shape[1])  # (B, R)
    return -(mixed * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def found_words(log_probabilities: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the reference's words are some slot's first choice, and of how many.

    Args:
        log_probabilities: (B, K, V').
        words: (B, R) as in [`bag_of_words_loss`]; [`PADDING`] is no word, [`UNKNOWN`] one outside the vocabulary.

    Returns:
        (B,) found, (B,) all.
    """
    first = log_probabilities.argmax(dim=-1)  # (B, K)
    found = (words.unsqueeze(2) == first.unsqueeze(1)).any(dim=2)  # (B, R)
    return found.sum(dim=1), (words != PADDING).sum(dim=1)


class WordTensors(torch.utils.data.Dataset):
    """Pairs as encoder tokens and indices of the reference's distinct words; `collate` gathers a batch.

    Args:
        bank: The N passages.
        words: For each, the indices of its reference's words in the lexicon's vocabulary, or [`UNKNOWN`].
    """

    def __init__(self, bank: PassageBank, words: Sequence[Sequence[int]]) -> None:
        self.bank, self.words = bank, words

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, row: int) -> int:
        return row

    def collate(self, rows: list[int]) -> dict[str, Tensor]:
        """B row numbers → the passages (B, 1, L), `words` (B, R), `rows` (B,)."""
        longest = max(1, *(len(self.words[row]) for row in rows))
        words = torch.full((len(rows), longest), PADDING)
        for place, row in enumerate(rows):
            words[place, : len(self.words[row])] = torch.tensor(self.words[row], dtype=torch.long)
        return {**self.bank.batch([[row] for row in rows]), "words": words, "rows": torch.tensor(rows)}


class LexiconTrainer(LlinkTrainer):
    r"""Trains the lexicon of a model with `slot_expander="lexicon"`, and nothing else, on parallel text.

    The decoder's layers are not run: a lexicon learns which of the decoder's words each stretch of a passage stands
    for. Stage B then starts from slots that the decoder can already read. `self.model` is the lexicon,
    `self.llink_model` the whole model; see [`LlinkTrainer`]. The vocabulary is chosen from the training references,
    unless the model has one already. Training pairs that share a sentence with a held-out pair are left out; one
    warning counts them.

    Evaluation reports `eval_loss`, nats a word of those that the vocabulary holds, `eval_recall`, the share of the
    reference's distinct words that are some slot's first choice, and `eval_known`, the share that could be.

    Args:
        model: A [`LlinkForCausalLM`] with a lexicon; it is trained in place.
        args: A [`LexiconConfig`].
        train_dataset: Pairs (`id`, `english`, `foreign`).
        eval_dataset: Pairs, or a dict of named pairs.
        callbacks, optimizers: As in `Trainer`.

    Raises:
        TypeError: If `args` is no [`LexiconConfig`].
        NotFittedError: If the model's slots are not made of words, or it is not between Stage A and Stage B.
        DataError: If a dataset lacks columns, or holds blank or non-string sentences.
    """

    # The loss is the mean over the rows of the whole accumulated batch.
    loss_is_scaled_for_ga = True
    stage = "lexicon"
    _tag_names = ("llink", "lexicon")

    def __init__(
        self,
        model: PreTrainedModel,
        args: LexiconConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: Optimizers = (None, None),
    ) -> None:
        args = LexiconConfig(output_dir="llink-lexicon") if args is None else args
        check_arguments(args, LexiconConfig, type(self))
        lexicon = _lexicon_of(model)
        held_out = named_sets(eval_dataset)
        for name, dataset in {"train_dataset": train_dataset, **held_out}.items():
            if dataset is not None:
                check_pairs(dataset, name)
        if train_dataset is not None:
            train_dataset = apart_from(train_dataset, held_out)
            check_pairs(train_dataset, "train_dataset, without what is held out,")
            for name, dataset in held_out.items():
                warn_of_leaks(dataset, train_dataset, name)
        lexicon.requires_grad_(True)
        if not lexicon.fitted:
            draw_anew(model, args.seed, ("slots",))
        super().__init__(
            lexicon,
            args,
            llink_model=model,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            optimizers=optimizers,
        )

    # ------------------------------------------------------------------ data

    def _references(self, dataset: Dataset) -> list[list[int]]:
        """The decoder's tokens of each pair's English side, cut as the teacher's."""
        encoded = self.llink_model.processor.tokenizer(
            sentences(dataset, "english"),
            add_special_tokens=False,
            split_special_tokens=True,  # a control token in a sentence is text
            truncation=True,
            max_length=self.llink_model.config.teacher_max_tokens,
        )
        return encoded["input_ids"]

    def _fit_vocabulary(self) -> None:
        """Chooses the words, unless the model or a checkpoint brought them."""
        lexicon = self.llink_model.slot_embedder.lexicon
        if lexicon.fitted or self.train_dataset is None:
            return
        tokens = torch.tensor([token for row in self._references(self.train_dataset) for token in row])
        counts = torch.bincount(tokens, minlength=self.llink_model.config.vocab_size).float()
        lexicon.fit(counts)

    def make_tensors(self, dataset: Dataset) -> WordTensors:
        """The pairs as tokens and words; chooses the vocabulary first where there is none."""
        check_pairs(dataset)
        processor, lexicon = self.llink_model.processor, self.llink_model.slot_embedder.lexicon
        self._fit_vocabulary()
        lexicon.check_fitted()
        places = {token: place for place, token in enumerate(lexicon.vocabulary.tolist())}
        references = [sorted(set(row)) for row in self._references(dataset)]
        words = [[places.get(token, UNKNOWN) for token in row] for row in references]
        if silent := sum(max(row, default=UNKNOWN) < 0 for row in words):
            logger.warning("%d of %d references hold no word of the vocabulary.", silent, len(words))
        return WordTensors(PassageBank(processor, sentences(dataset, "foreign")), words)

    # ------------------------------------------------------------------ training

    def of_whole_step(self, batches: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
        """`step_rows`: how many rows the step has."""
        rows = torch.tensor(sum(len(batch["rows"]) for batch in batches), device=device)
        return {"step_rows": self.over_processes(rows)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The lexicon: matrices, and biases, norms, sharpness and prior, which are not decayed."""
        return split_groups("word", self.model.parameters(), self.args.learning_rate, self.args.weight_decay)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """This micro-batch's share of the step's loss.

        passages (B, L) → states (B, L, d_e) → log p (B, K, V') → bag of words (B,) → scalar
        """
        log_probabilities = self._foretold(model, inputs)  # (B, K, V')
        losses = bag_of_words_loss(log_probabilities, inputs["words"])  # (B,)
        loss = losses.sum() / inputs.get("step_rows", len(losses))
        self.check_finite(
            loss, torch.isfinite(losses), [self.train_dataset[row]["id"] for row in inputs["rows"].tolist()]
        )
        # DistributedDataParallel averages the processes' gradients; the loss is already divided by the whole step.
        loss = loss * (self.args.world_size if model.training else 1)
        return (loss, {"log_probabilities": log_probabilities}) if return_outputs else loss

    def _foretold(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        ids, mask = inputs["foreign_input_ids"][:, 0], inputs["foreign_attention_mask"][:, 0]  # (B, L)
        place = device_of(self.model)
        states = self.llink_model.passage_states(ids, mask).to(place)  # (B, L, d_e)
        return model(states, mask.to(place), self._vocabulary())

    @torch.no_grad()
    def _vocabulary(self) -> Tensor:
        """The decoder's embeddings (V', d) of the lexicon's words."""
        return self.model.embeddings(self.llink_model.get_input_embeddings())

    # ------------------------------------------------------------------ evaluation and checkpoints

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """The loss and the shares of words found and known, over a whole set."""
        columns: list[tuple[Tensor, ...]] = []
        for batch in batches:
            log_probabilities, words = self._foretold(model, batch), batch["words"]
            losses, known = bag_of_words_loss(log_probabilities, words), (words >= 0).sum(dim=1)  # (B,), (B,)
            counts = found_words(log_probabilities, words)  # (B,), (B,)
            gathered = self.accelerator.gather_for_metrics((losses, known, *counts))
            columns.append(tuple(value.cpu() for value in gathered))
        losses, known, found, words = (torch.cat(column) for column in zip(*columns, strict=True))  # (N,) each
        loss = (losses * known).sum() / known.sum().clamp(min=1)
        metrics = {"loss": loss, "recall": found.sum() / words.sum(), "known": known.sum() / words.sum()}
        return found, words, {name: value.item() for name, value in metrics.items()}

    @staticmethod
    def metric_names(dataset: Dataset) -> list[str]:
        """The loss, the recall, and the share of words that could be found."""
        return ["loss", "recall", "known"]

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's bridge, with the vocabulary.

        Raises:
            LlinkCheckpointError: If it is missing, damaged or does not fit.
        """
        super().load_weights(folder)
        self._tensors = {}


def _lexicon_of(model: PreTrainedModel) -> Any:
    """The lexicon of a model that may learn its words now.

    Raises:
        NotFittedError: If there is none, or its model is not between Stage A and Stage B.
    """
    lexicon = model.slot_embedder.lexicon
    if lexicon is None:
        raise NotFittedError(
            f"slot_expander={model.config.slot_expander!r} has no words to learn. Call "
            "model.renew_slots(slot_expander='lexicon') first."
        )
    if model.config.stage not in ("align", "lexicon"):
        raise NotFittedError(
            f"The model's stage is {model.config.stage!r}: words are learned after Stage A, and before LoRA learns "
            "to read them. Start from the Stage A model."
        )
    return lexicon
