"""Zero-shot evaluation: playing suites, statistics, comparisons of methods."""
