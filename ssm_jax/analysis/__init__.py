"""What trained masks look like: pure functions of masks, figures, a report."""
