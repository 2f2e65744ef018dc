"""A vault that has one of everything that the page shows."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from pathlib import Path

import pandas as pd
import yaml

from tablevault import TableVault

HOSTILE = (
    "<script>document.title='owned'</script>",
    "javascript:alert(1)",
    "]]><img src=x onerror=\"document.title='owned'\">",
    "\u202egnp.exe\u202c \x00 \x1b[31m",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "'\"><svg onload=document.title='owned'>",
)

CODE = '''
"""Functions of the shown vault: <script>document.title='owned'</script>"""

import struct
import time
import wave
import zlib
from pathlib import Path


def numbers(count):
    return list(range(count))


def title(number):
    return f"story {number}"


def other_title(number):
    return f"tale {number}" if number % 50 == 0 else f"story {number}"


def answer(number):
    if number % 40 == 7:
        raise ValueError(f"<b>no answer</b> to {number}")
    if number == 90:
        raise KeyError("missing")
    return f"answer {number}"


def words(answer):
    return len(answer.split())


def broken(number):
    if number == 3:
        raise RuntimeError("<script>document.title='owned'</script> broke")
    return number * 2


def waits(number, gate):
    while number == 2 and not Path(gate).exists():
        time.sleep(0.02)
    return number


def png(width=48, height=32):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\\0" + b"".join(bytes((x * 5 % 256, y * 7 % 256, 140)) for x in range(width)) for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PDF = (
    b"%PDF-1.4\\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]>>endobj\\ntrailer<</Root 1 0 R>>\\n%%EOF\\n"
)
EVIL = b"<!doctype html><script>document.title='owned';parent.document.title='owned'</script>"


def artifact(name, artifact_folder):
    target = Path(artifact_folder) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = target.suffix
    if name == "evil.png":
        target.write_bytes(EVIL)
    elif suffix == ".png":
        target.write_bytes(png())
    elif suffix == ".wav":
        with wave.open(str(target), "wb") as sound:
            sound.setnchannels(1), sound.setsampwidth(1), sound.setframerate(8000)
            sound.writeframes(bytes(range(256)) * 8)
    elif suffix == ".pdf":
        target.write_bytes(PDF)
    elif suffix == ".svg":
        target.write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg"><script>parent.document.title="owned"</script></svg>')
    elif suffix in (".html", ".txt"):
        target.write_bytes(EVIL)
    else:
        target.write_bytes(HEADS[suffix] + bytes(100))
    return name


HEADS = {
    ".jpg": b"\\xff\\xd8\\xff\\xe0",
    ".gif": b"GIF89a",
    ".webp": b"RIFF\\0\\0\\0\\0WEBP",
    ".avif": b"\\0\\0\\0\\x1cftypavif",
    ".mp3": b"ID3",
    ".ogg": b"OggS",
    ".flac": b"fLaC",
    ".mp4": b"\\0\\0\\0\\x18ftypisom",
    ".webm": b"\\x1aE\\xdf\\xa3",
    ".bin": b"\\0\\1\\2",
}
'''

ARTIFACTS = (
    "picture.png", "evil.png", "photo.jpg", "moving.gif", "small.webp", "new.avif", "voice.mp3", "tone.wav",
    "song.ogg", "music.flac", "film.mp4", "clip.webm", "paper.pdf", "notes.txt", "page.html", "drawing.svg",
    "data.bin", "deep/er/<b>&\"'%2e.png",
)  # fmt: skip


def _builder(kind: str, function: str, columns: list[str], **fields: object) -> str:
    content = {
        "builder_type": kind,
        "changed_columns": columns,
        "python_function": function,
        "code_module": "shown",
        "is_custom": True,
        "return_type": "row-wise",
        **fields,
    }
    return yaml.safe_dump(content, sort_keys=False)


def index_builder(count: int) -> str:
    return _builder(
        "IndexBuilder", "numbers", ["number"], arguments={"count": count}, primary_key=["number"],
        return_type="dataframe",
    )  # fmt: skip


def column_builder(function: str, column: str, needs: str = "number", **fields: object) -> str:
    arguments = {needs: f"<<self.{needs}[index]>>", **fields.pop("arguments", {})}
    return _builder("ColumnBuilder", function, [column], arguments=arguments, **fields)


class ShownVault:
    """A vault with running, paused and failed processes, failed rows, and artifacts of every type."""

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "gate"
        self.vault = vault = TableVault(folder / "vault <b>&", author="ada", create=True, lock_timeout=2.0)
        vault.create_code_module("shown", text=CODE)
        self._make("stories", {"stories_index": index_builder(230), "title": column_builder("title", "title")})
        vault.create_tag("paper", ["stories"], description="as printed")
        vault.create_instance("stories", copy=True)
        vault.create_builder_file("stories", "title", text=column_builder("other_title", "title"))
        vault.execute_instance("stories", process_id="second")
        vault.create_instance("stories", copy=True, description="<i>planned</i>")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._make(
                "answers",
                {
                    "answers_index": index_builder(120),
                    "answer": column_builder("answer", "answer", on_error="collect", max_failures="100%"),
                    "words": column_builder("words", "words", needs="answer"),
                },
            )
        names = _builder(
            "IndexBuilder", "create_data_table_from_list", ["name"], arguments={"vals": list(ARTIFACTS)},
            code_module="table_generation", is_custom=False, return_type="dataframe",
        )  # fmt: skip
        pictures = column_builder(
            "artifact", "file", needs="name", arguments={"artifact_folder": "~ARTIFACT_FOLDER~"},
            dtypes={"file": "artifact_string"},
        )  # fmt: skip
        self._make("media", {"media_index": names, "file": pictures})
        vault.write("hostile", pd.DataFrame({"text": [*HOSTILE, "x" * 1_000_000], "<script>": range(7)}))
        vault.create_table("broken", description=HOSTILE[0])
        vault.create_instance(
            "broken", builders={"broken_index": index_builder(6), "doubled": column_builder("broken", "doubled")}
        )
        with contextlib.suppress(RuntimeError):
            vault.execute_instance("broken", process_id="broken.json")
        vault.create_table("waiting")
        waiting = column_builder("waits", "waited", arguments={"gate": str(self.gate)})
        vault.create_instance("waiting", builders={"waiting_index": index_builder(6), "waited": waiting})
        vault.create_table("empty")
        self._running: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The id of the newest instance of `stories`."""
        return self.vault.get_table_instances("stories")[-1]

    def run(self, process_id: str = "waits") -> None:
        """Begin the execution that waits for the gate."""
        self._running = threading.Thread(
            target=self.vault.execute_instance, args=("waiting",), kwargs={"process_id": process_id}
        )
        self._running.start()
        while process_id not in self.vault.get_active_processes():
            time.sleep(0.02)

    def finish(self) -> None:
        """Let it end."""
        self.gate.touch()
        if self._running is not None:
            self._running.join()

    def _make(self, table_name: str, builders: dict[str, str]) -> None:
        self.vault.create_table(table_name)
        self.vault.create_instance(table_name, builders=builders)
        self.vault.execute_instance(table_name)
