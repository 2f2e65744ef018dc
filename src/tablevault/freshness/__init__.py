"""Freshness of tables and plans of executions, decided without calling functions or changing anything."""
