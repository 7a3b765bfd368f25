"""The held-out loss of several runs by their steps: one record and its plot.

    python examples/plot_steps.py inject finetune --output-dir steps

Each folder is what `llink inject`, `llink finetune` or `llink langbridge` made with `--eval_instructions` and
`--eval_strategy steps`; their losses, in nats a token of the answers, are comparable where the rows were the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib import pyplot as plt

from llink.evaluation.plot_retrieval import ROW_TITLES
from llink.evaluation.record import write_record
from llink.evaluation.report import save_figure


def losses_by_step(folder: Path) -> dict[str, float]:
    """The evaluations of a run: `{step: loss}`.

    Raises:
        SystemExit: If the run held none.
    """
    history = json.loads((folder / "trainer_state.json").read_text("utf-8"))["log_history"]
    found = {str(row["step"]): row["eval_loss"] for row in history if "eval_loss" in row}
    if not found:
        raise ValueError(
            f"{folder} was trained without evaluations: set --eval_instructions and --eval_strategy steps."
        )
    return found


def main() -> None:
    """Writes `steps.json` and `steps.png`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of trainings, named as they are to be shown")
    parser.add_argument("--output-dir", required=True, type=Path)
    args = parser.parse_args()
    if len({run.name for run in args.runs}) < len(args.runs):
        raise SystemExit("Two runs have the same name: give folders whose last part differs.")
    results = {run.name: losses_by_step(run) for run in args.runs}
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, losses in results.items():
        axis.plot([int(step) for step in losses], list(losses.values()), marker="o", label=ROW_TITLES.get(name, name))
    axis.set(xlabel="steps", ylabel="held-out loss, nats a token")
    axis.legend()
    save_figure(figure, args.output_dir / "steps.png")
    write_record(args.output_dir, "steps", results, {"runs": [run.as_posix() for run in args.runs]})


if __name__ == "__main__":
    main()
