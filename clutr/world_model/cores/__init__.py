"""Sequence models that remember: one protocol, one file each."""
