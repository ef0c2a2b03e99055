"""Products over named axes against numpy's einsum, and gradients against finite differences."""

import re

import numpy as np
import pytest

from metatensor import Labels, NotEqualError, TensorBlock, TensorMap
from metatensor.operations import einsum, outer
from metatensor.testing import assert_allclose, assert_equal, check_gradients


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


AXES = {
    "system atom": labels(["system", "atom"], [[0, 3], [0, 1], [2, 0], [1, 7], [5, 5]]),
    "t": Labels.range("t", 3),
    "mu": labels(["mu"], [[-1], [0], [1]]),
    "nu": Labels.range("nu", 2),
    "n": labels(["n"], [[4], [2], [0], [9]]),
    "p": Labels.range("p", 2),
    "q l": labels(["q", "l"], [[0, 0], [1, 0], [1, 1]]),
    "k": Labels.range("k", 6),
    "": Labels.single(),
}
XYZ = Labels.range("xyz", 2)
#: gradient rows, as (sample, atom)
ROWS = {
    "all": [(i, i) for i in range(5)],
    "some": [(3, 0), (0, 1), (3, 2)],
    "others": [(4, 0), (3, 2), (1, 1), (3, 0)],
    "none": [],
}


def host(block):
    return np.asarray(block.values)


def make_block(text, xp=np, seed=0, rows=None, dtype=np.float64, axes=AXES):
    """Random block with the axes of an operand, and a gradient "g" with some rows."""
    rng = np.random.default_rng(seed)
    samples, components, properties = [names.strip() for names in text.split("|")]
    parts = [axes[samples], *(axes[name] for name in components.split()), axes[properties]]
    shape = tuple(map(len, parts))

    def values(*shape):
        numbers = rng.normal(size=shape)
        if np.issubdtype(dtype, np.complexfloating):
            numbers = numbers + 1j * rng.normal(size=shape)
        return xp.asarray((4 * numbers).astype(dtype))

    block = TensorBlock(values(*shape), parts[0], parts[1:-1], parts[-1])
    if rows is not None:
        gradient = TensorBlock(
            values(len(rows), len(XYZ), *shape[1:]),
            Labels(["sample", "atom"], np.array(rows, dtype=np.int32).reshape(-1, 2)),
            [XYZ, *parts[1:-1]],
            parts[-1],
        )
        block.add_gradient("g", gradient)
    return block


def operands(expression):
    return expression.split("->")[0].split(",")


#: expression, the same for numpy, and the operands that can have gradients
CASES = [
    ("system atom | mu | n, system atom | mu | n -> system atom | | n", "imn,imn->in", [0, 1]),
    ("system atom | mu | n, system atom | mu | n -> system atom | mu | n", "imn,imn->imn", [0, 1]),
    ("system atom | mu | n, system atom | mu | n -> system atom | | ", "imn,imn->i", [0, 1]),
    ("system atom | mu | n, system atom | nu | n -> system atom|nu mu|n", "imn,ivn->ivmn", [0, 1]),
    ("system atom | mu | n, system atom|mu|q l -> system atom | | n q l", "imn,imq->inq", [0, 1]),
    ("system atom | mu | n, system atom|mu|q l -> system atom | | q l n", "imn,imq->iqn", [0, 1]),
    ("system atom | mu | n, system atom | mu | q l -> | | n q l", "imn,imq->nq", [0, 1]),
    ("system atom | mu | n, system atom | mu | n -> | mu | ", "imn,imn->m", [0, 1]),
    ("system atom | mu | n, t | mu | n -> system atom | | t", "imn,tmn->it", [0]),
    ("system atom | mu | n, n | | p -> system atom | mu | p", "imn,np->imp", [0]),
    ("system atom | mu | n, n | | p -> system atom | n | p", "imn,np->inp", [0]),
    ("n | | p, system atom | mu | n -> system atom | mu | n p", "np,imn->imnp", [1]),
    ("system atom | | n, t | | system atom -> system atom | | n t", "in,ti->int", [0]),
    ("system atom | mu | n, | | n -> system atom | mu | n", "imn,n->imn", [0]),
    ("| mu | , | mu | n -> | mu | n", "m,mn->mn", [0, 1]),
    (
        "system atom | mu | n, system atom | nu | n, mu | nu | t -> system atom | t | n",
        "imn,ivn,mvt->itn",
        [0, 1],
    ),
    ("system atom | mu | n, system atom | | p, t | | p -> system atom||n", "imn,ip,tp->in", [0, 1]),
    ("system atom | mu nu | n -> system atom | nu | n", "imvn->ivn", [0]),
    ("system atom | mu nu | q l -> system atom | nu mu | q l", "imvq->ivmq", [0]),
    ("system atom | | n -> | | n", "in->n", [0]),
]


