"""Changing dimensions: what becomes of Labels and gradients, and that arrays are shared."""

import numpy as np
import pytest

import metatensor
from metatensor import Labels, MetatensorError, TensorBlock, TensorMap
from metatensor.testing import assert_equal

FORMS = ["append", "insert", "permute", "remove", "rename"]


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def make_block(asarray=np.asarray, n=2):
    """Return a block with a gradient, which has a gradient too."""
    components, properties = [labels("c", [4, 2])], labels(["p", "q"], [[7, 0], [-7, 0], [1, 5]])
    samples = labels(["s", "t"], [[3, -1], [0, 2], [5, 5]][:n])
    own = [Labels.range("xyz", 2), *components]
    block = TensorBlock(asarray(np.ones((n, 2, 3))), samples, components, properties)
    gradient = TensorBlock(
        asarray(np.ones((2, 2, 2, 3))),
        labels(["sample", "t", "atom"], [[1, 0, 9], [1, 4, 9]]),
        own,
        properties,
    )
    second = TensorBlock(
        asarray(np.ones((1, 2, 2, 3))), labels(["sample", "t"], [[0, 6]]), own, properties
    )
    gradient.add_gradient("h", second)
    block.add_gradient("g", gradient)
    return block


def make_tensor(asarray=np.asarray, n=(2, 2)):
    keys = labels(["k", "l"], [[4, 0], [-4, 0]])
    tensor = TensorMap(keys, [make_block(asarray, size) for size in n])
    tensor.set_info("unit", "eV")
    return tensor


def parts(block):
    """Return a block, its gradients and theirs."""
    return [block, *(part for _, gradient in block.gradients() for part in parts(gradient))]


def tables(block, axis):
    """Return names and rows of an axis, for a block, its gradient and the gradient of that."""
    return [
        (getattr(part, axis).names, getattr(part, axis).values.tolist()) for part in parts(block)
    ]


ROWS = {
    "samples": [[3, -1], [0, 2]],
    "properties": [[7, 0], [-7, 0], [1, 5]],
    "keys": [[4, 0], [-4, 0]],
}
NAMES = {"samples": ["s", "t"], "properties": ["p", "q"], "keys": ["k", "l"]}


def expected(form, axis):
    """Return the names and rows that an axis has after one of the changes in `call`."""
    (first, second), rows = NAMES[axis], ROWS[axis]
    return {
        "append": ([first, second, "x"], [[a, b, 5] for a, b in rows]),
        "insert": ([first, "x", second], [[a, 5, b] for a, b in rows]),
        "permute": ([second, first], [[b, a] for a, b in rows]),
        "remove": ([first], [[a] for a, _ in rows]),
        "rename": ([first, "x"], rows),
    }[form]


def call(form, tensor, axis):
    second = NAMES[axis][1]
    arguments = {
        "append": ("x", 5),
        "insert": (1, "x", 5),
        "permute": ([1, 0],),
        "remove": (second,),
        "rename": (second, "x"),
    }[form]
    name = f"{form}_dimension" + "s" * (form == "permute")
    return getattr(metatensor, name)(tensor, axis, *arguments)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axis", ["keys", "samples", "properties"])
