"""From names to uint8 arrays in memory, and from those to batches."""
