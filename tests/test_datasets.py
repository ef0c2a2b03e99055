"""Features and targets against finite differences, names and signs against the conventions."""

import importlib
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT

from metatensor.datasets import make_alloys, radial_descriptor

STEP = 1e-4


def alloy_cell():
    """Return eight atoms of two elements in a skewed cell so small that atoms see their images."""
    random = np.random.default_rng(1)
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.symbols = ["Cu", "Au"] * 4
    atoms.set_cell(
        atoms.cell @ (np.eye(3) + random.normal(scale=0.05, size=(3, 3))), scale_atoms=True
    )
    return atoms


SYSTEMS = {
    "one atom": bulk("Cu"),
    "two elements, one atom each": bulk("NaCl", "rocksalt", a=4.0),
    "alloy": alloy_cell(),
    "slab with vacuum": fcc111("Al", (1, 1, 3), vacuum=4.0),
    "slab without a third cell vector": fcc111("Al", (2, 1, 2)),
    "molecule": molecule("CH3OH"),
    "isolated atom": Atoms("Cu"),
}


@pytest.fixture(params=SYSTEMS)
def system(request):
    atoms = SYSTEMS[request.param].copy()
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


@pytest.fixture(scope="module")
def alloys():
    return make_alloys(6, verbose=False)


def derivative(function, atoms, move, first, second):
    upper, lower = (function(move(atoms, first, second, step)) for step in (STEP, -STEP))
    return (upper - lower) / (2 * STEP)


def dense_positions(block, n_atoms):
    """Return the gradient as (samples, atoms, xyz, properties), zero where there is no row."""
    gradient = block.gradient("positions")
    dense = np.zeros((len(block.samples), n_atoms, 3, len(block.properties)))
    dense[gradient.samples["sample"], gradient.samples["atom"]] = gradient.values
    return dense


@pytest.mark.parametrize("by", ["atom", "system"])
def test_gradients_of_the_features_are_derivatives(system, by, displaced, strained):
    def features(atoms):
        return radial_descriptor([atoms], cutoff=4.3, n_radial=5, by=by)

    def values(atoms):
        return np.concatenate([block.values for block in features(atoms).blocks()])

    blocks = features(system).blocks()
    positions = np.concatenate([dense_positions(block, len(system)) for block in blocks])
    strain = np.concatenate([block.gradient("strain").values for block in blocks])
    assert np.abs(strain).max() > 0.1 or len(system) == 1
    for axis in range(3):
        for atom in range(len(system)):
            expected = derivative(values, system, displaced, atom, axis)
            np.testing.assert_allclose(positions[:, atom, axis], expected, atol=1e-6)
        for row in range(3):
            expected = derivative(values, system, strained, row, axis)
            np.testing.assert_allclose(strain[:, row, axis], expected, atol=1e-5)


def test_gradients_of_the_energies_are_derivatives(alloys, displaced, strained):
    def energy(atoms):
        moved = atoms.copy()
        moved.calc = EMT()
        return moved.get_potential_energy()

    block = alloys.energies.block()
    forces, strain = dense_positions(block, 32), block.gradient("strain").values
    for k, atoms in enumerate(alloys.systems[:3]):
        np.testing.assert_allclose(block.values[k, 0], energy(atoms), rtol=1e-12)
        for axis in range(3):
            expected = derivative(energy, atoms, displaced, len(atoms) - 1, axis)
            np.testing.assert_allclose(forces[k, len(atoms) - 1, axis, 0], expected, atol=1e-4)
            for row in range(3):
                expected = derivative(energy, atoms, strained, row, axis)
                np.testing.assert_allclose(strain[k, row, axis, 0], expected, atol=1e-3)


def test_energies_follow_the_conventions_of_ase(alloys):
    block = alloys.energies.block()
    forces = np.concatenate([atoms.get_forces() for atoms in alloys.systems])
    virials = [atoms.get_stress(voigt=False) * atoms.get_volume() for atoms in alloys.systems]
    np.testing.assert_array_equal(block.gradient("positions").values[:, :, 0], -forces)
    np.testing.assert_array_equal(block.gradient("strain").values[:, :, :, 0], virials)


def test_names_are_those_of_the_field(alloys):
    summed = radial_descriptor(alloys.systems, by="system")
    for tensor, keys, samples, properties in (
        (alloys.energies, ["_"], ["system"], ["energy"]),
        (alloys.descriptor, ["center_type", "neighbor_type"], ["system", "atom"], ["n"]),
        (summed, ["center_type", "neighbor_type"], ["system"], ["n"]),
    ):
        assert tensor.keys.names == keys
        assert tensor.sample_names == samples
        assert tensor.property_names == properties
        for block in tensor.blocks():
            positions, strain = block.gradient("positions"), block.gradient("strain")
            assert positions.samples.names == ["sample", "system", "atom"]
            assert [axis.names for axis in positions.components] == [["xyz"]]
            assert strain.samples.names == ["sample"]
            assert [axis.names for axis in strain.components] == [["xyz_1"], ["xyz_2"]]
            systems = block.samples["system"][positions.samples["sample"]]
            np.testing.assert_array_equal(positions.samples["system"], systems)


