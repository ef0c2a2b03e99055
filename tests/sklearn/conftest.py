"""Small systems with features, energies and exact gradients, made from polynomials of positions."""

from types import SimpleNamespace

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import SumOverSamples

CUTOFF = 1.6
TYPES = (1, 8)
POWERS = np.arange(3, 7)


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), len(names)))


def make_systems(n_systems, seed=0):
    """Positions and types; the first system has only type 1, the second an isolated atom."""
    rng = np.random.default_rng(seed)
    systems = []
    for number in range(n_systems):
        n_atoms = rng.integers(3, 7)
        types = rng.choice(TYPES, size=n_atoms) if number else np.full(n_atoms, TYPES[0])
        positions = rng.uniform(0, 1.7, size=(n_atoms, 3))
        if number == 1:
            positions[-1] += 10
        systems.append(SimpleNamespace(positions=positions, types=types))
    return systems


def pairs_of(system):
    """(center, neighbour, vector, 1 - r^2/rc^2) of all pairs within the cutoff."""
    for i, first in enumerate(system.positions):
        for j, second in enumerate(system.positions):
            vector = second - first
            u = 1 - vector @ vector / CUTOFF**2
            if i != j and u > 0:
                yield i, j, vector, u


def gradients_of(center, neighbour, vector, derivative):
    """d/d positions (by atom) and d/d strain of f(u), given df/du."""
    slope = -2 / CUTOFF**2 * np.multiply.outer(vector, derivative)
    strain = -2 / CUTOFF**2 * np.multiply.outer(np.outer(vector, vector), derivative)
    return {center: -slope, neighbour: slope}, strain


def add_parts(parts, sample, value, positions, strain):
    """Add the value and gradients of one pair to those of a sample."""
    total = parts.setdefault(sample, [0.0, {}, 0.0])
    total[0] = total[0] + value
    for atom, gradient in positions.items():
        total[1][atom] = total[1].get(atom, 0.0) + gradient
    total[2] = total[2] + strain


def to_block(parts, names, properties, dtype, gradients=True):
    """Make a block of {sample: [value, {atom: gradient}, strain gradient]}."""
    samples = sorted(parts)
    size = len(properties)
    values = np.array([parts[s][0] for s in samples], dtype=dtype).reshape(-1, size)
    block = TensorBlock(values, labels(names, samples), [], properties)
    if not gradients:
        return block
    rows = [(n, s[0], a) for n, s in enumerate(samples) for a in sorted(parts[s][1])]
    values = np.array([parts[samples[n]][1][a] for n, _, a in rows], dtype=dtype).reshape(
        -1, 3, size
    )
    block.add_gradient(
        "positions",
        TensorBlock(
            values, labels(["sample", "system", "atom"], rows), [Labels.range("xyz", 3)], properties
        ),
    )
    values = np.array([parts[s][2] for s in samples], dtype=dtype).reshape(-1, 3, 3, size)
    components = [Labels.range("xyz_1", 3), Labels.range("xyz_2", 3)]
    rows = [(n,) for n in range(len(samples))]
    block.add_gradient(
        "strain", TensorBlock(values, labels(["sample"], rows), components, properties)
    )
    return block


def make_features(systems, numbers=None, dtype=np.float64, gradients=True):
    """Per-atom features u^k of each neighbour, in blocks by the types of center and neighbour."""
    properties = labels(["k"], [[k] for k in POWERS])
    keys = [(a, b) for a in TYPES for b in TYPES]
    blocks = []
    for center_type, neighbor_type in keys:
        parts = {}
        for number, system in zip(numbers or range(len(systems)), systems):
            for i, j, vector, u in pairs_of(system):
                if (system.types[i], system.types[j]) == (center_type, neighbor_type):
                    derivative = POWERS * u ** (POWERS - 1)
                    add_parts(
                        parts, (number, i), u**POWERS, *gradients_of(i, j, vector, derivative)
                    )
        blocks.append(to_block(parts, ["system", "atom"], properties, dtype, gradients))
    return TensorMap(labels(["center_type", "neighbor_type"], keys), blocks)


