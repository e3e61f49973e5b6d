"""Running experiments: presets, the training loop, pretrained manifolds, the demo."""
