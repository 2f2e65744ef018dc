"""Database-independent SQL catalog; `sqlite.py` beside this package is the SQLite backend."""
