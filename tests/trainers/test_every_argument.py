"""Every field of transformers' TrainingArguments: it works, or is refused before anything is computed."""

import dataclasses
from typing import Any

import pytest
from align_fakes import FakeModel, trainer
from transformers import SchedulerType, TrainingArguments
from transformers.training_args import OptimizerNames

from llink.configuration_llink import LlinkConfigError
from llink.trainers.align_config import AlignConfig

STEPS = dict(eval_strategy="steps", eval_steps=1)
SAVES = dict(save_strategy="steps", save_steps=1)
WORKER = dict(dataloader_num_workers=1)
BEST = STEPS | SAVES | dict(metric_for_best_model="r@1")
#: Values of a field that say something else than its default, each with what it needs beside it.
VALUES: dict[str, list[dict[str, Any]]] = {
    **{name: [{name: value}] for name, value in dict(
        adam_beta1=0.8, adam_beta2=0.9, adam_epsilon=1e-6, num_train_epochs=0.5, max_steps=1, warmup_steps=1,
        max_grad_norm=0.0, weight_decay=0.3, average_tokens_across_devices=True, bf16=True, bf16_full_eval=True,
        fp16=True, fp16_full_eval=True, tf32=True, torch_empty_cache_steps=1, auto_find_batch_size=True,
        logging_first_step=True, log_on_each_node=False, logging_nan_inf_filter=False, log_level="info",
        log_level_replica="info", disable_tqdm=False, run_name="x", project="p", trackio_space_id="x",
        trackio_bucket_id="x", trackio_static_space_id="x", per_device_eval_batch_size=3, prediction_loss_only=True,
        eval_on_start=True, eval_do_concat_batches=False, eval_use_gather_object=True, eval_accumulation_steps=1,
        batch_eval_metrics=True, enable_jit_checkpoint=True, ignore_data_skip=True, full_determinism=True,
        restore_callback_states_from_checkpoint=True, data_seed=3, use_cpu=True, dataloader_drop_last=False,
        dataloader_num_workers=1, dataloader_pin_memory=False, dataloader_in_order=False, label_names=["x"],
        length_column_name="x", ddp_bucket_cap_mb=1, ddp_broadcast_buffers=True, ddp_static_graph=True,
        ddp_backend="gloo", ddp_timeout=10, ddp_find_unused_parameters=True, skip_memory_metrics=False, do_train=True,
        do_eval=True, do_predict=True, gradient_accumulation_steps=2, per_device_train_batch_size=1, learning_rate=0.1,
        use_cache=True, torch_compile=True, torch_compile_backend="eager", torch_compile_mode="default",
        accelerator_config={"split_batches": True}, hub_model_id="a/b", hub_token="t", hub_private_repo=True,
        hub_always_push=True, hub_revision="main", resume_from_checkpoint="x", seed=5, greater_is_better=False,
        label_smoothing_factor=0.1, activation_checkpointing=True, gradient_checkpointing=True, use_liger_kernel=True,
        neftune_noise_alpha=5.0, fsdp="full_shard", fsdp_config={}, deepspeed={}, debug="underflow_overflow",
        liger_kernel_config={}, remove_unused_columns=True, optim_target_modules=["x"], parallelism_config=None,
        gradient_checkpointing_kwargs={"use_reentrant": False}, activation_checkpointing_kwargs={}, eval_delay=1,
    ).items()},
    "optim": [dict(optim=name.value) for name in OptimizerNames],
    "optim_args": [dict(optim_args="betas=0.5", optim="adamw_torch")],
    "lr_scheduler_type": [dict(lr_scheduler_type=kind.value, **STEPS) for kind in SchedulerType],
    "lr_scheduler_kwargs": [dict(lr_scheduler_kwargs={"min_lr": 0.1}, lr_scheduler_type="cosine_with_min_lr")],
    "logging_strategy": [dict(logging_strategy=name) for name in ("no", "epoch", "steps")],
    "logging_steps": [dict(logging_steps=value) for value in (0.5, 2)],
    "include_num_input_tokens_seen": [dict(include_num_input_tokens_seen=n) for n in ("all", "non_padding", "no")],
    "report_to": [dict(report_to=name) for name in ("none", "all", "wandb", "nobody")],
    "eval_strategy": [dict(eval_strategy=name) for name in ("steps", "epoch", "no")],
    "eval_steps": [dict(eval_steps=value, eval_strategy="steps") for value in (1, 0.5)],
    "include_for_metrics": [dict(include_for_metrics=["inputs", "loss"])],
    "save_only_model": [SAVES | dict(save_only_model=True)],
    "save_strategy": [dict(save_strategy=name, **STEPS, metric_for_best_model="r@1") for name in ("epoch", "best")],
    "save_steps": [dict(save_steps=value, save_strategy="steps") for value in (1, 0.5)],
    "save_on_each_node": [SAVES | dict(save_on_each_node=True)],
    "save_total_limit": [SAVES | dict(save_total_limit=value) for value in (1, 0)],
    "load_best_model_at_end": [BEST | dict(load_best_model_at_end=True)],
    "metric_for_best_model": [BEST, BEST | dict(metric_for_best_model="nothing", load_best_model_at_end=True)],
    "dataloader_persistent_workers": [WORKER | dict(dataloader_persistent_workers=True)],
    "dataloader_prefetch_factor": [WORKER | dict(dataloader_prefetch_factor=2)],
    "dataloader_multiprocessing_context": [WORKER | dict(dataloader_multiprocessing_context="fork")],
    "train_sampling_strategy": [dict(train_sampling_strategy=s) for s in ("sequential", "group_by_length", "nothing")],
    "push_to_hub": [],  # tests/hub_cards: a server stands for the Hub
    "hub_strategy": [],
    "output_dir": [],  # every test's own
    "local_rank": [],  # of torchrun: tests/trainers/test_align_equivalence.py
}  # fmt: skip
CASES = [(name, options) for name, tried in VALUES.items() for options in tried]
NAMES = [f"{name}-{options.get(name)}"[:60] for name, options in CASES]


def test_every_field_of_this_transformers_is_tried():
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert len(fields) > 80, "vacuous unless there are fields"
    assert not sorted(fields - set(VALUES)), "give new fields a value here"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), CASES, ids=[f"{name}-{options.get(name)}"[:60] for name, options in CASES]
)
def test_a_field_works_or_is_refused_before_anything_is_computed(name, options, tmp_path):
    model, refused = FakeModel(seed=1), None
    try:
        run = trainer(tmp_path, model, **{"max_steps": 2, "save_strategy": "no", **options})
        run.train()
    except (LlinkConfigError, ValueError, RuntimeError, ImportError, TypeError) as error:
        refused = str(error)
    if refused is not None:
        assert refused, "it says nothing"
        assert not model.encoded, f"{name} was refused only after the encoder had run"
        return
    assert run.state.global_step == (1 if name == "max_steps" else run.state.max_steps)
    assert model.encoded, "vacuous unless what is computed is noted"
    assert run.evaluate()["eval_n"] > 0
    options.pop("gradient_accumulation_steps", None)  # folded into the batch, whose rows are each other's negatives
    for option, value in options.items():
        if option in {field.name for field in dataclasses.fields(AlignConfig)} and isinstance(value, (int, float)):
            assert getattr(run.args, option) == value, "what was asked for is what was done"
