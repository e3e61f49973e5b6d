"""Long comparisons whose results are committed under `experiments/results`."""
