"""Looking at and changing the files of a legacy vault."""

from __future__ import annotations

import json
from pathlib import Path

DATA = Path(__file__).parent / "vault-0.1.1"
"""A vault as TableVault 0.1.1 left it."""


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes | None]]:
    """Return everything below a folder, with modes, times and contents."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in [folder, *sorted(folder.rglob("*"))]
    }


def instance_folder(vault: Path, table: str, version: str, place: int = 0) -> Path:
    """Return the folder of one of the instances of a version, oldest first."""
    return sorted((vault / table).glob(f"{version}_*"))[place]


def change_metadata(vault: Path, name: str, change) -> None:
    """Change one of the JSON files of the metadata."""
    path = vault / "metadata" / name
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def rename_table(vault: Path, former: str, new: str) -> None:
    """Rename a table everywhere except in builder files and the log.

    An early version might have allowed this.
    """

    def rename(content):
        return {new if name == former else name: value for name, value in content.items()}

    for name in ("tables_history.json", "tables_temp.json", "columns_history.json"):
        change_metadata(vault, name, rename)
    for builder in (vault / former).glob(f"*/builders/{former}_index.yaml"):
        builder.rename(builder.with_name(f"{new}_index.yaml"))
    (vault / former).rename(vault / new)
