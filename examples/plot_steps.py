"""The held-out loss of several runs by their steps: one record and its plot.

    python examples/plot_steps.py inject finetune --output-dir steps

Each folder is what `llink inject`, `llink finetune` or `llink langbridge` made with `--eval_instructions` and
`--eval_strategy steps`; their losses, in nats a token of the answers, are comparable where the rows were the same. In
place of a folder a `steps.json` may be given, whose runs are then shown too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib import pyplot as plt

from llink.evaluation.plot_retrieval import ROW_TITLES
from llink.evaluation.record import write_record
from llink.evaluation.report import save_figure


def losses_by_step(run: Path) -> dict[str, dict[str, float]]:
    """The evaluations of a run, or of those that a record holds: `{name: {step: loss}}`.

    Raises:
        ValueError: If the run held none.
    """
    if run.is_file():
        return json.loads(run.read_text("utf-8"))["results"]
    history = json.loads((run / "trainer_state.json").read_text("utf-8"))["log_history"]
    found = {str(row["step"]): row["eval_loss"] for row in history if "eval_loss" in row}
    if not found:
        raise ValueError(f"{run} was trained without evaluations: set --eval_instructions and --eval_strategy steps.")
    return {run.name: found}


def main() -> None:
    """Writes `steps.json` and `steps.png`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of trainings, named as they are to be shown")
    parser.add_argument("--output-dir", required=True, type=Path)
    args = parser.parse_args()
    shown = [losses_by_step(run) for run in args.runs]
    results = {name: losses for found in shown for name, losses in found.items()}
    if len(results) < sum(map(len, shown)):
        raise SystemExit("Two runs have the same name: give folders whose last part differs.")
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, losses in results.items():
        axis.plot([int(step) for step in losses], list(losses.values()), marker="o", label=ROW_TITLES.get(name, name))
    axis.set(xlabel="steps", ylabel="held-out loss, nats a token")
    axis.legend()
    save_figure(figure, args.output_dir / "steps.png")
    write_record(args.output_dir, "steps", results, {"runs": [run.as_posix() for run in args.runs]})


if __name__ == "__main__":
    main()