def expected_axes(expression):
    """Samples, components and properties of the result, written out."""
    samples, components, properties = [
        names.strip() for names in expression.split("->")[1].split("|")
    ]
    groups = [AXES[names.replace("_", " ")] for names in properties.replace("q l", "q_l").split()]
    rows = [()]
    for group in groups:
        rows = [row + tuple(entry) for row in rows for entry in group.values.tolist()]
    combined = labels(properties.split(), rows) if groups else Labels.single()
    return AXES[samples], [AXES[name] for name in components.split()], combined


@pytest.mark.parametrize(("expression", "numpy_expression", "_"), CASES)
def test_values_are_those_of_numpy(xp, expression, numpy_expression, _):
    blocks = [make_block(text, xp, seed) for seed, text in enumerate(operands(expression))]
    result = einsum(expression, *blocks)
    samples, components, properties = expected_axes(expression)
    assert result.samples == samples
    assert result.components == components
    assert result.properties == properties
    terms = numpy_expression.split("->")[0].split(",")
    arrays = [host(block).reshape([n for n in block.shape if n > 1]) for block in blocks]
    assert [array.ndim for array in arrays] == [len(term) for term in terms]
    expected = np.einsum(numpy_expression, *arrays).reshape(result.shape)
    np.testing.assert_allclose(host(result), expected, rtol=1e-12, atol=1e-12)
    assert isinstance(result.values, type(blocks[0].values))
    assert result.gradients_list() == []


ROW_PAIRS = [("all", None), ("some", "others"), ("none", "some"), ("all", "all")]


@pytest.mark.parametrize("rows", ROW_PAIRS, ids=str)
@pytest.mark.parametrize(("expression", "_", "having"), CASES)
def test_gradients_are_derivatives(expression, _, having, rows):
    check_case(np, expression, having, rows)


@pytest.mark.parametrize("rows", ROW_PAIRS[1:3], ids=str)
@pytest.mark.parametrize("case", [CASES[0], CASES[4], CASES[6]], ids=lambda case: case[1])
def test_gradients_are_derivatives_in_all_libraries(xp, case, rows):
    check_case(xp, case[0], case[2], rows)


def check_case(xp, expression, having, rows):
    given = dict(zip(having, rows, strict=False))
    blocks = []
    for number, text in enumerate(operands(expression)):
        chosen = ROWS.get(given.get(number))
        if chosen is not None and text.strip().startswith("|"):
            chosen = [(0, atom) for atom in {atom for _, atom in chosen}]
        blocks.append(make_block(text, xp, number, chosen))
    check_gradients(lambda *tensors: einsum(expression, *tensors), *blocks)
    result = einsum(expression, *blocks).gradient("g")
    assert result.components[0] == XYZ
    assert isinstance(result.values, type(blocks[0].values))


