"""Between the stages: slots of tokens learn which of the decoder's words they stand for, as a dictionary."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from ..arguments_llink import checked_methods
from ..building import draw_anew
from ..configuration_llink import LlinkConfigError
from ..data.pairs import apart_from, check_pairs, sentences, warn_of_leaks
from ..data.shapes import pair_dataset
from ..data.token_states import TokenStates, token_states
from ..modeling_llink.errors import LlinkCheckpointError, NotFittedError
from ..modeling_llink.layers import device_of
from ..modeling_llink.passages import Piece, check_passage
from .arguments import check_arguments, split_groups
from .base import Evaluated, LlinkTrainer, Optimizers, named_sets
from .lexicon_config import LexiconConfig
from .lexicon_loss import PADDING, UNKNOWN, Dictionary, bag_of_words_losses, covering_tokens, found_words

logger = logging.getLogger(__name__)

#: What a checkpoint holds beside the model, for a broken run to go on.
DICTIONARY_FILE = "dictionary.safetensors"


class WordTensors(torch.utils.data.Dataset):
    """Pairs as the encoder's states of both sides, and indices of words in the vocabulary; `collate` gathers a batch.

    Args:
        foreign: States of the N foreign sides.
        words: For each, the indices of its reference's distinct words, or [`UNKNOWN`].
        english: States of the N English sides; None where there is nothing to learn from them.
        targets: For each English side (L, 2): a slot of it, and the index of a word that one of its tokens stands for.
    """

    def __init__(
        self,
        foreign: TokenStates,
        words: Sequence[Sequence[int]],
        english: TokenStates | None = None,
        targets: Sequence[Tensor] | None = None,
    ) -> None:
        self.foreign, self.words, self.english, self.targets = foreign, words, english, targets

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, row: int) -> int:
        return row

    def collate(self, rows: list[int]) -> dict[str, Tensor]:
        """B row numbers → `words` (B, R), `rows` (B,), `known` (B,): the English tokens that have a word."""
        longest = max(1, *(len(self.words[row]) for row in rows))
        words = torch.full((len(rows), longest), PADDING)
        for place, row in enumerate(rows):
            words[place, : len(self.words[row])] = torch.tensor(self.words[row], dtype=torch.long)
        known = [0 if self.targets is None else len(self.targets[row]) for row in rows]
        return {"words": words, "rows": torch.tensor(rows), "known": torch.tensor(known)}


@checked_methods
class LexiconTrainer(LlinkTrainer):
    r"""Trains the dictionary of a model with `slot_expander="tokens"`, and nothing else, on parallel text.

    The decoder's layers are not run. The first steps (`english_share`) learn from the English sides alone: an encoder
    token's word is the decoder's token that covers its first character. The encoder says much the same of a word in
    any language, so this already is a dictionary of languages that it never saw; the other steps learn from the foreign
    sides which of the reference's words stand there, in whatever order. Stage B then starts from slots that the decoder
    can read. `self.model` is the [`Dictionary`], `self.llink_model` the whole model; see [`LlinkTrainer`]. Training
    pairs that share a sentence with a held-out pair are left out; one warning counts them.

    Evaluation reports `eval_loss`, nats a word of those that the vocabulary holds, `eval_recall`, the share of the
    reference's distinct words that are some token's first choice, and `eval_known`, the share that could be.

    Args:
        model: A [`LlinkForCausalLM`] with slots of tokens; it is trained in place.
        args: A [`LexiconConfig`].
        train_dataset: Pairs, as [`pair_dataset`] takes them.
        eval_dataset: The same, or a dict of them by name.
        callbacks, optimizers: As in `Trainer`.

    Raises:
        LlinkConfigError: If `args` is no [`LexiconConfig`].
        NotFittedError: If the model's slots are not made of tokens, or it is not between Stage A and Stage B.
        DataError: If a dataset lacks columns, or holds blank or non-string sentences.
        LlinkConfigError: If `english_share` is above 0, and a tokenizer does not tell where its tokens stand.
    """

    # The loss is the mean over the tokens, or the rows, of the whole accumulated batch.
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
        _check_ready(model)
        held_out = {name: pair_dataset(dataset, name=name) for name, dataset in named_sets(eval_dataset).items()}
        for name, dataset in held_out.items():
            check_pairs(dataset, name)
        if train_dataset is not None:
            train_dataset = pair_dataset(train_dataset, name="train_dataset")
            check_pairs(train_dataset, "train_dataset")
            train_dataset = apart_from(train_dataset, held_out)
            check_pairs(train_dataset, "train_dataset, without what is held out,")
            for name, dataset in held_out.items():
                warn_of_leaks(dataset, train_dataset, name)
            _check_offsets(model, args.english_share)
        if not model.slot_embedder.learned:
            draw_anew(model, args.seed, ("slots",))
        model.slot_embedder.requires_grad_(True)
        model.slot_embedder.scale.requires_grad_(False)
        counts = torch.zeros(model.config.vocab_size)
        if train_dataset is not None:
            tokens = [token for row in _references(model, train_dataset)["input_ids"] for token in row]
            counts = torch.bincount(torch.tensor(tokens), minlength=model.config.vocab_size)
        super().__init__(
            Dictionary(model.slot_embedder, counts, args.vocabulary_size),
            args,
            llink_model=model,
            train_dataset=train_dataset,
            eval_dataset=held_out if isinstance(eval_dataset, dict) else held_out.get("eval_dataset"),
            callbacks=callbacks,
            optimizers=optimizers,
        )

    # ------------------------------------------------------------------ data

    def make_tensors(self, dataset: Dataset) -> WordTensors:
        """The pairs as states and words; of the training pairs also the English sides."""
        dataset = pair_dataset(dataset, name="eval_dataset")
        check_pairs(dataset, "eval_dataset")
        places = {token: place for place, token in enumerate(self.model.vocabulary.tolist())}
        references = _references(self.llink_model, dataset)
        read = self._read(dataset, "foreign")
        # What is written out in the prompt is no slot's to say.
        written = [{token for piece in pieces for token in piece.tokens} for pieces in read]
        bags = [sorted(set(row) - own) for row, own in zip(references["input_ids"], written, strict=True)]
        words = [[places.get(token, UNKNOWN) for token in bag] for bag in bags]
        if silent := sum(max(row, default=UNKNOWN) < 0 for row in words):
            logger.warning("%d of %d references hold no word of the vocabulary.", silent, len(words))
        with self.args.main_process_first(desc="computing the states of tokens"):
            foreign = self._states(read, "Reading the foreign side")
            if dataset is not self.train_dataset or not self.args.english_share:
                return WordTensors(foreign, words)
            read = self._read(dataset, "english")
            english = self._states(read, "Reading the English side")
        return WordTensors(foreign, words, english, self._targets(dataset, read, references, places))

    def _read(self, dataset: Dataset, side: str) -> list[list[Piece]]:
        processor, texts = self.llink_model.processor, sentences(dataset, side)
        if side == "english":  # which is no foreign text: nothing to warn of
            return [processor.read(check_passage(text)).pieces for text in texts]
        return processor.read_passages(texts)

    def _states(self, read: list[list[Piece]], desc: str) -> TokenStates:
        folder = self.args.feature_cache_dir or os.path.join(self.args.output_dir, "_feature_cache")
        label = None if self.args.disable_tqdm else desc
        return token_states(self.llink_model, read, folder, self.args.feature_batch_size, label)

    def _targets(
        self, dataset: Dataset, read: list[list[Piece]], references: dict[str, Any], places: dict[int, int]
    ) -> list[Tensor]:
        """For each English side (L, 2): a slot, and the index of a word that one of its tokens stands for."""
        targets = []
        for row, (text, pieces) in enumerate(zip(sentences(dataset, "english"), read, strict=True)):
            spans = [span for piece in pieces for span in piece.spans]
            before = accumulate([max(piece.slots) for piece in pieces[:-1]], initial=0)
            slots = [
                place + slot - 1 if slot else -1
                for place, piece in zip(before, pieces, strict=True)
                for slot in piece.slots
            ]
            own, own_spans = (references[name][row] for name in ("input_ids", "offset_mapping"))
            covering = covering_tokens(text.strip(), spans, own, own_spans)
            known = [(slot, places.get(token, -1)) for slot, token in zip(slots, covering, strict=True)]
            targets.append(torch.tensor([pair for pair in known if min(pair) >= 0], dtype=torch.long).view(-1, 2))
        return targets

    # ------------------------------------------------------------------ training

    def of_whole_step(self, batches: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
        """`step_rows`, `step_known`: how many rows, and English tokens with a target, the step has."""
        rows = torch.tensor(sum(len(batch["rows"]) for batch in batches), device=device)
        known = sum(batch["known"].sum() for batch in batches).to(device)
        return {"step_rows": self.over_processes(rows), "step_known": self.over_processes(known)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The dictionary: matrices, and biases, sharpness and prior, which are not decayed."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return split_groups("word", trained, self.args.learning_rate, self.args.weight_decay)

    @property
    def english_steps(self) -> int:
        """The steps that learn from the English sides alone, from the first on."""
        return round(self.args.english_share * self.state.max_steps)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """This micro-batch's share of the step's loss.

        states (M, C) → logits (M, V') → English tokens: their words; foreign passages: their bags of words → scalar
        """
        rows, tensors = inputs["rows"].tolist(), self.tensors_of(self.train_dataset)
        if self.state.global_step < self.english_steps:
            logits = self._logits(model, tensors.english, rows)  # (M, V')
            ends = accumulate([tensors.english.counts[row] for row in rows[:-1]], initial=0)
            pairs = [tensors.targets[row] + torch.tensor([start, 0]) for row, start in zip(rows, ends, strict=True)]
            slots, targets = torch.cat(pairs).to(logits.device).unbind(dim=1)  # (L',), (L',)
            total = inputs.get("step_known", inputs["known"].sum()).clamp(min=1)
            loss = F.cross_entropy(logits[slots], targets, reduction="sum") / total
            fine = torch.isfinite(loss).expand(len(rows))
        else:
            logits = self._logits(model, tensors.foreign, rows)  # (M, V')
            losses = bag_of_words_losses(logits, [tensors.foreign.counts[row] for row in rows], inputs["words"])  # (B,)
            loss, fine = losses.sum() / inputs.get("step_rows", len(rows)), torch.isfinite(losses)
        self.check_finite(loss, fine, [self.train_dataset[row]["id"] for row in rows])
        if model.training:
            self.llink_model.slot_embedder.fitted.fill_(True)
        # DistributedDataParallel averages the processes' gradients; the loss is already divided by the whole step.
        loss = loss * (self.args.world_size if model.training else 1)
        return (loss, {"logits": logits}) if return_outputs else loss

    def _logits(self, model: nn.Module, states: TokenStates, rows: list[int]) -> Tensor:
        place = device_of(self.model)
        embeddings = self.model.embeddings(self.llink_model.get_input_embeddings())  # (V', d)
        return model(states.of(rows).to(place, torch.float32), embeddings)  # (M, V')

    # ------------------------------------------------------------------ evaluation and checkpoints

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """The loss and the shares of words found and known, over a whole set."""
        columns: list[tuple[Tensor, ...]] = []
        for batch in batches:
            rows, words = batch["rows"].tolist(), batch["words"]
            logits, counts = self._logits(model, dataset.foreign, rows), [dataset.foreign.counts[row] for row in rows]
            losses, known = bag_of_words_losses(logits, counts, words), (words >= 0).sum(dim=1)  # (B,), (B,)
            gathered = self.accelerator.gather_for_metrics((losses, known, *found_words(logits, counts, words)))
            columns.append(tuple(value.cpu() for value in gathered))
        losses, known, found, words = (torch.cat(column) for column in zip(*columns, strict=True))  # (N,) each
        loss = (losses * known).sum() / known.sum().clamp(min=1)
        metrics = {"loss": loss, "recall": found.sum() / words.sum(), "known": known.sum() / words.sum()}
        return found, words, {name: value.item() for name, value in metrics.items()}

    @staticmethod
    def metric_names(dataset: Dataset) -> list[str]:
        """The loss, the recall, and the share of words that could be found."""
        return ["loss", "recall", "known"]

    def save_weights(self, folder: str, state_dict: dict[str, Tensor] | None = None) -> None:
        """Writes the whole llink model, and beside it what serves learning alone."""
        super().save_weights(folder)
        own = {name: self.model.state_dict()[name].contiguous() for name in ("sharpness", "prior", "vocabulary")}
        save_file(own, Path(folder) / DICTIONARY_FILE)

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's slots, and what they were learned with.

        Raises:
            LlinkCheckpointError: If something is missing, damaged or does not fit.
        """
        super().load_weights(folder)
        path = Path(folder) / DICTIONARY_FILE
        try:
            own = load_file(path)
            self.model.load_state_dict({**self.model.state_dict(), **own})
        except (OSError, SafetensorError, RuntimeError) as error:
            raise LlinkCheckpointError(f"{path} does not hold this dictionary: {error}") from error
        self._tensors = {}  # words are indices in the vocabulary


def _references(model: Any, dataset: Dataset) -> dict[str, Any]:
    """The decoder's tokens of each pair's English side, cut as the teacher's, and where they stand in it."""
    texts = [text.strip() for text in sentences(dataset, "english")]
    limit = model.config.teacher_max_tokens
    return _with_offsets(model.processor.tokenizer, texts, truncation=True, max_length=limit)


def _with_offsets(tokenizer: Any, texts: list[str], **options: Any) -> dict[str, Any]:
    """`input_ids` of texts, in which a control token is text, and, where it is known, their `offset_mapping`."""
    options |= {"add_special_tokens": False, "split_special_tokens": True}
    return tokenizer(texts, return_offsets_mapping=tokenizer.is_fast, **options)


def _check_offsets(model: Any, share: float) -> None:
    """Refuses learning from the English sides where it cannot be known which tokens stand for the same."""
    for name in ("tokenizer", "encoder_tokenizer"):
        tokenizer = getattr(model.processor, name)
        if share and not tokenizer.is_fast:
            raise LlinkConfigError(
                f"english_share={share}: the {name} {type(tokenizer).__name__} does not tell where its tokens stand in "
                "a text. Use its fast version, or set english_share=0."
            )


def _check_ready(model: PreTrainedModel) -> None:
    """Refuses a model that cannot learn a dictionary now.

    Raises:
        NotFittedError: If its slots are not made of tokens, or it is not between Stage A and Stage B.
    """
    if model.config.slot_expander != "tokens":
        raise NotFittedError(
            f"slot_expander={model.config.slot_expander!r} has no dictionary to learn. Call "
            "renew_slots(model, slot_expander='tokens') first."
        )
    if model.config.stage not in ("align", "lexicon"):
        raise NotFittedError(
            f"The model's stage is {model.config.stage!r}: a dictionary is learned after Stage A, and before LoRA "
            "learns to read it. Start from the Stage A model."
        )
