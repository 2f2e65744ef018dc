"""The same work with what people use instead, each in an environment of its own: `python -m benchmarks.peers`."""
