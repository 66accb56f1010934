"""The paper's experiments: what is planned, run, summed up in tables and drawn."""
