"""Stage B: slots are injected, and the decoder is made to use them (paper 4.2)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from ..arguments_llink import checked_methods
from ..building import draw_anew
from ..data.collators import (
    FeatureBank,
    InstructionTensors,
    PassageBank,
    instruction_tensors,
    passage_bank,
    tokenize_instructions,
)
from ..data.errors import DataError
from ..data.feature_cache import FeatureCache
from ..data.features import encoder_spec, teacher_spec
from ..evaluation.usage import (
    SHARES,
    VARIANTS,
    answered,
    collect_usage,
    usage_by_task,
    usage_metrics,
)
from ..modeling_llink.layers import device_of
from ..modeling_llink.lora import lora_parameters
from ..modeling_llink.passages import Passage
from .arguments import check_arguments, split_groups
from .base import Evaluated, LlinkTrainer, Optimizers
from .checks import rows_read
from .inject_config import InjectConfig
from .inject_loss import InjectLoss, StepTotals

logger = logging.getLogger(__name__)


@checked_methods
class InjectTrainer(LlinkTrainer):
    """Trains LoRA, the slots' scale and what makes them; projector and bases stay bit-identical (paper 4.2).

    `self.model` and `self.llink_model` are the same whole model; see [`LlinkTrainer`]. Slots and LoRA that Stage B has
    not trained yet are drawn anew from the seed; a dictionary that was learned stays.

    The encoder and the projector are frozen, so every passage is encoded once and p_F is kept (slots that are
    made of the encoder's states read every batch anew). Prompts are rendered by
    the processor exactly as in inference; the loss is taken on the answers' tokens only. Losses are sums over the
    accumulated batch divided by its size, on all processes: accumulation equals the big batch.

    Evaluation reports `eval_loss` and, in nats a token, `eval_shuffled_gap` and `eval_zeroed_gap`: by how much the loss
    rises when the slots are another example's, which only content tells apart, or zeroed; with rows of several tasks
    also `eval_<task>_shuffled_gap` and `eval_<task>_zeroed_gap`.

    Args:
        model: A [`LlinkForCausalLM`] whose projector Stage A has trained.
        args: An [`InjectConfig`].
        train_dataset: Instruction rows, as `read_instructions` returns them, or whatever [`instruction_dataset`] takes;
            of a stream the first rows are read, as many as `max_steps` need.
        eval_dataset: The same, but for streams, or a dict of them.
        callbacks, optimizers: As in `Trainer`.
        loss: What is descended, given the inputs and returning the terms that [`InjectLoss`] tabulates; one made of
            `args` when not given.

    Raises:
        LlinkConfigError: If `args` is no [`InjectConfig`].
        DataError: If rows are unusable, a prompt is too long, or references are missing where `cosine_weight` or
            `nce_weight` were asked for; where they were not, they are off, and one warning says it.
        NotFittedError: If the teacher's space, or a dictionary, is needed and was never fitted.
    """

    # The loss is normalised over the whole accumulated batch.
    loss_is_scaled_for_ga = True
    stage = "inject"
    _tag_names = ("llink", "stage-b")

    def __init__(
        self,
        model: PreTrainedModel,
        args: InjectConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: Optimizers = (None, None),
        loss: Callable[..., dict[str, Tensor]] | None = None,
    ) -> None:
        args = InjectConfig(output_dir="llink-inject") if args is None else args
        check_arguments(args, InjectConfig, type(self))
        train_dataset = rows_read(train_dataset, args)
        args = _with_references(args, model.config.slot_expander, train_dataset)
        self.loss = InjectLoss.of(args) if loss is None else loss
        self._examples: dict[int, list[dict[str, list[int]]]] = {}
        self._passages: dict[str, Passage] = {}
        if args.cosine_weight or args.nce_weight:
            model.teacher_space.check_fitted()
        model.slot_embedder.check_fitted()
        train_dataset = self._checked(model, train_dataset, args, "train_dataset")
        if isinstance(eval_dataset, dict):
            eval_dataset = {
                name: self._checked(model, rows_read(dataset, args, name), args, name)
                for name, dataset in eval_dataset.items()
            }
        else:
            eval_dataset = self._checked(model, rows_read(eval_dataset, args, "eval_dataset"), args, "eval_dataset")
        model.projector.requires_grad_(False)
        model.slot_embedder.requires_grad_(True)
        if model.config.stage != "inject":
            draw_anew(model, args.seed, ("slots", "lora"))
        super().__init__(
            model,
            args,
            llink_model=model,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            optimizers=optimizers,
        )

    # ------------------------------------------------------------------ data

    def _checked(
        self, model: PreTrainedModel, dataset: Dataset | None, args: InjectConfig, name: str
    ) -> Dataset | None:
        """Tokenises rows in their normal form: everything that can be wrong with them shows before a base runs."""
        if dataset is None:
            return None
        if (args.cosine_weight or args.nce_weight) and not any(dataset["english"][:]):
            raise DataError(
                f"No row of {name} has a reference, which cosine_weight={args.cosine_weight} and "
                f"nce_weight={args.nce_weight} need. Add the column `english` or `target`, or set both weights to 0."
            )
        examples, _ = tokenize_instructions(model.processor, dataset, args.max_length, self._passages)
        self._examples[id(dataset)] = examples
        return dataset

    def make_tensors(self, dataset: Dataset) -> InstructionTensors:
        """The rows with their frozen features, through the cache."""
        rows = dataset
        if id(rows) not in self._examples:  # given to `evaluate`, not to the trainer
            rows = rows_read(dataset, self.args, "eval_dataset")
            self._checked(self.model, rows, self.args, "eval_dataset")
        with self.args.main_process_first(desc="computing frozen features"):
            tensors = self._with_features(rows, self._examples[id(rows)])
        tensors.shuffles = dataset is not self.train_dataset or self.args.usage_variant == "shuffled"
        return tensors

    def _with_features(self, dataset: Dataset, examples: list[dict[str, list[int]]]) -> InstructionTensors:
        model = self.model

        def features(passages: list[str]) -> Tensor:
            pooled = self._cached(encoder_spec(model), passages, "get_pooled_features", "Encoding the passages")
            return model.project(pooled)

        def teach(references: list[str]) -> Tensor:
            states = self._cached(teacher_spec(model), references, "get_teacher_states", "Encoding the references")
            return model.teacher_space(states.to(device_of(model.projector))).cpu()

        def encode(texts: list[str]) -> FeatureBank | PassageBank:
            return passage_bank(model, [self._passages[text] for text in texts], features)

        own = isinstance(self.loss, InjectLoss)  # a loss of the user's may read the teachers
        taught = teach if not own or self.loss.cosine_weight or self.loss.nce_weight else None
        return instruction_tensors(dataset, examples, model.processor, encode, taught)

    def _cached(self, spec: dict[str, Any], texts: list[str], method: str, label: str) -> Tensor:
        cache = FeatureCache(self.args.feature_cache_dir or os.path.join(self.args.output_dir, "_feature_cache"))
        compute = getattr(self.model, method)
        return cache.get(
            spec,
            texts,
            lambda chunk: compute(chunk, batch_size=self.args.feature_batch_size),
            desc=None if self.args.disable_tqdm else label,
        )

    def of_whole_step(self, batches: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
        """`whole`: the step's sizes, its rows' teachers, and its micro-batches."""
        tokens = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches).to(device)
        rows = torch.tensor(sum(len(batch["rows"]) for batch in batches), device=device)
        teachers = torch.cat([batch["teachers"] for batch in batches]).to(device)
        references = torch.cat([batch["references"] for batch in batches]).to(device)
        if self.args.world_size > 1:
            padded = self.accelerator.pad_across_processes((teachers, references), dim=0, pad_index=-1)
            teachers, references = self.accelerator.gather(padded)
        known = references >= 0
        totals = (self.over_processes(tokens), self.over_processes(rows), teachers[known], references[known])
        return {"whole": _WholeStep(StepTotals(self.state.global_step, *totals), batches)}

    # ------------------------------------------------------------------ loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """This micro-batch's share of the step's loss.

        prompt (B, S) with slots (B, T, K, d) → logits (B, L, V) → summed answer losses (B,) → scalar
        """
        whole = inputs.get("whole") or self.of_whole_step([inputs], inputs["labels"].device)["whole"]
        asks = getattr(self.loss, "contrasts", None)
        contrasted = asks is not None and asks(self.state.global_step)
        by_step = contrasted and getattr(self.loss, "reduction", None) == "step"
        if by_step and whole.gap is None and len(whole.batches) > 1:
            whole.gap = self._foreseen_gap(model, whole)
        output, losses, tokens, without = self._answered(model, inputs, contrasted)
        if by_step and whole.gap is None:
            whole.gap = self.over_processes((losses - without).detach().sum()) / whole.totals.tokens
        known = inputs["references"] >= 0  # (B,)
        terms = self.loss(
            losses=losses,
            tokens=tokens,
            without=without,
            slot_means=self.slot_means(output["foreign_slots"], output["foreign_mask"])[known],
            teachers=inputs["teachers"][known],
            references=inputs["references"][known],
            step=replace(whole.totals, gap=whole.gap),
        )
        terms = dict(terms)
        loss = terms.pop("loss")
        ids = [self.train_dataset[row]["id"] for row in inputs["rows"].tolist()]
        self.check_finite(loss, torch.isfinite(losses), ids)
        if model.training:
            self.record_terms(terms)
        # DistributedDataParallel averages the processes' gradients; the terms are already divided by the whole step.
        loss = loss * (self.args.world_size if model.training else 1)
        return (loss, output) if return_outputs else loss

    @staticmethod
    def slot_means(slots: Tensor, mask: Tensor) -> Tensor:
        """Slots (B, T, K, d), real where the mask (B, T, K) says so → the mean of each row's (B, d)."""
        real = mask.unsqueeze(-1).to(slots.dtype)  # (B, T, K, 1)
        return (slots * real).sum(dim=(1, 2)) / real.sum(dim=(1, 2))

    def _answered(
        self, model: nn.Module, inputs: dict[str, Any], contrasted: bool
    ) -> tuple[Any, Tensor, Tensor, Tensor | None]:
        """The output with slots, the answers' losses (B,) and tokens (B,), and the losses without the rows' slots."""
        prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        output, (losses, tokens) = answered(model, prompt, inputs["labels"], inputs["foreign"])
        if not contrasted:
            return output, losses, tokens, None
        if self.args.usage_variant == "zeroed":
            slots = torch.zeros_like(output["foreign_slots"])
            foreign = {"foreign_slots": slots, "foreign_mask": output["foreign_mask"]}
        else:
            foreign = inputs["shuffled"]
        return output, losses, tokens, answered(model, prompt, inputs["labels"], foreign)[1][0]

    def _foreseen_gap(self, model: nn.Module, whole: _WholeStep) -> Tensor:
        """L_SFT − L_zero of a whole step in nats a token, before the first of its micro-batches is descended.

        The same random numbers are drawn as will be then, so dropout leaves out the same.
        """
        gap = torch.zeros((), device=self.args.device)
        with torch.random.fork_rng(), torch.no_grad():
            for batch in whole.batches:
                _, losses, _, without = self._answered(model, self._prepare_inputs(batch), contrasted=True)
                gap = gap + (losses - without).sum()
        return self.over_processes(gap) / whole.totals.tokens

    def mean_terms(self) -> dict[str, float]:
        """As in the base; each process has its share of a step, and may have had no reference."""
        means = super().mean_terms()
        if self.args.world_size == 1:
            return means
        shares = gather_object([means])
        return {name: sum(share.get(name, 0.0) for share in shares) for name in dict.fromkeys(chain(*shares))}

    # ------------------------------------------------------------------ optimiser

    def parameter_groups(self) -> list[dict[str, Any]]:
        """LoRA, what makes the slots (matrices, then biases, norms and gate), scale: each with its learning rate."""
        args, slots = self.args, self.model.slot_embedder
        lora = lora_parameters(self.model.decoder)
        bridge = [parameter for name, parameter in slots.named_parameters() if name != "scale"]
        return [
            {"name": "lora", "params": lora, "lr": args.learning_rate, "weight_decay": args.weight_decay},
            *split_groups("slot", bridge, args.slot_learning_rate, args.weight_decay),
            {"name": "scale", "params": [slots.scale], "lr": args.scale_learning_rate, "weight_decay": 0.0},
        ]

    # ------------------------------------------------------------------ evaluation and checkpoints

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """The answers' loss with slots, zeroed and shuffled, over a whole set; the gaps of each task too."""
        losses, tokens, rows = collect_usage(model, batches, gather=self.accelerator.gather_for_metrics)
        metrics = usage_metrics(losses, tokens)
        tasks = [dataset.tasks[row] for row in rows.tolist()]
        for task, found in usage_by_task(losses, tokens, tasks).items():
            metrics |= {f"{task}_{name}_gap": found[f"{name}_gap"] for name in VARIANTS[1:]}
        return losses, tokens, metrics

    @staticmethod
    def metric_names(dataset: Dataset) -> list[str]:
        """As [`usage_metrics`] names them, and the gaps of the tasks where there are several."""
        tasks = sorted(filter(None, set(dataset["task"][:])))
        gaps = [f"{name}_{what}" for what in ("gap", "loss") for name in VARIANTS[1:]]
        shares = [SHARES[name] for name in VARIANTS[1:]]
        of_tasks = [f"{task}_{name}_gap" for task in tasks for name in VARIANTS[1:] if len(tasks) > 1]
        return ["loss", *gaps, *shares, *of_tasks]


def _with_references(args: InjectConfig, slots: str, rows: Dataset | None) -> InjectConfig:
    """The arguments for a kind of slots, without losses that the rows have no references for and nobody asked for."""
    chosen = args.for_slots(slots)
    off = [name for name in ("cosine_weight", "nce_weight") if getattr(args, name) is None and getattr(chosen, name)]
    if off and rows is not None and not any(rows["english"][:]):
        logger.warning("No row has a reference, `english` or `target`: %s are off.", " and ".join(off))
        for name in off:
            setattr(chosen, name, 0.0)
    return chosen


class _WholeStep:
    """A step's totals, its micro-batches on this process, and its gap once it is known."""

    def __init__(self, totals: StepTotals, batches: list[dict[str, Any]]) -> None:
        self.totals, self.batches = totals, batches
        self.gap: Tensor | None = None
