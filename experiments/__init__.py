"""Putting worlds, students and curricula together, and what a person sees of it."""
