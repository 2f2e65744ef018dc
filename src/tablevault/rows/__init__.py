"""Running rows: arguments, calls, results, and ways of running them."""
