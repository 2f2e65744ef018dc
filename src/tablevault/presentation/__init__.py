"""Plain values about a vault, and their JSON, for the web page, agents and other programs.

The page shows these values as HTML and as JSON. They are made from the public records of `TableVault`, without running,
writing or locking anything in a vault.
"""
