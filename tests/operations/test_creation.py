"""New blocks and maps: from arrays, with the Labels of others, from Labels alone."""

import warnings

import numpy as np
import pytest

import metatensor
from metatensor import Labels, MetatensorError, TensorBlock, TensorMap
from metatensor.testing import assert_equal


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def host(block):
    return np.asarray(block.values)


# ---- blocks from arrays


def test_names_and_labels_by_default(xp):
    array = xp.asarray(np.arange(24.0).reshape(2, 3, 4))
    block = metatensor.block_from_array(array)
    assert block.values is array
    assert block.samples == Labels.range("sample", 2)
    assert block.components == [Labels.range("component_1", 3)]
    assert block.properties == Labels.range("property", 4)
    assert block.gradients_list() == []


@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
def test_any_number_of_components(ndim):
    block = metatensor.block_from_array(np.zeros((2,) * ndim))
    names = [component.names for component in block.components]
    assert names == [[f"component_{position + 1}"] for position in range(ndim - 2)]


def test_several_axes_become_one(xp):
    values = np.arange(120.0).reshape(2, 3, 4, 5)
    block = metatensor.block_from_array(
        xp.asarray(values), ["a", "b"], component_names=[], property_names=("n", "l")
    )
    assert type(block.values) is type(xp.asarray(values))
    assert block.samples == labels(["a", "b"], [(i, j) for i in range(2) for j in range(3)])
    assert block.properties == labels(["n", "l"], [(i, j) for i in range(4) for j in range(5)])
    for (i, j), row in zip(block.samples.values, host(block), strict=True):
        for (k, m), value in zip(block.properties.values, row, strict=True):
            assert value == values[i, j, k, m]


def test_worked_example():
    block = metatensor.block_from_array(np.zeros((2, 3, 2)), sample_names=["a", "b"])
    assert block.samples.values[:4].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]
    assert block.shape == (6, 2)


def test_one_name_may_be_a_str():
    block = metatensor.block_from_array(np.zeros((1, 2, 3)), "s", "c", "p")
    assert (block.samples.names, block.properties.names) == (["s"], ["p"])
    assert block.components == [Labels.range("c", 2)]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 2, 0)])
def test_arrays_without_entries(xp, shape):
    block = metatensor.block_from_array(xp.asarray(np.zeros(shape)))
    assert tuple(block.shape) == shape
    two = (
        metatensor.block_from_array(xp.asarray(np.zeros(shape)), ["a", "b"], [], "p")
        if (len(shape) == 3)
        else None
    )
    if two is not None:
        assert two.samples == Labels.empty(["a", "b"])


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "complex64", ">f8"])
def test_any_dtype_is_kept(dtype):
    array = np.zeros((2, 2), dtype=dtype)
    assert metatensor.block_from_array(array).values is array


@pytest.mark.parametrize(
    ("shape", "names", "error", "text"),
    [
        ((3,), {}, ValueError, r"at least 2 dimensions, got shape \(3,\)"),
        ((), {}, ValueError, "at least 2 dimensions"),
        ((2, 2), {"sample_names": ["a", "b"]}, ValueError, r"\['a', 'b'\], .* got shape \(2, 2\)"),
        ((2, 2), {"component_names": "c"}, ValueError, "one dimension for each"),
        ((2, 2, 2), {"component_names": []}, ValueError, "one dimension for each"),
        ((2, 2), {"sample_names": []}, ValueError, "`sample_names` must have at least one name"),
        ((2, 2), {"property_names": ""}, ValueError, "`property_names` must have at least one"),
        ((2, 2), {"sample_names": 3}, TypeError, "`sample_names` must be a str or a sequence"),
        ((2, 2), {"property_names": "not valid"}, MetatensorError, "not a valid label name"),
        ((2, 2, 2), {"sample_names": ["a", "a"]}, MetatensorError, "must be unique, got 'a'"),
        ((2, 0, 2), {}, MetatensorError, "component Labels must have at least one entry"),
    ],
)
def test_what_makes_no_block(shape, names, error, text):
    with pytest.raises(error, match=text):
        metatensor.block_from_array(np.zeros(shape), **names)


def test_lists_are_no_arrays():
    with pytest.raises(ValueError, match="an array is required"):
        metatensor.block_from_array([[1.0, 2.0]])


# ---- the same Labels, other values

LIKE = ["empty_like", "zeros_like", "ones_like", "random_uniform_like"]


