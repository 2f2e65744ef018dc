"""Reversible serialization of plain values, for checkpoints.

It uses MessagePack. Values without a MessagePack type use extension types, so that packed values are unambiguous. Lists
of simple values take a fast path without a Python step per value.
"""

from __future__ import annotations

import datetime
import decimal
import errno
import itertools
import math
import struct
import zoneinfo
from collections.abc import Callable, Iterable, Sequence
from types import NoneType
from typing import Any

import msgspec

Encode = Callable[[object], bytes]

ATOMS = frozenset({NoneType, bool, int, float, str, bytes})
"""Classes of values that are plain and immutable."""
SIMPLE = ATOMS | {list, dict}
"""Classes of values that consist of atoms, with keys that are text."""
_MAXIMUM_INTEGER_BITS = 14_000
"""Python converts whole numbers of at most 4,300 digits to text, and so to JSON."""
_MAXIMUM_EMPTY_ARRAYS = 2**20
"""Maximum number of arrays without items in one shape, which take no space, so that a file could claim any number."""
_NO_ZONE = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Error numbers of reading a time zone whose name is that of something else."""
_PACKED_DIRECTLY = SIMPLE | {tuple}

_INTEGER, _DATETIME, _DATE, _TIME, _TIMEDELTA, _DECIMAL, _TIMESTAMP, _LONG_TIMEDELTA = range(1, 9)
MAPPING = 9
"""Extension type of a dict with keys that are not text."""
# The numbers 10, 11 and 32 to 36 are used in `canonical`.
_ARRAYS, _ARRAY = 12, 13

MAXIMUM_BYTES = 2**32 - 1
"""Maximum size of one MessagePack value of bytes, or of an extension type."""

_LONG_HEADER, _EXTENSION_HEADER = struct.Struct(">BI"), struct.Struct(">BIB")
"""MessagePack headers: type byte, length, and number of an extension type."""

_encode = msgspec.msgpack.Encoder().encode


class TooLargeError(ValueError):
    """Packed values exceed the maximum size; some of them may not."""


def pack(value: object) -> bytes:
    """Serialize a plain value (as `cell_checker` returns it), or lists and dicts of them.

    `unpack` restores the value with exact types, except that tuples become lists. Raises `TypeError` for values that
    are not plain, `ValueError` for text that UTF-8 cannot express, and `TooLargeError` for a single value of 4 GiB.
    """
    try:
        if consists_of(value, _PACKED_DIRECTLY):
            try:
                return _encode(value)
            except OverflowError:  # A whole number beyond 64 bits.
                pass
        return _encode(_wrapped(value))
    except msgspec.EncodeError as error:
        raise TooLargeError(str(error)) from error


def pack_columns(columns: Sequence[Sequence[Any]], are_atoms: bool = False) -> list[Any]:
    """Return the result of `pack` for columns in parts to join.

    This avoids copying the bytes of arrays. Raises `TooLargeError` if the arrays of a column exceed the maximum size.

    `are_atoms` tells that all values have classes in `ATOMS`, so that they need not be looked at.
    """
    if are_atoms:
        try:
            return [_encode(columns)]
        except OverflowError:  # A whole number beyond 64 bits.
            pass
        except msgspec.EncodeError as error:
            raise TooLargeError(str(error)) from error
    if not any(map(_are_arrays, columns)):
        return [pack(columns)]
    parts: list[Any] = [list_header(len(columns))]
    for column in columns:
        if not _are_arrays(column):
            parts.append(pack(column))
            continue
        content = _array_parts(column)
        parts += [_EXTENSION_HEADER.pack(0xC9, checked_size(size_of(content)), _ARRAYS), *content]
    return parts


def list_header(count: int) -> bytes:
    """Return the header of a packed list."""
    return _LONG_HEADER.pack(0xDD, count)


def bytes_header(size: int) -> bytes:
    """Return the header of packed bytes; raises `TooLargeError` if there are too many."""
    return _LONG_HEADER.pack(0xC6, checked_size(size))


def checked_size(size: int) -> int:
    """Return a size in bytes; raises `TooLargeError` if it exceeds the maximum."""
    if size > MAXIMUM_BYTES:
        raise TooLargeError(f"{size:,} bytes are more than the {MAXIMUM_BYTES:,} that can be stored at once")
    return size


def size_of(parts: Iterable[Any]) -> int:
    """Return the total size of parts in bytes."""
    return sum(memoryview(part).nbytes for part in parts)


def unpack(data: bytes | memoryview) -> Any:
    """Return the value passed to `pack`; raises `ValueError` for bytes that `pack` does not produce."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, TypeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"these {len(data)} bytes are not packed values: {error}") from error


