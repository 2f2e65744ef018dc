"""Arrays as cells of vector, tensor and numeric list columns, without Python steps per element.

A cell is a read-only, native NumPy array. The cells of a column are contiguous in a few large chunks of memory, which
become chunks of the Arrow column without a copy.
"""

from __future__ import annotations

import array as python_arrays
import copy
import datetime
import decimal
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.errors import TVArgumentError
from tablevault.storage.column_types import ITEM_TYPES, ColumnType, Kind
from tablevault.storage.plain import array_items, is_missing, shown, type_name

Array: TypeAlias = np.ndarray[Any, Any]

CHUNK_BYTES = 2**24
_MAXIMUM_OFFSET = 2**31 - 1
"""Maximum number of items in a chunk of lists without a fixed size."""
_MINIMUM_SHARED_BYTES = 2**16
"""Minimum size of contiguous cells that become a separate chunk; smaller runs are copied together."""
EXACT_INTEGERS = {"float16": 2**11, "float32": 2**24, "float64": 2**53}
"""Bounds up to which all whole numbers are exact."""
_SHAPE = re.compile(r"tensor<\w+, ([0-9, ]+)>")
_KNOWN_ARRAYS = frozenset({np.ndarray, np.memmap})
_UNCHANGEABLE = frozenset(
    {
        NoneType,
        bool,
        bytes,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        float,
        int,
        str,
    }
)
"""Classes of results that need no copy."""