def test_gradient_rows_of_both_are_united(xp):
    expression = "system atom | mu | n, system atom | mu | q l -> system atom | | n q l"
    first, second = [
        make_block(text, xp, seed, ROWS[rows])
        for seed, (text, rows) in enumerate(
            zip(operands(expression), ["some", "others"], strict=True)
        )
    ]
    gradient = einsum(expression, first, second).gradient("g")
    rows = sorted(set(ROWS["some"]) | set(ROWS["others"]))
    assert gradient.samples == labels(["sample", "atom"], rows)
    for position, (sample, atom) in enumerate(rows):
        expected = np.zeros((2, 4, 3))
        if (sample, atom) in ROWS["some"]:
            row = host(first.gradient("g"))[ROWS["some"].index((sample, atom))]
            expected += np.einsum("xmn,mq->xnq", row, host(second)[sample])
        if (sample, atom) in ROWS["others"]:
            row = host(second.gradient("g"))[ROWS["others"].index((sample, atom))]
            expected += np.einsum("mn,xmq->xnq", host(first)[sample], row)
        np.testing.assert_allclose(
            host(gradient)[position], expected.reshape(2, 12), rtol=1e-12, atol=1e-12
        )


def test_equal_rows_keep_their_order(xp):
    expression = "system atom | mu | n, system atom | mu | n -> system atom | | n"
    block = make_block(operands(expression)[0], xp, rows=ROWS["some"])
    result = einsum(expression, block, block)
    assert result.gradient("g").samples == block.gradient("g").samples
    rows = [sample for sample, _ in ROWS["some"]]
    expected = 2 * np.einsum("rxmn,rmn->rxn", host(block.gradient("g")), host(block)[rows])
    np.testing.assert_allclose(host(result.gradient("g")), expected, rtol=1e-12)


def test_rows_of_summed_samples_are_summed():
    expression = "system atom | mu | n, system atom | mu | n -> | | n"
    block = make_block(operands(expression)[0], rows=ROWS["others"])
    other = make_block(operands(expression)[1], seed=1)
    gradient = einsum(expression, block, other).gradient("g")
    assert gradient.samples == labels(["sample", "atom"], [[0, 0], [0, 1], [0, 2]])
    expected = np.zeros((3, 2, 4))
    for row, (sample, atom) in zip(block.gradient("g").values, ROWS["others"], strict=True):
        expected[atom] += (row * other.values[sample]).sum(axis=1)
    np.testing.assert_allclose(gradient.values, expected, rtol=1e-12)


def test_several_parameters():
    text = "system atom | mu | n"
    first, second = make_block(text, rows=ROWS["some"]), make_block(text, seed=1)
    strain = make_block(text, seed=2, rows=ROWS["all"]).gradient("g")
    second.add_gradient("strain", strain.copy())
    expression = f"{text}, {text} -> system atom | | n"
    result = einsum(expression, first, second)
    assert result.gradients_list() == ["g", "strain"]
    check_gradients(lambda *tensors: einsum(expression, *tensors), first, second)


@pytest.mark.parametrize("function", ["einsum", "outer"])
def test_gradients_of_gradients_are_carried_where_it_is_linear(function):
    text = "system atom | mu | n"
    block, other = make_block(text), make_block(text, seed=1)
    first, second = [(3, 0), (0, 1), (3, 2)], [(2, 0), (0, 1)]
    gradient = make_block(text, rows=first).gradient("g").copy()
    nested = make_block(text, seed=2, rows=second).gradient("g")
    gradient.add_gradient(
        "h",
        TensorBlock(
            np.random.default_rng(3).normal(size=(2, 1, 2, 3, 4)),
            nested.samples,
            [Labels.range("y", 1), *gradient.components],
            gradient.properties,
        ),
    )
    block.add_gradient("g", gradient)
    if function == "einsum":
        expression = f"{text}, system atom | mu | q l -> system atom | | n q l"
        other = make_block("system atom | mu | q l", seed=1)
        result, letters = einsum(expression, block, other), "rymxn,rxq->rymnq"
    else:
        result, letters = outer(block, other), "rymxn,rxq->rymxnq"
    carried = result.gradient("g").gradient("h")
    rows = [first[row][0] for row, _ in second]
    expected = np.einsum(letters, gradient.gradient("h").values, other.values[rows])
    assert carried.samples == nested.samples
    np.testing.assert_allclose(carried.values.ravel(), expected.ravel(), rtol=1e-12)
    with pytest.raises(NotImplementedError, match="is not linear.*gradients of gradients.*'g'"):
        outer(block, block)
    with pytest.raises(NotImplementedError, match="gradients of gradients"):
        einsum(f"{text} -> | | n", block)


