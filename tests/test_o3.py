"""Rotations against explicit formulas, and functions of systems that are or are not equivariant."""

import itertools
import re
import warnings

import numpy as np
import pytest
from ase import Atoms

from metatensor import Labels, MetatensorError, TensorBlock, TensorMap, record_history
from metatensor.datasets import make_alloys, radial_descriptor
from metatensor.o3 import check, rotate, wigner_d
from metatensor.testing import assert_allclose, assert_equal, assert_equivariant

RNG = np.random.default_rng(0)
INVERSION = -np.eye(3)


def random_rotation(seed, determinant=1):
    """Return a rotation by a unit quaternion."""
    w, x, y, z = np.random.default_rng(seed).normal(size=4)
    norm = w * w + x * x + y * y + z * z
    matrix = [
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    return determinant * np.array(matrix) / norm


ROTATIONS = [random_rotation(seed, (-1) ** seed) for seed in range(6)]


def harmonics(degree, x, y, z):
    """Return real spherical harmonics at unit vectors, written out, m = -l..l."""
    pi, sqrt = np.pi, np.sqrt
    return np.array(
        {
            0: lambda: [sqrt(1 / (4 * pi)) * (x * x + y * y + z * z)],
            1: lambda: [sqrt(3 / (4 * pi)) * r for r in (y, z, x)],
            2: lambda: [
                sqrt(15 / (4 * pi)) * x * y,
                sqrt(15 / (4 * pi)) * y * z,
                sqrt(5 / (16 * pi)) * (2 * z * z - x * x - y * y),
                sqrt(15 / (4 * pi)) * x * z,
                sqrt(15 / (16 * pi)) * (x * x - y * y),
            ],
            3: lambda: [
                sqrt(35 / (32 * pi)) * y * (3 * x * x - y * y),
                sqrt(105 / (4 * pi)) * x * y * z,
                sqrt(21 / (32 * pi)) * y * (4 * z * z - x * x - y * y),
                sqrt(7 / (16 * pi)) * z * (2 * z * z - 3 * x * x - 3 * y * y),
                sqrt(21 / (32 * pi)) * x * (4 * z * z - x * x - y * y),
                sqrt(105 / (16 * pi)) * z * (x * x - y * y),
                sqrt(35 / (32 * pi)) * x * (x * x - 3 * y * y),
            ],
        }[degree]()
    )


def directions(n):
    vectors = RNG.normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# ---- Wigner matrices


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("rotation", ROTATIONS)
def test_wigner_d_is_the_fit_of_explicit_harmonics(degree, rotation):
    r = directions(60)
    before, after = harmonics(degree, *r.T), harmonics(degree, *(r @ rotation.T).T)
    fitted = np.linalg.lstsq(before.T, after.T, rcond=None)[0].T
    np.testing.assert_allclose(wigner_d(degree, rotation), fitted, atol=1e-13)


@pytest.mark.parametrize("degree", [4, 7, 12])
def test_wigner_d_rotates_the_harmonics_of_scipy(degree):
    special = pytest.importorskip("scipy.special")
    if not hasattr(special, "sph_harm_y"):
        pytest.skip("scipy has no `sph_harm_y` before 1.15")

    def real_harmonics(r):
        theta, phi = np.arccos(r[:, 2]), np.arctan2(r[:, 1], r[:, 0])
        rows = []
        for m in range(-degree, degree + 1):
            y = (-1) ** m * special.sph_harm_y(degree, abs(m), theta, phi)
            rows.append(y.real if m == 0 else np.sqrt(2) * (y.real if m > 0 else y.imag))
        return np.array(rows)

    r = directions(30)
    for rotation in ROTATIONS[:2]:
        rotated = wigner_d(degree, rotation) @ real_harmonics(r)
        np.testing.assert_allclose(real_harmonics(r @ rotation.T), rotated, atol=1e-12)


@pytest.mark.parametrize("degree", range(13))
def test_wigner_d_is_a_representation(degree):
    unit = np.eye(2 * degree + 1)
    for one, other in itertools.product(ROTATIONS, ROTATIONS):
        product = wigner_d(degree, one) @ wigner_d(degree, other)
        np.testing.assert_allclose(product, wigner_d(degree, one @ other), atol=1e-13)
    for rotation in ROTATIONS:
        matrix = wigner_d(degree, rotation)
        np.testing.assert_allclose(matrix @ matrix.T, unit, atol=1e-13)
        np.testing.assert_allclose(wigner_d(degree, rotation.T), matrix.T, atol=1e-13)
    np.testing.assert_allclose(wigner_d(degree, np.eye(3)), unit, atol=1e-13)
    np.testing.assert_allclose(wigner_d(degree, INVERSION), (-1) ** degree * unit, atol=1e-13)


def test_wigner_d_of_high_degree():
    matrix = wigner_d(40, ROTATIONS[0])
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(81), atol=1e-12)


