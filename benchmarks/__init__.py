"""Speed of TableVault beside the minimal cost of the same work.

`python -m benchmarks`
"""
