"""Laws that operations obey for maps of any kind, with gradients of gradients.

A map is taken for the facts that it states: one number for each key, sample, component entry and
property. Gradients state theirs for the sample they belong to, wherever it is; a gradient of zero
is as good as none.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.operations import drop_blocks, filter_blocks, join, sort, split, sum_over_samples
from metatensor.testing import tensors

AXES = ["samples", "properties"]
slice_of = metatensor.operations.slice


def entries(labels, names=None):
    names = labels.names if names is None else names
    columns = [labels.names.index(name) for name in names]
    return [tuple(row) for row in labels.values[:, columns].tolist()]


def facts_of_block(block, samples=None, path=()):
    """Return what a block states; names of components do not count, as their order stays."""
    samples = entries(block.samples) if samples is None else samples
    axes = [samples, *map(entries, block.components), entries(block.properties)]
    numbers = block.values.ravel().tolist()
    facts = {
        (path, *place): number
        for place, number in zip(itertools.product(*axes), numbers, strict=True)
        if number or not path
    }
    for name, gradient in block.gradients():
        rows = [(samples[row], *others) for row, *others in gradient.samples.values.tolist()]
        facts |= facts_of_block(gradient, rows, (*path, name))
    return facts


def facts(tensor):
    return {
        (tuple(key.values.tolist()), *place): number
        for key, block in tensor.items()
        for place, number in facts_of_block(block).items()
    }


def rebuilt(labels):
    return Labels(labels.names, labels.values.copy())


def rebuilt_block(block):
    copy = TensorBlock(
        block.values,
        rebuilt(block.samples),
        [rebuilt(labels) for labels in block.components],
        rebuilt(block.properties),
    )
    for name, gradient in block.gradients():
        copy.add_gradient(name, rebuilt_block(gradient))
    return copy


def check(tensor):
    """Check that a result is what the constructors, which check everything, would make."""
    assert TensorMap(rebuilt(tensor.keys), [rebuilt_block(block) for block in tensor]) == tensor
    return tensor


maps = tensors(depth=2, max_entries=4)


def labels_on(tensor, axis):
    return [block.samples if axis == "samples" else block.properties for block in tensor]


@st.composite
def selections(draw, tensor, axis, count):
    """Parts with all of what occurs on an axis, some twice; Labels of some of its dimensions."""
    names = labels_on(tensor, axis)[0].names if len(tensor) else ["a"]
    chosen = draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    rows = {row for labels in labels_on(tensor, axis) for row in entries(labels, chosen)}
    rows = draw(st.permutations(sorted(rows)))
    owners = draw(st.lists(st.integers(0, count - 1), min_size=len(rows), max_size=len(rows)))
    return [
        Labels(
            chosen,
            np.array(
                [row for row, owner in zip(rows, owners, strict=True) if owner == part],
                dtype=np.int32,
            ).reshape(-1, len(chosen)),
        )
        for part in range(count)
    ]


@pytest.mark.parametrize("axis", AXES)
@given(data=st.data())
def test_parts_state_the_facts_of_the_whole(axis, data):
    tensor = data.draw(maps)
    chosen = data.draw(selections(tensor, axis, 3))
    parts = [check(part) for part in split(tensor, axis, chosen)]
    assert parts == [slice_of(tensor, axis, selection) for selection in chosen]
    whole = join(parts, axis)
    assert facts(check(whole)) == facts(tensor)
    assert sum(len(facts(part)) for part in parts) == len(facts(tensor))


@pytest.mark.parametrize("axis", AXES)
@given(data=st.data())
def test_split_then_join_is_the_tensor(axis, data):
    tensor = data.draw(maps)
    parts = split(tensor, axis, data.draw(selections(tensor, axis, 2)))
    assert sort(join(parts, axis)) == sort(tensor)


@pytest.mark.parametrize("axis", AXES)
@given(data=st.data())
def test_slice_of_a_join_is_a_join_of_slices(axis, data):
    tensor = data.draw(maps)
    selection, *_ = data.draw(selections(tensor, axis, 2))
    both = join([tensor, tensor], axis, add_dimension="new")
    of_both = slice_of(check(both), axis, selection)
    of_each = slice_of(tensor, axis, selection)
    if entries(selection) and selection.names == (labels_on(tensor, axis) or [selection])[0].names:
        of_both, of_each = sort(of_both), sort(of_each)
    joined = join([of_each, of_each], axis, add_dimension="new")
    assert facts(check(of_both)) == facts(check(joined))


@given(tensor=maps, descending=st.booleans())
def test_sorting_again_changes_nothing(tensor, descending):
    ordered = check(sort(tensor, descending=descending))
    assert facts(ordered) == facts(tensor)
    assert sort(ordered, descending=descending) == ordered
    step = -1 if descending else 1
    for labels in [ordered.keys, *labels_on(ordered, "samples"), *labels_on(ordered, "properties")]:
        assert entries(labels) == sorted(entries(labels))[::step]
    for block in ordered:
        for _, gradient in block.gradients():
            assert entries(gradient.samples) == sorted(entries(gradient.samples))[::step]


@given(data=st.data())
def test_order_does_not_count_for_sorting(data):
    tensor = data.draw(tensors(depth=2, max_entries=4, max_blocks=1))
    if len(tensor):
        order = data.draw(st.permutations(range(len(tensor.block(0)))))
        permuted = slice_of(tensor, "samples", order)
        assert sort(check(permuted)) == sort(tensor)


@given(data=st.data())
def test_sum_over_samples_of_a_join_is_that_of_the_sums(data):
    tensor = data.draw(tensors(depth=2, max_entries=4))
    if len(tensor):
        names = data.draw(st.lists(st.sampled_from(tensor.sample_names), unique=True))
        both = join([tensor, tensor], "samples", add_dimension="new")
        total = check(sum_over_samples(both, names))
        each = sum_over_samples(tensor, names)
        if len(names) < len(tensor.sample_names):
            assert facts(total) == facts(join([each, each], "samples", add_dimension="new"))


@pytest.mark.parametrize("different_keys", ["union", "intersection"])
@given(data=st.data())
def test_maps_with_other_keys(different_keys, data):
    tensor = data.draw(maps)
    chosen = st.sets(st.sampled_from(range(len(tensor)))) if len(tensor) else st.just(set())
    kept = [sorted(data.draw(chosen)) for _ in range(3)]
    keys = [Labels(tensor.keys.names, tensor.keys.values[rows]) for rows in kept]
    parts = [filter_blocks(tensor, part) for part in keys]
    joined = check(join(parts, "samples", different_keys, add_dimension="new"))
    sets = [set(rows) for rows in kept]
    expected = set.union(*sets) if different_keys == "union" else set.intersection(*sets)
    assert set(entries(joined.keys)) == {entries(tensor.keys)[row] for row in expected}
    assert facts(joined) == {
        (key, path, with_number(sample, part, len(path)), *place): number
        for part, rows in enumerate(sets)
        for (key, path, sample, *place), number in facts(tensor).items()
        if entries(tensor.keys).index(key) in rows & expected
    }


def with_number(sample, number, depth):
    """Append a number to a sample, or to the one that a row of gradients belongs to."""
    if depth == 0:
        return (*sample, number)
    return (with_number(sample[0], number, depth - 1), *sample[1:])


@given(data=st.data())
def test_blocks_are_kept_or_dropped(data):
    tensor = data.draw(maps)
    chosen = data.draw(st.lists(st.sampled_from(tensor.keys.names), unique=True, min_size=1))
    rows = sorted(set(entries(tensor.keys, chosen)))
    rows = data.draw(st.lists(st.sampled_from(rows), unique=True)) if rows else []
    keys = Labels(chosen, np.array(rows, dtype=np.int32).reshape(-1, len(chosen)))
    kept, left = check(filter_blocks(tensor, keys)), check(drop_blocks(tensor, keys))
    assert facts(kept) | facts(left) == facts(tensor)
    assert len(kept) + len(left) == len(tensor)
    for key in kept.keys:
        assert tuple(int(key[name]) for name in chosen) in rows
