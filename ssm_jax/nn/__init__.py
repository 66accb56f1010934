"""Layers and networks: what maps images to logits."""
