"""The world model: what students see, compressed and predicted."""
