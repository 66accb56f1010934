"""Initializers, layers and networks: what maps images to logits."""
