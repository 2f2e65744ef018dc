"""The same work with other tools, each in a separate environment.

`python -m benchmarks.peers`
"""
