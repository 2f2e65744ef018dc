"""Built-in code modules, selected with `is_custom: false`.

They are ordinary user code and import only TableVault's reader of delimited text; `sql` also uses its SQL engine.
"""
