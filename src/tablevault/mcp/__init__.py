"""Access for agents through tools of the Model Context Protocol.

The tools read a vault and, if allowed, write to it.

No code of the vault runs in the server; computations run in background workers.
"""
