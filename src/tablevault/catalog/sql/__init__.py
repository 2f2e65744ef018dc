"""A catalog in SQL that databases share; `sqlite.py` beside this package holds what is particular to one."""
