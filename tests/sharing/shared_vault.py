"""A vault to be shared.

Builders make pictures, one of which fails, from titles that a program wrote.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from tablevault import TableVault, TableVaultWarning

CODE = """
from pathlib import Path

from PIL import Image


def titles(frame):
    return frame[["title"]]


def draw(title, folder):
    if title == "Sea":
        raise ValueError("too wet")
    Image.new("RGB", (3, 2), (len(title), 0, 0)).save(Path(folder, f"{title}.png"))
    return f"{title}.png"


def shades(title):
    return [len(title) / 2, 1.0]


def facts(title):
    return {"letters": len(title)}
"""


def _column(name: str, more: str = "", arguments: str = "") -> str:
    return (
        f"builder_type: ColumnBuilder\nchanged_columns: [{name}]\npython_function: {name}\ncode_module: drawing\n"
        f'is_custom: true\nreturn_type: row-wise\n{more}arguments: {{title: "<<self.title[index]>>"{arguments}}}\n'
    )


BUILDERS = {
    "pictures_index": "builder_type: IndexBuilder\nchanged_columns: [title]\nprimary_key: [title]\n"
    "python_function: titles\ncode_module: drawing\nis_custom: true\narguments: {frame: <<titles>>}\n",
    "draw": _column(
        "draw",
        "dtypes: {draw: artifact_string}\non_error: collect\nmax_failures: 100%\n",
        ", folder: ~ARTIFACT_FOLDER~",
    ),
    "facts": _column("facts", "dtypes: {facts: json}\n"),
    "shades": _column("shades"),
}


def make_gallery(vault: TableVault, folder: Path) -> TableVault:
    """Fill an empty vault."""
    moments = pd.date_range("2024-02-29", periods=3, tz="UTC")
    vault.write("titles", pd.DataFrame({"title": ["Fox", "Owl", "Sea"], "made": moments}), primary_key="title")
    vault.write("secret", pd.DataFrame({"word": ["xyzzy"]}))
    vault.create_code_module("drawing", text=CODE)
    vault.create_table("pictures", allow_multiple_artifacts=True, description="Small pictures.")
    vault.create_instance("pictures", builders=BUILDERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableVaultWarning)
        vault.execute_instance("pictures")
    vault.create_tag("paper", "pictures")
    return vault
