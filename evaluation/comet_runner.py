"""Scores translations with COMET, in an interpreter that has it; run by `llink.evaluation.translation.comet`.

unbabel-comet needs transformers 4, and llink transformers 5: they cannot share an environment. So this file imports
nothing of llink, and is handed to the other interpreter as text.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

#: The exit code that says that there is no COMET.
NOT_INSTALLED = 3


def main() -> int:
    """Reads a request (`model`, `samples`, `batch_size`) from one file and writes `system_score` to another."""
    source, target = map(Path, sys.argv[1:])
    request = json.loads(source.read_text("utf-8"))
    try:
        comet = importlib.import_module("comet")
        load_from_checkpoint, download_model = comet.load_from_checkpoint, comet.download_model
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != "comet":
            raise
        return NOT_INSTALLED  # another package has the name comet too, without these functions
    torch = importlib.import_module("torch")
    path = Path(request["model"])
    if path.is_dir():
        path = path / "checkpoints" / "model.ckpt"
    model = load_from_checkpoint(str(path) if path.is_file() else download_model(request["model"]))
    prediction = model.predict(
        request["samples"],
        batch_size=request["batch_size"],
        gpus=1 if torch.cuda.is_available() else 0,
        progress_bar=False,
    )
    target.write_text(json.dumps({"system_score": float(prediction.system_score)}), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
