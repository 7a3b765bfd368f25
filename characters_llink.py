"""Characters that no reader of text can use, known to the model and to what prepares its data alike."""

from __future__ import annotations

import re

#: Without a shape and without a meaning in any spelling: soft hyphens, marks of writing direction, word joiners, byte
#: order marks, tags. Encoders read them as words. Joiners and zero-width spaces may be spelling and are none of these.
SHAPELESS = re.compile("[\u00ad\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U000e0001-\U000e007f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def half_character(text: str) -> int | None:
    """Where a text holds half of a surrogate pair, which no tokenizer takes; None where it does not."""
    return found.start() if (found := _SURROGATE.search(text)) else None