# ------------------------------------------------------------------------------------------- maps


def make_map(text, keys, seed=0, **arguments):
    blocks = [make_block(text, seed=seed + 10 * key, **arguments) for key in keys]
    return TensorMap(labels(["key"], [[key] for key in keys]), blocks)


def test_maps_are_paired_by_key_and_blocks_go_with_all():
    expression = "system atom | mu | n, system atom | mu | n, n | | p -> system atom | | p"
    texts = operands(expression)
    first, second = make_map(texts[0], [0, 2, 1]), make_map(texts[1], [1, 0, 2], seed=1)
    weights = make_block(texts[2], seed=2)
    result = einsum(expression, first, second, weights)
    assert result.keys == first.keys
    for key, block in result.items():
        expected = einsum(expression, first[key], second[key], weights)
        assert_allclose(block, expected)
    turned = "n | | p, system atom | mu | n, system atom | mu | n -> system atom | | p"
    assert_allclose(einsum(turned, weights, first, second), result, rtol=1e-12)
    with pytest.raises(NotEqualError, match="the keys differ"):
        einsum(expression, first, make_map(texts[1], [0, 1]), weights)
    with pytest.raises(NotEqualError, match="the keys differ"):
        outer(first, make_map(texts[1], [0, 1]))


def test_errors_say_in_which_block():
    expression = "system atom | mu | n, n | | p -> system atom | mu | p"
    tensor = make_map("system atom | mu | n", [0, 3])
    wrong = TensorBlock(np.ones((2, 2)), Labels.range("n", 2), [], AXES["p"])
    with pytest.raises(NotEqualError, match=r"in the block for key \(key=0\)"):
        einsum(expression, tensor, wrong)


def test_maps_without_blocks():
    empty = TensorMap(Labels.empty("key"), [])
    assert len(einsum("a | | n, a | | n -> a | | n", empty, empty)) == 0
    assert len(outer(empty, empty)) == 0


def test_info_is_inherited():
    tensor = make_map("system atom | | n", [0])
    tensor.set_info("unit", "eV")
    assert einsum("system atom | | n -> system atom | |", tensor).info() == {"unit": "eV"}


def test_results_of_blocks_take_gradients():
    block = make_block("system atom | | n", rows=ROWS["some"])
    for result in [einsum("system atom | | n -> system atom | | n", block), outer(block, block)]:
        result.add_gradient("h", result.gradient("g"))
        assert result.gradients_list() == ["g", "h"]


# ------------------------------------------------------------------------------------------ outer


