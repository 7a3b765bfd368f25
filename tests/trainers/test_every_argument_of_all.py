"""The fields of TrainingArguments on the trainers of the dictionary, of Stage B and of both baselines.

What is saved, logged and resumed is tried on each; every other value, and every optimiser, on one of them in turn.
"""

import dataclasses

import pytest
from align_fakes import pairs
from baseline_runs import quick
from test_every_argument import CASES
from test_inject_trainer import rows

import llink
from llink import LlinkConfigError
from llink.baselines.direct import RawTextProcessor, like
from llink.baselines.langbridge import LangBridgeProcessor

TRAINERS = ("Lexicon", "Inject", "Finetune", "LangBridge")
OWN = (
    *("save_only_model", "save_strategy", "save_steps", "save_total_limit", "load_best_model_at_end"),
    *("logging_strategy", "logging_first_step", "eval_on_start", "eval_strategy", "metric_for_best_model", "max_steps"),
    *("gradient_accumulation_steps", "num_train_epochs", "auto_find_batch_size", "full_determinism", "optim_args"),
)
TRIED = [
    (trainer, name, options)
    for number, (name, options) in enumerate(CASES)
    for trainer in (TRAINERS if name in OWN else (TRAINERS[number % len(TRAINERS)],))
]
NAMES = [f"{trainer}-{name}-{options.get(name)}"[:70] for trainer, name, options in TRIED]
REFUSALS = (LlinkConfigError, ValueError, RuntimeError, ImportError, TypeError)


def test_no_field_is_forgotten():
    assert {name for _, name, _ in TRIED} == {name for name, _ in CASES}
    assert {trainer for trainer, name, _ in TRIED if name == "optim"} == set(TRAINERS)


@pytest.fixture(scope="module")
def bridge(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    make_model().save_pretrained(folder)
    return lambda: llink.LangBridgeForCausalLM.from_llink(folder)


def made(trainer, make_model, bridge, folder, options):
    """A trainer on a fresh tiny model, and what its bases have computed since."""
    model = (
        bridge()
        if trainer == "LangBridge"
        else make_model(awake=False, stage="align", **({"slot_expander": "tokens"} if trainer == "Lexicon" else {}))
    )
    whole, computed = model, []
    for base in (model.encoder, model.decoder):
        base.register_forward_pre_hook(lambda *_: computed.append(1))
    data = pairs(range(8)) if trainer == "Lexicon" else [row for row in rows(12) if len(row["foreign"]) == 1]
    held_out = pairs(range(8, 12)) if trainer == "Lexicon" else data
    args = quick(getattr(llink, f"{trainer}Config"), folder, **{"max_steps": 2, "learning_rate": 1e-3, **options})
    processor = {
        "Finetune": lambda: like(RawTextProcessor, whole.processor),
        "LangBridge": lambda: like(LangBridgeProcessor, whole.processor, num_slots=1),
    }.get(trainer)
    given = {} if processor is None else {"processing_class": processor()}
    model = model.decoder if trainer == "Finetune" else model
    kind = getattr(llink, f"{trainer}Trainer")
    return kind(model=model, args=args, train_dataset=data, eval_dataset=held_out, **given), computed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("trainer", "name", "options"), TRIED, ids=NAMES)
def test_a_field_works_or_is_refused_before_anything_is_computed(trainer, name, options, make_model, bridge, tmp_path):
    options = {key: "loss" if value == "r@1" else value for key, value in options.items()}
    computed: list[int] = []
    refused = None
    try:
        run, computed = made(trainer, make_model, bridge, tmp_path, options)
        run.train()
    except REFUSALS as error:
        refused = str(error)
    if refused is not None:
        assert refused, "it says nothing"
        assert not computed, f"refused only after the bases had run: {refused}"
        return
    assert run.state.global_step == (1 if name == "max_steps" else run.state.max_steps)
    assert run.evaluate()["eval_loss"] > 0
    for option, value in options.items():
        known = option in {field.name for field in dataclasses.fields(run.args)}
        if known and isinstance(value, (int, float)) and option != "gradient_accumulation_steps":
            assert getattr(run.args, option) == value, "what was asked for is what was done"


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_resumed_run_has_the_losses_of_an_unbroken_one(trainer, make_model, bridge, tmp_path):
    saving = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "logging_steps": 1}
    whole, _ = made(trainer, make_model, bridge, tmp_path / "a", saving)
    whole.train()
    again, _ = made(trainer, make_model, bridge, tmp_path / "a", saving)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (whole, again)]
    assert len(losses[0]) == 4, "vacuous unless there are steps after the checkpoint"
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
