"""Named settings: the paper's, its released code's, and what measured best.

A preset only sets defaults: whatever the command line or a YAML file says stands above it.
"""

from __future__ import annotations

from typing import Any

from ..configuration_llink import PAPER_TEACHER_TEMPLATE, PROMPT_EOL_TEMPLATE

#: Fields of `LlinkConfig`, `AlignConfig` and `InjectConfig` by stage.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # Section 4 to the letter; where the paper is silent, the trainers' defaults.
    "paper": {
        "model": {
            "teacher_template": PAPER_TEACHER_TEMPLATE,
            "teacher_state": "placeholder",
            "teacher_conditioning": "none",
            "slot_residual": False,
        },
        "align": {"temperature_start": 0.17, "temperature_end": 0.08, "hard_negative_mining": "step"},
        "inject": {"usage_weight": 0.05, "usage_margin": 0.0, "cosine_weight": 0.05, "nce_weight": 0.01},
    },
    "released-code": {
        "model": {
            "teacher_template": PAPER_TEACHER_TEMPLATE,
            "teacher_state": "placeholder",
            "teacher_conditioning": "none",
            "slot_residual": False,
        },
        "align": {
            "temperature_start": 0.17,
            "temperature_end": 0.08,
            "hard_negative_mining": "step",
            "direction_reduction": "mse",
        },
        "inject": {"usage_weight": 0.05, "usage_margin": 0.0, "cosine_weight": 0.05, "nce_weight": 0.001},
    },
    # A prompt that asks for the meaning, its states a third of the way up averaged over the sentence, whitened, at a
    # constant low temperature; slots whose mean stays in that space.
    "recommended": {
        "model": {
            "teacher_template": PROMPT_EOL_TEMPLATE,
            "teacher_state": "mean",
            "teacher_layer": 1 / 3,
            "teacher_conditioning": "whiten",
            "teacher_whitening_power": 0.5,
            "slot_residual": True,
        },
        "align": {
            "learning_rate": 2e-3,
            "temperature_start": 0.05,
            "temperature_end": 0.05,
            "hard_negative_mining": "step",
        },
        "inject": {"learning_rate": 1e-3, "slot_learning_rate": 2e-3, "nce_weight": 0.1, "usage_margin": 1.0},
    },
}
DEFAULT_PRESET = "recommended"


class PresetError(ValueError):
    """A preset that does not exist."""


def preset(name: str) -> dict[str, dict[str, Any]]:
    """The settings of a preset by stage: `model`, `align`, `inject`.

    Raises:
        PresetError: If there is none of that name.
    """
    if name not in PRESETS:
        raise PresetError(f"preset={name!r} is not one of {', '.join(PRESETS)}.")
    return PRESETS[name]
