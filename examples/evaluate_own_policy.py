"""Zero-shot evaluation of a policy of one's own: a few rules instead of training, on mazes that nobody trains on."""

import torch
from torch import Tensor

import clutr

LEFT, RIGHT, FORWARD = 0, 1, 2
WALL, GOAL = 2, 8
"""MiniGrid's numbers of actions and of what a cell holds."""


def walk(observation: dict[str, Tensor]) -> Tensor:
    """Turn to a goal that is seen beside the agent; else go straight on, and turn at walls and now and then.

    Args:
        observation: of N mazes. `image` `[N, column, row, 3]` holds what is in each cell in front of the agent. It is
            itself in the middle of the last row.

    Returns:
        Actions `[N]`.
    """
    cells = observation["image"][..., 0]
    middle = cells.shape[1] // 2
    beside, in_front = cells[:, :, -1] == GOAL, cells[:, middle, -2]
    turns = torch.randint(LEFT, RIGHT + 1, in_front.shape)
    turned = (in_front == WALL) | (torch.rand(in_front.shape) < 0.1)
    actions = torch.where(turned & (in_front != GOAL), turns, FORWARD)
    actions = torch.where(beside[:, :middle].any(1), LEFT, actions)
    return torch.where(beside[:, middle + 1 :].any(1), RIGHT, actions)


def main(suite: str = "small", episodes: int = 20) -> float:
    """Play the suite, print the solve rates, and return their mean."""
    torch.manual_seed(1)
    result = clutr.evaluate(walk, suite, episodes, progress=True)
    for row in result["levels"]:
        print(f"{row['level']:20} {row['solved']:.0%}")
    low, high = result["summary"]["mean_solved_interval"]
    mean: float = result["summary"]["mean_solved"]
    print(f"mean {mean:.0%}, 95 % interval {low:.0%} to {high:.0%}")
    return mean


if __name__ == "__main__":
    main()
