"""A local stand-in for a paid API that answers a limited number of calls.

Its folder has two files: `allowance` holds the total number of calls, `answered` has one line per answered call.
"""

import threading
from pathlib import Path

KEYWORDS = {
    "text": ("text", "string", "unicode", "codec", "regular expression", "format", "token", "parser", "encod"),
    "network": ("network", "http", "url", "ftp", "mail", "socket", "server", "internet", "smtp", "imap", "pop3"),
    "concurrency": ("thread", "process", "async", "concurren", "queue", "schedul", "event"),
    "files": ("file", "path", "director", "archive", "zip", "tar", "compress", "i/o", "temporary"),
    "language": ("python", "import", "module", "class", "object", "code", "debug", "trace", "abstract", "type"),
    "numbers": ("number", "math", "decimal", "random", "fraction", "statistic", "hash", "date", "time"),
}

_one_call_at_a_time = threading.Lock()


class PretendService:
    """The service, with its state in a folder."""

    def __init__(self, folder: str) -> None:
        self._allowance = Path(folder) / "allowance"
        self._answered = Path(folder) / "answered"

    def ask(self, caller: str, question: str) -> str:
        """Return the topic of a question; raise `ConnectionError` when the allowance is used up."""
        with _one_call_at_a_time:
            allowance = int(self._allowance.read_text())
            if len(self._answered.read_text().splitlines()) >= allowance:
                raise ConnectionError(f"429 Too Many Requests: the allowance of {allowance} calls is used up")
            with self._answered.open("a") as log:
                log.write(f"{caller}\n")
        return _topic(question.lower())


def _topic(question: str) -> str:
    scores = {topic: sum(word in question for word in words) for topic, words in KEYWORDS.items()}
    best = max(scores, key=lambda topic: scores[topic])
    return best if scores[best] else "other"