@dataclass(frozen=True)
class ArrayForm:
    """The common form of the arrays of a column."""

    name: str
    item: pa.DataType
    shape: tuple[int, ...] | None
    """`None` for one-dimensional arrays of any length."""

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The type of the items in NumPy."""
        return _dtype_of(self.item)

    @property
    def size(self) -> int:
        """Number of items of a cell of a fixed shape."""
        return math.prod(self.shape or (0,))

    @cached_property
    def row_shape(self) -> tuple[int, ...]:
        """The fixed shape."""
        return self.shape or ()


def _dtype_of(item: pa.DataType) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(item.to_pandas_dtype())
    return dtype


def array_form(column_type: ColumnType) -> ArrayForm | None:
    """Return the form of the arrays of a vector, tensor or numeric list column.

    Returns `None` for any other column.

    Raises `ValueError` if the shape in a tensor's name does not match its Arrow type.
    """
    arrow = column_type.arrow
    if column_type.kind not in (Kind.PLAIN, Kind.VECTOR, Kind.TENSOR) or not _is_any_list(arrow):
        return None
    if not _is_numeric(arrow.value_type):
        return None
    if column_type.kind is Kind.TENSOR:
        match = _SHAPE.fullmatch(column_type.name)
        shape = tuple(map(int, match[1].split(","))) if match else ()
        if not shape or math.prod(shape) != arrow.list_size:
            raise ValueError(f"the shape of {column_type.name} is not that of {arrow}")
        return ArrayForm(column_type.name, arrow.value_type, shape)
    fixed = (arrow.list_size,) if pa.types.is_fixed_size_list(arrow) else None
    return ArrayForm(column_type.name, arrow.value_type, fixed)


def _is_any_list(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow))


def _is_numeric(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_boolean(arrow))


# --- values ------------------------------------------------------------------------------------------------------


class ArrayChecker:
    """Copies values for a vector or tensor column into cells.

    Parameters
    ----------
    column_type
        The type of the column.
    """

    def __init__(self, column_type: ColumnType) -> None:
        form = array_form(column_type)
        assert form is not None  # Every vector and tensor type has one.
        self._form = form
        self._dtype, self._shape = form.dtype, form.shape
        self._buffer = ColumnBuffer(form)

    def __call__(self, value: Any) -> Any:
        """Return the cell for a value; `None` for a missing one.

        Raises `TypeError` or `ValueError` for a value that does not fit.
        """
        if type(value) is np.ndarray and value.dtype is self._dtype and value.shape == self._shape:
            return self._buffer.add(value)
        if value is np.ma.masked or (not isinstance(value, np.ndarray) and is_missing(value)):
            return None
        return self._buffer.add(_fitting(_as_array(value, self._form), self._form))

    def rows(self, values: object) -> list[Array] | None:
        """Copy the rows of an array into cells at once.

        Returns `None` if the array needs conversion.
        """
        if type(values) is not np.ndarray or self._shape is None or values.dtype is not self._dtype:
            return None
        return self._buffer.add_rows(values) if len(values) and values.shape[1:] == self._shape else None


def reused_array(column_type: ColumnType) -> Callable[[Any], Any]:
    """Return a converter of cells of an earlier column, which may hold lists; raises like `ArrayChecker`."""
    form = array_form(column_type)
    assert form is not None  # Every vector and tensor type has one.
    check = ArrayChecker(column_type)

    def reused(cell: Any) -> Any:
        is_same = type(cell) is np.ndarray and cell.dtype == form.dtype
        if is_same and (cell.shape == form.shape or (form.shape is None and cell.ndim == 1)):
            return cell
        return check(cell)

    return reused


def list_array(value: Array, column_type: ColumnType) -> Array | None:
    """Return the cell for an array in a numeric list column.

    Returns `None` if its items need individual checks.
    """
    form = array_form(column_type)
    if form is None or type(value) not in _KNOWN_ARRAYS or value.ndim != 1:
        return None
    try:
        return owned(_fitting(value, form), form.dtype)
    except (TypeError, ValueError):
        return None


def natural_array(value: object) -> Array | None:
    """Return the cell for a vector in a column without a dtype.

    Returns `None` for values that are not vectors of a named item type.
    """
    if type(value) not in _KNOWN_ARRAYS or not isinstance(value, np.ndarray) or value.ndim != 1:
        return None
    dtype = value.dtype.newbyteorder("=")
    return owned(value, dtype) if dtype.name in ITEM_TYPES else None


def owned(value: Array, dtype: np.dtype[Any]) -> Array:
    """Return a read-only copy of an array."""
    array = np.array(value, dtype=dtype, order="C")
    array.setflags(write=False)
    return array


def copied_result(value: Any) -> Any:
    """Return a copy of a function's result, which the function may change in its next call.

    Values that cannot be a cell, and exceptions, are returned as they are.
    """
    try:
        return _copied(value)
    except RecursionError:
        # It is nested more deeply than a cell may be, so its row is refused.
        return value


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in _UNCHANGEABLE:
        return value
    if kind is list:
        return value.copy() if _are_unchangeable(value) else list(map(_copied, value))
    if kind is tuple:
        return value if _are_unchangeable(value) else tuple(map(_copied, value))
    if kind is dict:
        if _are_unchangeable(value.values()):
            return value.copy()
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, BaseException) or (isinstance(value, np.generic) and not isinstance(value, np.void)):
        return value
    try:
        return _copied_object(value)
    except Exception:  # noqa: BLE001 - the check of the result reports any error
        return value


def _are_unchangeable(items: Iterable[Any]) -> bool:
    return set(map(type, items)) <= _UNCHANGEABLE


def _copied_object(value: Any) -> Any:
    if isinstance(value, bytearray | python_arrays.array):
        return value[:]
    if isinstance(value, memoryview):
        return np.array(value) if value.format != "B" else memoryview(bytes(value))
    if isinstance(value, np.ndarray | np.void) and not value.dtype.hasobject:
        return value.copy()
    if isinstance(value, list | tuple):
        # A copy of an exception would lose its traceback.
        return copy.deepcopy(value, {id(item): item for item in value if isinstance(item, BaseException)})
    if not isinstance(value, np.ndarray) and hasattr(type(value), "__dlpack__"):
        return np.array(np.from_dlpack(value))
    if isinstance(value, Mapping) or hasattr(type(value), "__array__"):
        return copy.deepcopy(value)
    return value


def _as_array(value: Any, form: ArrayForm) -> Array:
    """Convert a value to an array by the first protocol that applies."""
    if isinstance(value, np.ndarray):
        if type(value) not in _KNOWN_ARRAYS:
            if isinstance(value, np.ma.MaskedArray) and not np.ma.is_masked(value):
                return np.ma.getdata(value)
            if isinstance(value, np.ma.MaskedArray):
                raise ValueError(f"an array with masked items does not fit {form.name}")
            array_items(value)  # Raises for classes that their items do not fully describe.
            return np.asarray(value)
        return value
    kind = type(value)
    if hasattr(kind, "__dlpack__") and not isinstance(value, np.generic):
        return _converted(value, np.from_dlpack, form)
    if hasattr(kind, "__array__") and not isinstance(value, np.generic):
        return _converted(value, np.asarray, form)
    if isinstance(value, python_arrays.array) and value.typecode not in "uw":
        return np.frombuffer(value, dtype=value.typecode) if len(value) else np.empty(0, value.typecode)
    if isinstance(value, memoryview):
        return np.asarray(value)
    if isinstance(value, bytes | bytearray):
        if form.dtype != np.uint8:
            raise TypeError(f"{shown(value)} is of type {type_name(value)}, which fits vectors of uint8 only")
        return np.frombuffer(value, dtype=np.uint8)
    if isinstance(value, list | tuple):
        return _of_items(value, form)
    raise TypeError(f"{shown(value)} is of type {type_name(value)}, which does not fit {form.name}")


def _converted(value: Any, convert: Callable[[Any], Any], form: ArrayForm) -> Array:
    try:
        found = convert(value)
    except Exception as error:
        text = f"{type_name(value)} cannot be read as an array for {form.name}: {error}"
        raise TypeError(f"{text}{_tensor_remedy(value)}") from error
    if not isinstance(found, np.ndarray):
        raise TypeError(f"{type_name(value)} cannot be read as an array for {form.name}")
    return found


def _tensor_remedy(value: Any) -> str:
    """Return the remedy for a torch tensor that NumPy cannot read."""
    if getattr(value, "requires_grad", False) is True:
        return "; call its .detach() first"
    device = getattr(value, "device", None)
    if str(getattr(device, "type", device)).startswith("cuda"):
        return "; call its .cpu() first"
    if str(getattr(value, "dtype", "")).endswith("bfloat16"):
        return "; call its .float() first"
    return ""


def _of_items(value: Sequence[Any], form: ArrayForm) -> Array:
    if not len(value):
        return np.empty(0, form.dtype)
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{shown(value)} does not fit {form.name}: {error}") from error
    if found.dtype.kind == "O":
        found = _of_objects(value, found, form)
    if found.dtype.kind in "iuf" and _holds_truth(value):
        raise TypeError(f"{shown(value)} has truth values among numbers, which does not fit {form.name}")
    if found.dtype.kind == "f" and (np.abs(found) >= EXACT_INTEGERS["float64"]).any():
        _check_exact_items(value, form)
    return found


def _check_exact_items(value: Sequence[Any], form: ArrayForm) -> None:
    """Raise `ValueError` if a whole number stands beside fractions that it would be rounded with."""
    for item in value:
        if isinstance(item, list | tuple):
            _check_exact_items(item, form)
        elif isinstance(item, int | np.integer) and int(float(item)) != item:
            raise ValueError(
                f"{shown(value)} has {item} beside fractions, as which it is not exact, so it does not fit {form.name}"
            )


def _of_objects(value: Sequence[Any], found: Array, form: ArrayForm) -> Array:
    """Raise the error for a list of objects.

    Its items are not numbers, missing, or too large.
    """
    flat = found.reshape(-1)
    if any(item is not None and not isinstance(item, float) and not isinstance(item, int) for item in flat):
        raise TypeError(f"{shown(value)} has items that are not numbers, which do not fit {form.name}")
    if any(item is None for item in flat):
        raise ValueError(
            f"{shown(value)} has a missing item, which {form.name} cannot hold; use NaN or leave the cell empty"
        )
    raise ValueError(f"{shown(value)} has numbers that are too large for {form.name}")


def _holds_truth(value: Sequence[Any]) -> bool:
    kinds = set(map(type, value))
    if bool in kinds or np.bool_ in kinds:
        return True
    if np.ndarray in kinds and any(isinstance(item, np.ndarray) and item.dtype.kind == "b" for item in value):
        return True
    return any(_holds_truth(item) for item in value if type(item) in (list, tuple)) if kinds & {list, tuple} else False


def _fitting(value: Array, form: ArrayForm) -> Array:
    """Cast an array to the item type of a form, in any memory layout.

    Raises if that would change it.
    """
    if form.shape is None:
        if value.ndim != 1:
            raise ValueError(f"{_described(value)} does not fit {form.name}")
        if value.size > _MAXIMUM_OFFSET:
            raise ValueError(f"{_described(value)} has more items than {form.name} can hold ({_MAXIMUM_OFFSET:,})")
    elif value.shape != form.shape:
        raise ValueError(f"{_described(value)} does not fit {form.name}")
    dtype = form.dtype
    if value.dtype == dtype:
        return value
    source, target = value.dtype.kind, dtype.kind
    if source not in "iufb" or (source == "b") != (target == "b"):
        if not value.size and source in "iuf":
            return value.astype(dtype)
        raise TypeError(f"{_described(value)} does not fit {form.name}")
    if source == "f" and target == "f":
        return _rounded(value, form)
    return _exact(value, form)


def _rounded(value: Array, form: ArrayForm) -> Array:
    if value.dtype.itemsize <= form.dtype.itemsize:
        return value.astype(form.dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        found = value.astype(form.dtype)
    if np.count_nonzero(np.isinf(found)) != np.count_nonzero(np.isinf(value)):
        worst = value[np.isinf(found) & ~np.isinf(value)][0]
        raise ValueError(f"{_described(value)} has {worst}, which is too large for {form.name}")
    return found


def _exact(value: Array, form: ArrayForm) -> Array:
    """Cast exactly between whole numbers and floats, or whole numbers of another size; raises otherwise."""
    if not value.size:
        return value.astype(form.dtype)
    if value.dtype.kind == "f":
        whole = np.isfinite(value) & (value == np.trunc(value))
        if not whole.all():
            raise ValueError(f"{_described(value)} has {value[~whole][0]}, which is not whole as {form.name} needs")
    if form.dtype.kind != "f":
        return _in_range(value, form)
    largest = EXACT_INTEGERS[form.dtype.name]
    if -largest <= int(value.min()) and int(value.max()) <= largest:
        return value.astype(form.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        found = value.astype(form.dtype)
    for before, after in zip(
        value[np.abs(found) >= largest].tolist(), found[np.abs(found) >= largest].tolist(), strict=True
    ):
        if math.isinf(after) or int(after) != before:
            raise ValueError(f"{_described(value)} has {before}, which {form.name} cannot hold exactly")
    return found


def _in_range(value: Array, form: ArrayForm) -> Array:
    limits = np.iinfo(form.dtype)
    low, high = int(value.min()), int(value.max())
    if low < limits.min or high > limits.max:
        worst = low if low < limits.min else high
        raise ValueError(f"{_described(value)} has {worst}, which is outside the range of {form.name}")
    return value.astype(form.dtype)


def _described(value: Array) -> str:
    return f"an array of {value.dtype} with shape {value.shape}"


# --- memory ------------------------------------------------------------------------------------------------------


class ColumnBuffer:
    """Copies the cells of a column into contiguous chunks of memory that are never reallocated.

    Parameters
    ----------
    form
        The common form of the cells.
    """

    def __init__(self, form: ArrayForm) -> None:
        self._form = form
        self._chunk: Array = np.empty(0, form.dtype)
        self._shown = self._chunk.view()
        """A read-only view of the chunk."""
        self._used = self._room = 0
        self._is_fixed = form.shape is not None
        self._shown.setflags(write=False)

    def add(self, value: Array) -> Array:
        """Return a read-only copy of an array of the right shape."""
        used, count = self._used, 1 if self._is_fixed else len(value)
        if count > self._room - used:
            self._grow(count)
            used = 0
        self._used = used + count
        if self._is_fixed:
            self._chunk[used] = value
            return self._shown[used]  # type: ignore[no-any-return]
        self._chunk[used : used + count] = value
        return self._shown[used : used + count]

    def add_rows(self, values: Array) -> list[Array]:
        """Return read-only copies of the rows of an array, each of the fixed shape."""
        cells: list[Array] = []
        done = 0
        while done < len(values):
            if self._used == self._room:
                self._grow(1)
            count = min(self._room - self._used, len(values) - done)
            here = slice(self._used, self._used + count)
            self._chunk[here] = values[done : done + count]
            cells.extend(self._shown[here])
            self._used += count
            done += count
        return cells

    def _grow(self, count: int) -> None:
        item = self._form.dtype.itemsize * (self._form.size if self._is_fixed else 1)
        self._room = max(CHUNK_BYTES // item, count)
        self._used = 0
        self._chunk = np.empty((self._room, *self._form.row_shape), self._form.dtype)
        self._shown = self._chunk.view()
        self._shown.setflags(write=False)


# --- Arrow -------------------------------------------------------------------------------------------------------


def column_of_arrays(cells: Sequence[Any], arrow: pa.DataType, dtype: np.dtype[Any]) -> pa.ChunkedArray:
    """Build a column of lists from arrays of one type and `None`.

    Contiguous cells are not copied.
    """
    chunks = [_list_chunk(arrow, dtype, part, flat) for part, flat in _parts(cells, arrow, dtype)]
    return pa.chunked_array(chunks, type=arrow)


def _parts(
    cells: Sequence[Any], arrow: pa.DataType, dtype: np.dtype[Any]
) -> Iterator[tuple[Sequence[Any], Array | None]]:
    """Yield cells in chunks.

    Chunks that are contiguous in memory come with a flat view of their items.
    """
    size = arrow.list_size if pa.types.is_fixed_size_list(arrow) else None
    most = _MAXIMUM_OFFSET if pa.types.is_list(arrow) else None
    small: list[Any] = []
    room = CHUNK_BYTES
    for run in (part for whole in _runs(cells) for part in _cut(whole, most)):
        total = sum(map(_size_of, run))
        first = run[0]
        if first is not None and total * dtype.itemsize >= _MINIMUM_SHARED_BYTES and first.dtype == dtype:
            if small:
                yield small, None
                small, room = [], CHUNK_BYTES
            yield run, np.lib.stride_tricks.as_strided(first.reshape(-1), (total,), (dtype.itemsize,), writeable=False)
            continue
        for cell in run:
            taken = (size if cell is None and size else _size_of(cell)) * dtype.itemsize
            if taken > room and small:
                yield small, None
                small, room = [], CHUNK_BYTES
            small.append(cell)
            room -= taken
    if small:
        yield small, None


def _cut(run: list[Any], most: int | None) -> Iterator[list[Any]]:
    """Yield the cells of a run in parts of at most this number of items; `None` for any number."""
    if most is None:
        yield run
        return
    ends = np.cumsum(np.fromiter(map(_size_of, run), np.int64, len(run)))
    start = taken = 0
    while start < len(run):
        stop = max(start + 1, int(np.searchsorted(ends, taken + most, side="right")))
        yield run[start:stop]
        start, taken = stop, int(ends[stop - 1])


def _size_of(cell: Any) -> int:
    return 0 if cell is None else cell.size


def _runs(cells: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield runs of cells that are contiguous in one chunk of memory.

    Missing cells form separate runs.
    """
    for _, group in groupby(cells, key=lambda cell: 0 if cell is None else id(cell.base)):
        run = list(group)
        if run[0] is None or len(run) == 1:
            yield run
            continue
        if run[0].base is None:
            yield from ([cell] for cell in run)
            continue
        addresses = np.fromiter((cell.__array_interface__["data"][0] for cell in run), np.int64, len(run))
        sizes = np.fromiter((cell.nbytes for cell in run), np.int64, len(run))
        breaks = np.flatnonzero(addresses[1:] != addresses[:-1] + sizes[:-1]) + 1
        starts = [0, *breaks.tolist(), len(run)]
        for start, stop in pairwise(starts):
            yield run[start:stop]


