"""What a store can be wrong with."""

from __future__ import annotations

from ..errors_llink import LlinkError


class StoreError(LlinkError, ValueError):
    """A store that is missing, damaged or another model's, or a question that cannot be asked of it."""