def make_block(xp, dtype=np.float64):
    components, properties = [Labels.range("c", 2)], labels("p", [7, -7, 0])
    values = np.full((2, 2, 3), 5).astype(dtype)
    block = TensorBlock(xp.asarray(values), labels("s", [3, -1]), components, properties)
    for name in ("g", "other"):
        gradient = TensorBlock(
            xp.asarray(np.full((1, 2, 3), 5).astype(dtype)),
            labels(["sample", "atom"], [[1, 9]]),
            components,
            properties,
        )
        second = TensorBlock(
            xp.asarray(np.full((1, 2, 3), 5).astype(dtype)),
            labels("sample", [0]),
            components,
            properties,
        )
        gradient.add_gradient("h", second)
        block.add_gradient(name, gradient)
    return block


def parts(block):
    """Return a block, its gradients and theirs."""
    return [block, *(part for _, gradient in block.gradients() for part in parts(gradient))]


def check_numbers(form, values):
    if form == "zeros_like":
        assert (values == 0).all()
    elif form == "ones_like":
        assert (values == 1).all()
    elif form == "random_uniform_like":
        assert ((values.real >= 0) & (values.real < 1)).all()
        assert len(np.unique(values)) > values.size // 2


@pytest.mark.parametrize("form", LIKE)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_all_but_the_values_is_the_same(xp, form, dtype):
    function = getattr(metatensor, form)
    assert getattr(metatensor, form + "_block") is function
    block = make_block(xp, dtype)
    before = block.copy()
    result = function(block)
    assert metatensor.equal_metadata(result, block)
    assert len(parts(result)) == 5
    for part in parts(result):
        assert type(part.values) is type(block.values)
        assert part.values.dtype == block.values.dtype
        assert part.device == block.device
        check_numbers(form, host(part))
    assert_equal(block, before)
    tensor = TensorMap(labels("k", [4, -4]), [block, block])
    tensor.set_info("unit", "eV")
    result = function(tensor)
    assert metatensor.equal_metadata(result, tensor)
    assert result.info() == {"unit": "eV"}
    for part in result:
        check_numbers(form, host(part))


@pytest.mark.parametrize("form", LIKE[:3])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "longdouble", ">f4"])
def test_other_dtypes(form, dtype):
    block = metatensor.block_from_array(np.ones((2, 3), dtype=dtype))
    result = getattr(metatensor, form)(block)
    assert result.values.dtype == np.dtype(dtype)
    check_numbers(form, result.values)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "longdouble", ">f8", "complex64"]
)
def test_random_numbers_are_uniform_and_below_one(dtype):
    block = metatensor.block_from_array(np.zeros((300, 300), dtype=dtype))
    values = metatensor.random_uniform_like(block).values
    assert values.dtype == np.dtype(dtype)
    for numbers in [values.real, values.imag] if dtype == "complex64" else [values]:
        assert numbers.min() >= 0
        assert numbers.max() < 1
        counts, _ = np.histogram(numbers.astype(float), bins=10, range=(0, 1))
        np.testing.assert_allclose(counts, 9000, atol=600)  # 6 standard deviations


def test_random_numbers_differ_each_time(xp):
    block = metatensor.block_from_array(xp.asarray(np.zeros((5, 5))))
    first, second = (host(metatensor.random_uniform_like(block)) for _ in range(2))
    assert not (first == second).any()


def test_random_numbers_can_be_drawn_where_torch_transforms_functions():
    torch = pytest.importorskip("torch")

    def square(values):
        block = metatensor.block_from_array(values)
        return (block * block + 0 * metatensor.random_uniform_like(block)).values.sum()

    values = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(torch.func.grad(square)(values), 2 * values)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integers_can_not_be_random(xp, dtype):
    block = metatensor.block_from_array(xp.asarray(np.zeros((2, 3), dtype=dtype)))
    with pytest.raises(ValueError, match="must be real or complex to be random numbers"):
        metatensor.random_uniform_like(block)


@pytest.mark.parametrize("form", LIKE)
@pytest.mark.parametrize(
    ("gradients", "kept"),
    [(None, ["g", "other"]), ([], []), ("other", ["other"]), (["g"], ["g"]), (("g", "g"), ["g"])],
)
def test_which_gradients_are_kept(xp, form, gradients, kept):
    result = getattr(metatensor, form)(make_block(xp), gradients)
    assert result.gradients_list() == kept
    for _, gradient in result.gradients():
        assert gradient.gradients_list() == ["h"]


