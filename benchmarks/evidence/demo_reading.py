"""How well the demo's decoder reads by the rows of Stage B, with literals written out between the slots and without.

    python benchmarks/evidence/demo_reading.py --rows 1500 3000 6000 12000 24000 --literals none --output-dir WORK

Stage A and the dictionary are trained once, as `llink demo` trains them; each number of rows then trains Stage B from
there, in one pass, and is measured on the demo's held-out sentences. Writes `demo-reading-LITERALS.json`, whose rows
docs/evidence quotes; what stands there already is not measured again.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import set_seed
from transformers.utils import logging

from llink.configuration_llink import LITERAL_KINDS
from llink.data.demo_corpus import demo_splits
from llink.data.instructions import translation_instructions
from llink.demo import DemoArguments, _align, _inject, _learn_words, _numbers_kept, _pairs, untrained_model
from llink.evaluation.record import write_record
from llink.evaluation.samples import side_by_side, translation_scores
from llink.evaluation.systems import llink_systems
from llink.modeling_llink import LlinkForCausalLM


def read_after(model: LlinkForCausalLM, args: DemoArguments) -> dict[str, Any]:
    """Trains Stage B on a copy of the model and measures what it reads; `cpu_seconds` are of the training."""
    set_seed(args.seed)
    model, splits = copy.deepcopy(model), demo_splits()
    started = time.process_time()
    usage = _inject(model, splits, args)
    seconds = time.process_time() - started
    rows = translation_instructions(_pairs(splits["test"][: args.translations]))
    samples = side_by_side({"llink": llink_systems(model)["llink"]}, rows)
    score = translation_scores(samples)["llink"]
    numbers = _numbers_kept(samples, "llink")
    return {
        "rows": args.inject_rows,
        "loss": usage["loss"],
        "shuffled_gap": usage["shuffled_gap"],
        "chrf": score["chrf"],
        "intervals": {"chrf": score["intervals"]["chrf"]},
        "numbers_f1": numbers["f1"],
        "numbers_exact": numbers["exact"],
        "cpu_seconds": round(seconds),
        "n": args.translations,
    }


def main() -> None:
    """Runs what is not measured yet, and writes the record after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", required=True)
    parser.add_argument("--literals", choices=("all", "none"), required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    given = parser.parse_args()
    logging.set_verbosity_error()
    args = DemoArguments(output_dir=str(given.output_dir / "training"))
    path = given.output_dir / f"demo-reading-{given.literals}.json"
    results = json.loads(path.read_text("utf-8"))["results"] if path.is_file() else {}
    todo = [rows for rows in given.rows if f"{rows:,} rows" not in results]
    if not todo:
        return
    set_seed(args.seed)
    splits = demo_splits()
    model = untrained_model()
    _align(model, splits["train"][: args.train_pairs], splits["test"], args)
    literals = list(LITERAL_KINDS if given.literals == "all" else ())
    _learn_words(model, splits["train"][: args.train_pairs], splits["test"], args, literals)
    for rows in todo:
        results[f"{rows:,} rows"] = read_after(model, replace(args, inject_rows=rows))
        write_record(given.output_dir, path.stem, results, {"literals": given.literals, **asdict(args)})


if __name__ == "__main__":
    main()
