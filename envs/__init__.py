"""Environments. They know nothing of learning."""