@pytest.mark.parametrize(
    ("first", "second", "letters", "components"),
    [
        ("system atom | | n", "system atom | | q l", "in,iq->inq", []),
        ("system atom | mu | n", "system atom | | q l", "imn,iq->imnq", ["mu"]),
        ("system atom | | n", "system atom | mu | q l", "in,imq->imnq", ["mu"]),
        ("system atom | mu | n", "system atom | mu | q l", "imn,imq->imnq", ["mu"]),
        ("system atom | mu | n", "system atom | nu | q l", "imn,ivq->imvnq", ["mu", "nu"]),
        ("system atom | mu nu | n", "system atom | nu | q l", "imvn,ivq->imvnq", ["mu", "nu"]),
    ],
)
def test_outer_is_that_of_numpy(xp, first, second, letters, components):
    block, other = make_block(first, xp), make_block(second, xp, seed=1)
    result = outer(block, other)
    assert result.samples == AXES["system atom"]
    assert result.components == [AXES[name] for name in components]
    rows = [(n, *ql) for (n,) in AXES["n"].values.tolist() for ql in AXES["q l"].values.tolist()]
    assert result.properties == labels(["n", "q", "l"], rows)
    expected = np.einsum(letters, host(block), host(other)).reshape(result.shape)
    np.testing.assert_allclose(host(result), expected, rtol=1e-12)
    for rows in ROW_PAIRS:
        pair = [
            make_block(text, xp, seed, ROWS.get(name))
            for seed, (text, name) in enumerate(zip([first, second], rows, strict=True))
        ]
        if xp.array_library == "numpy":
            check_gradients(outer, *pair)


def test_gradients_of_outer_are_derivatives(xp):
    blocks = [
        make_block("system atom | mu | n", xp, seed, ROWS[rows])
        for seed, rows in enumerate(["some", "others"])
    ]
    check_gradients(outer, *blocks)


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (["n"], ["n"], ["n_1", "n_2"]),
        (["n"], ["m"], ["n", "m"]),
        (["n", "l"], ["l"], ["n", "l_1", "l_2"]),
    ],
)
def test_names_of_both_get_endings(first, second, names):
    samples = Labels.range("s", 2)
    blocks = [
        TensorBlock(np.ones((2, 1)), samples, [], labels(group, [[7] * len(group)]))
        for group in (first, second)
    ]
    assert outer(*blocks).properties.names == names


def test_endings_must_be_free():
    samples, n = Labels.range("s", 1), Labels.range("n", 1)
    both = labels(["n", "n_1"], [[0, 0]])
    with pytest.raises(ValueError, match="must be unique, got 'n_1' more than once"):
        outer(
            TensorBlock(np.ones((1, 1)), samples, [], n),
            TensorBlock(np.ones((1, 1)), samples, [], both),
        )


def test_outer_with_names_in_several_places():
    """A kernel has samples and properties with the same names, which are not the same axis."""
    kernel = TensorBlock(np.ones((2, 3)), Labels.range("s", 2), [], Labels.range("s", 3))
    assert outer(kernel, kernel).properties.names == ["s_1", "s_2"]


def test_outer_refuses():
    block = make_block("system atom | mu | n")
    moved = TensorBlock(
        block.values,
        labels(["system", "atom"], [[0, i] for i in range(5)]),
        block.components,
        block.properties,
    )
    with pytest.raises(
        NotEqualError,
        match=r"in `outer`, the samples \[system, atom\] of operand 1 and the .* of operand 2",
    ):
        outer(block, moved)
    other = TensorBlock(block.values, block.samples, [Labels.range("mu", 3)], block.properties)
    with pytest.raises(NotEqualError, match=r"components \[mu\] of operand 1 and .* operand 2"):
        outer(block, other)
    with pytest.raises(TypeError, match="`tensor_1` must be a metatensor TensorMap"):
        outer(block.values, block)
    with pytest.raises(TypeError, match="`tensor_2` must be a metatensor TensorBlock"):
        outer(block, make_map("system atom | mu | n", [0]))


