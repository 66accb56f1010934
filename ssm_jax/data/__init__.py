"""From names to uint8 arrays in memory or images on disk, and from those to batches."""
