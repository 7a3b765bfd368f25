"""Stage B: slots are injected, and the decoder is made to use them (paper 4.2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import TrainOutput

from ..data.collators import InstructionTensors, instruction_tensors, passage_bank, tokenize_instructions
from ..data.features import FeatureCache, encoder_spec, teacher_spec
from ..data.instructions import InstructionError, instruction_dataset
from ..evaluation.usage import (
    SHARES,
    VARIANTS,
    answer_losses,
    answer_reach,
    collect_usage,
    usage_by_task,
    usage_metrics,
)
from ..modeling_llink.layers import device_of
from ..modeling_llink.lora import lora_parameters
from .base import Evaluated, split_groups
from .hub import HubMixin
from .inject_config import InjectConfig
from .inject_losses import slot_cosine, slot_info_nce, usage_contrast
from .losses import NonFiniteLossError
from .tensor_loading import TensorLoading

#: What the loss is made of, as the logs call it.
TERMS = ("sft", "usage", "cosine", "nce")


class InjectTrainer(TensorLoading, HubMixin):
    """Trains LoRA, the slots' scale, adapter and expander; projector and bases stay bit-identical (paper 4.2).

    The encoder and the projector are frozen, so every passage is encoded once and p_F is kept (slots that are
    made of the encoder's states read every batch anew). Prompts are rendered by
    the processor exactly as in inference; the loss is taken on the answers' tokens only. Losses are sums over the
    accumulated batch divided by its size, on all processes: accumulation equals the big batch.

    Evaluation reports `eval_loss` and, in nats a token, `eval_zeroed_gap` and `eval_shuffled_gap`: by how much the loss
    rises when the slots are zeroed or taken from another example; with rows of several tasks also
    `eval_<task>_zeroed_gap`.

    Args:
        model: A [`LlinkForCausalLM`] whose projector Stage A has trained.
        args: An [`InjectConfig`].
        train_dataset: Instruction rows, as `read_instructions` returns them.
        eval_dataset: The same, or a dict of them.
        callbacks, optimizers: As in `Trainer`.

    Raises:
        TypeError: If `args` is no [`InjectConfig`].
        InstructionError: If rows are unusable, a prompt is too long, or references are missing where
            `cosine_weight` or `nce_weight` need them.
    """

    # The loss is normalised over the whole accumulated batch.
    loss_is_scaled_for_ga = True
    _tag_names = ("llink", "stage-b")

    def __init__(
        self,
        model: PreTrainedModel,
        args: InjectConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
    ) -> None:
        args = InjectConfig(output_dir="llink-inject") if args is None else args
        if not isinstance(args, InjectConfig):
            raise TypeError(f"args is a {type(args).__name__}; InjectTrainer needs an InjectConfig.")
        self._terms: dict[str, tuple[Tensor | float, set[int]]] = {}
        self._tensors: dict[int, tuple[Dataset, InstructionTensors]] = {}
        self._examples: dict[int, list[dict[str, list[int]]]] = {}
        if args.cosine_weight or args.nce_weight:
            model.teacher_space.check_fitted()
        if model.slot_embedder.lexicon is not None:
            model.slot_embedder.lexicon.check_fitted()
        train_dataset = self._checked(model, train_dataset, args, "train_dataset")
        if isinstance(eval_dataset, dict):
            eval_dataset = {name: self._checked(model, dataset, args, name) for name, dataset in eval_dataset.items()}
        else:
            eval_dataset = self._checked(model, eval_dataset, args, "eval_dataset")
        model.projector.requires_grad_(False)
        model.slot_embedder.requires_grad_(True)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            optimizers=optimizers,
        )

    # ------------------------------------------------------------------ data

    def _checked(
        self, model: PreTrainedModel, dataset: Dataset | None, args: InjectConfig, name: str
    ) -> Dataset | None:
        """Rows in their normal form, tokenised: everything that can be wrong with them shows before a base runs."""
        if dataset is None:
            return None
        dataset = instruction_dataset(dataset)
        if (args.cosine_weight or args.nce_weight) and not any(dataset["english"][:]):
            raise InstructionError(
                f"No row of {name} has an English reference, which cosine_weight={args.cosine_weight} and "
                f"nce_weight={args.nce_weight} need. Add the column `english`, or set both weights to 0."
            )
        self._examples[id(dataset)] = tokenize_instructions(model.processor, dataset, args.max_length)[0]
        return dataset

    def tensors_of(self, dataset: Dataset) -> InstructionTensors:
        """The rows with their frozen features, computed on first use through the cache."""
        key = id(dataset)
        if key not in self._tensors:
            if key not in self._examples:  # given to `evaluate`, not to the trainer
                dataset = self._checked(self.model, dataset, self.args, "eval_dataset")
                return self.tensors_of(dataset)
            with self.args.main_process_first(desc="computing frozen features"):
                self._tensors[key] = (dataset, self._with_features(dataset, self._examples[key]))
        return self._tensors[key][1]

    def _with_features(self, dataset: Dataset, examples: list[dict[str, list[int]]]) -> InstructionTensors:
        model = self.model

        def features(passages: list[str]) -> Tensor:
            pooled = self._cached(encoder_spec(model), passages, "get_pooled_features", "Encoding the passages")
            return model.project(pooled)

        def teach(references: list[str]) -> Tensor:
            states = self._cached(teacher_spec(model), references, "get_teacher_states", "Encoding the references")
            return model.teacher_space(states.to(device_of(model.projector))).cpu()

        encode = partial(passage_bank, model, features=features)
        return instruction_tensors(dataset, examples, model.processor.pad_token_id, encode, teach)

    def _cached(self, spec: dict[str, Any], texts: list[str], method: str, label: str) -> Tensor:
        cache = FeatureCache(self.args.feature_cache_dir or os.path.join(self.args.output_dir, "_feature_cache"))
        compute = getattr(self.model, method)
        return cache.get(
            spec,
            texts,
            lambda chunk: compute(chunk, batch_size=self.args.feature_batch_size),
            desc=None if self.args.disable_tqdm else label,
        )

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`; leaves the model in evaluation mode.

        Raises:
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        self.model.config.stage = "inject"
        return super().train(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """Collects the micro-batches of one step and gives each of them the size and the teachers of the whole."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, items
        tokens = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches).to(device)
        rows = torch.tensor(sum(len(batch["rows"]) for batch in batches), device=device)
        teachers = torch.cat([batch["teachers"] for batch in batches]).to(device)
        references = torch.cat([batch["references"] for batch in batches]).to(device)
        if self.args.world_size > 1:
            tokens, rows = (self.accelerator.gather(count).sum() for count in (tokens, rows))
            padded = self.accelerator.pad_across_processes((teachers, references), dim=0, pad_index=-1)
            teachers, references = self.accelerator.gather(padded)
        whole = {"step_tokens": tokens, "step_rows": rows, "candidates": teachers, "candidate_ids": references}
        return [{**batch, **whole} for batch in batches], items

    # ------------------------------------------------------------------ loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """This micro-batch's share of the step's loss.

        prompt (B, S) with slots (B, T, K, d) → logits (B, L, V) → summed answer losses (B,) → scalar
        """
        args = self.args
        prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        output = model(**prompt, **inputs["foreign"], **self._answers_only(inputs))
        losses, tokens = answer_losses(output.logits, inputs["labels"])  # (B,), (B,)
        step_tokens = inputs.get("step_tokens", tokens.sum())
        step_rows = inputs.get("step_rows", len(losses))
        terms = {"sft": losses.sum() / step_tokens}
        loss = terms["sft"]
        if args.usage_weight and self.state.global_step % args.usage_every == 0:
            other = self._contrasted(model, prompt, inputs, output["foreign_slots"])
            per_token = tokens.clamp(min=1)
            hinge = usage_contrast(losses / per_token, other / per_token, args.usage_margin)
            terms["usage"] = hinge.sum() / step_rows
            loss = loss + args.usage_weight * terms["usage"]
        loss = loss + self._anchor(output["foreign_slots"], inputs, step_rows, terms)
        if not torch.isfinite(loss):
            raise self._non_finite(losses, inputs["rows"], loss)
        if model.training:
            self._record(terms)
        # DistributedDataParallel averages the processes' gradients; the terms are already divided by the whole step.
        loss = loss * (args.world_size if model.training else 1)
        return (loss, output) if return_outputs else loss

    def _contrasted(self, model: nn.Module, prompt: dict, inputs: dict[str, Tensor], slots: Tensor) -> Tensor:
        """(B,) summed answer losses without the rows' own slots."""
        zeros = {"foreign_slots": torch.zeros_like(slots), "foreign_mask": inputs["foreign_mask"]}
        foreign = zeros if self.args.usage_variant == "zeroed" else inputs["shuffled"]
        output = model(**prompt, **foreign, **self._answers_only(inputs))
        return answer_losses(output.logits, inputs["labels"])[0]

    @staticmethod
    def _answers_only(inputs: dict[str, Tensor]) -> dict[str, Any]:
        return {"use_cache": False, "logits_to_keep": answer_reach(inputs["labels"])}

    def _anchor(self, slots: Tensor, inputs: dict[str, Tensor], step_rows: Any, terms: dict[str, Tensor]) -> Any:
        """The two auxiliaries that hold a row's mean near the Stage A target; rows without a reference have none."""
        args, known = self.args, inputs["references"] >= 0
        if not (args.cosine_weight or args.nce_weight) or not known.any():
            return 0.0
        mask = inputs["foreign_mask"].unsqueeze(-1).to(slots.dtype)  # (B, T, 1)
        sentences = self.model.slot_embedder.sentences(slots)  # (B, T, d)
        mean = (sentences * mask).sum(dim=1) / mask.sum(dim=1)  # (B, d)
        mean, teachers, ids = mean[known], inputs["teachers"][known], inputs["references"][known]
        terms["cosine"] = slot_cosine(mean, teachers).sum() / step_rows
        candidates = inputs.get("candidates", inputs["teachers"])
        candidate_ids = inputs.get("candidate_ids", inputs["references"])
        real = candidate_ids >= 0
        nce = slot_info_nce(mean, teachers, candidates[real], ids, candidate_ids[real], args.nce_temperature)
        terms["nce"] = nce.sum() / step_rows
        return args.cosine_weight * terms["cosine"] + args.nce_weight * terms["nce"]

    def _non_finite(self, losses: Tensor, rows: Tensor, loss: Tensor) -> NonFiniteLossError:
        guilty = rows[~torch.isfinite(losses)] if not torch.isfinite(losses).all() else rows
        ids = [self.train_dataset[row]["id"] for row in guilty.tolist()]
        return NonFiniteLossError(self.state.global_step, ids, loss.item())

    def _record(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            total, count = self._terms.get(name, (0.0, set()))
            self._terms[name] = (total + value.detach(), count | {self.state.global_step})

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the terms of the loss, averaged over the steps that had them since the last log."""
        if "loss" in logs and self._terms:
            means = {name: float(total / len(steps)) for name, (total, steps) in self._terms.items()}
            if self.args.world_size > 1:  # each process has its share of the step, and may have had no reference
                shares = [[means[name], 1.0] if name in means else [0.0, 0.0] for name in TERMS]
                sums = self.accelerator.reduce(torch.tensor(shares, device=self.args.device), "sum").tolist()
                means = {name: total for name, (total, processes) in zip(TERMS, sums, strict=True) if processes}
            logs.update(means)
            self._terms = {}
        super().log(logs, start_time)

    # ------------------------------------------------------------------ optimiser

    def parameter_groups(self) -> list[dict[str, Any]]:
        """LoRA, adapter and expander (matrices, then biases, norms and gate), a lexicon likewise, scale: each with its
        learning rate.
        """
        args, slots = self.args, self.model.slot_embedder
        lora = lora_parameters(self.model.decoder)
        words = {} if slots.lexicon is None else dict(slots.lexicon.named_parameters(prefix="expander"))
        bridge = [parameter for name, parameter in slots.named_parameters() if name not in {"scale", *words}]
        return [
            {"name": "lora", "params": lora, "lr": args.learning_rate, "weight_decay": args.weight_decay},
            *split_groups("slot", bridge, args.slot_learning_rate, args.weight_decay),
            *split_groups("word", words.values(), args.lexicon_learning_rate, args.weight_decay),
            {"name": "scale", "params": [slots.scale], "lr": args.scale_learning_rate, "weight_decay": 0.0},
        ]

    # ------------------------------------------------------------------ evaluation and checkpoints

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """The answers' loss with slots, zeroed and shuffled, over a whole set; the zeroed gap of each task too."""
        losses, tokens, rows = collect_usage(model, batches, gather=self.accelerator.gather_for_metrics)
        metrics = usage_metrics(losses, tokens)
        tasks = [dataset.tasks[row] for row in rows.tolist()]
        for task, found in usage_by_task(losses, tokens, tasks).items():
            metrics[f"{task}_zeroed_gap"] = found["zeroed_gap"]
        return losses, tokens, metrics

    @staticmethod
    def metric_names(dataset: Dataset) -> list[str]:
        """As [`usage_metrics`] names them, and the zeroed gaps of the tasks where there are several."""
        tasks = sorted(filter(None, set(dataset["task"][:])))
        gaps = [f"{name}_{what}" for what in ("gap", "loss") for name in VARIANTS[1:]]
        shares = [SHARES[name] for name in VARIANTS[1:]]
        return ["loss", *gaps, *shares, *(f"{task}_zeroed_gap" for task in tasks if len(tasks) > 1)]

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's bridge and LoRA.

        Raises:
            LlinkCheckpointError: If they are missing, damaged or do not fit.
        """
        self.model.load_bridge(folder)
