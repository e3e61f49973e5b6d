"""Driving `CarRacing-v3` by what a world model sees: an expert, its imitation by a small controller, and evolution."""
