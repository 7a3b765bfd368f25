"""What a user does with two bases, from building a model on them to answers of a merged one, each step checked.

Run as a script (by [`reloads`]) this file loads checkpoints where llink does not exist.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

PASSAGES = ["the cat sat on a mat", "dogs", "we eat rice at noon every day"]
PROMPTS = ["Translate to English.", "Summarize.", "What is it about?"]
#: A difference of logits beyond which two are not the same, as a share of the logits' spread.
CLOSE = 2e-3
SAVED = ("light", "self-contained")


class Journey:
    """The steps of a user, in order; a method a step, which raises where it fails.

    Args:
        encoder, decoder: Folders.
        work: A folder for what is written.
        config: Fields of `LlinkConfig`, beyond the defaults.

    Attributes:
        remarks: What is refused, in words, of a journey that goes well otherwise.
    """

    options: dict = {}  # noqa: RUF012 - what loading is given
    STEPS = ("build", "train", "answer", "batch", "text_only", "save", "merge")

    def __init__(self, encoder: str, decoder: str, work: Path, **config) -> None:
        self.encoder, self.decoder, self.work = encoder, decoder, Path(work)
        self.config = config
        self.remarks: list[str] = []

    def run(self) -> None:
        for step in self.STEPS:
            try:
                getattr(self, step)()
            except Exception as error:
                error.add_note(step)
                raise

    def build(self) -> None:
        from llink import LlinkForCausalLM

        torch.manual_seed(0)
        options = (
            dict(slot_expander="tokens", teacher_conditioning="none", lora_dropout=0.0) | self.config | self.options
        )
        self.model = LlinkForCausalLM.from_encoder_decoder_pretrained(self.encoder, self.decoder, **options)
        self.model.processor  # noqa: B018 - both tokenizers load

    def train(self) -> None:
        """Two steps of each stage; LoRA moves, and nothing of the bases does."""
        from datasets import Dataset

        from llink import AlignConfig, AlignTrainer, InjectConfig, InjectTrainer, LexiconConfig, LexiconTrainer
        from llink.data.instructions import instruction_dataset
        from llink.modeling_llink.lora import lora_modules

        common = dict(max_steps=2, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, logging_steps=1)
        pairs = [
            dict(id=f"p{i}", english=f"{PASSAGES[i % 3]} {i}", foreign="abcdefghij"[i % 9 :], language="xx")
            for i in range(8)
        ]
        rows = [
            dict(
                id=f"r{i}",
                foreign=["abcdefghi"[i:]],
                prompt="Say it.\n<foreign_emb>",
                completion="rice",
                english="rice",
            )
            for i in range(4)
        ]
        before = {name: values(tensor) for name, tensor in self.model.state_dict().items()}
        for trainer, args, data in (
            (AlignTrainer, AlignConfig, Dataset.from_list(pairs)),
            (LexiconTrainer, LexiconConfig, Dataset.from_list(pairs)),
            (InjectTrainer, InjectConfig, instruction_dataset(rows)),
        ):
            given = dict(per_device_train_batch_size=4, output_dir=str(self.work / "run"), **common)
            if args is InjectConfig:
                given |= dict(gradient_accumulation_steps=1, learning_rate=1e-2)
            run = trainer(model=self.model, args=args(**given), train_dataset=data)
            run.train()
            losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
            assert len(losses) == 2, losses
            assert all(abs(loss) < 1e6 for loss in losses), losses  # NaN is not below it either
        self.model.eval()
        after = {name: values(tensor) for name, tensor in self.model.state_dict().items()}
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert any("lora_B" in name for name in moved), "LoRA did not move"
        bases = {name for name in moved if name.startswith(("encoder.", "decoder.")) and "lora_" not in name}
        assert not bases, f"the bases moved: {sorted(bases)[:2]}"
        stuck = [
            name for name, _ in lora_modules(self.model.decoder) if f"decoder.{name}.lora_B.default.weight" not in moved
        ]
        assert len(stuck) <= len(list(lora_modules(self.model.decoder))) / 2, f"LoRA never moves in {stuck[:3]}"
        generator = torch.Generator().manual_seed(3)  # strong enough to tell rows with LoRA from rows without
        for _, module in lora_modules(self.model.decoder):
            for linear in module.lora_B.values():
                linear.weight.data = torch.randn(linear.weight.shape, generator=generator) * 0.1

    def answer(self) -> None:
        """Greedy, beams, sampling, several returns, without a cache the same."""
        given = dict(foreign_text=PASSAGES[:2], prompt=PROMPTS[:2], max_new_tokens=4, min_new_tokens=4)
        greedy = self.model.generate(**given, do_sample=False)
        assert greedy.shape == (2, 4), greedy.shape
        anew = self.model.generate(**given, do_sample=False, use_cache=False)
        assert torch.equal(greedy, anew), f"without a cache other tokens follow: {greedy.tolist()}, {anew.tolist()}"
        assert self.model.generate(**given, num_beams=2, do_sample=False).shape[0] == 2
        assert self.model.generate(**given, do_sample=True, num_return_sequences=2).shape == (4, 4)

    def batch(self) -> None:
        """A row of a batch gives what it gives alone, for both sides of padding and rows with and without passages."""
        alone = [
            self._last(self.inputs([prompt], [passage])) for prompt, passage in zip(PROMPTS, PASSAGES, strict=True)
        ]
        same(self._last(self.inputs(PROMPTS, PASSAGES)), torch.cat(alone), "a batch is not its single rows")
        scores = torch.cat(alone)
        assert (scores[0] - scores[1]).abs().max() > CLOSE, "vacuous: all rows alike"
        other = self._last(self.inputs(PROMPTS[:1], ["rice"]))
        assert (other - alone[0]).abs().max() > CLOSE * alone[0].std(), "the slots are not read"

    def text_only(self) -> None:
        """Without passages the model is the base decoder, but for the order in which a processor adds numbers."""
        from llink.modeling_llink.bases import load_base

        base = load_base("decoder", self.decoder, trust_remote_code=True)[0].eval()
        inputs = self.inputs(PROMPTS[:1])
        with torch.no_grad():
            found, wanted = self.model(**inputs).logits, base(**inputs).logits
        same(found, wanted, "text alone is not the base's", close=1e-5)

    def save(self) -> None:
        """Light and self-contained, and back, here and in a process without llink."""
        torch.save(
            (self.inputs(PROMPTS, PASSAGES), self._last(self.inputs(PROMPTS, PASSAGES))), self.work / "wanted.pt"
        )
        for kind in SAVED:
            self.model.save_pretrained(self.work / kind, self_contained=kind != "light")
        self.reload()

    def reload(self) -> None:
        reloads(self.work, [str(self.work / kind) for kind in SAVED])

    def merge(self) -> None:
        """Merged LoRA answers alike, or is refused where blocks share weights."""
        from llink.modeling_llink.errors import LlinkCheckpointError

        inputs = self.inputs(PROMPTS, PASSAGES)
        wanted = self._last(inputs)
        try:
            self.model.merge_and_unload()
        except LlinkCheckpointError as error:
            if "are one weight" not in str(error):
                raise
            self.remarks.append(str(error))
        same(self._last(inputs), wanted, "merged it answers otherwise")

    def inputs(self, prompts: list[str], passages: list[str] | None = None):
        return self.model.processor(prompts, passages)

    def _last(self, inputs) -> torch.Tensor:
        return last_logits(self.model, inputs)


def values(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor's values; torchao's knows no comparison."""
    return tensor.dequantize() if is_traceable_wrapper_subclass(tensor) else tensor.detach().clone()


