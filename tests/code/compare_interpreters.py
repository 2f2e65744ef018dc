"""Compares the analysis of source files under several Python versions.

`compare_interpreters.py EVERY PYTHON…`

Code versions must not depend on the interpreter, so that an upgrade of Python computes nothing again. Every file of the
standard library and of the installed packages, or one of EVERY many, is taken apart under each interpreter, and the
results are compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


def source_files() -> Iterator[Path]:
    """Yield the files of the standard library and of the packages of this environment."""
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        yield from sorted(path for path in Path(folder).rglob("*.py") if "lib2to3" not in path.parts)


def describe(path: Path) -> list[list[object]] | None:
    """Return the relevant facts about the statements of a file.

    Returns `None` if it is not a module of this Python version.
    """
    from tablevault.code.syntax import split_module
    from tablevault.errors import TVBuilderError

    try:
        with tokenize.open(path) as file:
            statements = split_module(path.stem, file.read(), ["os", "typing", path.stem])
    except (TVBuilderError, SyntaxError, UnicodeDecodeError, OSError):
        return None
    return [
        [
            item.position,
            *(sorted(map(list, names)) for names in (item.uses, item.runs)),
            *(sorted(names) for names in (item.binds, item.imports, item.mentions, item.functions)),
            [item.always, item.changeable, item.movable],
            item.digest,
            item.documented_digest,
        ]
        for item in statements
    ]


def described_by(interpreter: str, files: Iterable[Path]) -> Iterator[tuple[str, object]]:
    """Yield each file with what an interpreter makes of it."""
    command = [
        interpreter,
        "-I",
        "-c",
        f"import sys; sys.path[:0] = [{str(SOURCE)!r}, {str(Path(__file__).parent)!r}]; import compare_interpreters as c; c.print_descriptions()",
    ]
    given = "\n".join(map(str, files))
    result = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    for line in result.stdout.splitlines():
        path, content = json.loads(line)
        yield path, content


def print_descriptions() -> None:
    """Print what this interpreter makes of the files named on standard input."""
    for line in sys.stdin:
        print(json.dumps([line.strip(), describe(Path(line.strip()))]))


def differences(interpreters: Iterable[str], files: Iterable[Path]) -> tuple[int, list[str]]:
    """Return how many statements all interpreters were compared on, and the places where they differ."""
    first, *others = (dict(described_by(interpreter, files)) for interpreter in interpreters)
    count, found = 0, []
    for path, content in first.items():
        for other in others:
            if content is None or other[path] is None:
                continue
            count += len(content)
            if len(content) != len(other[path]):
                found.append(f"{path}: {len(content)} and {len(other[path])} statements")
            found += [
                f"{path}, statement {a[0]}: {a} {b}" for a, b in zip(content, other[path], strict=False) if a != b
            ]
    return count, found


if __name__ == "__main__":
    compared, differing = differences(sys.argv[2:], list(source_files())[:: int(sys.argv[1])])
    print("\n".join(differing[:50]))
    print(f"{compared:,} statements compared, {len(differing):,} differ")
    raise SystemExit(bool(differing))
