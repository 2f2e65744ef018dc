"""What TableVault takes from the machine: time, permissions, forks, SQLite files, and libraries that are optional."""
