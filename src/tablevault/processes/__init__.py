"""The life of processes: beginning, working, deciding, tidying up; pausing, resuming, stopping."""
