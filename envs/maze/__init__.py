"""MiniGrid mazes: levels, a batched engine that is exactly MiniGrid, test suites."""
