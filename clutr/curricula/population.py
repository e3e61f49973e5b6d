"""Population PAIRED: PAIRED's teacher and more than two students, the best of which stands for the optimal one.

The more students play a level, the closer the best of them comes to what is possible on it, and the less the regret
hangs on a single rival. The teacher is that of `clutr.curricula.paired`; regret is flexible (arXiv 2012.02096) among n
students: see `population_regret`.
"""

from dataclasses import dataclass
from typing import Literal

from clutr.curricula.base import CURRICULA, Context
from clutr.curricula.paired import PAIRED, PAIREDOptions
from clutr.curricula.regret import population_regret
from clutr.envs.validation import require_at_least


@CURRICULA.register("population-paired")
@dataclass(frozen=True)
class PopulationPAIREDConfig(PAIREDOptions):
    """PAIRED with a population of students."""

    regret: Literal["paired", "flexible", "minimax"] = "flexible"
    """What the teacher maximises: only "flexible", the best student's best minus the others' mean return."""
    students: int = 3
    """How many students play each level."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regret != "flexible":
            raise ValueError(f"the regret of a population is flexible, got {self.regret!r}")
        require_at_least(self, 2, "students")

    def build(self, context: Context) -> "PopulationPAIRED":
        """Make the curriculum. Raises `ValueError` if the domain's grid is smaller than the convolution."""
        return PopulationPAIRED(self, context)


class PopulationPAIRED(PAIRED):
    """PAIRED with the students "protagonist", "antagonist-1", "antagonist-2", ...

    Args:
        config: the options.
        context: the experiment.
    """

    def __init__(self, config: PopulationPAIREDConfig, context: Context) -> None:
        super().__init__(config, context)
        self.students = ("protagonist", *(f"antagonist-{number}" for number in range(1, config.students)))
        self.regret = population_regret
