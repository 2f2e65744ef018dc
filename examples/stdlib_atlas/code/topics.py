"""Ask a remote service what a module is about."""

import time

from pretend_service import PretendService


def ask_topic(module: str, summary: str | None, service: str) -> str:
    """Return the topic that the service names; what the service raises is left as it is."""
    time.sleep(0.005)  # the way there and back
    return PretendService(service).ask(module, f"{module} {summary or ''}")
