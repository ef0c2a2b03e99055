"""Small systems with features and targets and their exact gradients, and the same reordered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.sklearn import _alignment
from metatensor.sklearn.rows import Rows, as_rows
from metatensor.tensor import TensorMap

Array = npt.NDArray[Any]

CUTOFF = 1.6
TYPES = (1, 8)
POWERS = np.arange(3, 7)
#: order of x, y and z among the real spherical harmonics of degree 1
SPHERICAL = [1, 2, 0]


def labels(names: Sequence[str], rows: Any) -> Labels:
    """Return Labels, also without rows."""
    return Labels(list(names), np.array(rows, dtype=np.int32).reshape(len(rows), len(names)))


@dataclass
class System:
    """Atoms in free space."""

    positions: Array
    types: Array


class Pair(NamedTuple):
    """Two atoms within the cutoff, and u = 1 - r^2/rc^2."""

    center: int
    neighbor: int
    vector: Array
    u: float

    def slopes(self, derivative: Array) -> Array:
        """Return the derivative of f(u) by the vector, given df/du."""
        return -2 / CUTOFF**2 * np.multiply.outer(self.vector, derivative)


def make_systems(n_systems: int, seed: int = 0) -> list[System]:
    """Positions and types; the first system has only type 1, the second an isolated atom."""
    rng = np.random.default_rng(seed)
    systems = []
    for number in range(n_systems):
        n_atoms = rng.integers(3, 7)
        types = rng.choice(TYPES, size=n_atoms) if number else np.full(n_atoms, TYPES[0])
        positions = rng.uniform(0, 1.7, size=(n_atoms, 3))
        if number == 1:
            positions[-1] += 10
        systems.append(System(positions, types))
    return systems


def pairs_of(system: System) -> Iterator[Pair]:
    for i, first in enumerate(system.positions):
        for j, second in enumerate(system.positions):
            vector = second - first
            u = 1 - vector @ vector / CUTOFF**2
            if i != j and u > 0:
                yield Pair(i, j, vector, u)


class _Builder:
    """Sums of terms for samples, with their gradients, that become a block."""

    def __init__(self, names: Sequence[str], components: Sequence[Labels], properties: Labels):
        self.names, self.components, self.properties = names, list(components), properties
        shape = (*map(len, components), len(properties))
        self._zero = np.zeros(shape), np.zeros((3, *shape)), np.zeros((3, 3, *shape))
        self.values: dict[tuple[int, ...], Array] = {}
        self.positions: dict[tuple[int, ...], dict[int, Array]] = {}
        self.strain: dict[tuple[int, ...], Array] = {}

    def add(self, sample: tuple[int, ...], value: Any) -> None:
        """Add what depends on no position, or whose gradient is added on its own."""
        self.values[sample] = self.values.get(sample, self._zero[0]) + value
        self.positions.setdefault(sample, {})
        self.strain.setdefault(sample, self._zero[2])

    def add_pair(self, sample: tuple[int, ...], pair: Pair, value: Any, slopes: Array) -> None:
        """Add a function of the vector of a pair, with its derivative by this vector."""
        self.add(sample, value)
        self.add_slopes(sample, pair.center, -slopes)
        self.add_slopes(sample, pair.neighbor, slopes)
        self.strain[sample] = self.strain[sample] + np.multiply.outer(pair.vector, slopes)

    def add_slopes(self, sample: tuple[int, ...], atom: int, slopes: Any) -> None:
        rows = self.positions[sample]
        rows[atom] = rows.get(atom, self._zero[1]) + slopes

    def block(self, dtype: Any, gradients: bool) -> TensorBlock:
        samples = sorted(self.values)
        shape = self._zero[0].shape
        values = np.array([self.values[s] for s in samples], dtype=dtype).reshape(-1, *shape)
        block = TensorBlock(values, labels(self.names, samples), self.components, self.properties)
        if not gradients:
            return block
        rows = [(n, s[0], a) for n, s in enumerate(samples) for a in sorted(self.positions[s])]
        slopes = [self.positions[samples[n]][a] for n, _, a in rows]
        self._add_gradient(block, "positions", labels(["sample", "system", "atom"], rows), slopes)
        strain = [self.strain[s] for s in samples]
        rows_of_strain = labels(["sample"], [(n,) for n in range(len(samples))])
        self._add_gradient(block, "strain", rows_of_strain, strain)
        return block

    def _add_gradient(
        self, block: TensorBlock, name: str, samples: Labels, rows: list[Array]
    ) -> None:
        names = ["xyz"] if name == "positions" else ["xyz_1", "xyz_2"]
        components = [*(Labels.range(axis, 3) for axis in names), *self.components]
        values = np.array(rows, dtype=block.values.dtype)
        values = values.reshape(-1, *map(len, components), len(self.properties))
        block.add_gradient(name, TensorBlock(values, samples, components, self.properties))


def make_features(
    systems: Sequence[System],
    numbers: Sequence[int] | None = None,
    dtype: Any = np.float64,
    gradients: bool = True,
) -> TensorMap:
    """Per-atom features u^k of each neighbour, in blocks by the types of center and neighbour."""
    properties = labels(["k"], [[k] for k in POWERS])
    keys = [(a, b) for a in TYPES for b in TYPES]
    builders = {key: _Builder(["system", "atom"], [], properties) for key in keys}
    for number, system in zip(numbers or range(len(systems)), systems):
        for pair in pairs_of(system):
            key = int(system.types[pair.center]), int(system.types[pair.neighbor])
            slopes = pair.slopes(POWERS * pair.u ** (POWERS - 1))
            builders[key].add_pair((number, pair.center), pair, pair.u**POWERS, slopes)
    blocks = [builder.block(dtype, gradients) for builder in builders.values()]
    return TensorMap(labels(["center_type", "neighbor_type"], keys), blocks)


def make_sums(systems: Sequence[System]) -> TensorMap:
    """Return the same features summed over the atoms of each system, in one block."""
    kinds = [(a, b) for a in TYPES for b in TYPES]
    properties = [(*kind, k) for kind in kinds for k in POWERS]
    sums = _Builder(["system"], [], labels(["center_type", "neighbor_type", "k"], properties))
    for number, system in enumerate(systems):
        sums.add((number,), 0.0)
        for pair in pairs_of(system):
            kind = system.types[pair.center], system.types[pair.neighbor]
            is_kind = np.repeat([kind == other for other in kinds], len(POWERS))
            powers = np.tile(POWERS, len(kinds))
            slopes = pair.slopes(powers * pair.u ** (powers - 1)) * is_kind
            sums.add_pair((number,), pair, pair.u**powers * is_kind, slopes)
    return TensorMap(Labels.single(), [sums.block(np.float64, gradients=True)])


def make_energies(
    systems: Sequence[System],
    numbers: Sequence[int] | None = None,
    dtype: Any = np.float64,
    gradients: bool = True,
) -> TensorMap:
    """Energies with a many-body part, so that features can not reproduce them exactly."""
    energies = _Builder(["system"], [], Labels.range("energy", 1))
    for number, system in zip(numbers or range(len(systems)), systems):
        sample = (number,)
        n_atoms = len(system.types)
        energies.add(sample, -1.5 * n_atoms)
        density = np.ones(n_atoms)
        for pair in pairs_of(system):
            density[pair.center] += pair.u**2
        for atom in range(n_atoms):
            energies.add(sample, -np.sqrt(density[atom]))
            energies.add_slopes(sample, atom, 0.0)
        for pair in pairs_of(system):
            # the value of the many-body part was added above, only its gradient is missing
            u, weight = pair.u, system.types[pair.neighbor] / 9
            slope = -u / np.sqrt(density[pair.center]) + 3 * u**2 * weight
            energies.add_pair(sample, pair, u**3 * weight, pair.slopes(np.array([slope])))
    return TensorMap(Labels.single(), [energies.block(dtype, gradients)])


def make_vectors(systems: Sequence[System], powers: Sequence[int]) -> TensorBlock:
    """Sums over pairs of different types of u^k times the vector between them, as harmonics."""
    component = labels(["o3_mu"], [[-1], [0], [1]])
    vectors = _Builder(["system"], [component], Labels.range("n", len(powers)))
    exponents = np.array(powers)
    for number, system in enumerate(systems):
        vectors.add((number,), 0.0)
        for pair in pairs_of(system):
            if system.types[pair.center] < system.types[pair.neighbor]:
                radial = pair.u**exponents
                slopes = pair.slopes(exponents * pair.u ** (exponents - 1))
                value = np.multiply.outer(pair.vector, radial)
                slope = np.einsum("ck,m->cmk", slopes, pair.vector)
                slope += np.einsum("cm,k->cmk", np.eye(3), radial)
                vectors.add_pair((number,), pair, value[SPHERICAL], slope[:, SPHERICAL])
    return vectors.block(np.float64, gradients=True)


# ---- what estimators are checked on


@dataclass(frozen=True, eq=False)
class Data:
    """Features and targets, with the sample dimensions that make a row."""

    name: str
    X: TensorMap
    y: TensorMap | None
    by: str | Sequence[str] = "system"

    def rows(self) -> tuple[Rows, Rows | None]:
        """Return the same as Rows."""
        given = [self.X] if self.y is None else [self.X, self.y]
        rows = as_rows(*given, by=self.by)
        return (rows, None) if isinstance(rows, Rows) else (rows[0], rows[1])


@cache
def own_data() -> tuple[Data, ...]:
    """Return features of systems with vectors among them, without, and features of atoms."""
    # close atoms: what depends on distant pairs alone is too small to be normalized and moved
    systems = [System(system.positions / 2, system.types) for system in make_systems(10)]
    sums, energies = make_sums(systems), make_energies(systems)
    keys = labels(["o3_lambda"], [[0], [1]])
    vectors, dipoles = make_vectors(systems, POWERS.tolist()), make_vectors(systems, [2])
    return (
        Data(
            "vectors",
            TensorMap(keys, [as_scalars(sums.block()), vectors]),
            TensorMap(keys, [as_scalars(energies.block()), dipoles]),
        ),
        Data("systems", sums, energies),
        Data("atoms", make_features(systems), energies),
    )


def as_scalars(block: TensorBlock) -> TensorBlock:
    """Return invariant values with the component and the properties that vectors have."""
    component = labels(["o3_mu"], [[0]])
    properties = Labels.range("n", len(block.properties))
    result = TensorBlock(block.values[:, None], block.samples, [component], properties)
    for name, gradient in block.gradients():
        components = [*gradient.components, component]
        values = gradient.values[..., None, :]
        result.add_gradient(name, TensorBlock(values, gradient.samples, components, properties))
    return result


# ---- the same data in another order, or under other numbers


def permuted(tensor: TensorMap, rng: np.random.Generator) -> TensorMap:
    """Return the same data with blocks, samples and gradient rows in another order."""
    return with_blocks_permuted(
        TensorMap(tensor.keys, [with_rows_permuted(block, rng) for block in tensor]), rng
    )


def with_blocks_permuted(tensor: TensorMap, rng: np.random.Generator) -> TensorMap:
    order = rng.permutation(len(tensor))
    keys = labels(tensor.keys.names, tensor.keys.values[order])
    return TensorMap(keys, [tensor.block_by_id(int(number)) for number in order])


def with_rows_permuted(block: TensorBlock, rng: np.random.Generator) -> TensorBlock:
    order = rng.permutation(len(block))
    return with_gradient_rows_permuted(_alignment.take_samples(block, order), rng)


def with_gradient_rows_permuted(block: TensorBlock, rng: np.random.Generator) -> TensorBlock:
    result = TensorBlock(block.values, block.samples, block.components, block.properties)
    for name, gradient in block.gradients():
        order = rng.permutation(len(gradient))
        result.add_gradient(name, _alignment.take_samples(gradient, order))
    return result


def with_properties_permuted(block: TensorBlock, rng: np.random.Generator) -> TensorBlock:
    order = rng.permutation(len(block.properties))
    properties = labels(block.properties.names, block.properties.values[order])
    return _alignment.take_properties(block, properties)


def renumbered(tensor: TensorMap, shift: int, name: str = "system") -> TensorMap:
    """Return the same data with other numbers of systems."""

    def shifted(samples: Labels) -> Labels:
        table = np.array(samples.values)
        if name in samples.names:
            table[:, samples.names.index(name)] += shift
        return labels(samples.names, table)

    blocks = []
    for block in tensor:
        samples = shifted(block.samples)
        result = TensorBlock(block.values, samples, block.components, block.properties)
        for parameter, gradient in block.gradients():
            samples = shifted(gradient.samples)
            gradient = TensorBlock(gradient.values, samples, gradient.components, block.properties)
            result.add_gradient(parameter, gradient)
        blocks.append(result)
    return TensorMap(tensor.keys, blocks)
