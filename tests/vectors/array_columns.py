"""Random columns of arrays in every dtype and memory layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tablevault.storage.column_types import ITEM_TYPES

LAYOUTS = {
    "plain": lambda array: array,
    "strided": lambda array: np.repeat(array, 2, axis=0)[::2],
    "Fortran": np.asfortranarray,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "sliced": lambda array: np.concatenate([array, array])[len(array) :],
    "reversed": lambda array: array[::-1].copy()[::-1],
    "zero-copy": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
}


@dataclass(frozen=True)
class ArrayColumn:
    """A dtype with cells of it.

    Attributes
    ----------
    dtype
        As in a builder file.
    item
        The type of the items, by NumPy's name.
    shape
        The shape of every cell; `None` for cells of any length.
    given
        The cells in any memory layout, as a function returns them.
    cells
        The same, native and row-major.
    """

    dtype: str
    item: str
    shape: tuple[int, ...] | None
    given: list[Any]
    cells: list[Any]

    @property
    def is_list(self) -> bool:
        """Whether functions see lists."""
        return "list<" in self.dtype


@st.composite
def array_columns(draw, kinds=("vector", "fixed", "tensor"), rows=None):
    """Return a column of a random dtype among these kinds.

    It has at most 12 rows, or the given number.
    """
    item = draw(st.sampled_from(sorted(ITEM_TYPES)))
    kind = draw(st.sampled_from(kinds))
    dimensions = (2, 3) if kind == "tensor" else (1, 1)
    shape = draw(hnp.array_shapes(min_dims=dimensions[0], max_dims=dimensions[1], max_side=4))
    dtype = {
        "vector": f"vector<{item}>",
        "fixed": f"vector<{item}, {shape[0]}>",
        "tensor": f"tensor<{item}, {', '.join(map(str, shape))}>",
        "list": f"list<{item}>",
        "large list": f"large_list<{item}>",
        "fixed list": f"fixed_size_list<{item}>[{shape[0]}]",
    }[kind]
    is_fixed = kind in ("fixed", "tensor", "fixed list")
    given, cells = [], []
    for _ in range(draw(st.integers(0, 12)) if rows is None else rows):
        if draw(st.integers(0, 4)) == 0:
            given.append(None)
            cells.append(None)
            continue
        array = draw(hnp.arrays(np.dtype(item), shape if is_fixed else draw(st.integers(0, 5))))
        layout = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array)
        if draw(st.booleans()):
            layout.setflags(write=False)
        given.append(layout)
        cells.append(array)
    return ArrayColumn(dtype, item, shape if is_fixed else None, given, cells)