def consists_of(value: object, simple: frozenset[type]) -> bool:
    """Return whether a value and its nested items have exactly these types.

    Works level by level, at C speed.
    """
    level: list[Any] = [value]
    while level:
        kinds = set(map(type, level))
        if not kinds <= simple:
            return False
        if kinds <= ATOMS:
            return True
        if dict in kinds:
            dicts = [item for item in level if type(item) is dict]
            if not set(map(type, itertools.chain.from_iterable(dicts))) <= {str}:
                return False
            nested: list[Iterable[Any]] = [item.values() for item in dicts]
            nested.extend(item for item in level if type(item) is list or type(item) is tuple)
        else:
            nested = level if len(kinds) == 1 else [item for item in level if type(item) not in ATOMS]
        level = (
            nested[0] if len(nested) == 1 and type(nested[0]) is list else list(itertools.chain.from_iterable(nested))
        )
    return True


def _wrapped(value: Any) -> Any:
    """Return a value with every non-simple part wrapped in an extension type."""
    kind = type(value)
    if kind in ATOMS:
        return wrapped_integer(value) if kind is int else value
    if kind is list or kind is tuple:
        return _wrapped_arrays(value) if _are_arrays(value) else [_wrapped(item) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value):
            return {key: _wrapped(item) for key, item in value.items()}
        return _extension(MAPPING, [[_wrapped(key), _wrapped(item)] for key, item in value.items()])
    return wrapped_scalar(value)


def _are_arrays(values: Sequence[Any]) -> bool:
    first = next((value for value in values if value is not None), None)
    if _type_name_of(type(first)) != "numpy.ndarray":
        return False
    kinds = set(map(type, values)) - {NoneType}
    if len(kinds) != 1 or _type_name_of(kinds.pop()) != "numpy.ndarray":
        return False
    dtypes = {value.dtype for value in values if value is not None}
    return len(dtypes) == 1 and next(iter(dtypes)).kind in "iufb"


def _wrapped_arrays(values: Sequence[Any]) -> msgspec.msgpack.Ext:
    """Pack arrays of one type as their shapes and one blob of bytes."""
    return msgspec.msgpack.Ext(_ARRAYS, b"".join(_array_parts(values)))


def _array_parts(values: Sequence[Any]) -> list[Any]:
    first = next(value for value in values if value is not None)
    shapes = {None if value is None else value.shape for value in values}
    are_alike = shapes == {first.shape} and (first.size > 0 or len(values) <= _MAXIMUM_EMPTY_ARRAYS)
    listed = first.shape if are_alike else [None if value is None else value.shape for value in values]
    head = _encode([first.dtype.str, len(values), are_alike, listed])
    # Joined once: items of a MessagePack array would be copied into it.
    return [len(head).to_bytes(4, "little"), head, *(value for value in values if value is not None)]


def _read_arrays(data: memoryview) -> list[Any]:
    import numpy as np

    start = 4 + int.from_bytes(data[:4], "little")
    text, count, are_alike, listed = _decode(data[4:start])
    blob = bytes(data[start:])
    dtype = np.dtype(text)
    if dtype.kind not in "iufb":
        raise ValueError(f"arrays of {dtype} are not packed")
    flat = np.frombuffer(blob, dtype)
    if are_alike:
        if not len(flat) and count > _MAXIMUM_EMPTY_ARRAYS:
            raise ValueError(f"{count:,} arrays without items are not packed in one shape")
        _check_shape((count, *listed))
        return list(flat.reshape(count, *listed))
    cells: list[Any] = []
    start = 0
    for shape in listed:
        size = 0 if shape is None else math.prod(_check_shape(shape))
        cells.append(None if shape is None else flat[start : start + size].reshape(shape))
        start += size
    if start != len(flat) or len(cells) != count:
        raise ValueError("the bytes of packed arrays do not have their shapes")
    return cells


def _check_shape(shape: Sequence[Any]) -> Sequence[int]:
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("the shape of a packed array is invalid")
    return shape


