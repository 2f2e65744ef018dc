"""Built-in code modules of every vault, which builders select with `is_custom: false`.

They are ordinary user code and import only TableVault's reader of delimited text; `sql` also uses its SQL engine.
"""