def _list_chunk(arrow: pa.DataType, dtype: np.dtype[Any], cells: Sequence[Any], flat: Array | None) -> pa.Array:
    count = len(cells)
    nulls = [at for at, cell in enumerate(cells) if cell is None] if flat is None else []
    validity = None
    if nulls:
        present = np.ones(count, np.bool_)
        present[nulls] = False
        validity = pa.py_buffer(np.packbits(present, bitorder="little"))
    if flat is None:
        flat = _joined(cells, arrow, dtype)
    items = _items(flat, arrow.value_type)
    if pa.types.is_fixed_size_list(arrow):
        return pa.Array.from_buffers(arrow, count, [validity], len(nulls), children=[items])
    offsets = np.zeros(count + 1, np.int64 if pa.types.is_large_list(arrow) else np.int32)
    np.cumsum(np.fromiter(map(_size_of, cells), np.int64, count), out=offsets[1:])
    return pa.Array.from_buffers(arrow, count, [validity, pa.py_buffer(offsets)], len(nulls), children=[items])


def _joined(cells: Sequence[Any], arrow: pa.DataType, dtype: np.dtype[Any]) -> Array:
    if not pa.types.is_fixed_size_list(arrow):
        there = [cell for cell in cells if cell is not None]
        return np.concatenate(there).astype(dtype, copy=False) if there else np.empty(0, dtype)
    flat = np.zeros((len(cells), arrow.list_size), dtype)
    for at, cell in enumerate(cells):
        if cell is not None:
            flat[at] = cell.reshape(-1)
    return flat.reshape(-1)


