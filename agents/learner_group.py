"""Learners that share the work of an update."""

from typing import Protocol

from torch import Tensor

from clutr.agents.losses import normalise


class LearnerGroup(Protocol):
    """The learners that make an update together, each with some of the samples; every sum is over all of them.

    The samples are shared evenly: two learners' numbers differ by one at most.
    """

    learners: int
    """How many there are."""

    def count(self, samples: int) -> int:
        """How many samples all learners have together."""
        ...

    def normalise(self, advantages: Tensor) -> Tensor:
        """This learner's advantages `[L, M]`, with mean 0 and standard deviation 1 over those of all learners."""
        ...

    def sum(self, values: Tensor) -> Tensor:
        """The sum of each learner's `values`, which have one shape."""
        ...


class SingleLearner:
    """The only learner."""

    learners = 1

    def count(self, samples: int) -> int:
        """As they are."""
        return samples

    def normalise(self, advantages: Tensor) -> Tensor:
        """See `clutr.agents.losses.normalise`."""
        return normalise(advantages)

    def sum(self, values: Tensor) -> Tensor:
        """As they are."""
        return values
