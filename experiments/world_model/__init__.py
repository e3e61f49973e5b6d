"""World models as experiments: recording, training, dreaming, probing, and their directories."""
