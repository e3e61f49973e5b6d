"""What a model has learnt: pure functions from trained models and data to arrays, each with a number to judge it by."""
