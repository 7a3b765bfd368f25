"""A model with the surface that Stage A uses and nothing behind it, and short runs with it."""

import math
from pathlib import Path
from types import SimpleNamespace

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from llink.building import fit_teacher_space
from llink.modeling_llink.errors import LlinkCheckpointError
from llink.modeling_llink.layers import TeacherSpace
from llink.trainers import align_trainer
from llink.trainers.align_config import AlignConfig
from llink.trainers.align_trainer import AlignTrainer

WIDTH, ENCODER_WIDTH = 16, 12


def note_fits(monkeypatch):
    """A list to which each fit of a teacher's space adds the number of its states."""
    fits = []

    def fit(space, states):
        fits.append(len(states))
        fit_teacher_space(space, states)

    monkeypatch.setattr(align_trainer, "fit_teacher_space", fit)
    return fits


class Slots(nn.Module):
    """Slots that Stage A draws and leaves alone."""

    def __init__(self, config):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.up = nn.Linear(2, 2)
        self.learned = False


class Papers:
    """Two tokenizers whose vocabulary can be hashed, and no more."""

    def __init__(self):
        self.tokenizer = self.encoder_tokenizer = SimpleNamespace(get_vocab=dict)

    def __call__(self, *_):
        raise LlinkCheckpointError("A model that is none reads no texts.")


class FakeModel(nn.Module):
    """Has the surface of LlinkForCausalLM that Stage A uses; sentence k is `f"e{k}"` and `f"f{k}"`."""

    def __init__(self, seed: int = 0, dropout: float = 0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.config = SimpleNamespace(
            hidden_size=WIDTH,
            encoder_name_or_path="encoder",
            decoder_name_or_path="decoder",
            stage="untrained",
            self_contained=False,
            pooling="mean",
            encoder_layer=-1,
            long_passages="cut",
            max_foreign_chars=256,
            max_foreign_tokens=64,
            teacher_template="{text}",
            teacher_state="mean",
            teacher_layer=-1,
            teacher_max_tokens=128,
        )
        self.projector = nn.Sequential(
            nn.Linear(ENCODER_WIDTH, 24), nn.GELU(), nn.Dropout(dropout), nn.Linear(24, WIDTH), nn.LayerNorm(WIDTH)
        )
        self.teacher_space = TeacherSpace(WIDTH, "center", 1, 1.0)
        self.slot_embedder = Slots(self.config)
        generator = torch.Generator().manual_seed(0)
        self.encoder, self.decoder = nn.Linear(2, 2), nn.Linear(2, 2)  # stand for the frozen bases
        for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
            parameter.data = torch.rand(parameter.shape, generator=generator)
        self.processor = Papers()
        self.encoded, self.taught = [], []

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
            nn.init.zeros_(module.bias)

    def _vectors(self, texts, width, salt):
        latent = torch.stack([torch.tensor([math.sin(int(t[1:]) * k + 1) for k in range(1, 9)]) for t in texts])
        mixing = torch.randn(8, width, generator=torch.Generator().manual_seed(salt))
        return latent @ mixing

    def get_pooled_features(self, texts, batch_size=32, show_progress=False):
        self.encoded.extend(texts)
        return self._vectors(texts, ENCODER_WIDTH, 1)

    def get_teacher_states(self, english, batch_size=32, show_progress=False):
        self.taught.extend(english)
        return self._vectors(english, WIDTH, 2) + 5.0

    def bridge(self):
        return {
            name: tensor for name, tensor in self.state_dict().items() if not name.startswith(("encoder", "decoder"))
        }

    def save_pretrained(self, folder):
        save_file(
            {name: tensor.contiguous() for name, tensor in self.bridge().items()}, Path(folder) / "model.safetensors"
        )

    def load_bridge(self, folder):
        self.load_state_dict({**self.state_dict(), **load_file(Path(folder) / "model.safetensors")})


def pairs(numbers) -> Dataset:
    numbers = list(numbers)
    return Dataset.from_dict(
        {
            "id": [f"pair-{k}" for k in numbers],
            "english": [f"e{k}" for k in numbers],
            "foreign": [f"f{k}" for k in numbers],
            "language": ["km"] * len(numbers),
        }
    )


TRAIN, DEV = range(40), range(100, 120)


def config(folder, **changes) -> AlignConfig:
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 2,
        "queue_size": 16,
        "hard_negatives": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "temperature_start": 0.2,
        "temperature_end": 0.1,
    }
    return AlignConfig(**{**defaults, **changes})


def trainer(folder, model=None, train=TRAIN, dev=DEV, callbacks=None, **changes) -> AlignTrainer:
    return AlignTrainer(
        model=model if model is not None else FakeModel(),
        args=config(folder, **changes),
        train_dataset=pairs(train) if train is not None else None,
        eval_dataset=pairs(dev) if dev is not None else None,
        callbacks=callbacks,
    )


def losses(trained: AlignTrainer) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in trained.state.log_history if "loss" in entry}


class Kill(TrainerCallback):
    """Ends a run without any of the clean-up of a finished one, as a killed process does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt
