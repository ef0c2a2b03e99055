"""Hypothesis strategies for labels, blocks and maps; public as part of ``metatensor.testing``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

T = TypeVar("T")


def labels(
    names: Sequence[str] | None = None, *, min_entries: int = 0, max_entries: int = 8
) -> SearchStrategy[Labels]:
    """Return a hypothesis strategy for Labels.

    Parameters
    ----------
    names : sequence of str, optional
        names of the dimensions, by default one to three drawn ones
    min_entries, max_entries : int
        range of the number of entries

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        of Labels in any order, with negative and extreme values among them

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(labels(["system", "atom"]))
    ... def test_union_with_itself_is_itself(rows):
    ...     assert rows.union(rows) == rows
    >>> test_union_with_itself_is_itself()

    """

    def build(make: _Maker) -> Labels:
        drawn = tuple(names) if names is not None else make.names(1, 3)
        return make.labels(drawn, min_entries, max_entries)

    return _strategy(build)


def blocks(
    *,
    dtype: npt.DTypeLike = np.float64,
    max_entries: int = 5,
    max_components: int = 2,
    max_gradients: int = 2,
    depth: int = 1,
) -> SearchStrategy[TensorBlock]:
    """Return a hypothesis strategy for blocks.

    Parameters
    ----------
    dtype : numpy dtype, default=float64
        of the values: small multiples of 1/4, whose sums and products are exact in any order
    max_entries : int, default=5
        largest number of samples and of properties; there may be none
    max_components, max_gradients : int, default=2
        largest number of component axes and of gradients
    depth : int, default=1
        2 for gradients of gradients, and so on

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        of blocks with numpy values; gradients have extra samples and components, rows in any
        order, and no rows for some samples

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(blocks())
    ... def test_copies_are_equal(block):
    ...     assert block.copy() == block
    >>> test_copies_are_equal()

    """
    options = _Options(np.dtype(dtype), max_entries, max_components, max_gradients, depth)
    return _strategy(lambda make: make.block(make.structure(options), options))


def tensors(
    *,
    dtype: npt.DTypeLike = np.float64,
    min_blocks: int = 0,
    max_blocks: int = 4,
    max_entries: int = 5,
    max_components: int = 2,
    max_gradients: int = 2,
    depth: int = 1,
    same_components: bool = False,
    same_properties: bool = False,
) -> SearchStrategy[TensorMap]:
    """Return a hypothesis strategy for maps.

    Parameters
    ----------
    dtype : numpy dtype, default=float64
        of the values, as for :func:`blocks`
    min_blocks, max_blocks : int
        range of the number of blocks
    max_entries, max_components, max_gradients, depth : int
        as for :func:`blocks`
    same_components : bool, default=False
        give all blocks the same entries in component axes, as ``keys_to_samples`` wants them
    same_properties : bool, default=False
        give all blocks the same properties

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        of maps with numpy values

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(tensors(min_blocks=1, same_components=True))
    ... def test_moving_all_keys_leaves_one_block(tensor):
    ...     assert len(tensor.keys_to_samples(tensor.keys.names)) == 1
    >>> test_moving_all_keys_leaves_one_block()

    """
    options = _Options(np.dtype(dtype), max_entries, max_components, max_gradients, depth)

    def build(make: _Maker) -> TensorMap:
        keys = make.labels(make.names(1, 2), min_blocks, max_blocks)
        structure = make.structure(options)
        fixed: dict[str, Any] = {}
        if same_components:
            fixed["components"] = make.components(structure.components)
        if same_properties:
            fixed["properties"] = make.labels(structure.properties, 0, max_entries)
        return TensorMap(keys, [make.block(structure, options, **fixed) for _ in keys])

    return _strategy(build)


_NAMES = [
    *("system", "atom", "center_type", "neighbor_type", "o3_lambda", "o3_mu", "xyz", "n", "l"),
    *("_", "a", "B2", "class", "x_1", "y", "z", "key", "spin"),
]
_PARAMETERS = ["positions", "strain", "cell", "g"]


@dataclass(frozen=True)
class _Options:
    dtype: np.dtype[Any]
    max_entries: int
    max_components: int
    max_gradients: int
    depth: int


@dataclass(frozen=True)
class _Structure:
    """What all blocks of a map have in common; for a gradient, what comes on top of its block's."""

    samples: tuple[str, ...]
    components: tuple[str, ...]
    properties: tuple[str, ...]
    gradients: dict[str, _Structure]
    #: entries of the extra components, for gradients
    extra: tuple[Labels, ...] = ()


