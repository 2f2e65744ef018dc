"""Access to the operating system, SQLite files and optional libraries."""
