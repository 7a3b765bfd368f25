"""One helper that the scripts of this folder share: a folder that appears whole or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Yield a new folder beside `target`; when the block ends well, it takes `target`'s place by renaming.

    When the block raises, the new folder is removed and what stood at `target` is as it was. A model folder (one that
    holds `config.json`) and an empty folder are replaced; anything else is refused, so that no data is lost.

    Raises:
        FileExistsError: `target` is there and is no model folder.
    """
    target = Path(target)
    if target.exists() and not ((target / "config.json").is_file() or (target.is_dir() and not any(target.iterdir()))):
        raise FileExistsError(
            f"{target} is there already and is not a model folder (it has no config.json): "
            "give another output folder, or remove it yourself"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:8]
    building, retired = (target.parent / f".{target.name}.{token}.{state}" for state in ("building", "retired"))
    building.mkdir()
    try:
        yield building
        if target.exists():
            target.rename(retired)
        building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        if retired.exists() and not target.exists():
            retired.rename(target)
        raise
    shutil.rmtree(retired, ignore_errors=True)
