"""Whether tables are up to date: plans of executions, decided without calling functions or changing anything."""
