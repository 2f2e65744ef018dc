"""What is told about a vault to people and programs that look at it from outside: plain values, and their JSON.

The page shows these values as HTML and as JSON. They are made from the public records of `TableVault`, and nothing of a
vault is run, written or locked to make them.
"""