def test_what_changes_and_what_does_not(xp, form, axis):
    tensor = make_tensor(xp.asarray)
    before = tensor.copy()
    result = call(form, tensor, axis)
    assert_equal(tensor, before)
    assert result.info() == {"unit": "eV"}
    if axis == "keys":
        assert (result.keys.names, result.keys.values.tolist()) == expected(form, axis)
    else:
        assert result.keys == tensor.keys
    for block, given in zip(result, tensor, strict=True):
        # nested gradients, which upstream drops silently, are all there
        assert len(parts(block)) == len(parts(given)) == 3
        for part, old in zip(parts(block), parts(given), strict=True):
            assert part.values is old.values
            assert part.components == old.components
            assert tables(part, "properties")[0] == (
                expected(form, axis) if axis == "properties" else tables(old, "properties")[0]
            )
        if axis != "samples":
            assert tables(block, "samples") == tables(given, "samples")
        else:
            assert tables(block, "samples")[0] == expected(form, axis)
            names = ["x" if form == "rename" else "t"]
            assert tables(block, "samples")[1:] == [
                (["sample", *names, "atom"], [[1, 0, 9], [1, 4, 9]]),
                (["sample", *names], [[0, 6]]),
            ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axis", ["samples", "properties"])
def test_blocks(form, axis):
    block = make_block()
    result = call(form, block, axis)
    assert tables(result, axis)[0] == expected(form, axis)
    result.add_gradient("new", result.gradient("g"))  # as a block that is nobody else's
    assert block.gradients_list() == ["g"]


@pytest.mark.parametrize("form", FORMS)
def test_blocks_have_no_keys(form):
    with pytest.raises(ValueError, match="'samples' or 'properties' for a TensorBlock, got 'keys'"):
        call(form, make_block(), "keys")


def test_labels_that_were_shared_are_shared():
    axes = labels("s", [3, 1]), [], labels("p", [1, 2])
    block = TensorBlock(np.zeros((2, 2)), *axes)
    block.add_gradient("g", TensorBlock(np.zeros((2, 2)), Labels.range("sample", 2), [], axes[2]))
    tensor = TensorMap(Labels.range("k", 2), [block, block])
    result = metatensor.append_dimension(tensor, "properties", "x", 1)
    assert len({id(part.properties) for block in result for part in parts(block)}) == 1


# ---- values


@pytest.mark.parametrize(
    "values",
    [np.array([8, -1]), np.array([8, -1], dtype=np.int8), np.array([8, 0, -1, 0])[::2]],
)
@pytest.mark.parametrize("form", ["append", "insert"])
def test_one_value_for_each_entry(form, values):
    arguments = ("x", values) if form == "append" else (0, "x", values)
    result = getattr(metatensor, f"{form}_dimension")(make_tensor(), "samples", *arguments)
    for block in result:
        assert block.samples["x"].tolist() == [8, -1]
        assert block.samples.names == (["s", "t", "x"] if form == "append" else ["x", "s", "t"])
    result = metatensor.append_dimension(make_tensor(), "keys", "x", values)
    assert result.keys["x"].tolist() == [8, -1]


@pytest.mark.parametrize("value", [-3, np.int64(-3), np.int8(-3), np.array(-3)])
def test_any_integer_is_a_constant(value):
    result = metatensor.append_dimension(make_tensor(n=(3, 2)), "samples", "x", value)
    assert [block.samples["x"].tolist() for block in result] == [[-3] * 3, [-3] * 2]


def test_constants_of_blocks_without_samples():
    block = TensorBlock(np.zeros((0, 1)), Labels.empty("s"), [], Labels.single())
    result = metatensor.append_dimension(block, "samples", "x", 4)
    assert result.samples == Labels.empty(["s", "x"])


def test_bug_maps_backed_by_torch():
    """Upstream fails to append to and insert in Labels of torch."""
    torch = pytest.importorskip("torch")
    axes = Labels("s", torch.tensor([[4], [1]])), [], Labels("p", torch.tensor([[0]]))
    tensor = TensorMap(Labels("k", torch.tensor([[3]])), [TensorBlock(torch.zeros(2, 1), *axes)])
    for axis in ("keys", "samples", "properties"):
        for result in (
            metatensor.append_dimension(tensor, axis, "x", 7),
            metatensor.insert_dimension(tensor, axis, 1, "x", 7),
        ):
            changed = result.keys if axis == "keys" else getattr(result[0], axis)
            assert isinstance(changed.values, torch.Tensor)
            assert changed.values[:, 1].tolist() == [7] * len(changed)
    result = metatensor.append_dimension(tensor, "samples", "x", torch.tensor([8, 9]))
    assert result[0].samples.values.tolist() == [[4, 8], [1, 9]]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1, 2], "`values` must be an int, or a 1-D array of integers, got list"),
        ("12", "got str"),
        (1.0, "got float"),
        (None, "got NoneType"),
        (2**31, "`values` must fit in int32, got 2147483648"),
        (-(2**70), "must fit in int32"),
        (np.array([1, 2, 3]), "one value for each of the 2 entries, got 3"),
        (np.array([[1, 2]]), "must be a 1-D array"),
        (np.array([1, 2**40]), "Labels hold 32-bit integers, .* got 1099511627776"),
    ],
)
@pytest.mark.parametrize("axis", ["keys", "samples"])
def test_values_that_can_not_be(values, text, axis):
    with pytest.raises(ValueError, match=text):
        metatensor.append_dimension(make_tensor(), axis, "x", values)
    with pytest.raises(ValueError, match=text):
        metatensor.insert_dimension(make_tensor(), axis, 0, "x", values)


def test_the_block_is_named_whose_length_differs():
    with pytest.raises(ValueError, match=r"of the 3 entries, got 2 \(in the block for key \(k=-4"):
        metatensor.append_dimension(make_tensor(n=(2, 3)), "samples", "x", np.array([1, 2]))


@pytest.mark.parametrize("name", ["s", "not valid", ""])
def test_names_that_can_not_be(name):
    for change in (
        lambda: metatensor.append_dimension(make_tensor(), "samples", name, 1),
        lambda: metatensor.insert_dimension(make_tensor(), "samples", 0, name, 1),
        lambda: metatensor.rename_dimension(make_tensor(), "samples", "t", name),
    ):
        with pytest.raises(MetatensorError, match="must be unique|not a valid label name"):
            change()


@pytest.mark.parametrize(
    ("index", "names"),
    [(0, ["x", "s", "t"]), (2, ["s", "t", "x"]), (-1, ["s", "x", "t"]), (-2, ["x", "s", "t"])],
)
def test_positions_are_those_of_a_list(index, names):
    result = metatensor.insert_dimension(make_block(), "samples", index, "x", 1)
    assert result.samples.names == names
    assert result.samples["s"].tolist() == [3, 0]


