"""Which frozen encoder, layer and pooling to build on, told before any training (paper 4.1 leaves the choice open).

Two measures on a few thousand pairs, both by retrieval: *zero-shot*, the encoder's own vectors of both sides, which
only a multilingual sentence encoder can do; and a *linear probe*, ridge regression from z_F to the vectors that Stage A
would align it with, which tells how much of them a projector can read off z_F.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..building import fit_teacher_space
from ..data.errors import DataError
from ..modeling_llink.layers import TeacherSpace, device_of, pool
from ..modeling_llink.passages import ReadingOptions, check_passage, read_passage
from .retrieval import retrieval_ranks

#: Ridge penalties that are tried, as multiples of the mean squared singular value of the features.
PENALTIES = tuple(10.0**power for power in range(-4, 3))


@torch.no_grad()
def layer_features(
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layers: Sequence[int],
    poolings: Sequence[str],
    max_chars: int = 256,
    max_tokens: int = 256,
    batch_size: int = 32,
    show_progress: bool = False,
    prefix: str = "",
) -> dict[tuple[int, str], Tensor]:
    """z of every layer and pooling from one forward pass a text; each as `encoder_layer` and `pooling` would give it.

    Args:
        encoder: The frozen encoder.
        tokenizer: Its tokenizer.
        texts: N texts.
        layers: Hidden states: 0 the embeddings, -1 the last layer.
        poolings: Of `mean`, `cls`, `max` and `last`.
        max_chars, max_tokens: Where texts are cut.
        batch_size: Texts in one forward pass.
        show_progress: Whether to show a bar.
        prefix: What stands before each text, as `encoder_prefix`.

    Returns:
        (N, d_e) float32 on the CPU for each layer and pooling.
    """
    limits = dict(max_foreign_chars=max_chars, max_foreign_tokens=max_tokens)
    options = ReadingOptions(num_slots=1, encoder_prefix=prefix, **limits)
    readings = [read_passage(check_passage(text), tokenizer, tokenizer, options) for text in texts]
    encoded = [reading.pieces[0].ids for reading in readings]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]), reverse=True)
    found: dict[tuple[int, str], list[Tensor]] = {(layer, pooling): [] for layer in layers for pooling in poolings}
    device = device_of(encoder)
    for start in tqdm(range(0, len(order), batch_size), desc="encoder", disable=not show_progress):
        rows = [torch.tensor(encoded[i]) for i in order[start : start + batch_size]]
        pad = tokenizer.pad_token_id or 0
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)  # (B, L)
        mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows]).unsqueeze(1)
        ids, mask = ids.to(device), mask.long().to(device)
        output = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        for layer, pooling in found:
            states = output.last_hidden_state if layer == -1 else output.hidden_states[layer]  # (B, L, d_e)
            found[layer, pooling].append(pool(states, mask, pooling).cpu())
    back = torch.empty(len(order), dtype=torch.int64)
    back[torch.tensor(order)] = torch.arange(len(order))
    return {place: torch.cat(found.pop(place))[back] for place in list(found)}  # each is held once


@dataclass(frozen=True)
class Fold:
    """One fold of a probe: which rows fit it, which are held out, and all targets in the space of the first.

    Attributes:
        fitted, held_out: Row numbers.
        targets: (N, d) conditioned targets; the statistics are those of the fitted rows.
    """

    fitted: Tensor
    held_out: Tensor
    targets: Tensor


def probe_folds(
    targets: Tensor,
    groups: Sequence[int],
    folds: int = 4,
    conditioning: str = "whiten",
    components: int = 256,
    seed: int = 0,
) -> list[Fold]:
    """Splits pairs for cross-validation, and conditions the targets for each fold as Stage A would.

    Args:
        targets: (N, d) raw teacher states, or other vectors of the English side.
        groups: N group numbers; rows of a group share a sentence and stay in one fold.
        folds: How many.
        conditioning: As in [`TeacherSpace`].
        components: At most; no more than a quarter of the fitted rows are kept, as more cannot be estimated.
        seed: Decides which group goes where.

    Raises:
        DataError: If there are fewer than 2 folds, or a fold would be left without rows.
    """
    order = sorted(set(groups))
    random.Random(seed).shuffle(order)
    if not 2 <= folds <= len(order):
        raise DataError(f"folds={folds} must lie between 2 and {len(order)}, the groups of pairs that share no text.")
    fold_of = {group: place % folds for place, group in enumerate(order)}
    place = torch.tensor([fold_of[group] for group in groups])
    made = []
    for fold in range(folds):
        fitted, held_out = (place != fold).nonzero().flatten(), (place == fold).nonzero().flatten()
        kept = max(1, min(components, targets.shape[1], len(fitted) // 4))
        space = TeacherSpace(targets.shape[1], conditioning, kept, 1.0)
        fit_teacher_space(space, targets[fitted])
        made.append(Fold(fitted, held_out, space(targets)))
    return made


def probe_ranks(features: Tensor, folds: Sequence[Fold]) -> Tensor:
    """Ranks of the right targets among those of the same fold, for ridge regressions fitted on the other folds.

    Args:
        features: (N, d_e) z_F.
        folds: From [`probe_folds`].

    Returns:
        (N,) ranks, from 1 to the size of the row's fold.
    """
    ranks = torch.zeros(len(features), dtype=torch.int64)
    for fold in folds:
        predicted = ridge_predictions(features[fold.fitted], fold.targets[fold.fitted], features[fold.held_out])
        ranks[fold.held_out] = retrieval_ranks(predicted, fold.targets[fold.held_out])
    return ranks


def ridge_predictions(features: Tensor, targets: Tensor, queries: Tensor) -> Tensor:
    """Ridge regression in closed form; the penalty is the one of `PENALTIES` with the least leave-one-out error.

    Args:
        features: (n, d_e) and targets: (n, d) of the fitted rows.
        queries: (m, d_e) rows to predict.

    Returns:
        (m, d) predictions, float32.
    """
    mean, offset = features.double().mean(dim=0), targets.double().mean(dim=0)
    u, s, v = torch.linalg.svd(features.double() - mean, full_matrices=False)  # (n, r), (r,), (r, d_e)
    y = targets.double() - offset
    read = u.T @ y  # (r, d)
    best, weights = torch.inf, read
    for penalty in PENALTIES:
        kept = s**2 / (s**2 + penalty * (s**2).mean())  # (r,)
        leverage = u**2 @ kept + 1 / len(y)  # (n,)
        error = (((y - (u * kept) @ read) / (1 - leverage).clamp(min=1e-9).unsqueeze(1)) ** 2).mean().item()
        if error < best:
            best, weights = error, (kept / s.clamp(min=1e-30)).unsqueeze(1) * read
    return ((queries.double() - mean) @ v.T @ weights + offset).float()


def layer_numbers(count: int, wanted: Sequence[str], name: str) -> list[int]:
    """Layers of an encoder as `encoder_layer` takes them, the last as -1.

    Args:
        count: Its layers.
        wanted: `all`, or numbers as strings: 0 the embeddings, -1 the last.
        name: How messages call the encoder.

    Raises:
        DataError: If a layer does not exist.
    """
    if list(wanted) == ["all"]:
        return [*range(count), -1]
    return list(dict.fromkeys(_layers(count, wanted, name)))


def _layers(count: int, wanted: Sequence[str], name: str) -> Iterator[int]:
    for text in wanted:
        number = int(text) if text.removeprefix("-").isdecimal() else None
        if number is None or not -count - 1 <= number <= count:
            raise DataError(
                f"Layer {text!r} of {name} does not exist: give `all`, or numbers from {-count - 1} to {count}."
            )
        place = number % (count + 1)
        yield -1 if place == count else place
