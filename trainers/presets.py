"""Named settings: what measured best, the paper's, and its released code's.

A preset sets defaults only: whatever is said beside it stands above it. It loads without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..arguments_llink import checked

DEFAULT_PRESET = "recommended"
#: The projections of a Llama decoder, and those of its families.
_ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@dataclass(frozen=True)
class Preset:
    """The settings of all stages that go by one name; what it does not set keeps its default.

    ```python
    p = llink.preset("paper")
    model = LlinkForCausalLM.from_encoder_decoder_pretrained("encoder", "decoder", **p.model)
    AlignTrainer(model, AlignConfig("out/a", **p.align), train_dataset=pairs).train()
    ```

    Attributes:
        name: Of the preset.
        what: What it is, in a sentence.
        model: Fields of [`LlinkConfig`].
        align: Of [`AlignConfig`].
        lexicon: Of [`LexiconConfig`].
        inject: Of [`InjectConfig`].
        omits: What of its source it does not reproduce, a sentence each.
    """

    name: str
    what: str
    model: Mapping[str, Any] = field(default_factory=dict)
    align: Mapping[str, Any] = field(default_factory=dict)
    lexicon: Mapping[str, Any] = field(default_factory=dict)
    inject: Mapping[str, Any] = field(default_factory=dict)
    omits: tuple[str, ...] = ()

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The settings by part: `model`, `align`, `lexicon`, `inject`."""
        return {part: dict(getattr(self, part)) for part in ("model", "align", "lexicon", "inject")}

    def described(self) -> str:
        """The preset in words: what it is, and what it does not reproduce."""
        return "\n".join([f"{self.name}: {self.what}", *(f"  not reproduced: {line}" for line in self.omits)])


#: Of both the paper and its released code: the decoder's last state at the placeholder, as it is, slots as made, and
#: the beginning of a long passage.
_LAST_STATE = {
    "teacher_template": "User:{text}",
    "teacher_state": "placeholder",
    "teacher_layer": -1,
    "teacher_conditioning": "none",
    "slot_residual": False,
    "long_passages": "cut",
}
_RELEASED_ALIGN = {"learning_rate": 1e-3, "temperature_start": 0.17, "temperature_end": 0.08}
_RELEASED_RATES = {"learning_rate": 1e-4, "slot_learning_rate": 3e-5, "scale_learning_rate": 5e-4}
_CONTRAST = {"usage_weight": 0.05, "usage_every": 3, "usage_margin": 0.0, "usage_variant": "zeroed"}

PRESETS: dict[str, Preset] = {
    "recommended": Preset(
        name="recommended",
        what="what measured best here, which is every option's default: it changes nothing.",
        omits=(
            "the paper: the teacher is asked for the sentence's meaning and read a third of the way up, averaged over "
            "the sentence and whitened; τ is 0.05 throughout; the slots' mean stays near Stage A's vector; the usage "
            "contrast has a margin and is taken row by row.",
        ),
    ),
    "paper": Preset(
        name="paper",
        what="section 4 of the paper to the letter; the released code's value where the paper gives none.",
        model={**_LAST_STATE, "lora_target_modules": [*_ATTENTION, "gate_proj", "up_proj", "down_proj"]},
        align={
            **_RELEASED_ALIGN,
            "queue_size": 32_768,
            "hard_negatives": 256,
            "hard_negative_mining": "step",
            "direction_weight": 0.05,
            "direction_reduction": "squared_norm",
            "norm_weight": 0.02,
        },
        inject={**_RELEASED_RATES, **_CONTRAST, "usage_reduction": "step", "cosine_weight": 0.05, "nce_weight": 0.01},
        omits=(
            "τ, learning rates, warm-up and batch sizes: the paper gives none; they are the released code's.",
            "the template's end, ` Assistant:…`: it follows the placeholder, whose state cannot see it.",
            "LoRA on decoders whose projections have other names than Llama's: name them with lora_target_modules.",
            "negatives that are positives: the queue's copies of a query's own pair are masked.",
        ),
    ),
    "released-code": Preset(
        name="released-code",
        what="the paper's authors' scripts, where they differ from the paper.",
        model={**_LAST_STATE, "lora_target_modules": [*_ATTENTION, "up_proj", "down_proj"]},
        align={**_RELEASED_ALIGN, "hard_negative_mining": "step", "direction_reduction": "mse"},
        inject={**_RELEASED_RATES, **_CONTRAST, "usage_reduction": "step", "cosine_weight": 0.05, "nce_weight": 0.001},
        omits=(
            "the contrast's sign, which there punishes slots for helping.",
            "the loss on a part of the prompt: there the answer's beginning is looked for in vain.",
            "the bag-of-words head (weight 0.1), the `<foreign>` markers and the spaces between slots.",
            "the gate's clamps (0.7 in training, 0.4 in inference), which make two models of one.",
            "training without an end-of-sequence token.",
        ),
    ),
}


@checked
def preset(name: str) -> Preset:
    """The preset of a name: `recommended`, `paper` or `released-code`.

    Raises:
        LlinkConfigError: If there is none of that name.
    """
    if name not in PRESETS:
        from ..configuration_llink import LlinkConfigError  # which loads transformers

        raise LlinkConfigError(f"preset={name!r} is not one of {', '.join(PRESETS)}.")
    return PRESETS[name]