class _Maker:
    """Draws the parts of one example; each name occurs once in it."""

    def __init__(self, draw: DrawFn) -> None:
        from hypothesis import strategies

        self._draw, self._st = draw, strategies
        self._names = list(_NAMES)
        small = strategies.integers(-3, 5)
        self._entries = small | strategies.sampled_from([-(2**31), 2**31 - 1])

    def number(self, low: int, high: int) -> int:
        return self._draw(self._st.integers(low, high))

    def names(self, low: int, high: int) -> tuple[str, ...]:
        count = self.number(low, high)
        return tuple(self._names.pop(self.number(0, len(self._names) - 1)) for _ in range(count))

    def labels(self, names: Sequence[str], low: int, high: int, first: Any = None) -> Labels:
        columns = [self._entries] * len(names)
        if first is not None:
            columns[0] = first
        rows = self._st.lists(self._st.tuples(*columns), min_size=low, max_size=high, unique=True)
        table = np.array(self._draw(rows), dtype=np.int32).reshape(-1, len(names))
        return Labels(names, table)

    def components(self, names: Sequence[str]) -> tuple[Labels, ...]:
        return tuple(self.labels([name], 1, 3) for name in names)

    def structure(self, options: _Options) -> _Structure:
        return _Structure(
            samples=self.names(1, 2),
            components=self.names(0, options.max_components),
            properties=self.names(1, 2),
            gradients=self._gradients(options, options.depth),
        )

    def _gradients(self, options: _Options, depth: int) -> dict[str, _Structure]:
        if depth == 0 or options.max_gradients == 0:
            return {}
        parameters = self._st.lists(
            self._st.sampled_from(_PARAMETERS), unique=True, max_size=options.max_gradients
        )
        structures = {}
        for parameter in self._draw(parameters):
            samples, extra = self.names(0, 1), self.components(self.names(0, 1))
            nested = self._gradients(options, depth - 1)
            structures[parameter] = _Structure(samples, (), (), nested, extra)
        return structures

    def block(
        self,
        structure: _Structure,
        options: _Options,
        components: tuple[Labels, ...] | None = None,
        properties: Labels | None = None,
    ) -> TensorBlock:
        samples = self.labels(structure.samples, 0, options.max_entries)
        if components is None:
            components = self.components(structure.components)
        if properties is None:
            properties = self.labels(structure.properties, 0, options.max_entries)
        rng = np.random.default_rng(self.number(0, 2**16))
        return self._filled(structure, options, rng, samples, components, properties)

    def _filled(
        self,
        structure: _Structure,
        options: _Options,
        rng: np.random.Generator,
        samples: Labels,
        components: tuple[Labels, ...],
        properties: Labels,
    ) -> TensorBlock:
        shape = (len(samples), *map(len, components), len(properties))
        block = TensorBlock(_numbers(rng, shape, options.dtype), samples, components, properties)
        for parameter, inner in structure.gradients.items():
            names = ("sample", *inner.samples)
            sample = self._st.integers(0, max(len(samples) - 1, 0))
            most = 2 * options.max_entries if len(samples) else 0
            rows = self.labels(names, 0, most, first=sample)
            gradient = self._filled(
                inner, options, rng, rows, (*inner.extra, *components), properties
            )
            block.add_gradient(parameter, gradient)
        return block


def _numbers(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    low = 0 if dtype.kind in "ub" else -8
    numbers = rng.integers(low, 9, shape)
    if dtype.kind == "c":
        return ((numbers + 1j * rng.integers(low, 9, shape)) / 4).astype(dtype)
    return (numbers / 4 if dtype.kind == "f" else numbers).astype(dtype)


def _strategy(build: Callable[[_Maker], T]) -> SearchStrategy[T]:
    from hypothesis import strategies

    @strategies.composite
    def example(draw: DrawFn) -> T:
        return build(_Maker(draw))

    return example()
