"""Running the builders of one instance: reuse, checkpoints, columns and provenance."""