def _items(flat: Array, item: pa.DataType) -> pa.Array:
    if pa.types.is_boolean(item):
        packed = np.packbits(flat, bitorder="little")
        return pa.Array.from_buffers(item, len(flat), [None, pa.py_buffer(packed)], 0)
    return pa.Array.from_buffers(item, len(flat), [None, pa.py_buffer(flat)], 0)


def arrays_of_column(column: pa.Array | pa.ChunkedArray, form: ArrayForm) -> list[Array | None]:
    """Return the cells of a column of lists as read-only arrays.

    The arrays are views of the column, which has no null items.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    found: list[Array | None] = []
    for chunk in chunks:
        cells = _cells_of_chunk(chunk, form)
        if chunk.null_count:
            for at in np.flatnonzero(~np.asarray(chunk.is_valid())).tolist():
                cells[at] = None
        found += cells
    return found


def _cells_of_chunk(chunk: pa.Array, form: ArrayForm) -> list[Array | None]:
    if pa.types.is_fixed_size_list(chunk.type):
        return list(rows_of_chunk(chunk, form.shape or (chunk.type.list_size,)))
    offsets = chunk.offsets.to_numpy()
    flat = _flat(chunk.values, 0, len(chunk.values))
    return [flat[start:stop] for start, stop in zip(offsets.tolist(), offsets[1:].tolist(), strict=False)]


def rows_of_chunk(chunk: pa.Array, shape: tuple[int, ...]) -> Array:
    """Return a chunk of fixed-size lists as one read-only array.

    The content of null rows is undefined.
    """
    size = chunk.type.list_size
    # `values` ignores the offset of a slice; `flatten` would omit null rows.
    return _flat(chunk.values, chunk.offset * size, len(chunk) * size).reshape(len(chunk), *shape)


def _flat(items: pa.Array, start: int, count: int) -> Array:
    """Return items as a read-only array; nulls under null rows are ignored."""
    data = items.buffers()[1]
    start += items.offset
    dtype = np.dtype(items.type.to_pandas_dtype())
    if data is None or not count:
        return owned(np.zeros(count, dtype), dtype)
    if pa.types.is_boolean(items.type):
        bits = np.frombuffer(data, np.uint8)[start // 8 : (start + count + 7) // 8]
        return owned(np.unpackbits(bits, bitorder="little")[start % 8 : start % 8 + count], dtype)
    flat = np.frombuffer(data, dtype, count, start * dtype.itemsize)
    if flat.flags.writeable:
        flat = flat.view()
        flat.setflags(write=False)
    return flat


def has_null_items(column: pa.ChunkedArray) -> bool:
    """Return whether a non-null list has a null item."""
    # Flattening omits items under null rows, but copies.
    return any(chunk.values.null_count and chunk.flatten().null_count for chunk in column.chunks)


def not_finite(column: pa.ChunkedArray) -> int:
    """Return the number of NaN or infinite items in a column of lists without null items."""
    items = [_flat(flat, 0, len(flat)) for flat in (chunk.flatten() for chunk in column.chunks)]
    return sum(int(np.count_nonzero(~np.isfinite(flat))) for flat in items if flat.dtype.kind == "f")


def with_required_items(arrow: pa.DataType, is_nullable: bool = False) -> pa.DataType:
    """Return a list type with required, or nullable, items."""
    field = pa.field("item", arrow.value_type, nullable=is_nullable)
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(field, arrow.list_size)
    return pa.large_list(field) if pa.types.is_large_list(arrow) else pa.list_(field)


def retyped(column: pa.ChunkedArray, is_nullable: bool) -> pa.ChunkedArray:
    """Return a column of lists with required or nullable items, without a copy.

    No visible item may be null.

    Arrow's own cast fails where null rows have null items.
    """
    target = with_required_items(column.type, is_nullable)
    return pa.chunked_array([_retyped_chunk(chunk, target) for chunk in column.chunks], type=target)


def _retyped_chunk(chunk: pa.Array, target: pa.DataType) -> pa.Array:
    items = chunk.values
    if items.null_count:
        items = pa.Array.from_buffers(items.type, len(items), [None, items.buffers()[1]], 0, items.offset)
    own = chunk.buffers()[: 1 if pa.types.is_fixed_size_list(target) else 2]
    return pa.Array.from_buffers(target, len(chunk), own, chunk.null_count, chunk.offset, children=[items])


def tensor_type(form: ArrayForm) -> pa.DataType:
    """Return Arrow's extension type for tensors of a shape."""
    return pa.fixed_shape_tensor(form.item, form.shape)


