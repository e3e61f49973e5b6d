"""The students. They know environments, not curricula."""
