"""The students. They know worlds, not curricula."""
