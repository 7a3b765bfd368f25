"""Makes the small checkpoint that `llink demo --real` loads: what was trained of two models, in 16 bits, in one folder.

    python checkpoints/make.py --aligned RUN/align-all/model --reader WORK/inject --encoder E5 --decoder SMOLLM2 \
        --output-dir checkpoints/e5-smollm2

`ALIGNED` is a Stage A model, of which projector and target space are taken (`benchmarks/evidence/study.py`, run
`align-all`); `READER` a Stage B model with slots of tokens, of which slots and LoRA are taken
(`benchmarks/evidence/read.sh`).
Slots of tokens do not read the projector, so the two fit if they were built alike; this is checked.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from llink.configuration_llink import LlinkConfig
from llink.demo_real import assemble, settings
from llink.hub_cards.canary import take_canary, write_canary

#: Parts of Stage A, and the fields of the configuration that they depend on.
ALIGNED = ("projector.", "teacher_space.")
SHARED = (
    *("encoder_layer", "pooling", "projector_hidden_size", "teacher_layer", "teacher_state", "teacher_template"),
    *("teacher_components", "teacher_whitening_power"),
)


def main() -> None:
    """Parses the command line, and writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("aligned", "reader", "encoder", "decoder", "output-dir"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    aligned, reader = (
        json.loads((folder / "config.json").read_text("utf-8")) for folder in (args.aligned, args.reader)
    )
    if differing := [name for name in SHARED if aligned.get(name) != reader.get(name)]:
        sys.exit(f"The two models were built differently: {', '.join(differing)}.")
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for folder, parts in ((args.aligned, True), (args.reader, False))
        for name, tensor in load_file(folder / "model.safetensors").items()
        if name.startswith(ALIGNED) == parts
    }
    args.output_dir.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, args.output_dir / "model.safetensors")
    own = {name: reader[name] for name in inspect.signature(LlinkConfig).parameters if name in reader}
    own |= {"teacher_conditioning": aligned["teacher_conditioning"], "model_type": "llink"}
    own = settings(own) | {"model_type": "llink", "source_language": None}
    (args.output_dir / "config.json").write_text(json.dumps(own, indent=2, sort_keys=True) + "\n", "utf-8")
    torch.manual_seed(0)
    write_canary(take_canary(assemble(args.output_dir, args.encoder, args.decoder)), args.output_dir)


if __name__ == "__main__":
    main()
