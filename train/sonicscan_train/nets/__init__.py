"""The networks, their pretrained weights, and checkpoints."""
