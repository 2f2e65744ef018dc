"""Plain values about a vault, and their JSON, for people and programs that look at it from outside.

The page shows these values as HTML and as JSON. They are made from the public records of `TableVault`, and nothing of a
vault is run, written or locked to make them.
"""
