"""The environments' names in Gymnasium's registry."""

import gymnasium

_ENTRY_POINTS = {
    "clutr/CarRacing-v0": ("clutr.envs.car.gym_env:CarEnv", "clutr.envs.car.gym_env:CarVectorEnv"),
    "clutr/Maze-v0": ("clutr.envs.maze.gym_env:MazeEnv", "clutr.envs.maze.gym_env:MazeVectorEnv"),
}


def register() -> None:
    """Make the environments known to `gymnasium.make` and `gymnasium.make_vec`. Calling it again changes nothing.

    `import clutr` calls it, because Gymnasium 1.x itself reads no entry points; whoever reads the group
    `gymnasium.envs` finds this function there. An environment's code is imported when it is first made.
    """
    for name, (single, vector) in _ENTRY_POINTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=single, vector_entry_point=vector)
