"""Find the modules of the standard library that runs this code."""

import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def find_modules(artifact_folder: str) -> Iterator[tuple[str, str]]:
    """Yield each top-level module's name and the place of its copy, relative to the artifact folder."""
    copies = Path(artifact_folder) / "sources"
    copies.mkdir(exist_ok=True)
    for source in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        shutil.copyfile(source, copies / source.name)
        yield source.stem, f"sources/{source.name}"
