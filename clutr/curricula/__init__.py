"""Who chooses the next task: one file an algorithm."""
