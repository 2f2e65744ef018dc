"""Texts as they are shown, and as files have them."""
