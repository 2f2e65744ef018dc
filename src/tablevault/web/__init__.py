"""The web page of a vault, served to browsers on this machine and protected by a token."""