def last_logits(model, inputs) -> torch.Tensor:
    """Logits (B, V) behind each prompt, which is padded on the left."""
    places = {}
    if "position_ids" in inspect.signature(model.decoder.forward).parameters:  # as `generate` gives them
        places["position_ids"] = (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        return model(**copy.deepcopy(inputs), **places).logits[:, -1].float()


def same(found: torch.Tensor, wanted: torch.Tensor, complaint: str, close: float = CLOSE) -> None:
    difference = ((found - wanted).abs().max() / wanted.std()).item()
    if not difference <= close:
        raise AssertionError(f"{complaint}: logits differ by {difference:.2g} of their spread")


def reloads(work: Path, folders: list[str]) -> None:
    """Each folder loads in a process without llink and gives the logits that were written down."""
    done = subprocess.run(
        [sys.executable, __file__, str(work), json.dumps(folders)],
        cwd=work,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(work / "modules"), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"it does not load without llink: {done.stderr.strip().splitlines()[-1][:600]}")


def load_without_llink(work: Path, folders: list[str]) -> None:
    class Block:
        def find_spec(self, name, path=None, target=None):
            if name == "llink" or name.startswith("llink."):
                raise ImportError(f"blocked: {name}")

    sys.meta_path.insert(0, Block())
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    inputs, wanted = torch.load(work / "wanted.pt", weights_only=False)
    for folder in folders:
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
        assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
        found = last_logits(model, inputs)
        assert torch.equal(found, wanted), f"{Path(folder).name} gives other logits, by {(found - wanted).abs().max()}"
        new = model.generate(foreign_text=PASSAGES[0], prompt=PROMPTS[0], max_new_tokens=2)
        assert new.shape[0] == 1


if __name__ == "__main__":
    load_without_llink(Path(sys.argv[1]), json.loads(sys.argv[2]))