def test_the_features_of_a_system_are_the_sums_over_its_atoms(alloys):
    summed = radial_descriptor(alloys.systems, by="system")
    for key, block in alloys.descriptor.items():
        expected = summed.block(key)
        system_of = block.samples["system"]
        for sample, system in enumerate(expected.samples["system"]):
            atoms = system_of == system
            np.testing.assert_allclose(
                block.values[atoms].sum(axis=0), expected.values[sample], rtol=1e-12
            )
            np.testing.assert_allclose(
                dense_positions(block, 32)[atoms].sum(axis=0),
                dense_positions(expected, 32)[sample],
                atol=1e-12,
            )


def test_property_zero_counts_the_atoms(alloys):
    composition = radial_descriptor(alloys.systems, n_radial=0, by="system")
    for (center_type, neighbor_type), block in composition.items():
        assert block.shape[1] == 1
        for system, count in zip(block.samples["system"], block.values[:, 0], strict=True):
            atoms = np.count_nonzero(alloys.systems[system].numbers == center_type)
            assert count == (atoms if center_type == neighbor_type else 0)


def test_the_first_gaussian_is_where_it_is_asked_for():
    hydrogen = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    block = radial_descriptor([hydrogen], first_center=0.74, n_radial=4).block()
    envelope = 0.5 * (1 + np.cos(np.pi * 0.74 / 5.0))
    np.testing.assert_allclose(block.values[:, 1], envelope)
    assert (block.values[:, 1:-1] > block.values[:, 2:]).all()


def test_features_do_not_depend_on_the_choice_of_the_cell():
    primitive, cubic = bulk("Cu", a=3.7), bulk("Cu", a=3.7, cubic=True)
    first = radial_descriptor([primitive]).block()
    second = radial_descriptor([cubic]).block()
    np.testing.assert_allclose(np.repeat(first.values, 4, axis=0), second.values, rtol=1e-10)


def test_moving_all_atoms_together_changes_nothing(alloys):
    for block in alloys.descriptor.blocks():
        np.testing.assert_allclose(dense_positions(block, 32).sum(axis=1), 0, atol=1e-12)


def test_data_are_reproducible(alloys):
    again = make_alloys(4, random_state=np.random.default_rng(0), verbose=False)
    for first, second in zip(alloys.systems, again.systems, strict=False):
        assert first == second
    np.testing.assert_array_equal(again.energies.block().values, alloys.energies.block().values[:4])
    assert make_alloys(1, random_state=1, verbose=False).systems[0] != alloys.systems[0]


def test_types_that_no_system_has_give_blocks_without_samples():
    descriptor = radial_descriptor([bulk("Cu")], types=[79, 29])
    assert descriptor.keys.values.tolist() == [[29, 29], [29, 79], [79, 29], [79, 79]]
    assert [len(block.samples) for block in descriptor.blocks()] == [1, 1, 0, 0]
    assert not descriptor.block(center_type=29, neighbor_type=79).values.any()


def test_energies_without_a_volume_have_no_strain_row():
    data = importlib.import_module("metatensor.datasets")
    systems = [data._label(atoms) for atoms in (molecule("H2O"), bulk("Cu"), Atoms("Cu"))]
    block = data._energies(systems, ["strain"]).block()
    assert block.gradient("strain").samples["sample"].tolist() == [1]


@pytest.mark.parametrize("gradients", [[], ["positions"], ["strain"]])
def test_gradients_can_be_left_out(gradients):
    data = make_alloys(2, gradients=gradients, verbose=False)
    for tensor in (data.descriptor, data.energies):
        assert all(block.gradients_list() == gradients for block in tensor.blocks())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_systems": 0}, "`n_systems` must be at least 1, got 0"),
        ({"elements": ["Cu", "Fe"]}, "`elements` must be one or more of .*Cu.*, got .*Fe"),
        ({"elements": []}, "`elements` must be one or more"),
        ({"gradients": "positions"}, "`gradients` must be a list"),
        ({"gradients": ["cell"]}, "`gradients` must be a list with some of .*, got .*cell"),
        ({"cutoff": 1.0}, "`first_center` must be .* less than the cutoff"),
        ({"n_radial": -1}, "`n_radial` must not be negative"),
        ({"by": "molecule"}, "`by` must be 'atom' or 'system', got 'molecule'"),
    ],
)
def test_bad_arguments_of_make_alloys(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_alloys(**{"n_systems": 1, **arguments})


@pytest.mark.parametrize(
    ("systems", "arguments", "message"),
    [
        ([], {}, "`systems` must contain at least one structure"),
        ([bulk("Cu")], {"first_center": -1.0}, "`first_center` must be from 0 on"),
        ([bulk("Cu")], {"types": [79]}, r"`types` must contain all atomic numbers.*\[29\]"),
        ([Atoms("Cu2")], {}, "atoms 0 and 1 of system 0 at the same place"),
    ],
)
def test_bad_arguments_of_radial_descriptor(systems, arguments, message):
    with pytest.raises(ValueError, match=message):
        radial_descriptor(systems, **arguments)


@pytest.mark.parametrize("package", ["vesin", "tqdm", "ase.build"])
def test_missing_packages_are_named_with_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    name = package.partition(".")[0]
    message = rf"`metatensor.datasets` needs .*{name}.*metatensor-sklearn\[examples\]"
    with pytest.raises(ImportError, match=message):
        make_alloys(1)


@pytest.mark.parametrize("verbose", [True, False])
def test_no_progress_bar_where_there_is_no_terminal(capfd, verbose):
    make_alloys(1, verbose=verbose)
    assert capfd.readouterr() == ("", "")