def as_extension(column: pa.ChunkedArray, form: ArrayForm) -> pa.ChunkedArray:
    """Return a stored column of tensors in Arrow's extension type."""
    arrow = tensor_type(form)
    return pa.chunked_array([pa.ExtensionArray.from_storage(arrow, chunk) for chunk in column.chunks], type=arrow)


def joined_arrays(cells: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """Join arrays of one shape into one read-only array.

    It is a view if they are contiguous.
    """
    runs = list(_runs(cells))
    if len(runs) == 1 and cells[0].base is not None:
        first = cells[0]
        strides = (first.nbytes, *first.strides)
        return np.lib.stride_tricks.as_strided(first, (len(cells), *shape), strides, writeable=False)
    stacked = np.stack(list(cells))
    stacked.setflags(write=False)
    return stacked


def batch_of_arrays(cells: Sequence[Any], arrow: pa.DataType) -> object:
    """Return cells of consecutive rows for batch functions, as one array if all have one shape.

    `None` for columns whose cells are passed individually. A missing cell is a row of NaN; with non-float items the
    cells stay a list. Where the type gives no length, a missing cell is passed as `None`, since the length of its row
    would be that of other rows.
    """
    if isinstance(arrow, pa.FixedShapeTensorType):
        return _stacked(cells, tuple(arrow.shape), arrow.value_type)
    if not _is_any_list(arrow) or not _is_numeric(arrow.value_type):
        return None
    if pa.types.is_fixed_size_list(arrow):
        return _stacked(cells, (arrow.list_size,), arrow.value_type)
    if arrow.value_field.nullable or any(cell is None for cell in cells) or len({cell.shape for cell in cells}) > 1:
        return None
    return _stacked(cells, cells[0].shape, arrow.value_type)


def _stacked(cells: Sequence[Any], shape: tuple[int, ...], item: pa.DataType) -> object:
    dtype = np.dtype(item.to_pandas_dtype())
    if all(type(cell) is np.ndarray for cell in cells):
        return joined_arrays(cells, shape)
    if any(type(cell) is list and NoneType in map(type, cell) for cell in cells):
        return None
    if any(cell is None for cell in cells) and dtype.kind != "f":
        return None if any(type(cell) is list for cell in cells) else list(cells)
    stacked = np.full((len(cells), *shape), np.nan if dtype.kind == "f" else 0, dtype)
    for at, cell in enumerate(cells):
        if cell is not None:
            stacked[at] = cell
    stacked.setflags(write=False)
    return stacked


def stacked_column(column: pa.ChunkedArray, copy: bool) -> Array:
    """Return a column of lists or tensors as one array.

    It is a view if the column is one chunk without nulls.

    Raises
    ------
    TVArgumentError
        If the column has another type.
    ValueError
        If an item is null, rows differ in length, or a row is null and its items cannot be NaN.
    """
    shape: tuple[int, ...] | None = None
    if isinstance(column.type, pa.FixedShapeTensorType):
        shape, order = tuple(column.type.shape), column.type.permutation
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], type=column.type.storage_type)
        if order is not None:
            return _stacked_lists(column, shape, copy).transpose(0, *(axis + 1 for axis in order))
    return _stacked_lists(column, shape, copy)


