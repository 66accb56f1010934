"""The training program: from a config to trained, saved and summarized networks."""
