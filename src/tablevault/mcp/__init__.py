"""A door for agents: tools over the Model Context Protocol, by which a client reads a vault, and writes if it may.

No code of the vault runs in the server: whatever computes is a background worker.
"""
