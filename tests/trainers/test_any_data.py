"""Every trainer takes data as it comes, and learns of it what it learns of the columns that it reads."""

import pytest
from align_fakes import pairs
from baseline_runs import losses_of, quick
from datasets import IterableDataset
from test_inject_trainer import rows
from transformers import set_seed

from llink import FinetuneConfig, FinetuneTrainer
from llink.baselines.direct import RawTextProcessor, like
from llink.data.errors import DataError
from llink.trainers.align_config import AlignConfig
from llink.trainers.align_trainer import AlignTrainer
from llink.trainers.lexicon_config import LexiconConfig
from llink.trainers.lexicon_trainer import LexiconTrainer

TRAIN, DEV = pairs(range(24)), pairs(range(30, 42))


def as_translations(dataset):
    return [{"translation": {"km": row["foreign"], "en": row["english"]}} for row in dataset]


@pytest.mark.parametrize("trainer", [AlignTrainer, LexiconTrainer])
def test_pairs_as_translations_are_the_same_run(make_model, tmp_path, trainer):
    kind = {AlignTrainer: AlignConfig, LexiconTrainer: LexiconConfig}[trainer]
    found = []
    for name, convert in (("columns", lambda dataset: dataset), ("translations", as_translations)):
        set_seed(0)
        model = make_model(awake=False, slot_expander="tokens", stage="align")
        args = kind(
            str(tmp_path / name),
            **{"max_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1},
            **{"logging_steps": 1, "report_to": [], "save_strategy": "no", "use_cpu": True, "disable_tqdm": True},
        )
        run = trainer(model=model, args=args, train_dataset=convert(TRAIN), eval_dataset=convert(DEV))
        run.train()
        found.append((losses_of(run), run.evaluate()["eval_loss"]))
        assert run.evaluate(convert(DEV))["eval_loss"] == found[-1][1], "given to evaluate, too"
        with pytest.raises(DataError, match="pair_dataset"):
            trainer(model=model, args=args, train_dataset=[{"a": "x", "b": "y"}])
    assert found[0] == found[1]
    assert len(set(found[0][0])) == 2, "vacuous unless something was learned"


def test_a_baseline_reads_conversations_and_streams(make_model, tmp_path):
    model = make_model(awake=False, stage="align")
    told = [row for row in rows() if len(row["foreign"]) == 1]
    talks = [
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": row["prompt"].removesuffix("<foreign_emb>")},
                        {"type": "foreign_text", "text": row["foreign"][0]},
                    ],
                },
                {"role": "assistant", "content": row["completion"]},
            ]
        }
        for row in told
    ]
    processor = like(RawTextProcessor, model.processor)
    found = []
    for name, data in (
        ("rows", told),
        ("talks", talks),
        ("stream", IterableDataset.from_generator(lambda: iter(told))),
    ):
        args = quick(FinetuneConfig, tmp_path / name, max_steps=2)
        found.append(FinetuneTrainer(model.decoder, args, processor, train_dataset=data))
    wanted, *others = ([trainer.train_dataset[name][:16] for name in ("foreign", "completion")] for trainer in found)
    assert others == [wanted, wanted]
    first = found[0].tensors_of(found[0].train_dataset).examples
    assert [e["input_ids"] for e in first] == [
        e["input_ids"] for e in found[1].tensors_of(found[1].train_dataset).examples
    ]
