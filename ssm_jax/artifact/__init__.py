"""A trained network by itself: the file it travels in, what runs it, and other formats."""