@pytest.mark.parametrize("form", LIKE)
def test_gradients_that_are_not_there(xp, form):
    function, block = getattr(metatensor, form), make_block(xp)
    with pytest.raises(ValueError, match=r"among those of this block, \['g', 'other'\], got 'x'"):
        function(block, gradients=["g", "x"])
    with pytest.raises(ValueError, match=r"got 'x' \(in the block for key \(k=4\)\)"):
        function(TensorMap(labels("k", [4]), [block]), gradients="x")
    with pytest.raises(TypeError, match="`gradients` must be a str or a sequence of str"):
        function(block, gradients=3)


@pytest.mark.parametrize("form", LIKE)
def test_like_of_what_has_no_entries(xp, form):
    block = metatensor.block_from_array(xp.asarray(np.zeros((0, 2))))
    assert metatensor.equal_metadata(getattr(metatensor, form)(block), block)
    empty = TensorMap(Labels.empty("k"), [])
    assert getattr(metatensor, form)(empty).keys == empty.keys


@pytest.mark.parametrize("form", LIKE)
def test_requires_grad(xp, form):
    function, block = getattr(metatensor, form), make_block(xp)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = function(block, requires_grad=True)
    if xp.name != "torch":
        assert metatensor.equal_metadata(result, block)
        return
    assert result.values.requires_grad
    assert result.values.is_leaf
    # only random numbers of gradients do, as for the Rust-core package
    expected = form == "random_uniform_like"
    assert all(part.values.requires_grad == expected for part in parts(result)[1:])
    assert not function(block).values.requires_grad


def test_torch_follows_its_own_seed():
    torch = pytest.importorskip("torch")
    block = metatensor.block_from_array(torch.zeros(2, 3))
    torch.manual_seed(3)
    values = metatensor.random_uniform_like(block).values
    torch.manual_seed(3)
    assert torch.equal(values, torch.rand(2, 3))


@pytest.mark.parametrize("form", LIKE)
def test_results_are_contiguous(form):
    values = np.zeros((3, 4), order="F")
    result = getattr(metatensor, form)(metatensor.block_from_array(values))
    assert metatensor.is_contiguous(result)
    assert not metatensor.is_contiguous(metatensor.block_from_array(values))


@pytest.mark.parametrize("form", LIKE)
def test_only_tensors(form):
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap or TensorBlock"):
        getattr(metatensor, form)(np.zeros((2, 2)))


# ---- one-hot rows


def test_one_hot_worked_example():
    rows = metatensor.one_hot(labels(["a", "b"], [[3, 0], [1, 0]]), labels("a", [1, 2, 3]))
    assert rows.dtype == np.int32
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_one_hot_rows_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    atoms = labels(["s", "t"], [(i, t) for i, t in enumerate(rng.integers(-3, 3, 200))])
    types = labels("t", [2, -3, 0, 7, 1, -2, -1])
    rows = metatensor.one_hot(atoms, types)
    for row, atom in zip(rows, atoms, strict=True):
        expected = [int(entry["t"] == atom["t"]) for entry in types]
        assert row.tolist() == expected


def test_one_hot_is_in_the_library_of_the_labels():
    torch = pytest.importorskip("torch")
    atoms = Labels("t", torch.tensor([[8], [1]]))
    rows = metatensor.one_hot(atoms, labels("t", [1, 8]))
    assert isinstance(rows, torch.Tensor)
    assert rows.dtype == torch.int32
    assert rows.tolist() == [[0, 1], [1, 0]]
    assert isinstance(
        metatensor.one_hot(labels("t", [8]), Labels("t", torch.tensor([[8]]))), np.ndarray
    )


def test_one_hot_of_nothing():
    assert metatensor.one_hot(Labels.empty("t"), labels("t", [1, 2])).shape == (0, 2)
    assert metatensor.one_hot(Labels.empty("t"), Labels.empty("t")).shape == (0, 0)


@pytest.mark.parametrize(
    ("dimension", "error", "text"),
    [
        (labels("t", [1, 2]), ValueError, "must have every value of 't' in `labels`, got 3"),
        (Labels.empty("t"), ValueError, "got 1"),
        (labels(["t", "u"], [[1, 2]]), ValueError, r"exactly one name, got \['t', 'u'\]"),
        (
            labels("u", [1]),
            ValueError,
            r"'u' is not a dimension of these Labels, which have \['t'\]",
        ),
        (np.array([[1]]), TypeError, "`dimension` must be a metatensor Labels, got numpy.ndarray"),
    ],
)
def test_one_hot_refuses(dimension, error, text):
    with pytest.raises(error, match=text):
        metatensor.one_hot(labels("t", [1, 3]), dimension)


