"""Find the modules of the running interpreter's standard library."""

import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def find_modules(artifact_folder: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each top-level module and the path of its copy, relative to the artifact folder."""
    copies = Path(artifact_folder) / "sources"
    copies.mkdir(exist_ok=True)
    for source in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        shutil.copyfile(source, copies / source.name)
        yield source.stem, f"sources/{source.name}"
