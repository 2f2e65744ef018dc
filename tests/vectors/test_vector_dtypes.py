"""Names and valid values of the dtypes of vectors and tensors."""

import array

import numpy as np
import pyarrow as pa
import pytest

from tablevault.storage.dtypes import Kind, cell_checker, parse_dtype


def checked(dtype, value):
    return cell_checker(parse_dtype(dtype))(value)


@pytest.mark.parametrize(
    ("text", "name", "arrow", "kind"),
    [
        ("vector<float32,3>", "vector<float32, 3>", pa.list_(pa.float32(), 3), Kind.VECTOR),
        (" vector < bool > ", "vector<bool>", pa.list_(pa.bool_()), Kind.VECTOR),
        ("tensor<uint8,2,3>", "tensor<uint8, 2, 3>", pa.list_(pa.uint8(), 6), Kind.TENSOR),
    ],
)
def test_a_dtype_of_arrays_has_one_canonical_name(text, name, arrow, kind):
    found = parse_dtype(text)
    assert (found.name, found.arrow, found.kind) == (name, arrow, kind)
    assert parse_dtype(found.name) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("vector<float32, 0>", "size of 0"),
        ("vector<uint16, 3>", "items of a vector are"),
        ("vector<float32, 2, 3>", "write a tensor"),
        ("tensor<float32, 3>", "2 to 8 sizes"),
        ("tensor<float32, 1, 1, 1, 1, 1, 1, 1, 1, 1>", "2 to 8 sizes"),
        ("tensor<float32, 100000, 100000>", "at most"),
        ("vector<float32, 3>[pyarrow]", "no form with the ending"),
        ("list<vector<float32>>", "does not begin with the name of a type"),
        ("struct<a: vector<float32, 3>>", "does not begin with the name of a type"),
        ("vektor<float32>", "did you mean 'vector<float32>'"),
    ],
)
def test_a_wrong_dtype_of_arrays_is_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError, match="unknown dtype") as refused:
        parse_dtype(text)
    assert reason in str(refused.value)


class Foreign:
    """An array of another library, which is converted to NumPy."""

    def __init__(self, made):
        self.made = made

    def __array__(self, dtype=None, copy=None):
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


class OnDevice(Foreign):
    """A tensor of torch that NumPy cannot read."""

    device, dtype, requires_grad = "cpu", "torch.float32", False

    def __dlpack__(self, **_):
        raise BufferError("no")

    def __dlpack_device__(self):
        return 1, 0


FLOATS = np.array([1.5, -2.0, 3.0])
ACCEPTED = [
    ("vector<float32, 3>", FLOATS),
    ("vector<float32, 3>", FLOATS.astype(">f4")),
    ("vector<float32, 3>", np.repeat(FLOATS, 2)[::2]),
    ("vector<float16, 3>", FLOATS),
    ("vector<float32, 3>", [1.5, -2, 3]),
    ("vector<float32, 3>", (1.5, -2.0, 3)),
    ("vector<float32, 3>", array.array("d", [1.5, -2, 3])),
    ("vector<float64>", memoryview(FLOATS)),
    ("vector<float64>", Foreign(FLOATS)),
    ("vector<float64>", np.ma.masked_array(FLOATS)),
    ("vector<int16>", np.array([1.0, -2.0])),
    ("vector<float32>", np.array([2**24], np.int64)),
    ("vector<float32>", np.array([2**30], np.int64)),
    ("vector<int8>", np.array([-128, 127], np.int64)),
    ("vector<uint8>", b"\x00\xff"),
    ("vector<uint8>", bytearray(b"\x00\xff")),
    ("vector<bool>", np.array([True, False])),
    ("vector<bool>", [True, False]),
    ("vector<float32>", []),
    ("vector<float32>", np.array([np.nan, np.inf, -np.inf, -0.0])),
    ("vector<float32>", np.array([np.inf, 1e300 * 0])),
    ("tensor<int8, 2, 3>", np.asfortranarray(np.arange(6).reshape(2, 3))),
    ("tensor<int8, 2, 2>", [[1, 2], [3, 4]]),
]


