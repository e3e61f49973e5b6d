"""How a frame becomes a point: one protocol, one file each."""