# --------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("expression", "message", "place"),
    [
        ("a | | n, a | | n", 'must have one "->" before the result, got 0', 16),
        ("a | | n -> a | | n -> a | | n", 'one "->" before the result, got 2', 19),
        ("a | n -> a | | n", "must have two bars here, got 1; write each operand as", 0),
        ("a | | n -> n", "must have two bars here, got 0", 11),
        ("a | | n, , a | | n -> a | | n", "must have two bars here, got 0", 9),
        ("a | | n | b -> a | | n", "must have two bars here, got 3", 0),
        ("a | | n ->", "must have two bars here, got 0", 10),
        ("a | | n -> a | | n, b | | n", "must have one result, got several", 18),
        ("a | | n-> a | | 1", "has an unexpected '1'; write each operand", 16),
        ("a | | n > a | | n", "has an unexpected '>'", 8),
        ("a | n | n -> a | | n", "has the name 'n' twice in one place", 8),
        ("a | | n, a | | n -> a | | n n", "'n' twice in one place.*`rename_dimension`", 28),
        ("a | | n -> a | | m", "has 'm' in the result, and in no operand", 17),
        ("a | | n -> b | | n", "has 'b' in the result, and in no operand", 11),
        ("s a | | n -> s | | n", "must have 's a' together in the result", 13),
        ("a | | n l -> a | | l n", "must have 'n l' together in the result", 19),
        ("a | | n l, a | | n -> a | | n", "in one axis, got 'n' in 'n l' and in 'n'", 17),
        ("a | | n -> a n | |", "must have the samples of one operand in the result", 11),
        ("a | | n l -> a | n l | ", "components with one name in the result, got 'n l'", 17),
    ],
)
def test_expressions_that_can_not_be_read(expression, message, place):
    block = make_block("system atom | | n")
    with pytest.raises(ValueError, match=message) as error:
        einsum(expression, block)
    _, shown, caret = str(error.value).split("\n")
    assert shown == "    " + expression
    assert caret == "    " + " " * place + "^"


def test_expressions_on_several_lines():
    block = make_block("system atom | mu | n")
    one = einsum("system atom|mu|n,system atom|mu|n->system atom||n", block, block)
    several = einsum(
        """
        system atom | mu | n,
        system atom | mu | n -> system atom | | n
        """,
        block,
        block,
    )
    assert_equal(one, several)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("system | mu | n", r"its samples are \['system', 'atom'\], got \['system'\]"),
        ("atom system | mu | n", r"samples are \['system', 'atom'\], got \['atom', 'system'\]"),
        ("system atom | | n", r"its components are \['mu'\], got \[\]"),
        ("system atom | mu | m", r"its properties are \['n'\], got \['m'\]"),
        ("system atom | mu | ", r"the names \['n'\] for its 4 properties, got none"),
        ("| mu | n", r"the names \['system', 'atom'\] for its 5 samples, got none"),
    ],
)
def test_names_must_be_those_of_the_blocks(expression, message):
    block = make_block("system atom | mu | n")
    with pytest.raises(ValueError, match="operand 1 of `einsum` must have .*" + message):
        einsum(f"{expression} -> | | ", block)


def test_axes_of_the_same_names_must_be_equal():
    first, second = make_block("system atom | mu | n"), make_block("n | | p")
    reversed_n = labels(["n"], [[0], [2], [4], [9]])
    other = TensorBlock(second.values, reversed_n, [], second.properties)
    expression = "system atom | mu | n, n | | p -> system atom | mu | p"
    message = (
        r"axes with the same names must have equal Labels in `einsum`, the properties \[n\] of "
        r"operand 1 and the samples \[n\] of operand 2 have not: the same entries in another order"
    )
    with pytest.raises(NotEqualError, match=message):
        einsum(expression, first, other)


@pytest.mark.parametrize(
    "expression",
    [
        "system atom | mu | n, t | mu | n -> t | | n",
        "system atom | mu | n, t | mu | n -> t | | system atom",
        "system atom | mu | n, n | | p -> n | | p",
        "system atom | mu | n -> | | system atom",
        "| mu | n, t | mu | n -> t | | n",
    ],
)
def test_gradients_without_a_plain_rule_are_refused(expression):
    texts = operands(expression)
    rows = [(0, 1)] if texts[0].startswith("|") else ROWS["some"]
    blocks = [make_block(texts[0], rows=rows), *map(make_block, texts[1:])]
    with pytest.raises(NotImplementedError, match="the gradient 'g' of operand 1 has rows for the"):
        einsum(expression, *blocks)
    einsum(expression, *map(make_block, texts))


