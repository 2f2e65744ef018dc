"""The token that every request needs, created at each start and never stored."""

from __future__ import annotations

import hmac
import secrets

_BYTES = 32


class Token:
    """256 random bits that authenticate requests.

    Parameters
    ----------
    port
        The server's port; cookies do not tell ports apart, so it is part of the cookie's name.
    """

    def __init__(self, port: int) -> None:
        self.text = secrets.token_urlsafe(_BYTES)
        self.cookie_name = f"tablevault_{port}"

    def is_valid(self, given: str) -> bool:
        """Return whether a text is the token, in constant time."""
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self.text.encode())

    @property
    def cookie(self) -> str:
        """The `Set-Cookie` value that carries it."""
        return f"{self.cookie_name}={self.text}; HttpOnly; SameSite=Strict; Path=/"