def test_wigner_d_of_vectors_is_the_rotation_in_the_order_y_z_x():
    for rotation in ROTATIONS:
        permuted = rotation[np.ix_([1, 2, 0], [1, 2, 0])]
        np.testing.assert_allclose(wigner_d(1, rotation), permuted, atol=1e-14)


def test_wigner_d_of_single_precision_is_orthogonal():
    rotation = ROTATIONS[0].astype(np.float32)
    matrix = wigner_d(12, rotation)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(25), atol=1e-13)
    np.testing.assert_allclose(matrix, wigner_d(12, ROTATIONS[0]), atol=1e-5)


REFUSED = {
    "degree below zero": (-1, np.eye(3), ValueError, "`l` must not be negative, got -1"),
    "degree no integer": (1.5, np.eye(3), TypeError, "`l` must be an int, got 1.5"),
    "one row": (1, np.ones(3), ValueError, r"3 x 3 matrix of real numbers, got shape \(3,\)"),
    "a batch": (1, np.ones((2, 3, 3)), ValueError, r"got shape \(2, 3, 3\)"),
    "text": (1, "turn", ValueError, r"got shape \(\) of <U4; a rotation of scipy has"),
    "complex": (1, 1j * np.eye(3), ValueError, "of complex128"),
    "scaled": (1, 2 * np.eye(3), ValueError, "orthogonal matrix, .* unit matrix by 3"),
    "NaN": (1, np.full((3, 3), np.nan), ValueError, "must be an orthogonal matrix, .* by nan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wigner_d_refuses(case):
    degree, rotation, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        wigner_d(degree, rotation)


def test_rotations_of_scipy_are_refused_with_advice():
    transform = pytest.importorskip("scipy.spatial.transform")
    rotation = transform.Rotation.random(random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"\.as_matrix\(\)"):
            wigner_d(1, rotation)
    wigner_d(1, rotation.as_matrix())


# ---- rotated maps


def mu(degree, name="o3_mu"):
    return Labels(name, np.arange(-degree, degree + 1)[:, None])


def make_block(degree, asarray=np.asarray, dtype=np.float64, cartesian=True, nested=True):
    """Return a block with gradients, which have gradients, two of the samples without rows."""
    rng = np.random.default_rng(degree)

    def make(samples, components):
        shape = (len(samples), *map(len, components), 2)
        values = rng.normal(size=(2, *shape))
        values = (values[0] + (1j * values[1] if "complex" in str(dtype) else 0)).astype(dtype)
        return TensorBlock(asarray(values), samples, components, Labels.range("n", 2))

    components = [mu(degree)] + [Labels.range("xyz_3", 3)] * cartesian
    block = make(Labels.range("atom", 4), components)
    rows = Labels(["sample", "atom"], np.array([[0, 1], [2, 0], [2, 3]]))
    positions = make(rows, [Labels.range("xyz", 3), *components])
    strain = [Labels.range("xyz_1", 3), Labels.range("xyz_2", 3)]
    if nested:
        rows = Labels(["sample"], np.array([[1], [2]]))
        positions.add_gradient("strain", make(rows, [*strain, *positions.components]))
    block.add_gradient("positions", positions)
    rows = Labels(["sample"], np.array([[3], [0]]))
    block.add_gradient("strain", make(rows, [*strain, *components]))
    return block


KEYS = Labels(["o3_lambda", "o3_sigma"], np.array([[0, 1], [0, -1], [2, 1], [2, -1]]))


def make_tensor(**kwargs):
    return TensorMap(KEYS, [make_block(key["o3_lambda"], **kwargs) for key in KEYS])


def to_host(block):
    return block.to(arrays="numpy").values


@pytest.mark.parametrize("rotation", [ROTATIONS[0], ROTATIONS[1], INVERSION])
def test_rotate_multiplies_every_component(xp, rotation):
    tensor = make_tensor(asarray=xp.asarray)
    rotated = rotate(tensor, rotation)
    check(rotated)
    for key, block in tensor.items():
        new = rotated.block(key)
        sign = key["o3_sigma"] if np.linalg.det(rotation) < 0 else 1
        D, R = sign * wigner_d(key["o3_lambda"], rotation), rotation
        for path, product in {
            (): "mi,aj,sijp->smap",
            ("positions",): "mi,aj,bk,skijp->sbmap",
            ("strain",): "mi,aj,bk,cl,sklijp->sbcmap",
            ("positions", "strain"): "mi,aj,bk,cl,do,skloijp->sbcdmap",
        }.items():
            old, got = block, new
            for name in path:
                old, got = old.gradient(name), got.gradient(name)
            matrices = [D] + [R] * (product.count(",") - 1)
            expected = np.einsum(product, *matrices, to_host(old))
            np.testing.assert_allclose(to_host(got), expected, atol=1e-13)
            assert type(got.values) is type(old.values)
            assert got.dtype == old.dtype
            assert (got.samples, got.properties) == (old.samples, old.properties)
            assert got.components == old.components


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_rotate_keeps_dtypes(xp, dtype):
    tensor = make_tensor(asarray=xp.asarray, dtype=dtype, cartesian=False, nested=False)
    rotated = rotate(tensor, ROTATIONS[1])
    assert rotated.dtype == tensor.dtype
    wide = make_tensor(dtype=dtype, cartesian=False, nested=False).to(dtype=np.complex128)
    for block, other in zip(rotated, rotate(wide, ROTATIONS[1])):
        np.testing.assert_allclose(to_host(block), other.values, atol=1e-5)


def test_integers_become_real_in_all_blocks():
    blocks = [
        TensorBlock(
            np.ones((1, size, 1), dtype=int), Labels.single(), [mu(size // 2)], Labels.single()
        )
        for size in (1, 3)
    ]
    rotated = rotate(TensorMap(Labels.range("o3_lambda", 2), blocks), ROTATIONS[0])
    assert [block.dtype for block in rotated] == [np.float64, np.float64]


def test_rotations_one_after_the_other():
    tensor, (one, other) = make_tensor(), ROTATIONS[:2]
    together = rotate(tensor, one @ other)
    assert_allclose(rotate(rotate(tensor, other), one), together, atol=1e-12)
    assert_allclose(rotate(together, (one @ other).T), tensor, atol=1e-12)


def test_invariant_blocks_are_returned_as_they_are():
    block = TensorBlock(
        np.ones((2, 2, 1)), Labels.range("a", 2), [Labels.range("c", 2)], Labels.single()
    )
    tensor = TensorMap(Labels(["o3_lambda", "o3_sigma"], np.array([[4, -1]])), [block])
    assert rotate(tensor, INVERSION)[0].values is block.values


@pytest.mark.parametrize("axis", ["samples", "properties"])
def test_blocks_without_entries(xp, axis):
    sizes = {"samples": 2, "properties": 2, axis: 0}
    block = TensorBlock(
        xp.asarray(np.zeros((sizes["samples"], 3, 3, sizes["properties"]))),
        Labels.range("s", sizes["samples"]),
        [mu(1), Labels.range("xyz", 3)],
        Labels.range("p", sizes["properties"]),
    )
    tensor = TensorMap(Labels("o3_lambda", np.array([[1]])), [block])
    assert rotate(tensor, ROTATIONS[0])[0].shape == block.shape


def test_maps_without_blocks():
    assert len(rotate(TensorMap(Labels.empty("o3_lambda"), []), INVERSION)) == 0


def test_numbered_components_go_with_numbered_keys():
    values = RNG.normal(size=(2, 3, 5, 1))
    block = TensorBlock(
        values, Labels.range("s", 2), [mu(1, "o3_mu_1"), mu(2, "o3_mu_2")], Labels.single()
    )
    names = ["o3_lambda_1", "o3_lambda_2", "o3_sigma_2"]
    tensor = TensorMap(Labels(names, np.array([[1, 2, -1]])), [block])
    R = ROTATIONS[1]
    expected = -np.einsum("ai,bj,sijp->sabp", wigner_d(1, R), wigner_d(2, R), values)
    np.testing.assert_allclose(rotate(tensor, R)[0].values, expected, atol=1e-13)


def test_without_keys_components_say_what_they_are():
    block = make_block(2, cartesian=False, nested=False)
    anonymous = TensorMap(Labels.single(), [block])
    named = TensorMap(Labels(["o3_lambda", "o3_sigma"], np.array([[2, 1]])), [block])
    assert_equal(rotate(anonymous, ROTATIONS[1])[0], rotate(named, ROTATIONS[1])[0])


def test_torch_differentiates_through_rotations():
    torch = pytest.importorskip("torch")
    values = torch.ones((1, 3, 1), dtype=torch.float64, requires_grad=True)
    block = TensorBlock(values, Labels.single(), [mu(1)], Labels.single())
    rotated = rotate(TensorMap(Labels.single(), [block]), ROTATIONS[0])
    rotated[0].values[0, 1, 0].backward()
    np.testing.assert_allclose(values.grad[0, :, 0], wigner_d(1, ROTATIONS[0])[1], atol=1e-15)


def test_rotate_inherits_info_and_leaves_its_argument():
    tensor = make_tensor()
    tensor.set_info("unit", "Debye")
    before = tensor.copy()
    with record_history():
        rotated = rotate(tensor, ROTATIONS[0])
    assert rotated.get_info("unit") == "Debye"
    assert rotated.get_info("history").startswith("rotate(tensor=TensorMap, rotation=ndarray of")
    assert_equal(tensor, before)


def test_rotate_asks_for_a_map():
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap, got"):
        rotate(make_block(1), np.eye(3))
    with pytest.raises(ValueError, match="`rotation` must be an orthogonal matrix"):
        rotate(make_tensor(), np.zeros((3, 3)))


# ---- metadata


def one_block(key, components, samples="s", properties="p", own=None):
    shape = [len(component) for component in components]
    block = TensorBlock(
        np.zeros((1, *shape, 1)), Labels.range(samples, 1), components, Labels.range(properties, 1)
    )
    if own is not None:
        gradient = TensorBlock(
            np.zeros((1, len(own), *shape, 1)),
            Labels.range("sample", 1),
            [own, *components],
            block.properties,
        )
        block.add_gradient("positions", gradient)
    return TensorMap(Labels(list(key), np.array([list(key.values())])), [block])


WRONG = {
    "entries from zero": (
        ({"o3_lambda": 1}, [Labels.range("o3_mu", 3)]),
        "component 'o3_mu' must have the entries -1 to 1 in this order, got [0, 1, 2]",
    ),
    "another degree": (({"o3_lambda": 2}, [mu(1)]), "-2 to 2 in this order, got [-1, 0, 1]"),
    "a large degree": (({"o3_lambda": 2**31 - 1}, [mu(1)]), "-2147483647 to 2147483647"),
    "an even number": (
        ({"_": 0}, [Labels("o3_mu", np.array([[0], [1]]))]),
        "-1 to 1 in this order, got [0, 1]",
    ),
    "order": (
        ({"o3_lambda": 1}, [Labels("o3_mu", np.array([[1], [-1], [0]]))]),
        "-1 to 1 in this order, got [1, -1, 0]",
    ),
    "sigma": (
        ({"o3_lambda": 1, "o3_sigma": 0}, [mu(1)]),
        "'o3_sigma' must be 1, or -1 for pseudotensors, got 0",
    ),
    "numbered sigma": (({"o3_sigma_2": 2}, []), "'o3_sigma_2' must be 1"),
    "lambda": (({"o3_lambda": -1}, []), "'o3_lambda' must not be negative, got -1"),
    "two directions": (
        ({"_": 0}, [Labels.range("xyz", 2)]),
        "component 'xyz' must have the entries 0 to 2 in this order, got [0, 1]",
    ),
    "directions from one": (
        ({"_": 0}, [Labels("xyz_1", np.array([[1], [2], [3]]))]),
        "component 'xyz_1' must have the entries 0 to 2 in this order, got [1, 2, 3]",
    ),
    "gradient": (
        ({"_": 0}, [], "s", "p", Labels.range("xyz", 2)),
        "component 'xyz' of the gradient 'positions' must have the entries",
    ),
    "samples": (({"_": 0}, [], "o3_mu"), "got it among the names of samples"),
    "properties": (({"_": 0}, [], "s", "xyz_2"), "got it among the names of properties"),
}


@pytest.mark.parametrize("case", WRONG)
def test_check_says_what_is_wrong(case):
    arguments, text = WRONG[case]
    tensor = one_block(*arguments)
    for function in (check, lambda tensor: rotate(tensor, np.eye(3))):
        with pytest.raises(MetatensorError, match=re.escape(text)) as error:
            function(tensor)
        assert error.value.message.endswith(f"(in the block for key {tensor.keys[0].print()})")


def test_check_of_keys():
    with pytest.raises(MetatensorError, match="'o3_mu' must be a component, .* names of keys"):
        check(one_block({"o3_mu": 0}, []))


RIGHT = [
    ({"o3_lambda": 2, "o3_sigma": -1}, [mu(2)]),
    ({"o3_lambda": 2, "o3_sigma": 1}, []),
    ({"_": 0}, [Labels.range("xyz_1", 3), Labels.range("xyz_2", 3)]),
    ({"_": 0}, [Labels.range("xyzw", 4), Labels.range("o3_mutual", 2)]),
    ({"_": 0}, [], "xyzw", "o3_mu_", Labels.range("xyz", 3)),
]


@pytest.mark.parametrize("arguments", RIGHT)
def test_check_accepts(arguments):
    assert check(one_block(*arguments)) is None


# ---- functions of systems


def clusters():
    rng = np.random.default_rng(3)
    return [Atoms(f"O{n}", rng.normal(scale=1.5, size=(n, 3))) for n in (3, 4)]


def expand(positions, degree):
    """Return sums over neighbours of f(r) Y(r), (2 l + 1, n_atoms, 2); positions may be complex."""
    n_atoms = len(positions)
    vectors = positions[None, :, :] - positions[:, None, :] + np.eye(n_atoms)[..., None]
    squares = (vectors**2).sum(axis=-1)
    radial = np.stack([np.exp(-squares), squares * np.exp(-0.5 * squares)], axis=-1)
    radial[np.arange(n_atoms), np.arange(n_atoms)] = 0
    x, y, z = np.moveaxis(vectors / np.sqrt(squares)[..., None], -1, 0)
    return np.einsum("mij,ijn->min", harmonics(degree, x, y, z), radial)


def expansion(systems, degrees=(0, 1, 2, 3), push=0.0):
    """Return a density expansion; its gradients are complex-step derivatives, exact ones."""
    step, keys, blocks = 1e-30, [], []
    for degree in degrees:
        samples, rows, values, gradients = [], [], [], []
        for number, system in enumerate(systems):
            r, first = system.positions, len(samples)
            values.append(expand(r, degree).transpose(1, 0, 2))
            samples += [(number, atom) for atom in range(len(r))]
            slopes = np.empty((len(r), len(r), 3, 2 * degree + 1, 2))
            for atom, axis in np.ndindex(len(r), 3):
                moved = r.astype(complex)
                moved[atom, axis] += 1j * step
                slopes[:, atom, axis] = expand(moved, degree).transpose(1, 0, 2).imag / step
            for center, atom in np.ndindex(len(r), len(r)):
                rows.append((first + center, number, atom))
                gradients.append(slopes[center, atom] + push)
        components, properties = [mu(degree)], Labels.range("n", 2)
        block = TensorBlock(
            np.concatenate(values),
            Labels(["system", "atom"], np.array(samples)),
            components,
            properties,
        )
        gradient = TensorBlock(
            np.array(gradients),
            Labels(["sample", "system", "atom"], np.array(rows)),
            [Labels.range("xyz", 3), *components],
            properties,
        )
        block.add_gradient("positions", gradient)
        keys.append((degree, 1))
        blocks.append(block)
    return TensorMap(Labels(["o3_lambda", "o3_sigma"], np.array(keys)), blocks)


def test_density_expansion_is_equivariant():
    assert_equivariant(expansion, clusters(), rtol=1e-13)


def handedness(systems, sigma=-1):
    """Return a pseudoscalar."""
    values = [np.linalg.det(system.positions[1:4] - system.positions[0]) for system in systems]
    samples = Labels.range("system", len(systems))
    block = TensorBlock(np.array(values)[:, None, None], samples, [mu(0)], Labels.single())
    return TensorMap(Labels(["o3_lambda", "o3_sigma"], np.array([[0, sigma]])), [block])


def test_pseudoscalars_change_sign_under_improper_rotations():
    systems = clusters()[1:]
    assert_equivariant(handedness, systems)
    assert_equivariant(lambda systems: handedness(systems, 1), systems, improper=False)
    with pytest.raises(AssertionError, match="which is improper"):
        assert_equivariant(lambda systems: handedness(systems, 1), systems)


@pytest.fixture(scope="module")
def alloys():
    return make_alloys(2, repeats=[(1, 1, 1)], verbose=False).systems


@pytest.mark.parametrize("by", ["atom", "system"])
def test_radial_descriptor_is_invariant_and_its_gradients_rotate(alloys, by):
    def describe(systems):
        return radial_descriptor(systems, cutoff=4.0, n_radial=5, by=by)

    assert describe(alloys)[0].gradients_list() == ["positions", "strain"]
    assert_equivariant(describe, alloys, rtol=1e-10)


def test_cartesian_tensors_are_equivariant():
    def moments(systems):
        values = np.array([system.positions.T @ system.positions for system in systems])[..., None]
        components = [Labels.range("xyz_1", 3), Labels.range("xyz_2", 3)]
        samples = Labels.range("system", len(systems))
        return TensorMap(
            Labels.single(), [TensorBlock(values, samples, components, Labels.single())]
        )

    assert_equivariant(moments, clusters(), rtol=1e-13)


def test_cells_rotate(alloys):
    def cells(systems):
        values = np.array([np.asarray(system.cell) for system in systems])[..., None]
        components = [Labels.range("vector", 3), Labels.range("xyz", 3)]
        samples = Labels.range("system", len(systems))
        return TensorMap(
            Labels.single(), [TensorBlock(values, samples, components, Labels.single())]
        )

    assert_equivariant(cells, alloys, rtol=1e-13)


def test_gradients_that_do_not_rotate_are_found():
    with pytest.raises(AssertionError) as error:
        assert_equivariant(lambda systems: expansion(systems, [1, 2], push=0.3), clusters())
    text = str(error.value)
    assert re.match(r"not equivariant, most under rotation \d of 5, which is (im)?proper: ", text)
    assert "in the gradients 'positions', the values differ in" in text
    assert "component (xyz=" in text


def test_the_deviation_is_relative_to_each_block():
    def unequal(systems, error):
        large, small = expansion(systems, [0])[0], expansion(systems, [1])[0]
        small = TensorBlock(
            1e-6 * (small.values + error), small.samples, small.components, small.properties
        )
        large = TensorBlock(large.values, large.samples, large.components, large.properties)
        return TensorMap(Labels.range("o3_lambda", 2), [large, small])

    assert_equivariant(lambda systems: unequal(systems, 1e-8), clusters())
    with pytest.raises(AssertionError, match=r"\(o3_lambda=1\), the values differ"):
        assert_equivariant(lambda systems: unequal(systems, 1e-3), clusters())
    assert_equivariant(lambda systems: unequal(systems, 1e-3), clusters(), atol=1e-8)


def test_round_off_of_a_block_that_should_be_zero_is_accepted():
    def nearly_zero(systems):
        large = expansion(systems, [0])[0]
        small = np.random.default_rng(int(1e6 * systems[0].positions[0, 0] ** 2)).normal(
            scale=1e-17, size=large.shape
        )
        blocks = [
            TensorBlock(values, large.samples, large.components, large.properties)
            for values in (large.values, small)
        ]
        return TensorMap(Labels.range("k", 2), blocks)

    assert_equivariant(nearly_zero, clusters())


def test_nan_deviates():
    def nan(systems):
        return expansion(systems, [1]) * np.nan

    with pytest.raises(AssertionError, match="got nan, expected nan"):
        assert_equivariant(nan, clusters())


def test_the_order_of_samples_does_not_count():
    def shuffled(systems):
        tensor = expansion(systems, [1])
        seed = int(abs(1e6 * systems[0].positions[0, 0]))
        order = np.random.default_rng(seed).permutation(len(tensor[0].samples))
        block = tensor[0]
        return TensorMap(
            tensor.keys,
            [
                TensorBlock(
                    block.values[order],
                    Labels(block.samples.names, block.samples.values[order]),
                    block.components,
                    block.properties,
                )
            ],
        )

    assert_equivariant(shuffled, clusters())


def test_labels_that_depend_on_the_orientation_are_found():
    def above(systems):
        rows = np.flatnonzero(systems[0].positions[:, 2] > 0)
        samples = Labels("atom", rows[:, None].astype(int))
        block = TensorBlock(np.ones((len(rows), 1)), samples, [], Labels.single())
        return TensorMap(Labels.single(), [block])

    with pytest.raises(AssertionError, match="the Labels depend on the orientation: in the block"):
        assert_equivariant(above, [Atoms("H", [[0.0, 0.0, 1.0]])])


def test_other_systems_are_rotated_by_a_function_of_yours():
    def centers(systems):
        values = np.array([np.mean(system, axis=0) for system in systems])[..., None]
        samples = Labels.range("system", len(systems))
        components = [Labels.range("xyz", 3)]
        return TensorMap(
            Labels.single(), [TensorBlock(values, samples, components, Labels.single())]
        )

    systems = [cluster.positions for cluster in clusters()]
    with pytest.raises(TypeError, match="got numpy.ndarray; pass `rotate_systems`"):
        assert_equivariant(centers, systems)
    assert_equivariant(
        centers, systems, rotate_systems=lambda systems, matrix: [r @ matrix.T for r in systems]
    )


def test_systems_stay_as_they_are_and_seeds_count():
    systems, seen = clusters(), []
    before = [system.copy() for system in systems]

    def record(systems):
        seen.append(systems[0].positions)
        return expansion(systems, [0])

    for seed in (0, 0, 1):
        assert_equivariant(record, systems, n=1, random_state=seed)
    assert systems == before
    assert np.array_equal(seen[1], seen[3])
    assert not np.array_equal(seen[1], seen[5])


def test_at_least_one_rotation_is_needed():
    with pytest.raises(ValueError, match="`n` must be at least 1, got 0"):
        assert_equivariant(expansion, clusters(), n=0)
