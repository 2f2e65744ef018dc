"""How progress is shown, on a terminal and in notebooks."""