def wrapped_integer(value: int) -> int | msgspec.msgpack.Ext:
    """Return a whole number, wrapped if it exceeds 64 bits.

    Raises `ValueError` if it is too large to be stored.
    """
    if -(2**63) <= value < 2**64:
        return value
    if value.bit_length() > _MAXIMUM_INTEGER_BITS:
        raise ValueError(f"a whole number of {value.bit_length():,} bits is too large to be stored; make it text")
    return msgspec.msgpack.Ext(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def wrapped_scalar(value: object) -> msgspec.msgpack.Ext:
    """Return a decimal, date, time, duration or array as an extension.

    Raises `TypeError` for other values.
    """
    match value:
        case decimal.Decimal():
            return _extension(_DECIMAL, str(value))
        case datetime.datetime():
            return _wrapped_datetime(value)
        case datetime.date():
            return _extension(_DATE, value.toordinal())
        case datetime.time():
            return _extension(_TIME, [value.replace(tzinfo=None).isoformat(), *_zone(value), value.fold])
        case datetime.timedelta():
            return _wrapped_timedelta(value)
    if _are_arrays([value]):
        return msgspec.msgpack.Ext(_ARRAY, _wrapped_arrays([value]).data)
    raise TypeError(f"a value of type {_type_name(value)} cannot be stored")


def _wrapped_datetime(value: datetime.datetime) -> msgspec.msgpack.Ext:
    if type(value) is datetime.datetime:
        return _extension(_DATETIME, [value.replace(tzinfo=None).isoformat(), *_zone(value), value.fold])
    import pandas as pd

    if isinstance(value, pd.Timestamp) and not pd.isna(value):
        plain = value.tz_convert("UTC").tz_localize(None) if value.tz else value
        return _extension(_TIMESTAMP, [int(plain.to_numpy().astype("int64")), value.unit, *_zone(value)])
    raise TypeError(f"a value of type {_type_name(value)} cannot be stored")


def _wrapped_timedelta(value: datetime.timedelta) -> msgspec.msgpack.Ext:
    if type(value) is datetime.timedelta:
        return _extension(_TIMEDELTA, [value.days, value.seconds, value.microseconds])
    import pandas as pd

    if isinstance(value, pd.Timedelta) and not pd.isna(value):
        return _extension(_LONG_TIMEDELTA, [int(value.to_numpy().astype("int64")), value.unit])
    raise TypeError(f"a value of type {_type_name(value)} cannot be stored")


def _zone(value: datetime.datetime | datetime.time) -> tuple[str | None, float | None]:
    """Return a time zone as its key, or as a fixed offset in seconds."""
    if value.tzinfo is None:
        return None, None
    key = getattr(value.tzinfo, "key", None) or getattr(value.tzinfo, "zone", None)
    if isinstance(key, str):
        return key, None
    offset = value.utcoffset()
    if offset is None:
        raise TypeError(f"a value with the time zone {value.tzinfo!r}, which has no offset, cannot be stored")
    return None, offset.total_seconds()


def _extension(code: int, content: object) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, _encode(content))


def _type_name(value: object) -> str:
    return _type_name_of(type(value))


def _type_name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _unwrapped(code: int, data: memoryview) -> object:
    if code == _INTEGER:
        if len(data) > _MAXIMUM_INTEGER_BITS // 8 + 1:
            raise ValueError(f"a whole number of {len(data):,} bytes is not packed")
        return int.from_bytes(data, "big", signed=True)
    if code in (_ARRAYS, _ARRAY):
        cells = _read_arrays(data)
        return cells if code == _ARRAYS else cells[0]
    read = _READERS.get(code)
    if read is None:
        raise ValueError(f"unknown extension type {code} in packed values")
    return read(_decode(data))


def _read_datetime(content: Any) -> datetime.datetime:
    text, key, offset, fold = content
    return datetime.datetime.fromisoformat(text).replace(tzinfo=_read_zone(key, offset), fold=fold)


def _read_time(content: Any) -> datetime.time:
    text, key, offset, fold = content
    return datetime.time.fromisoformat(text).replace(tzinfo=_read_zone(key, offset), fold=fold)


def _read_zone(key: str | None, offset: float | None) -> datetime.tzinfo | None:
    if key is not None:
        try:
            return zoneinfo.ZoneInfo(key)
        except OSError as error:
            if error.errno not in _NO_ZONE:
                raise
            raise ValueError(f"unknown time zone {key!r:.100}") from error
    return None if offset is None else datetime.timezone(datetime.timedelta(seconds=offset))


def _read_timestamp(content: Any) -> object:
    import numpy as np
    import pandas as pd

    number, unit, key, offset = content
    zone = _read_zone(key, offset)
    plain = pd.Timestamp(np.datetime64(number, unit))
    return plain if zone is None else plain.tz_localize("UTC").tz_convert(zone)


def _read_long_timedelta(content: Any) -> object:
    import numpy as np
    import pandas as pd

    number, unit = content
    return pd.Timedelta(np.timedelta64(number, unit))


_READERS: dict[int, Callable[[Any], object]] = {
    _DATETIME: _read_datetime,
    _DATE: datetime.date.fromordinal,
    _TIME: _read_time,
    _TIMEDELTA: lambda content: datetime.timedelta(*content),
    _DECIMAL: decimal.Decimal,
    _TIMESTAMP: _read_timestamp,
    _LONG_TIMEDELTA: _read_long_timedelta,
    MAPPING: dict,
}
_decode = msgspec.msgpack.Decoder(ext_hook=_unwrapped).decode
