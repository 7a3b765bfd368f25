"""What the tests of both baselines share: instruction rows, a saved llink model, quick training arguments."""

from __future__ import annotations

from transformers import set_seed

from llink.data.instructions import instruction_dataset
from llink.evaluation.usage import answer_losses

QUICK = ["--report_to", "none", "--use_cpu", "--disable_tqdm", "True"]


def rows(count: int = 24) -> list[dict]:
    """Rows of unequal length, every sixth with two passages inside its prompt."""
    words = ["the cat", "a dog", "rice", "he runs", "two books", "home"]
    made = []
    for i in range(count):
        foreign = ["".join(chr(97 + (i * 7 + j * (1 + i % 3)) % 26) for j in range(3 + i % 5))]
        prompt = "Translate to English.\n<foreign_emb>"
        if i % 6 == 0:
            foreign, prompt = [*foreign, "zz" + foreign[0]], "Compare <foreign_emb> with <foreign_emb>."
        made.append(dict(id=f"r{i}", foreign=foreign, prompt=prompt, completion=words[i % 6] * (1 + i % 3)))
    return made


def quick(config_class, folder, **options):
    """Training arguments of a few large steps."""
    defaults = dict(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        max_steps=4,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        learning_rate=1e-2,
        max_grad_norm=1e9,
        train_sampling_strategy="random",  # equivalences need one order, whatever the size of a batch
    )
    return config_class(**{**defaults, **options})


def fit(trainer_class, model, args, processor, dataset=None, eval_dataset=None, resume=None):
    """A trainer that has trained, always from the same random state."""
    set_seed(0)
    dataset = instruction_dataset(rows()) if dataset is None else dataset
    trainer = trainer_class(model, args, processor, train_dataset=dataset, eval_dataset=eval_dataset)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def losses_of(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def loss_by_hand(model, trainer, dataset) -> float:
    """Nats a token over rows taken one at a time, without padding."""
    total, tokens = 0.0, 0
    tensors = trainer.make_tensors(dataset)
    for example in tensors.examples:
        batch = tensors.collate([example])
        labels = batch.pop("labels")
        del batch["ids"]
        losses, counts = answer_losses(model(**batch).logits, labels)
        total, tokens = total + losses.sum().item(), tokens + counts.sum().item()
    return total / tokens