def test_gradients_with_respect_to_different_things_are_refused():
    text = "system atom | | n"
    expression = f"{text}, {text} -> {text}"
    block = make_block(text, rows=ROWS["some"])
    samples = labels(["sample", "molecule"], ROWS["some"])
    gradient = block.gradient("g")
    for changed, message in [
        (
            TensorBlock(gradient.values, samples, gradient.components, gradient.properties),
            r"must have the same sample names, got \['sample', 'atom'\] and \['sample', 'mole",
        ),
        (
            TensorBlock(
                gradient.values, gradient.samples, [Labels.range("x", 2)], gradient.properties
            ),
            r"must have the same components: .*\['xyz'\] and \['x'\]",
        ),
    ]:
        other = make_block(text)
        other.add_gradient("g", changed)
        with pytest.raises(NotEqualError, match="the gradients 'g' in `einsum` " + message):
            einsum(expression, block, other)


def test_component_names_must_stay_distinct():
    axes = AXES | {"xyz": XYZ}
    first = make_block("system atom | | n", rows=ROWS["some"])
    second = make_block("system atom | xyz | n", axes=axes)
    with pytest.raises(ValueError, match="component names must be distinct, got 'xyz'"):
        einsum("system atom | | n, system atom | xyz | n -> system atom | xyz | n", first, second)


def test_wrong_kinds_and_numbers_of_arguments():
    block = make_block("system atom | | n")
    expression = "system atom | | n, system atom | | n -> system atom | | n"
    with pytest.raises(ValueError, match="one tensor for each of the 2 operands of .*, got 1"):
        einsum(expression, block)
    with pytest.raises(TypeError, match="`operand 2` must be a metatensor TensorMap or"):
        einsum(expression, block, block.values)
    with pytest.raises(TypeError, match="`expression` must be a str, got metatensor.TensorBlock"):
        einsum(block, block)
    too_many = " ".join(f"c{n}" for n in range(30))
    with pytest.raises(ValueError, match="can have at most 26 axes"):
        einsum(f"s | {too_many} | p -> s | | p", block)


def test_arrays_of_two_libraries_are_refused():
    torch = pytest.importorskip("torch")
    block = make_block("system atom | | n")
    other = TensorBlock(torch.ones(5, 4), block.samples, [], block.properties)
    expression = "system atom | | n, system atom | | n -> system atom | | n"
    with pytest.raises(TypeError, match=re.escape("got numpy.ndarray, torch.Tensor")):
        einsum(expression, block, other)


