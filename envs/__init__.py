"""The worlds. They know nothing of learning."""
