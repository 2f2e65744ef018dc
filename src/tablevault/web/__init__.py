"""The web page of a vault: served to this machine's browser, behind a token."""
