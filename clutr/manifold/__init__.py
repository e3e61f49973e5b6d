"""How a task becomes a point."""
