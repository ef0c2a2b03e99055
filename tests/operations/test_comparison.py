"""Comparisons: what counts, what does not, and what errors say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metatensor
from metatensor import Labels, NotEqualError, TensorBlock, TensorMap
from metatensor.testing import tensors

FORMS = ["equal", "allclose", "equal_metadata"]
AXES = ["samples", "components", "properties"]


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def make_block(
    asarray=np.asarray, values=None, samples=((3, -1), (0, 2)), atoms=(0, 5), nested=1.0
):
    """Return a block with a gradient that has no row for the first sample, and a gradient."""
    components, properties = [labels("c", [4, 2])], labels("p", [7, -7, 0])
    values = np.arange(12.0).reshape(2, 2, 3) if values is None else values
    block = TensorBlock(asarray(values), labels(["s", "t"], samples), components, properties)
    gradient = TensorBlock(
        asarray(np.arange(24.0).reshape(2, 2, 2, 3)),
        labels(["sample", "atom"], [[1, atoms[0]], [1, atoms[1]]]),
        [Labels.range("xyz", 2), *components],
        properties,
    )
    second = TensorBlock(
        asarray(np.full((1, 2, 2, 3), nested)),
        labels("sample", [1]),
        gradient.components,
        properties,
    )
    gradient.add_gradient("h", second)
    block.add_gradient("g", gradient)
    return block


def make_tensor(*blocks, keys=(1, 0)):
    return TensorMap(
        labels("k", keys), blocks or [make_block(), make_block(values=-np.ones((2, 2, 3)))]
    )


def verdict(form, first, second, **arguments):
    """Return what the four functions of one kind of comparison agree on."""
    boolean, raising = getattr(metatensor, form), getattr(metatensor, form + "_raise")
    assert getattr(metatensor, form + "_block") is boolean
    assert getattr(metatensor, form + "_block_raise") is raising
    result = boolean(first, second, **arguments)
    if result:
        assert raising(first, second, **arguments) is None
        return None
    assert result is False
    with pytest.raises(NotEqualError) as caught:
        raising(first, second, **arguments)
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [make_block, make_tensor])
def test_the_same(form, make):
    assert verdict(form, make(), make()) is None


@pytest.mark.parametrize("form", FORMS)
def test_every_library(xp, form):
    assert verdict(form, make_block(xp.asarray), make_block(xp.asarray)) is None
    values = np.arange(12.0).reshape(2, 2, 3)
    values[1, 0, 2] += 1e-3
    text = verdict(form, make_block(xp.asarray), make_block(xp.asarray, values))
    if form == "equal_metadata":
        assert text is None
    else:
        assert "the values differ in 1 of 12 places, most at [1, 0, 2]" in text
        assert "sample (s=0, t=2), component (c=4), property (p=0): 8.0 and 8.001" in text


BLOCK = make_block()
NO_GRADIENTS = TensorBlock(BLOCK.values, BLOCK.samples, BLOCK.components, BLOCK.properties)
OTHER_COMPONENT = TensorBlock(BLOCK.values, BLOCK.samples, [labels("c", [4, 3])], BLOCK.properties)
RENAMED = TensorBlock(
    BLOCK.values, BLOCK.samples, BLOCK.components, BLOCK.properties.rename("p", "q")
)

METADATA = {
    "samples": (
        make_block(samples=((3, -1), (1, 2))),
        BLOCK,
        "the samples differ: 1 only in the first, such as (s=1, t=2); 1 only in the second",
    ),
    "fewer samples": (
        TensorBlock(
            BLOCK.values[:1], labels(["s", "t"], [[3, -1]]), BLOCK.components, BLOCK.properties
        ),
        BLOCK,
        "the samples differ: sizes: 1 and 2; 1 only in the second, such as (s=0, t=2)",
    ),
    "order of samples": (
        make_block(samples=((0, 2), (3, -1))),
        BLOCK,
        "the samples differ: the same entries in another order, (s=0, t=2) and (s=3, t=-1)",
    ),
    "a component": (
        NO_GRADIENTS,
        OTHER_COMPONENT,
        "the components differ: 'c', 1 only in the first, such as (c=2)",
    ),
    "components": (
        TensorBlock(BLOCK.values[:, 0], BLOCK.samples, [], BLOCK.properties),
        NO_GRADIENTS,
        "the components differ: names: [] and ['c']",
    ),
    "properties": (NO_GRADIENTS, RENAMED, "the properties differ: names: ['p'] and ['q']"),
    "which gradients": (BLOCK, NO_GRADIENTS, "the gradients differ: ['g'] and []"),
    "gradient samples": (
        make_block(atoms=(0, 6)),
        BLOCK,
        "in the gradients 'g', the samples differ: 1 only in the first, "
        "such as (sample=1, atom=6)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_differs(form, name):
    first, second, expected = METADATA[name]
    assert expected in verdict(form, first, second)
    in_maps = verdict(form, make_tensor(first, keys=[-3]), make_tensor(second, keys=[-3]))
    assert in_maps.startswith("in the block for key (k=-3), ")
    assert expected in in_maps


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            labels("k", [1, 2]),
            "the keys differ: 1 only in the first, such as (k=0)",
        ),
        (labels("other", [1, 0]), "the keys differ: names: ['k'] and ['other']"),
        (labels("k", [1, 0, 3]), "the keys differ: sizes: 2 and 3"),
    ],
)
def test_keys_that_differ(form, keys, text):
    assert text in verdict(form, make_tensor(), TensorMap(keys, [BLOCK] * len(keys)))


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_keys_does_not_count(form):
    one, other = make_block(), make_block(samples=((8, 8), (9, 9)))
    first, second = make_tensor(one, other, keys=(5, -5)), make_tensor(other, one, keys=(-5, 5))
    assert verdict(form, first, second) is None
    assert (first == second) is True
    text = verdict(form, first, make_tensor(other, one, keys=(5, -5)))
    assert text.startswith("in the block for key (k=5), the samples differ")


@pytest.mark.parametrize("form", FORMS)
def test_info_and_the_order_of_gradients_do_not_count(form):
    first, second = make_block(), NO_GRADIENTS.copy()
    first.add_gradient("a", BLOCK.gradient("g"))
    for name in ("a", "g"):
        second.add_gradient(name, BLOCK.gradient("g"))
    first, second = make_tensor(first, first), make_tensor(second, second)
    first.set_info("unit", "eV")
    assert verdict(form, first, second) is None


@pytest.mark.parametrize("form", ["equal", "allclose"])
def test_values_of_gradients_of_gradients_are_compared(form):
    text = verdict(form, make_block(), make_block(nested=2.0))
    assert text.startswith(
        "in the gradients 'g', in the gradients 'h', the values differ in 12 of 12"
    )
    assert verdict("equal_metadata", make_block(), make_block(nested=2.0)) is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("names", [["k"], []])
def test_maps_without_blocks(form, names):
    assert (
        verdict(form, TensorMap(Labels.empty(names), []), TensorMap(Labels.empty(names), []))
        is None
    )
    assert "the keys differ" in verdict(form, TensorMap(Labels.empty("k"), []), make_tensor())


def test_blocks_without_entries(xp):
    def empty(names):
        return TensorBlock(
            xp.asarray(np.zeros((0, 3))), Labels.empty(names), [], Labels.range("p", 3)
        )

    for form in FORMS:
        assert verdict(form, empty("s"), empty("s")) is None
        assert "names: ['s'] and ['t']" in verdict(form, empty("s"), empty("t"))


# ---- values


def plain(values, dtype=None):
    return metatensor.block_from_array(np.array(values, dtype=dtype)[None])


NUMBERS = [
    ("float64", [0.0, 1.0], [-0.0, 1.0], True),
    ("float64", [np.inf, -np.inf], [np.inf, -np.inf], True),
    ("float64", [np.inf], [-np.inf], False),
    ("float64", [np.inf], [1.0], False),
    ("float64", [1.0], [np.inf], False),
    ("float64", [np.nan], [np.nan], False),
    ("float32", [np.nan], [1.0], False),
    ("float16", [1.0, np.inf], [1.0, np.inf], True),
    ("float16", [1.0], [1.001], False),
    ("longdouble", [1.0], [1.0], True),
    ("longdouble", [1.0], [1.5], False),
    ("complex128", [1 + 2j], [1 + 2j], True),
    ("complex64", [1 + 2j], [1 - 2j], False),
    ("complex128", [complex(np.nan, 1)], [complex(np.nan, 1)], False),
    ("complex128", [complex(np.inf, 0)], [complex(1, 0)], False),
    ("bool", [True, False], [True, False], True),
    ("bool", [True, False], [True, True], False),
    ("uint8", [0], [255], False),
    ("int8", [-128], [127], False),
    ("int64", [-(2**63)], [2**63 - 1], False),
    ("uint64", [0], [2**64 - 1], False),
    (">f8", [1.0, 2.0], [1.0, 2.0], True),
    (">f8", [1.0, 2.0], [1.0, 3.0], False),
]


@pytest.mark.parametrize("form", ["equal", "allclose"])
@pytest.mark.parametrize(("dtype", "one", "other", "same"), NUMBERS)
def test_numbers(form, dtype, one, other, same):
    text = verdict(form, plain(one, dtype), plain(other, dtype))
    assert (text is None) is same
    if form == "equal":
        assert (plain(one, dtype) == plain(other, dtype)) is same


def test_large_integers_are_equal_exactly():
    one, other = plain([2**53]), plain([2**53 + 1])
    assert verdict("equal", one, other) == (
        "the values differ in 1 of 1 places, most at [0, 0], sample (sample=0), "
        "property (property=0): 9007199254740992 and 9007199254740993, deviation 0"
    )
    assert "9007199254740993" in verdict("allclose", one, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("dtypes", "same"),
    [
        (["float64", "float32"], True),
        (["int8", "float64"], True),
        (["bool", "uint8"], True),
        (["complex64", "float64"], True),
        (["float64", ">f8"], True),
    ],
)
def test_dtypes_do_not_count(dtypes, same):
    one, other = (plain([0, 1], dtype) for dtype in dtypes)
    for form in ("equal", "allclose"):
        assert (verdict(form, one, other) is None) is same
        assert verdict(form, plain([0, 0], dtypes[0]), other) is not None


def test_the_tolerances_are_not_those_of_numpy():
    one = plain([1.0, 1e-6])
    assert verdict("allclose", one, plain([1.0 + 5e-13, 1e-6])) is None
    assert "deviation 1e-11" in verdict("allclose", one, plain([1.0 + 1e-11, 1e-6]))
    assert verdict("allclose", one, plain([1.0 + 1e-11, 1e-6]), rtol=1e-10) is None
    assert verdict("allclose", one, plain([1.0 + 1e-11, 1e-6]), atol=1e-10) is None


def test_the_tolerance_is_relative_to_the_second():
    assert verdict("allclose", plain([1.0]), plain([10.0]), rtol=0.9, atol=0) is None
    assert verdict("allclose", plain([10.0]), plain([1.0]), rtol=0.9, atol=0) is not None


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex128", "longdouble"])
def test_nan_is_close_if_asked_for(dtype):
    one = plain([np.nan, 1.0], dtype)
    assert verdict("allclose", one, one, equal_nan=True) is None
    text = verdict("allclose", one, one)
    assert "differ in 1 of 2 places" in text
    assert text.endswith("deviation inf")
    assert verdict("allclose", one, plain([1.0, 1.0], dtype), equal_nan=True) is not None


def test_equal_compares_libraries_and_allclose_does_not(xp):
    there, here = make_block(xp.asarray), make_block()
    assert verdict("equal", there, here) is None
    assert verdict("equal", here, there) is None
    if xp.array_library == "numpy":
        assert verdict("allclose", there, here) is None
        return
    for first, second in [(there, here), (here, there)]:
        pairs = [(first, second), (make_tensor(first, first), make_tensor(second, second))]
        for pair in pairs:
            for function in (metatensor.allclose, metatensor.allclose_raise):
                with pytest.raises(
                    TypeError, match="must all be arrays of one library, got .*numpy"
                ):
                    function(*pair)


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    ones = torch.ones(2, 3)

    def block(values):
        return metatensor.block_from_array(values)

    assert verdict("equal", block(ones.requires_grad_()), block(torch.ones(2, 3))) is None
    assert verdict("allclose", block(ones), block(torch.ones(3, 2).T.contiguous())) is None
    half = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16)
    assert verdict("allclose", block(half), block(half.clone())) is None
    assert "1.0 and 3.0, deviation 2" in verdict("allclose", block(half), block(half.flip(1) + 1))
    assert verdict("equal", block(torch.ones(1, 2, dtype=torch.bool)), plain([1, 1])) is None


def test_the_largest_deviation_is_described():
    text = verdict("equal", plain([0.0, 1.0, np.nan]), plain([5.0, 1.0, np.nan]))
    assert "differ in 2 of 3 places, most at [0, 2]" in text
    text = verdict("equal", plain([0.0, 1.0, 2.0]), plain([5.0, 1.0, 2.5]))
    assert "differ in 2 of 3 places, most at [0, 0]" in text


# ---- metadata


@pytest.mark.parametrize("axis", AXES)
def test_only_what_is_asked_for_is_checked(axis):
    other = TensorBlock(
        np.zeros((1, 1, 1)), Labels.single(), [Labels.range("d", 1)], Labels.single()
    )
    for check in ([axis], (axis,)):
        assert f"the {axis} differ" in verdict("equal_metadata", NO_GRADIENTS, other, check=check)
    changed = {
        name: getattr(NO_GRADIENTS, name) for name in ("samples", "components", "properties")
    }
    changed[axis] = getattr(other, axis)
    sizes = [len(changed["samples"]), *map(len, changed["components"]), len(changed["properties"])]
    changed = TensorBlock(np.zeros(sizes), **changed)
    rest = [name for name in AXES if name != axis]
    assert verdict("equal_metadata", NO_GRADIENTS, changed, check=rest) is None
    assert verdict("equal_metadata", NO_GRADIENTS, changed) is not None


def test_nothing_but_keys_and_names_of_gradients():
    other = TensorBlock(np.zeros((1, 1)), Labels.single(), [], Labels.single())
    assert verdict("equal_metadata", NO_GRADIENTS, other, check=[]) is None
    assert "the gradients differ" in verdict("equal_metadata", BLOCK, other, check=[])
    assert verdict("equal_metadata", BLOCK, other, check=[], check_gradients=False) is None
    assert "the keys differ" in verdict(
        "equal_metadata", make_tensor(keys=(4, 5)), make_tensor(), check=[]
    )


def test_gradients_are_checked_on_the_same_axes():
    one, other = make_block(), make_block(atoms=(0, 6))
    assert verdict("equal_metadata", one, other, check=["properties", "components"]) is None
    assert "in the gradients 'g'" in verdict("equal_metadata", one, other, check=["samples"])
    assert verdict("equal_metadata", one, other, check_gradients=False) is None


@pytest.mark.parametrize("check", ["samples", "keys", ["keys"], ["samples", "other"], 3, None, [1]])
def test_unknown_checks(check):
    for function in (metatensor.equal_metadata, metatensor.equal_metadata_raise):
        with pytest.raises(ValueError, match="`check` must be 'all' or a list of some of"):
            function(BLOCK, BLOCK, check=check)


# ---- types


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (3, 3, "`tensor_1` must be a metatensor TensorMap or TensorBlock, got int"),
        (BLOCK.values, BLOCK, "got numpy.ndarray"),
        (BLOCK, BLOCK.values, "`tensor_2` must be a metatensor TensorBlock, got numpy.ndarray"),
        (BLOCK, make_tensor(), "`tensor_2` must be a metatensor TensorBlock, got "),
        (make_tensor(), BLOCK, "`tensor_2` must be a metatensor TensorMap, got "),
        (None, BLOCK, "got NoneType"),
    ],
)  # fmt: skip
def test_wrong_types(first, second, text):
    for name in ("equal", "equal_raise", "allclose", "allclose_raise"):
        with pytest.raises(TypeError, match=text):
            getattr(metatensor, name)(first, second)
    assert metatensor.equal_metadata(first, second) is False
    with pytest.raises(NotEqualError, match="are required, got "):
        metatensor.equal_metadata_raise(first, second)


def test_names_of_arguments():
    assert metatensor.equal_block(block_1=BLOCK, block_2=BLOCK)
    assert metatensor.equal(tensor_1=BLOCK, tensor_2=BLOCK)
    assert metatensor.allclose_block(block_1=BLOCK, block_2=BLOCK, rtol=1, atol=1, equal_nan=True)
    assert metatensor.equal_metadata(BLOCK, BLOCK, "all", True)


# ---- laws


@settings(max_examples=50)
@given(first=tensors(), second=tensors(), data=st.data())
def test_forms_agree_on_random_maps(first, second, data):
    for one, other in [(first, second), (first, first.copy())]:
        same = verdict("equal", one, other) is None
        assert same is (one == other)
        for form in ("allclose", "equal_metadata"):
            if same:
                assert verdict(form, one, other) is None
    order = data.draw(st.permutations(range(len(first))))
    keys = Labels(first.keys.names, first.keys.values[np.array(order, dtype=int)])
    permuted = TensorMap(keys, [first.block_by_id(position) for position in order])
    assert verdict("equal_metadata", first, permuted) is None
