"""Which entities of one text stand in another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from .entity import Entity, show
from .foreign import ForeignEntity


def kept_and_lost(entities: Sequence[Entity], others: Sequence[Entity]) -> tuple[list[Entity], list[Entity]]:
    """Splits entities into those whose value `others` has too, each of theirs matching one, and the rest."""
    left = Counter(entity.value for entity in others)
    kept: list[Entity] = []
    lost: list[Entity] = []
    for entity in entities:
        (kept if left[entity.value] > 0 else lost).append(entity)
        left[entity.value] -= 1
    return kept, lost


def foreign_kept(foreign: Sequence[ForeignEntity], others: Sequence[Entity] | Sequence[ForeignEntity]) -> list[bool]:
    """For each entity of a foreign text, whether those of an English text, or of another foreign one, hold it.

    A number is held by any entity that it is part of: 5 by `5 km`, `$5`, `5th`, `5 May`, `5 p.m.`, `17:00`, `BA-5`.
    Each part holds one number, so that the matching is one to one and as large as it can be.
    """
    parts = [part for entity in others for part in _parts(entity)]
    needs = [{value.removeprefix("-") for value in entity.values} for entity in foreign]
    holder: dict[int, int] = {}

    def place(need: int, seen: set[int]) -> bool:
        for index, part in enumerate(parts):
            if index not in seen and needs[need] & part:
                seen.add(index)
                if index not in holder or place(holder[index], seen):
                    holder[index] = need
                    return True
        return False

    for need in range(len(needs)):
        place(need, set())
    return [need in holder.values() for need in range(len(needs))]


def _parts(entity: Entity | ForeignEntity) -> list[set[str]]:
    """The numbers, or the address, that an entity holds; each as all of its writings."""
    if isinstance(entity, ForeignEntity):
        return [{value.removeprefix("-") for value in entity.values}]
    value = entity.value.removeprefix("-")
    if entity.kind in ("url", "email"):
        return [{value}]
    if entity.kind == "name":
        return []
    if entity.kind == "id":
        words = value.split("-")
        return [
            {*("-".join(words[start:]) for start in range(len(words))), *re.findall(r"\d+", value), value.lstrip("0")}
        ]
    numbers = [show(Fraction(number)) for number in re.findall(r"\d+(?:\.\d+)?", value)]
    if entity.kind == "time":
        hour = int(numbers[0])
        return [{str(hour), str(hour % 12 or 12), str((hour + 12) % 24)}, *({number} for number in numbers[1:])]
    if entity.kind == "date":
        return [{number} for number in numbers]
    if entity.kind == "number" and "/" in entity.text:
        return [{number, value} for number in re.findall(r"\d+", entity.text)]
    return [{number} for number in numbers]
