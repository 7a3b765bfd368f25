"""`llink ablate`: a grid of settings from a YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers.utils import logging

from ..ablation import read_study, run_study
from ..data.one_writer import one_writer
from ..evaluation.plot_ablation import ablation_table, plot_ablation
from ..evaluation.record import write_record
from .parsing import parse_arguments


@dataclass
class AblateArguments:
    """Changes one thing at a time and compares; a broken study goes on where it stopped."""

    study: str = field(metadata={"help": "YAML file of the study: bases, pairs, settings, questions."})
    output_dir: str = field(metadata={"help": "Folder of cached features, runs, table and plot."})


OPTIONS = (AblateArguments,)
EXAMPLE = "llink ablate --study study.yaml --output-dir out/study"


def run(argv: Sequence[str]) -> None:
    """Runs a study and prints a table a question."""
    (args,) = parse_arguments("ablate", argv, OPTIONS)
    study = read_study(args.study)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with one_writer(args.output_dir, inside=True):
            results = run_study(study, args.output_dir)
    finally:
        logging.set_verbosity(verbosity)
    for question, variants in results.items():
        print(ablation_table(question, variants), end="\n\n")
    write_record(args.output_dir, "ablation", results, {"study": args.study, **vars(study)})
    plot_ablation(results, Path(args.output_dir) / "ablation.png")