@pytest.mark.parametrize(("dtype", "value"), ACCEPTED)
def test_a_value_that_fits_becomes_a_native_read_only_array(dtype, value):
    cell = checked(dtype, value)
    known = value.made if isinstance(value, Foreign) else value
    expected = np.frombuffer(known, np.uint8) if isinstance(known, bytes | bytearray) else np.asarray(known)
    assert type(cell) is np.ndarray
    assert cell.dtype.isnative
    assert cell.flags.c_contiguous
    assert not cell.flags.writeable
    np.testing.assert_array_equal(cell, expected.astype(cell.dtype))
    assert cell.dtype == np.dtype(parse_dtype(dtype).arrow.value_type.to_pandas_dtype())


REFUSED = [
    ("vector<float32, 768>", np.zeros(512), "an array of float64 with shape (512,) does not fit vector<float32, 768>"),
    ("vector<float32>", np.zeros((2, 2)), "an array of float64 with shape (2, 2) does not fit vector<float32>"),
    ("vector<float32>", np.array(1.5), "an array of float64 with shape () does not fit"),
    ("tensor<float32, 2, 3>", np.zeros((3, 2)), "with shape (3, 2) does not fit tensor<float32, 2, 3>"),
    ("vector<float32>", np.array([1e300]), "has 1e+300, which is too large for vector<float32>"),
    ("vector<float32>", np.array([2**24 + 1]), "has 16777217, which vector<float32> cannot hold exactly"),
    ("vector<int8>", np.array([128]), "has 128, which is outside the range of vector<int8>"),
    ("vector<uint8>", np.array([-1]), "has -1, which is outside the range"),
    ("vector<int8>", np.array([1.5]), "has 1.5, which is not whole"),
    ("vector<int8>", np.array([np.nan]), "has nan, which is not whole"),
    ("vector<int64>", np.array([1e30]), "outside the range of vector<int64>"),
    ("vector<bool>", np.array([1, 0]), "an array of int64 with shape (2,) does not fit vector<bool>"),
    ("vector<float32>", np.array([True]), "an array of bool with shape (1,) does not fit"),
    ("vector<float32>", [1.5, True], "truth values among numbers"),
    ("tensor<float32, 2, 1>", [np.array([True]), [1.5]], "truth values among numbers"),
    ("vector<int64>", [2**53 + 1, 1.0], "has 9007199254740993 beside fractions, as which it is not exact"),
    ("tensor<float64, 2, 1>", [[0.5], [2**53 + 1]], "has 9007199254740993 beside fractions"),
    ("vector<float32>", np.array([1j]), "an array of complex128"),
    ("vector<float32>", np.array(["a"]), "an array of <U1"),
    ("vector<float32>", np.array(["2024-01-01"], "M8[D]"), "an array of datetime64[D]"),
    ("vector<float32>", np.array([object()]), "an array of object"),
    ("vector<float32>", np.zeros(1, [("a", "f4")]), "does not fit vector<float32>"),
    ("vector<float32>", [1.0, None], "has a missing item"),
    ("vector<float32>", ["a", "b"], "does not fit vector<float32>"),
    ("vector<float32>", np.ma.masked_array([1.0, 2.0], [False, True]), "an array with masked items"),
    ("vector<float32>", b"ab", "fits vectors of uint8 only"),
    ("vector<float32>", "text", "'text' is of type str, which does not fit vector<float32>"),
    ("vector<float32>", 1.5, "1.5 is of type float, which does not fit"),
    ("vector<float32>", Foreign(RuntimeError("no")), "cannot be read as an array for vector<float32>: no"),
]


@pytest.mark.parametrize(("dtype", "value", "reason"), REFUSED)
def test_a_value_that_does_not_fit_is_refused_with_the_reason(dtype, value, reason):
    with pytest.raises((TypeError, ValueError)) as refused:
        checked(dtype, value)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("attributes", "remedy"),
    [
        ({"device": "cuda:0"}, "call its .cpu() first"),
        ({"requires_grad": True}, "call its .detach() first"),
        ({"dtype": "torch.bfloat16"}, "call its .float() first"),
    ],
)
def test_a_tensor_that_cannot_be_read_names_its_remedy(attributes, remedy):
    value = OnDevice(None)
    vars(value).update(attributes)
    with pytest.raises(TypeError, match="cannot be read as an array") as refused:
        checked("vector<float32>", value)
    assert remedy in str(refused.value)
    assert isinstance(refused.value.__cause__, BufferError)


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan"), np.ma.masked])
def test_a_missing_value_is_null(value):
    assert checked("vector<float32>", value) is None
