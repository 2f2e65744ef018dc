"""Progress and records, as terminals and notebooks show them."""
