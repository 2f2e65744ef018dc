"""The web page of a vault.

It is served to browsers on this machine and protected by a token.
"""
