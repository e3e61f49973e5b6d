"""The studies at the published budgets: one command each, which can be stopped at any instant and given again.

    python -m clutr.experiments.studies.published STUDY OUT [--jobs N] [--methods NAME ...] [--seeds N ...]
        [--until STEPS] [--tables]

STUDY is `mazes` (60 M steps), `mazes-long` (164 M), `cars` (2 M decisions), `cars-ablations`, or `mazes-changes`, which
compares single options in three minutes a run. Each run has one thread and a directory in OUT; what is done is kept,
and what was interrupted, also by a kill, goes on from its newest checkpoint. Milestones come one after the other, and
seeds within them, so that whatever is done compares all methods; `--until` names the last milestone. At the end, on
Ctrl-C, or at once with --tables, everything that is done is written as CSV files and tables beside the study's file in
`experiments/results/`.
"""

import argparse
import os
import sys
from pathlib import Path

from clutr.experiments.storage import RunError
from clutr.experiments.studies.curricula import Study, train_all
from clutr.experiments.studies.curricula_tables import write_all

RESULTS = Path(__file__).parents[1] / "results"
STUDIES = {
    "mazes": "mazes-published",
    "mazes-long": "mazes-long",
    "cars": "cars-published",
    "cars-ablations": "cars-ablations",
    "mazes-changes": "mazes-changes",
}
"""Folders in `experiments/results/` by the names of the studies."""


def study_of(name: str) -> Study:
    """A study by its name."""
    return Study.read(RESULTS / STUDIES[name] / "study.yaml")


def main() -> None:
    """Go on with a study."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one thread each")
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int)
    parser.add_argument("--until", type=int, help="the last milestone: steps of one student; without it, everything")
    parser.add_argument("--tables", action="store_true", help="train nothing: write what is done")
    arguments = parser.parse_args()
    study = study_of(arguments.study)
    try:
        if not arguments.tables:
            methods = arguments.methods or list(study.methods)
            train_all(study, arguments.out, methods, arguments.seeds, arguments.jobs, arguments.until)
    except KeyboardInterrupt:
        print("stopped: the same command goes on", flush=True)
    finally:
        write_all(study, arguments.out)


if __name__ == "__main__":
    try:
        main()
    except RunError as error:
        sys.exit(f"error: {error}")
