"""Pages: what a run, a comparison or a world model is told by, as self-contained HTML."""
