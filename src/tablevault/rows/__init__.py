"""Execution of rows, with their arguments, calls, results and executors."""