def make_energies(systems, numbers=None, dtype=np.float64, gradients=True):
    """Energies with a many-body part, so that features can not reproduce them exactly."""
    parts = {}
    for number, system in zip(numbers or range(len(systems)), systems):
        n_atoms = len(system.types)
        zero = {atom: np.zeros((3, 1)) for atom in range(n_atoms)}
        add_parts(parts, (number,), np.array([-1.5 * n_atoms]), zero, np.zeros((3, 3, 1)))
        density = np.ones(n_atoms)
        for i, _, _, u in pairs_of(system):
            density[i] += u**2
        for atom in range(n_atoms):
            add_parts(parts, (number,), -np.sqrt(density[[atom]]), {}, np.zeros((3, 3, 1)))
        for i, j, vector, u in pairs_of(system):
            slope = -u / np.sqrt(density[i]) + 3 * u**2 * system.types[j] / 9
            add_parts(
                parts,
                (number,),
                np.array([u**3 * system.types[j] / 9]),
                *gradients_of(i, j, vector, np.array([slope])),
            )
            # the many-body part was added above, only its gradient is missing
    return TensorMap(
        Labels.single(), [to_block(parts, ["system"], Labels.range("energy", 1), dtype, gradients)]
    )


def permuted(tensor, rng):
    """The same data with blocks, samples and gradient rows in another order."""
    order = rng.permutation(len(tensor))
    keys = labels(tensor.keys.names, tensor.keys.values[order])
    return TensorMap(keys, [permuted_block(tensor.block_by_id(n), rng) for n in order])


def permuted_block(block, rng):
    order = rng.permutation(len(block))
    new = np.argsort(order)
    samples = labels(block.samples.names, block.samples.values[order])
    result = TensorBlock(block.values[order], samples, block.components, block.properties)
    for name, gradient in block.gradients():
        rows = rng.permutation(len(gradient))
        table = gradient.samples.values[rows].copy()
        table[:, 0] = new[table[:, 0]]
        samples = labels(gradient.samples.names, table)
        gradient = TensorBlock(
            gradient.values[rows], samples, gradient.components, block.properties
        )
        result.add_gradient(name, gradient)
    return result


def renumbered(tensor, shift):
    """The same data with other numbers of systems."""
    blocks = []
    for block in tensor:
        table = block.samples.values.copy()
        table[:, block.samples.names.index("system")] += shift
        samples = labels(block.samples.names, table)
        result = TensorBlock(block.values, samples, block.components, block.properties)
        for name, gradient in block.gradients():
            table = gradient.samples.values.copy()
            if "system" in gradient.samples.names:
                table[:, gradient.samples.names.index("system")] += shift
            samples = labels(gradient.samples.names, table)
            gradient = TensorBlock(gradient.values, samples, gradient.components, block.properties)
            result.add_gradient(name, gradient)
        blocks.append(result)
    return TensorMap(tensor.keys, blocks)


def one_block(block):
    return TensorMap(Labels.single(), [block])


@pytest.fixture(scope="session")
def make():
    """Functions that make and change data."""
    return SimpleNamespace(
        systems=make_systems,
        features=make_features,
        energies=make_energies,
        labels=labels,
        permuted=permuted,
        renumbered=renumbered,
        one_block=one_block,
    )


@pytest.fixture(scope="session")
def systems():
    return make_systems(16)


@pytest.fixture(scope="session")
def X(systems):
    """Features of atoms, in blocks by types."""
    return make_features(systems)


@pytest.fixture(scope="session")
def y(systems):
    return make_energies(systems)


@pytest.fixture(scope="session")
def features(X):
    """Features of systems, in one block."""
    moved = X.keys_to_properties(["center_type", "neighbor_type"])
    return SumOverSamples().transform(moved)


@pytest.fixture(scope="session")
def spherical():
    """Random blocks of several o3_lambda, with an offset and gradients of some samples."""
    rng = np.random.default_rng(4)
    keys = labels(["o3_lambda", "o3_sigma"], [[0, 1], [1, 1], [2, 1], [1, -1]])
    samples = labels(["system", "atom"], [[n // 3, n % 3] for n in range(11)])
    rows = labels(["sample", "system", "atom"], [[n, n // 3, a] for n in (7, 2, 5) for a in (0, 2)])
    properties = labels(["n"], [[2], [5], [3], [9]])
    blocks = []
    for degree in keys.values[:, 0]:
        components = [labels(["o3_mu"], [[m] for m in range(-degree, degree + 1)])]
        shape = (2 * degree + 1, len(properties))
        values = (rng.normal(size=(11, *shape)) + 2) * [1.0, 3.0, 0.1, 0.5]
        block = TensorBlock(values, samples, components, properties)
        gradient = TensorBlock(
            rng.normal(size=(len(rows), 3, *shape)),
            rows,
            [Labels.range("xyz", 3), *components],
            properties,
        )
        block.add_gradient("positions", gradient)
        blocks.append(block)
    return TensorMap(keys, blocks)


@pytest.fixture(scope="session")
def rotation():
    """A proper rotation."""
    matrix, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    return matrix * np.linalg.det(matrix)
