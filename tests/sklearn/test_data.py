"""The data that the other tests use: gradients against finite differences."""

import copy

import numpy as np

from metatensor.operations import sum_over_samples


def displaced(systems, number, atom, axis, step):
    systems = copy.deepcopy(systems)
    systems[number].positions[atom, axis] += step
    return systems


def strained(systems, first, second, step):
    systems = copy.deepcopy(systems)
    strain = np.eye(3)
    strain[first, second] += step
    for system in systems:
        system.positions = system.positions @ strain
    return systems


def test_gradients_are_derivatives(make, systems, X, y):
    def values(systems):
        features = make.features(systems).keys_to_properties(["center_type", "neighbor_type"])
        features = sum_over_samples(features, "atom").block()
        assert len(features) == len(systems)
        return np.hstack([features.values, make.energies(systems).block().values])

    step = 1e-5
    features = sum_over_samples(
        X.keys_to_properties(["center_type", "neighbor_type"]), "atom"
    ).block()
    for number, atom, axis in [(0, 1, 2), (3, 0, 0), (5, 2, 1)]:
        numerical = values(displaced(systems, number, atom, axis, step)) - values(
            displaced(systems, number, atom, axis, -step)
        )
        for block, part in zip((features, y.block()), np.hsplit(numerical / (2 * step), [-1])):
            gradient = block.gradient("positions")
            row = gradient.samples.position((number, number, atom))
            np.testing.assert_allclose(gradient.values[row, axis], part[number], atol=1e-8)
    numerical = values(strained(systems, 0, 2, step)) - values(strained(systems, 0, 2, -step))
    for block, part in zip((features, y.block()), np.hsplit(numerical / (2 * step), [-1])):
        np.testing.assert_allclose(block.gradient("strain").values[:, 0, 2], part, atol=1e-8)
