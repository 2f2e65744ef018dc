"""Code modules that every vault has: builders name them with `is_custom: false`.

They are ordinary user code and import nothing of TableVault but its reader of delimited text; `sql` alone is built on
its engine of SQL.
"""
