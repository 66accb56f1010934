"""Other formats of an artifact."""
