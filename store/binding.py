"""Which model a store belongs to: everything that its vectors and slots depend on besides the texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..data.features import encoder_spec, fingerprint, teacher_spec
from ..modeling_llink.passages import ReadingOptions
from .errors import StoreError

#: Parts of a model, as messages call them.
_NAMES = {
    "precision": "the precision of its bases",
    "encoder": "the encoder, or how it reads",
    "decoder": "the decoder, or how it reads",
    "projector": "the projector (Stage A)",
    "slots": "what makes its slots",
    "reading": "how passages are read (pieces, slots, literals)",
}
#: How documents are split is the store's own choice.
_NOT_READING = ("long_passages", "max_pieces")


def binding_of(model: Any) -> dict[str, str]:
    """The parts of a model that what it stores depends on, each as a short hash."""
    reading = {f.name: getattr(model.processor, f.name) for f in fields(ReadingOptions) if f.name not in _NOT_READING}
    encoder = {name: value for name, value in encoder_spec(model).items() if name not in _NOT_READING}
    parts = {
        "precision": " and ".join(
            str(getattr(model, kind).dtype).removeprefix("torch.") for kind in ("encoder", "decoder")
        ),
        "encoder": encoder,
        "decoder": [teacher_spec(model), fingerprint(model.teacher_space)],
        "projector": fingerprint(model.projector),
        "slots": fingerprint(model.slot_embedder),
        "reading": reading,
    }
    return {name: part if name == "precision" else _hash(part) for name, part in parts.items()}


def _hash(part: Any) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]


def check_binding(binding: Mapping[str, str], model: Any, where: str, made_by: str | None) -> None:
    """Refuses a model that would make other vectors or slots than a store's.

    Raises:
        StoreError: Says what differs.
    """
    own = binding_of(model)
    differing = [name for name in own if binding.get(name) != own[name]]
    if not differing:
        return
    name = f" ({made_by})" if made_by else ""
    if "precision" in differing:  # of which all else follows
        raise StoreError(
            f"{where} was made with encoder and decoder in {binding.get('precision')}, and this model's are in "
            f"{own['precision']}: load the model with that dtype, or index the passages again."
        )
    raise StoreError(
        f"{where} was made by another model{name}: different are {'; '.join(_NAMES[one] for one in differing)}. Load "
        "the store's own model, or index the passages with this one into another folder."
    )