def _stacked_lists(column: pa.ChunkedArray, shape: tuple[int, ...] | None, copy: bool) -> Array:
    if not _is_any_list(column.type) or not _is_numeric(column.type.value_type):
        raise TVArgumentError(f"to_numpy() needs a column of arrays or of lists of numbers, not of {column.type}.")
    dtype = np.dtype(column.type.value_type.to_pandas_dtype())
    if has_null_items(column):
        raise ValueError("an item of a list is null, which an array cannot hold")
    if shape is None:
        shape = (_common_length(column),)
    if column.null_count and dtype.kind != "f":
        nulls = np.flatnonzero(np.asarray(column.is_null()))
        raise ValueError(f"row {nulls[0]} is null, for which {dtype} has no value; leave null rows out first")
    if not column.num_chunks or not len(column):
        return np.empty((0, *shape), dtype)
    chunks = [_stacked_chunk(chunk, shape, dtype) for chunk in column.chunks if len(chunk)]
    if len(chunks) == 1:
        return chunks[0].copy() if copy and not chunks[0].flags.writeable else chunks[0]
    return np.concatenate(chunks)


def _common_length(column: pa.ChunkedArray) -> int:
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths = pc.list_value_length(column)
    known = lengths.drop_null()
    if not len(known):
        return 0
    first = known[0].as_py()
    others = np.flatnonzero(np.asarray(pc.fill_null(pc.not_equal(lengths, first), False)))
    if len(others):
        raise ValueError(f"row {others[0]} has {lengths[int(others[0])]} items, rows before it have {first}")
    return int(first)


def _stacked_chunk(chunk: pa.Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if pa.types.is_fixed_size_list(chunk.type):
        found = rows_of_chunk(chunk, shape)
    else:
        items = chunk.flatten()
        there = _flat(items, 0, len(items)).reshape(len(chunk) - chunk.null_count, *shape)
        if not chunk.null_count:
            return there
        found = np.empty((len(chunk), *shape), dtype)
        found[np.asarray(chunk.is_valid())] = there
    if chunk.null_count:
        found = found if found.flags.writeable else found.copy()
        found[np.asarray(chunk.is_null())] = np.nan
    return found
