"""Ask a remote service for the topic of a module."""

import time

from pretend_service import PretendService


def ask_topic(module: str, summary: str | None, service: str) -> str:
    """Return the topic from the service; its exceptions pass through."""
    time.sleep(0.005)  # the round trip
    return PretendService(service).ask(module, f"{module} {summary or ''}")
