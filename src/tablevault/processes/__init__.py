"""The life cycle of processes: begin, work, decide and tidy up; pause, resume and stop."""
