"""More steps for a run that has finished or was stopped."""

from collections.abc import Callable
from dataclasses import replace

from clutr.experiments.config import to_yaml
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError, write_atomically


def extend(run: RunDirectory, total_steps: int, say: Callable[[str], None]) -> RunDirectory:
    """Write another step budget to the run's `config.yaml`, and return the run that has it.

    With a constant learning rate the run goes on as one that had this budget from its beginning.

    Args:
        run: the run.
        total_steps: the new budget, in environment steps of one student; less than before is allowed, too.
        say: receives a line about what changes.

    Raises:
        RunError: if so many steps are played already, another process trains the run, or it cannot be written.
    """
    experiment = run.experiment
    state, _ = run.load_checkpoint()
    played = 0 if state is None else state["steps"]
    if total_steps <= played:
        raise RunError(f"{run.path} has played {played:,} steps: its budget must be above that, got {total_steps:,}")
    if total_steps == experiment.total_steps:
        return run
    with run.lock():
        longer = replace(experiment, total_steps=total_steps)
        write_atomically(run.path / "config.yaml", to_yaml(longer).encode())
    say(f"{run.path}: the budget was {experiment.total_steps:,} steps and is {total_steps:,} now")
    if getattr(experiment.student, "learning_rate_schedule", None) == "linear":
        before, after = (max(0.0, 1 - played / steps) for steps in (experiment.total_steps, total_steps))
        say(
            f"learning_rate_schedule is linear: the learning rate goes on at {after:.0%} of the first one, where it "
            + f"was {before:.0%}, and reaches 0 at the new end"
        )
    return RunDirectory(run.path)