def test_one_hot_wants_labels():
    with pytest.raises(TypeError, match="`labels` must be a metatensor Labels, got int"):
        metatensor.one_hot(3, labels("t", [1]))


# ---- unique metadata


def make_tensor():
    samples = [[[4, 0, 1], [2, 0, 1], [2, 1, -1]], [[2, 7, 1], [-3, 0, 0]], []]
    properties = [[[1, 2], [0, 2]], [[5, 2]], [[1, 2]]]
    blocks = []
    for rows, columns in zip(samples, properties, strict=True):
        axes = Labels(["p", "q"], np.array(columns))
        values = np.zeros((len(rows), len(columns)))
        table = np.array(rows, dtype=int).reshape(-1, 3)
        block = TensorBlock(values, Labels(["s", "a", "t"], table), [], axes)
        pointers = [[position, 10 - position] for position in range(len(rows))]
        gradient = Labels(["sample", "atom"], np.array(pointers, dtype=int).reshape(-1, 2))
        block.add_gradient("g", TensorBlock(values, gradient, [], axes))
        blocks.append(block)
    return TensorMap(Labels.range("k", 3), blocks)


@pytest.mark.parametrize(
    ("axis", "names", "gradient", "expected"),
    [
        ("samples", "s", None, [[-3], [2], [4]]),
        ("samples", ["t"], None, [[-1], [0], [1]]),
        ("samples", ("t", "s"), None, [[-1, 2], [0, -3], [1, 2], [1, 4]]),
        ("samples", ["s", "a", "t"], None,
         [[-3, 0, 0], [2, 0, 1], [2, 1, -1], [2, 7, 1], [4, 0, 1]]),
        ("properties", "q", None, [[2]]),
        ("properties", ["q", "p"], None, [[2, 0], [2, 1], [2, 5]]),
        ("samples", "atom", "g", [[8], [9], [10]]),
        ("properties", "p", "g", [[0], [1], [5]]),
    ],
)  # fmt: skip
def test_unique_metadata(axis, names, gradient, expected):
    found = metatensor.unique_metadata(make_tensor(), axis, names, gradient)
    assert found.names == ([names] if isinstance(names, str) else list(names))
    assert found.values.tolist() == expected
    assert metatensor.unique_metadata_block is metatensor.unique_metadata


def test_unique_metadata_of_one_block():
    block = make_tensor()[0]
    assert metatensor.unique_metadata_block(block, "samples", "s").values.tolist() == [[2], [4]]
    assert metatensor.unique_metadata(make_tensor()[2], "samples", "s") == Labels.empty("s")


def test_unique_metadata_is_in_the_library_of_the_labels():
    torch = pytest.importorskip("torch")
    samples = Labels("s", torch.tensor([[4], [1]]))
    block = TensorBlock(torch.zeros(2, 1), samples, [], Labels.single())
    found = metatensor.unique_metadata(block, "samples", "s")
    assert isinstance(found.values, torch.Tensor)
    assert found.values.tolist() == [[1], [4]]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("components", "s"), ValueError, "`axis` must be 'samples' or 'properties'"),
        ((3, "s"), TypeError, "`axis` must be a str, got int"),
        (("samples", "p"), ValueError, "'p' is not a dimension of these Labels"),
        (("samples", []), ValueError, "`names` must have at least one name"),
        (("samples", ["s", "s"]), MetatensorError, "must be unique"),
        (("samples", 3), TypeError, "`names` must be a str or a sequence of str"),
        (("samples", None), TypeError, "`names` must be a str or a sequence of str"),
        (("samples", "s", "x"), MetatensorError, "no gradient with respect to 'x'"),
    ],
)
def test_unique_metadata_refuses(arguments, error, text):
    with pytest.raises(error, match=text):
        metatensor.unique_metadata(make_tensor(), *arguments)


def test_unique_metadata_of_a_map_without_blocks():
    with pytest.raises(ValueError, match="a map without blocks has no samples"):
        metatensor.unique_metadata(TensorMap(Labels.empty("k"), []), "samples", "s")


def test_unique_metadata_wants_a_tensor():
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap"):
        metatensor.unique_metadata(labels("s", [1]), "samples", "s")
