"""The choice of the next task: one file an algorithm."""
