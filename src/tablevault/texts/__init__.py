"""Text formats for display and files."""
