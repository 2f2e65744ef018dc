"""Access for agents: tools over the Model Context Protocol, to read a vault and, if allowed, to write to it.

No code of the vault runs in the server; computations run in background workers.
"""