@pytest.mark.parametrize(
    ("function", "arguments", "error", "text"),
    [
        (
            "insert_dimension",
            ("samples", 3, "x", 1),
            IndexError,
            "at most the number of dimensions",
        ),
        ("insert_dimension", ("samples", 0.5, "x", 1), TypeError, "`index` must be an int"),
        ("permute_dimensions", ("samples", [0]), ValueError, "must have 2 entries"),
        ("permute_dimensions", ("samples", [0, 2]), IndexError, r"must be in \[-2, 2\), got 2"),
        ("permute_dimensions", ("keys", [0, 0]), MetatensorError, "unique, got 'k'"),
        (
            "remove_dimension",
            ("samples", "x"),
            ValueError,
            "'x' is not a dimension of these Labels",
        ),
        ("remove_dimension", ("keys", "x"), ValueError, "'x' is not a dimension of these Labels"),
        ("remove_dimension", ("properties", "p"), MetatensorError, "rows of Labels must be unique"),
        ("remove_dimension", ("keys", "k"), MetatensorError, "must be unique, got .0. more than"),
        ("rename_dimension", ("samples", "x", "y"), ValueError, "'x' is not a dimension of these"),
        ("rename_dimension", ("keys", "x", "y"), ValueError, "'x' is not a dimension of these"),
    ],
)
def test_what_can_not_be(function, arguments, error, text):
    with pytest.raises(error, match=text):
        getattr(metatensor, function)(make_tensor(), *arguments)


@pytest.mark.parametrize("axis", ["keys", "samples", "properties"])
def test_the_only_dimension_stays(axis):
    block = metatensor.block_from_array(np.zeros((1, 1)), "d", property_names="d")
    tensor = TensorMap(Labels.range("d", 1), [block])
    with pytest.raises(MetatensorError, match=f"only dimension 'd' of the {axis} can not be"):
        metatensor.remove_dimension(tensor, axis, "d")


# ---- components


def test_components_are_renamed_in_gradients_too(xp):
    result = metatensor.rename_dimension(make_tensor(xp.asarray), "components", "c", "m")
    assert result.component_names == ["m"]
    for block in result:
        names = [[component.names for component in part.components] for part in parts(block)]
        assert names == [[["m"]], [["xyz"], ["m"]], [["xyz"], ["m"]]]


def test_components_of_gradients_alone():
    block = metatensor.rename_dimension(make_block(), "components", "xyz", "direction")
    assert [part.names for part in block.gradient("g").components] == [["direction"], ["c"]]
    assert [part.names for part in block.components] == [["c"]]


def test_components_must_stay_distinct():
    with pytest.raises(MetatensorError, match="component names must be distinct, got 'xyz'"):
        metatensor.rename_dimension(make_block(), "components", "c", "xyz")
    with pytest.raises(MetatensorError, match="not a valid label name"):
        metatensor.rename_dimension(make_block(), "components", "c", "not valid")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("rename_dimension", ("absent", "x")),
        ("remove_dimension", ("c",)),
        ("permute_dimensions", ([4, 4],)),
        ("insert_dimension", (9, "x", 1)),
    ],
)
def test_nothing_else_happens_to_components(function, arguments):
    tensor = make_tensor()
    assert_equal(getattr(metatensor, function)(tensor, "components", *arguments), tensor)


def test_components_can_not_get_a_dimension():
    with pytest.raises(ValueError, match="'keys', 'samples' or 'properties', got 'components'"):
        metatensor.append_dimension(make_tensor(), "components", "x", 1)


# ---- other rules


def test_what_rows_of_gradients_belong_to_is_not_renamed():
    block = metatensor.block_from_array(np.zeros((2, 1)))
    block.add_gradient("g", metatensor.block_from_array(np.zeros((2, 1))))
    result = metatensor.rename_dimension(block, "samples", "sample", "system")
    assert result.samples.names == ["system"]
    assert result.gradient("g").samples.names == ["sample"]


def test_a_gradient_dimension_can_not_become_sample():
    with pytest.raises(MetatensorError, match="must be unique, got 'sample'"):
        metatensor.rename_dimension(make_block(), "samples", "t", "sample")


@pytest.mark.parametrize("form", FORMS)
def test_maps_without_blocks(form):
    tensor = TensorMap(Labels.empty(["k", "l"]), [])
    assert call(form, tensor, "keys").keys.names == expected(form, "keys")[0]
    for axis in ("samples", "properties"):
        assert call(form, tensor, axis).keys == tensor.keys


@pytest.mark.parametrize("form", FORMS)
def test_axes_and_types(form):
    name = f"{form}_dimension" + "s" * (form == "permute")
    arguments = {"append": ("x", 1), "insert": (0, "x", 1), "permute": ([0, 1],)}.get(
        form, ("s", "t")[: 2 if form == "rename" else 1]
    )
    with pytest.raises(ValueError, match="`axis` must be 'keys', 'samples' or 'properties'"):
        getattr(metatensor, name)(make_tensor(), "blocks", *arguments)
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap or TensorBlock"):
        getattr(metatensor, name)(np.zeros((2, 2)), "samples", *arguments)
