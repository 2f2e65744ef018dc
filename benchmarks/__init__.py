"""How fast the product is, next to the least that the same work can cost: `python -m benchmarks`."""
