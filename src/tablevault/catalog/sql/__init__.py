"""A catalog in SQL, shared by all databases; `sqlite.py` beside this package is specific to one."""