# ----------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (np.float32, np.float32, np.float32),
        (np.float32, np.float64, np.float64),
        (np.int64, np.int64, np.int64),
        (np.complex128, np.float64, np.complex128),
    ],
)
def test_dtypes(xp, first, second, expected):
    expression = "system atom | mu | n, system atom | mu | n -> system atom | | n"
    text = operands(expression)[0]
    blocks = [
        make_block(text, xp, 0, ROWS["some"], first),
        make_block(text, xp, 1, ROWS["others"], second),
    ]
    result = einsum(expression, *blocks)
    assert host(result).dtype == expected
    assert host(result.gradient("g")).dtype == expected
    exact = np.einsum("imn,imn->in", host(blocks[0]), host(blocks[1]))
    np.testing.assert_allclose(host(result), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("empty", ["system atom", "n", "q l"])
@pytest.mark.parametrize("function", ["einsum", "outer"])
def test_empty_axes(xp, empty, function):
    axes = AXES | {empty: Labels.empty(empty.split())}
    rows = [] if empty == "system atom" else ROWS["some"]
    texts = ["system atom | mu | n", "system atom | mu | q l"]
    blocks = [make_block(text, xp, rows=rows, axes=axes) for text in texts]
    if function == "outer":
        results = [(outer(*blocks), (3,))]
    else:
        expression = ", ".join(texts) + " -> system atom | | n q l"
        results = [(einsum(expression, *blocks), ())]
        summed = einsum(", ".join(texts) + " -> | | n q l", *blocks)
        assert (host(summed) == 0).all()
        assert summed.gradient("g").shape[0] == len({atom for _, atom in rows})
        contracted = einsum(", ".join(texts) + " -> system atom | mu | ", *blocks)
        assert (host(contracted) == 0).all()
    sizes = {name: len(group) for name, group in axes.items()}
    for result, components in results:
        shape = (*components, sizes["n"] * sizes["q l"])
        assert tuple(result.values.shape) == (sizes["system atom"], *shape)
        assert tuple(result.gradient("g").values.shape) == (len(rows), 2, *shape)


def test_large_products_of_numpy():
    """These go through matrix products."""
    rng = np.random.default_rng(0)
    samples, mu, n, p = [Labels.range(name, size) for name, size in zip("smnp", (40, 7, 30, 20))]
    first = TensorBlock(rng.normal(size=(40, 7, 30)), samples, [mu], n)
    second = TensorBlock(rng.normal(size=(40, 7, 20)), samples, [mu], p)
    result = einsum("s | m | n, s | m | p -> s | | n p", first, second)
    expected = (first.values[..., None] * second.values[:, :, None]).sum(axis=1)
    np.testing.assert_allclose(result.values, expected.reshape(40, -1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("summed", [False, True])
def test_autograd_flows_through(summed):
    torch = pytest.importorskip("torch")
    text = "system atom | mu | n"
    expression = f"{text}, {text} -> {'' if summed else 'system atom'} | | n"
    given = [make_block(text, seed=seed, rows=ROWS["some"]) for seed in range(2)]
    given[1] = make_block(text, seed=1, rows=ROWS["others"])
    arrays = [host(part) for block in given for part in (block, block.gradient("g"))]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]

    def run(*values):
        blocks = []
        for block, new, rows in zip(given, values[::2], values[1::2], strict=True):
            gradient = block.gradient("g")
            blocks.append(TensorBlock(new, block.samples, block.components, block.properties))
            blocks[-1].add_gradient(
                "g", TensorBlock(rows, gradient.samples, gradient.components, gradient.properties)
            )
        result = einsum(expression, *blocks)
        return result.values, result.gradient("g").values

    assert torch.autograd.gradcheck(run, tensors)


def test_jax_traces():
    jax = pytest.importorskip("jax")
    block = make_block("system atom | | n")

    @jax.jit
    def run(values):
        traced = TensorBlock(values, block.samples, [], block.properties)
        return outer(traced, traced).values

    expected = np.einsum("in,im->inm", block.values, block.values).reshape(5, 16)
    np.testing.assert_allclose(run(block.values), expected, rtol=1e-12)


def test_nothing_given_is_changed():
    text = "system atom | mu | n"
    blocks = [make_block(text, rows=ROWS[rows]) for rows in ("some", "others")]
    copies = [block.copy() for block in blocks]
    einsum(f"{text}, {text} -> | | n", *blocks)
    outer(*blocks)
    for block, before in zip(blocks, copies, strict=True):
        assert_equal(block, before)


def test_one_operand_gives_new_values_of_its_dtype(xp):
    numbers = np.arange(6, dtype=np.int8).reshape(2, 3)
    block = TensorBlock(xp.asarray(numbers), Labels.range("a", 2), [], Labels.range("n", 3))
    same, total = einsum("a | | n -> a | | n", block), einsum("a | | n -> a | |", block)
    assert same.dtype == total.dtype == block.dtype
    assert not np.shares_memory(np.asarray(same.values), np.asarray(block.values))
    assert np.asarray(total.values).tolist() == [[3], [12]]
