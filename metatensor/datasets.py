"""Small real problems, computed on the spot: nothing is downloaded.

Needs ase, vesin and tqdm, which ``pip install "metatensor-sklearn[examples]"`` brings.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from metatensor._core.segments import segment_sum
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["AtomisticData", "make_alloys", "radial_descriptor"]

Reals = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]
Rows = Literal["atom", "system"]
T = TypeVar("T")

#: the metals that have both parameters of the effective medium theory and an fcc lattice
METALS = ("Ag", "Al", "Au", "Cu", "Ni", "Pd", "Pt")
GRADIENTS = ("positions", "strain")
#: distance of the first Gaussian in Å by default; closer pairs do not occur in metals
FIRST_CENTRE = 1.5


@dataclass(frozen=True, eq=False, repr=False)
class AtomisticData:
    """Structures with features and energies: ``systems[k]`` is the system ``k`` of both maps.

    Attributes
    ----------
    systems
        The structures, each with its energy, forces and stress attached as an ASE calculator.
    descriptor
        The features, as :func:`radial_descriptor` returns them.
    energies
        The total energies in eV: one block, samples ``system``, one property ``energy``. Its
        gradient ``positions`` is minus the forces (eV/Å), its gradient ``strain`` is
        stress times volume (eV).

    """

    systems: list[Atoms]
    descriptor: TensorMap
    energies: TensorMap

    def __repr__(self) -> str:
        """Return one line with the sizes."""
        n_atoms = sum(len(system) for system in self.systems)
        sizes = f"{len(self.systems)} systems, {n_atoms} atoms, {len(self.descriptor)} blocks"
        return f"AtomisticData({sizes})"


def make_alloys(
    n_systems: int = 100,
    *,
    elements: Sequence[str] = ("Cu", "Au", "Ni"),
    repeats: Sequence[tuple[int, int, int]] = ((1, 1, 2), (1, 2, 2), (2, 2, 2)),
    rattle: float = 0.1,
    strain: float = 0.03,
    cutoff: float = 5.0,
    n_radial: int = 12,
    by: Rows = "atom",
    gradients: Collection[str] = GRADIENTS,
    random_state: int | np.random.Generator | None = 0,
    verbose: bool = True,
) -> AtomisticData:
    """Make random fcc alloys with the energies, forces and stresses of effective medium theory.

    Each system is a cubic fcc cell repeated at random among ``repeats``, with atoms drawn at
    random composition, the mean lattice constant of its elements, a random strain of the cell and
    random displacements of the atoms. The same seed gives the same data, and a larger
    ``n_systems`` begins with the systems of a smaller one.

    Gradients: features and energies carry ``positions`` and ``strain``.

    Parameters
    ----------
    n_systems
        How many systems to make.
    elements
        Symbols out of Ag, Al, Au, Cu, Ni, Pd and Pt.
    repeats
        Sizes to draw from, in cubic cells of four atoms along each axis.
    rattle
        Standard deviation of each coordinate of the displacements, in Å.
    strain
        Standard deviation of each entry of the random matrix that, made symmetric, is the strain.
    cutoff, n_radial, by
        As in :func:`radial_descriptor`.
    gradients
        Which of ``positions`` and ``strain`` the features and the energies carry.
    random_state
        A seed or a numpy Generator; None for different data at each call.
    verbose
        Show a progress bar where standard error is a terminal.

    Returns
    -------
    AtomisticData
        ``systems``, ``descriptor`` and ``energies``.

    Raises
    ------
    ImportError
        If ase, vesin or tqdm (needed by ``verbose=True``) is not installed.

    See Also
    --------
    radial_descriptor : the same features for other structures.

    Examples
    --------
    >>> from metatensor.datasets import make_alloys
    >>> data = make_alloys(3, elements=["Cu", "Ni"], repeats=[(1, 1, 1)])
    >>> data
    AtomisticData(3 systems, 12 atoms, 4 blocks)
    >>> data.energies.block().gradient("positions").samples.names
    ['sample', 'system', 'atom']

    """
    if n_systems < 1:
        raise ValueError(f"`n_systems` must be at least 1, got {n_systems}")
    unknown = sorted(set(elements) - set(METALS))
    if unknown or not elements:
        raise ValueError(f"`elements` must be one or more of {METALS}, got {tuple(elements)}")
    _check_gradients(gradients)
    random = np.random.default_rng(random_state)
    systems = [
        _label(_random_alloy(random, elements, repeats, rattle, strain))
        for _ in _progress(range(n_systems), "energies", verbose)
    ]
    numbers = _import("ase.data").atomic_numbers
    descriptor = radial_descriptor(
        systems,
        cutoff=cutoff,
        n_radial=n_radial,
        types=[numbers[symbol] for symbol in elements],
        by=by,
        gradients=gradients,
        verbose=verbose,
    )
    return AtomisticData(systems, descriptor, _energies(systems, gradients))


def radial_descriptor(
    systems: Sequence[Atoms],
    *,
    cutoff: float = 5.0,
    n_radial: int = 12,
    first_center: float = FIRST_CENTRE,
    types: Collection[int] | None = None,
    by: Rows = "atom",
    gradients: Collection[str] = GRADIENTS,
    verbose: bool = False,
) -> TensorMap:
    r"""Compute two-body features: around each atom, the distances to its neighbours of each type.

    Property ``n = 0`` counts the atom itself: it is 1 if the types of centre and neighbour are
    the same, so that a linear model has an energy for each free atom. For ``n >= 1`` the
    feature is a sum over the neighbours at distances :math:`r < r_c`, periodic images included,

    .. math::
        \sum_j \exp\left(-\frac{(r_{ij} - r_n)^2}{2 \sigma^2}\right)
        \frac{1 + \cos(\pi r_{ij} / r_c)}{2}

    with :math:`r_n` evenly spaced from ``first_center`` up to one spacing :math:`\sigma` below the
    cutoff :math:`r_c`. Shorter distances are only on the flank of the first function.

    Gradients: the true derivatives, ``positions`` with respect to the coordinates of every atom
    (moving together with its images) and ``strain`` with respect to the matrix
    :math:`\epsilon` in positions and cell :math:`\rightarrow` positions and cell
    :math:`(1 + \epsilon)`, vectors being rows. A row that is not there is zero.

    Parameters
    ----------
    systems
        ASE structures with any periodicity and any cell.
    cutoff
        Distance in Å beyond which there are no neighbours.
    n_radial
        Number of Gaussians; with 0 only the composition is left.
    first_center
        Distance of the first Gaussian in Å: less than the shortest distance, which is about 0.7 for
        molecules with hydrogen.
    types
        Atomic numbers to make keys of; by default those present.
    by
        ``"atom"`` for one sample per atom; ``"system"`` for their sums, where the gradients
        take less memory by the number of neighbours of an atom.
    gradients
        Which of ``positions`` and ``strain`` to compute.
    verbose
        Show a progress bar where standard error is a terminal.

    Returns
    -------
    TensorMap
        Keys ``center_type``, ``neighbor_type``; samples ``system``, ``atom`` (``system`` alone
        with ``by="system"``); property ``n`` from 0 to ``n_radial``. Gradient ``positions``:
        samples ``sample``, ``system``, ``atom``, component ``xyz``. Gradient ``strain``: samples
        ``sample``, components ``xyz_1``, ``xyz_2``.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from metatensor.datasets import radial_descriptor
    >>> copper = bulk("Cu", cubic=True)
    >>> features = radial_descriptor([copper], cutoff=3.0, n_radial=4)
    >>> features.keys
    Labels
       center_type  neighbor_type
           29            29
    >>> features.block().values.shape
    (4, 5)

    """
    if not 0 <= first_center < cutoff:
        raise ValueError(
            f"`first_center` must be from 0 on and less than the cutoff, {cutoff} Å, got "
            f"{first_center}"
        )
    if n_radial < 0:
        raise ValueError(f"`n_radial` must not be negative, got {n_radial}")
    if len(systems) == 0:
        raise ValueError("`systems` must contain at least one structure, got none")
    if by not in ("atom", "system"):
        raise ValueError(f"`by` must be 'atom' or 'system', got {by!r}")
    _check_gradients(gradients)
    keys = [(a, b) for a in _types(systems, types) for b in _types(systems, types)]
    radial = _Radial(float(first_center), float(cutoff), n_radial)
    parts: list[list[_Part]] = [[] for _ in keys]
    for system, atoms in enumerate(_progress(systems, "features", verbose)):
        pairs = _pairs(atoms, system, radial)
        for key, found in zip(keys, parts, strict=True):
            found.append(_part(pairs, key, by, gradients))
    properties = Labels.range("n", n_radial + 1)
    blocks = [_block(found, by, properties, gradients) for found in parts]
    table = np.array(keys, dtype=np.int32).reshape(-1, 2)
    return TensorMap(Labels(["center_type", "neighbor_type"], table), blocks)


def _check_gradients(gradients: Collection[str]) -> None:
    if isinstance(gradients, str) or not set(gradients) <= set(GRADIENTS):
        raise ValueError(f"`gradients` must be a list with some of {GRADIENTS}, got {gradients!r}")


def _types(systems: Sequence[Atoms], types: Collection[int] | None) -> list[int]:
    present = sorted({int(number) for system in systems for number in system.numbers})
    if types is None:
        return present
    missing = sorted(set(present) - set(types))
    if missing:
        raise ValueError(
            f"`types` must contain all atomic numbers of the systems, {missing} are missing "
            f"from {list(types)}"
        )
    return sorted({int(number) for number in types})


def _progress(steps: Iterable[T], title: str, verbose: bool) -> Iterable[T]:
    if not verbose:
        return steps
    # `disable=None` is tqdm's way to stay silent where standard error is no terminal
    bar: Iterable[T] = _import("tqdm").tqdm(steps, desc=title, unit="system", disable=None)
    return bar


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"`metatensor.datasets` needs the package {package!r}, which could not be imported; "
            'install it with `pip install "metatensor-sklearn[examples]"`'
        ) from error


# ----- structures and their energies


def _random_alloy(
    random: np.random.Generator,
    elements: Sequence[str],
    repeats: Sequence[tuple[int, int, int]],
    rattle: float,
    strain: float,
) -> Atoms:
    build, data = _import("ase.build"), _import("ase.data")
    repeat = repeats[int(random.integers(len(repeats)))]
    fractions = random.dirichlet(np.ones(len(elements)))
    symbols = random.choice(elements, size=4 * int(np.prod(repeat)), p=fractions)
    constants = [data.reference_states[data.atomic_numbers[symbol]]["a"] for symbol in symbols]
    atoms: Atoms = build.bulk(elements[0], "fcc", a=np.mean(constants), cubic=True).repeat(repeat)
    atoms.symbols = symbols
    matrix = random.normal(scale=strain, size=(3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + (matrix + matrix.T) / 2), scale_atoms=True)
    atoms.positions += random.normal(scale=rattle, size=atoms.positions.shape)
    return atoms


def _label(atoms: Atoms) -> Atoms:
    """Attach energy, forces and, where there is a volume, stress."""
    calculator = _import("ase.calculators.emt").EMT()
    properties = ["energy", "forces", "stress"] if atoms.cell.rank == 3 else ["energy", "forces"]
    results = {name: calculator.get_property(name, atoms) for name in properties}
    atoms.calc = _import("ase.calculators.singlepoint").SinglePointCalculator(atoms, **results)
    return atoms


def _energies(systems: Sequence[Atoms], gradients: Collection[str]) -> TensorMap:
    properties = Labels.range("energy", 1)
    energies = np.array([[atoms.get_potential_energy()] for atoms in systems])
    block = TensorBlock(energies, Labels.range("system", len(systems)), [], properties)
    if "positions" in gradients:
        forces = np.concatenate([atoms.get_forces() for atoms in systems])
        rows = [(k, k, atom) for k, atoms in enumerate(systems) for atom in range(len(atoms))]
        samples = Labels(["sample", "system", "atom"], np.array(rows, dtype=np.int32))
        gradient = TensorBlock(-forces[:, :, None], samples, [Labels.range("xyz", 3)], properties)
        block.add_gradient("positions", gradient)
    if "strain" in gradients:
        solid = [k for k, atoms in enumerate(systems) if atoms.cell.rank == 3]  # has a volume
        virials = [systems[k].get_stress(voigt=False) * systems[k].get_volume() for k in solid]
        samples = Labels(["sample"], np.array(solid, dtype=np.int32)[:, None])
        components = [Labels.range("xyz_1", 3), Labels.range("xyz_2", 3)]
        gradient = TensorBlock(np.reshape(virials, (-1, 3, 3, 1)), samples, components, properties)
        block.add_gradient("strain", gradient)
    return TensorMap(Labels.single(), [block])


# ----- features


class _Radial(NamedTuple):
    """Where the Gaussians are."""

    first: float
    cutoff: float
    n_radial: int


class _Pairs(NamedTuple):
    """All pairs of one system, in both directions, with the radial functions of each."""

    system: int
    numbers: npt.NDArray[np.integer[Any]]  # atomic numbers of all atoms
    first: Positions
    second: Positions
    vectors: Reals  # (n_pairs, 3), from first to second
    directions: Reals  # the same, of length one
    values: Reals  # (n_pairs, n_properties)
    slopes: Reals  # their derivatives with respect to the distance


class _Part(NamedTuple):
    """What one system adds to one block; sample numbers begin at zero."""

    samples: npt.NDArray[np.int32]
    values: Reals
    rows: npt.NDArray[np.int32]  # gradient samples of `positions`
    positions: Reals
    strain: Reals


def _pairs(atoms: Atoms, system: int, radial: _Radial) -> _Pairs:
    neighbor_list = _import("vesin").ase_neighbor_list
    first, second, distances, vectors = neighbor_list("ijdD", atoms, radial.cutoff)
    first, second = first.astype(np.intp), second.astype(np.intp)
    if not np.all(distances > 0):
        pair = int(np.argmin(distances))
        raise ValueError(
            f"the atoms of a system must not coincide, got atoms {first[pair]} and {second[pair]} "
            f"of system {system} at the same place"
        )
    values, slopes = _radial_functions(distances, radial)
    directions = vectors / distances[:, None]
    return _Pairs(system, atoms.numbers, first, second, vectors, directions, values, slopes)


def _radial_functions(distances: Reals, radial: _Radial) -> tuple[Reals, Reals]:
    first, cutoff, n_radial = radial
    centres = np.linspace(first, cutoff, n_radial, endpoint=False)
    width = (cutoff - first) / max(n_radial, 1)
    offsets = (distances[:, None] - centres) / width
    gaussians = np.exp(-0.5 * offsets**2)
    angles = np.pi * distances[:, None] / cutoff
    smooth = 0.5 * (1 + np.cos(angles))
    values = np.zeros((len(distances), 1 + n_radial))  # property 0 has no pairs
    slopes = np.zeros_like(values)
    values[:, 1:] = gaussians * smooth
    slopes[:, 1:] = -gaussians * (offsets / width * smooth + 0.5 * np.pi / cutoff * np.sin(angles))
    return values, slopes


def _part(pairs: _Pairs, key: tuple[int, int], by: Rows, gradients: Collection[str]) -> _Part:
    center_type, neighbor_type = key
    centers = np.flatnonzero(pairs.numbers == center_type)
    sample_of = np.zeros(len(pairs.numbers), dtype=np.intp)  # of each center
    if by == "atom":
        sample_of[centers] = np.arange(len(centers))
        samples = np.stack([np.full_like(centers, pairs.system), centers], axis=1)
    else:
        samples = np.full((min(len(centers), 1), 1), pairs.system)
    numbers = pairs.numbers
    chosen = (numbers[pairs.first] == center_type) & (numbers[pairs.second] == neighbor_type)
    groups = sample_of[pairs.first[chosen]]

    values = segment_sum(pairs.values[chosen], groups, len(samples))
    if center_type == neighbor_type:
        np.add.at(values[:, 0], sample_of[centers], 1.0)
    rows, positions = np.empty((0, 3), dtype=np.int32), np.empty((0, 3, values.shape[1]))
    if "positions" in gradients:
        rows, positions = _positions_gradient(pairs, chosen, groups)
    strain = np.empty((0, 3, 3, values.shape[1]))
    if "strain" in gradients:
        outer = pairs.vectors[chosen, :, None] * pairs.directions[chosen, None, :]
        terms = outer[..., None] * pairs.slopes[chosen, None, None, :]
        strain = _sum_rows(terms, groups, len(samples))
    return _Part(samples.astype(np.int32), values, rows, positions, strain)


def _positions_gradient(
    pairs: _Pairs, chosen: npt.NDArray[np.bool_], groups: Positions
) -> tuple[npt.NDArray[np.int32], Reals]:
    """Sum over pairs: plus for the neighbour, minus for the centre, nothing for own images."""
    first, second = pairs.first[chosen], pairs.second[chosen]
    moving = first != second
    first, second, groups = first[moving], second[moving], groups[moving]
    chosen = np.flatnonzero(chosen)[moving]
    terms = pairs.directions[chosen, :, None] * pairs.slopes[chosen, None, :]
    n_atoms = len(pairs.numbers)
    targets = np.concatenate([groups * n_atoms + second, groups * n_atoms + first])
    targets, target_of = np.unique(targets, return_inverse=True)
    sums = _sum_rows(np.concatenate([terms, -terms]), target_of.reshape(-1), len(targets))
    samples, atoms = np.divmod(targets, n_atoms)
    rows = np.stack([samples, np.full_like(samples, pairs.system), atoms], axis=1)
    return rows.astype(np.int32), sums


def _sum_rows(terms: Reals, groups: Positions, size: int) -> Reals:
    """Sum the rows of each group, whatever follows the first axis."""
    sums = segment_sum(terms.reshape(len(terms), int(np.prod(terms.shape[1:]))), groups, size)
    return sums.reshape(size, *terms.shape[1:])


def _block(
    parts: list[_Part], by: Rows, properties: Labels, gradients: Collection[str]
) -> TensorBlock:
    """Put the parts of all systems one after the other."""
    names = ["system", "atom"] if by == "atom" else ["system"]
    samples = np.concatenate([part.samples for part in parts])
    values = np.concatenate([part.values for part in parts])
    block = TensorBlock(values, Labels(names, samples), [], properties)
    if "positions" in gradients:
        starts = np.cumsum([0] + [len(part.samples) for part in parts[:-1]], dtype=np.int32)
        rows = np.concatenate([part.rows for part in parts])
        rows[:, 0] += np.repeat(starts, [len(part.rows) for part in parts])
        gradient = TensorBlock(
            np.concatenate([part.positions for part in parts]),
            Labels(["sample", "system", "atom"], rows),
            [Labels.range("xyz", 3)],
            properties,
        )
        block.add_gradient("positions", gradient)
    if "strain" in gradients:
        components = [Labels.range("xyz_1", 3), Labels.range("xyz_2", 3)]
        strain = np.concatenate([part.strain for part in parts])
        samples_of_strain = Labels.range("sample", len(samples))
        block.add_gradient("strain", TensorBlock(strain, samples_of_strain, components, properties))
    return block
