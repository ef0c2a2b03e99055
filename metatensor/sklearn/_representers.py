"""What a kernel model is a sum over: the values and gradients of the systems it was fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _array_groups, _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base, _kernels, _sample_sums
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._sample_sums import Directions, Samples

Positions = npt.NDArray[np.intp]
Matrix = npt.NDArray[np.float64]


class Layout:
    """The rows of a block of y, with a row for each entry of the components.

    Values come first, then one gradient after the other.

    Parameters
    ----------
    block : TensorBlock
        a block of y
    parameters : sequence of str
        the gradients to use

    """

    def __init__(self, block: TensorBlock, parameters: Sequence[str]) -> None:
        self.block = block
        self.parts: dict[str | None, TensorBlock] = {VALUES: block}
        self.parts.update((name, block._gradients[name]) for name in parameters)
        self.entries: dict[str | None, int] = {}
        self.starts: dict[str | None, int] = {}
        samples = []
        self.n_rows = 0
        for name, part in self.parts.items():
            self.entries[name] = math.prod(part._values.shape[1:-1])
            self.starts[name] = self.n_rows
            numbers = part._samples._table[:, 0] if name else np.arange(len(part._samples))
            samples.append(np.repeat(numbers, self.entries[name]))
            self.n_rows += len(numbers) * self.entries[name]
        #: the sample of y that each row belongs to
        self.samples = np.concatenate(samples)
        self.n_values = len(block._samples) * self.entries[VALUES]

    def targets(self) -> Matrix:
        """Return what is to be predicted, (n_rows, n_targets)."""
        n_targets = len(self.block._properties)
        parts = [_base.to_float64(part._values) for part in self.parts.values()]
        return np.concatenate([_arrays.to_host(part).reshape(-1, n_targets) for part in parts])

    def fill(self, dual: _arrays.Array) -> TensorBlock:
        """Return numbers for the rows (n_rows, n_targets) as a block like that of y."""
        xp = _arrays.namespace(dual)
        made = {}
        for name, part in self.parts.items():
            start, shape = self.starts[name], part._values.shape
            values = xp.reshape(dual[start : start + math.prod(shape[:-1]), :], shape)
            made[name] = (values, part._samples, part._components, part._properties)
        gradients = {name: TensorBlock._of(*made[name]) for name in made if name is not None}
        return TensorBlock._of(*made[VALUES], gradients)


class Links(NamedTuple):
    """Where the samples and gradient rows of a block of X belong to in one of y."""

    owners: Positions  # sample of y, -1 for none
    rows: dict[str, Positions]  # gradient row of y, -1 for none


def link(key: LabelsEntry, block: TensorBlock, layout: Layout) -> Links:
    """Find by their labels what the samples and gradient rows of a block of X belong to."""
    if block._components != layout.block._components:
        raise ValueError(
            f"y and X must have the same components in the block of X with key {key.print()}, got "
            f"{_base.components_text(layout.block)} and {_base.components_text(block)}"
        )
    owners = owners_of(block, layout.block._samples)
    rows = {}
    for name, wanted in layout.parts.items():
        if name is None:
            continue
        given = block._gradients[name]
        if given._components != wanted._components:
            raise ValueError(
                f"y and X must have the same components in the gradient {name!r} of the block of X "
                f"with key {key.print()}, got {_base.components_text(wanted)} and "
                f"{_base.components_text(given)}"
            )
        rows[name] = _alignment.find_gradient_rows(given, wanted, owners)
    return Links(owners, rows)


def owners_of(block: TensorBlock, samples: Labels) -> Positions:
    """Return which of the samples, with fewer names, each sample of a block belongs to."""
    return samples._index.find_many(_alignment.columns(block._samples, samples._names))


class LinearBlock:
    """A block of X under the linear kernel, where samples and directions can be summed first.

    Parameters
    ----------
    block : TensorBlock
        of X
    links : Links
    layout : Layout
        the rows of y

    """

    def __init__(self, block: TensorBlock, links: Links, layout: Layout) -> None:
        n_samples = len(layout.block._samples)
        parts = [_summed(block._values, links.owners, n_samples)]
        for name, rows in links.rows.items():
            gradient = block._gradients[name]
            parts.append(_summed(gradient._values, rows, len(layout.parts[name]._samples)))
        self._rows = _arrays.namespace(parts[0]).concat(parts, axis=0)

    def add_half_to(self, half: Matrix) -> None:
        """Add what is, plus its transpose, the kernel of all rows and of one that is none."""
        transposed = _arrays.namespace(self._rows).matrix_transpose(self._rows)
        half[:-1, :-1] += 0.5 * _arrays.to_host(self._rows @ transposed)

    def cross(self, block: TensorBlock, owners: Positions, n_owners: int) -> tuple[Matrix, Matrix]:
        """Return the kernel of new rows with all rows, and with themselves."""
        new = _summed(_kernels.moved(block._values, self._rows), owners, n_owners)
        xp = _arrays.namespace(new)
        products = new @ xp.matrix_transpose(self._rows)
        return _arrays.to_host(products), _arrays.to_host(xp.sum(new * new, axis=1))

    def predictor(self, dual: Matrix) -> LinearPredictor:
        """Return what predicts, given the numbers of the rows, (n_rows, n_targets)."""
        transposed = _arrays.namespace(self._rows).matrix_transpose(self._rows)
        return LinearPredictor(transposed @ _arrays.from_host(dual, self._rows))


class PrecomputedBlock:
    """A matrix whose rows and columns are the samples of y.

    Parameters
    ----------
    block : TensorBlock
        of X, (n_samples, n_samples)
    links : Links
    layout : Layout
        the rows of y

    """

    def __init__(self, block: TensorBlock, links: Links, layout: Layout) -> None:
        self._size = len(block._properties)
        self._kept = np.flatnonzero(links.owners >= 0)
        self._gram = _arrays.to_host(_base.to_float64(block._values))[
            np.ix_(self._kept, self._kept)
        ]
        self._like = _base.to_float64(block._values[:0, ...])

    def add_half_to(self, half: Matrix) -> None:
        """Add what is, plus its transpose, the kernel of all rows and of one that is none."""
        half[:-1, :-1] += 0.5 * self._gram

    def cross(self, block: TensorBlock, owners: Positions, n_owners: int) -> tuple[Matrix, Matrix]:
        """Refuse: the kernel of new rows with themselves is not known."""
        raise ValueError(
            "return_std=True needs the kernel of X with itself, which kernel='precomputed' does "
            "not tell; use a named kernel or a callable"
        )

    def predictor(self, dual: Matrix) -> LinearPredictor:
        """Return what predicts, given the numbers of the rows, (n_rows, n_targets)."""
        matrix = np.zeros((self._size, dual.shape[1]))
        matrix[self._kept] = dual
        return LinearPredictor(_arrays.from_host(matrix, self._like))


class KernelBlock:
    """A block of X under another kernel.

    Parameters
    ----------
    kernel : Kernel or Custom
    block : TensorBlock
        of X
    links : Links
    layout : Layout
        the rows of y

    """

    def __init__(
        self,
        kernel: _kernels.Kernel | _kernels.Custom,
        block: TensorBlock,
        links: Links,
        layout: Layout,
    ) -> None:
        self._kernel = kernel
        self._x = _kernels.rows_of(_arrays.detach(block._values))
        self._owners = links.owners
        self._n_rows = layout.n_rows
        self._directions = []
        for name, rows in links.rows.items():
            values = block._gradients[name]._values
            n_components = math.prod(values.shape[1:-1])
            values = _arrays.reshape(values, (values.shape[0], n_components, values.shape[-1]))
            samples = block._gradients[name]._samples._table[:, 0].astype(np.intp)
            rows = np.where(rows < 0, -1, layout.starts[name] + rows * n_components)
            self._directions.append(Directions(values, samples, rows))

    def _samples(self) -> Samples:
        return Samples(self._x, self._owners, self._directions, self._n_rows)

    def add_half_to(self, half: Matrix) -> None:
        """Add what is, plus its transpose, the kernel of all rows and of one that is none."""
        samples = self._samples()
        for n, left in enumerate(samples.value_groups()):
            for m, right in enumerate(samples.value_groups(n)):
                part = _arrays.to_host(_sample_sums.value_sums(self._kernel, left, right))
                _add(half, left.owners, right.owners, part if m else 0.5 * part)
        if isinstance(self._kernel, _kernels.Custom):
            return
        for n, left in enumerate(samples.gradient_groups()):
            rows = left.rows.reshape(-1)
            for right in samples.value_groups():
                sums = _sample_sums.gradient_value_sums(self._kernel, left, right)
                part = _arrays.to_host(sums).reshape(len(rows), -1)
                _add(half, rows, right.owners, part)
            pieces = list(left.pieces(self._n_rows))
            for m, right in enumerate(samples.gradient_groups(n)):
                across = _sample_sums.Across(right)
                columns = right.rows.reshape(-1)
                for x, u, piece_rows in pieces:
                    sums = _arrays.to_host(_sample_sums.gradient_sums(self._kernel, x, u, across))
                    part = sums.transpose(1, 0, 2).reshape(len(piece_rows), len(columns))
                    _add(half, piece_rows, columns, part if m else 0.5 * part)

    def cross(self, block: TensorBlock, owners: Positions, n_owners: int) -> tuple[Matrix, Matrix]:
        """Return the kernel of new rows with all rows, and with themselves."""
        x = _kernels.rows_of(_kernels.moved(block._values, self._x))
        samples, new = self._samples(), Samples(x, owners)
        padded = np.zeros((n_owners, self._n_rows + 1))
        diagonal = np.zeros(n_owners)
        for right in new.value_groups():
            for left in samples.value_groups():
                sums = _sample_sums.value_sums(self._kernel, right, left)
                _add(padded, right.owners, left.owners, _arrays.to_host(sums))
            if isinstance(self._kernel, _kernels.Kernel):
                for left in samples.gradient_groups():
                    sums = _sample_sums.gradient_value_sums(self._kernel, left, right)
                    part = _arrays.to_host(sums).reshape(left.rows.size, -1).T
                    _add(padded, right.owners, left.rows.reshape(-1), part)
            for left in new.value_groups():
                same = left.owners[:, None] == right.owners
                if same.any():
                    sums = _arrays.to_host(_sample_sums.value_sums(self._kernel, left, right))
                    diagonal[left.owners[same.any(axis=1)]] += sums[same]
        return padded[:, :-1], diagonal

    def predictor(self, dual: Matrix) -> KernelPredictor:
        """Return what predicts, given the numbers of the rows, (n_rows, n_targets)."""
        known = self._owners >= 0
        weights = np.zeros((len(known), dual.shape[1]))
        weights[known] = dual[self._owners[known]]
        slopes = []
        for target in dual.T if self._directions else ():
            slope = _arrays.full(tuple(self._x.shape), 0.0, self._x)
            for values, samples, rows in self._directions:
                used = np.flatnonzero(rows >= 0)
                for chunk in _base.chunks(len(used), 8 * math.prod(values.shape[1:])):
                    kept = used[chunk]
                    taken = _base.to_float64(_arrays.take(values, kept))
                    numbers = target[rows[kept, None] + np.arange(values.shape[1])]
                    xp = _arrays.namespace(taken)
                    total = xp.sum(_arrays.from_host(numbers, taken)[..., None] * taken, axis=1)
                    slope = slope + _array_groups.segment_sum(total, samples[kept], len(known))
            slopes.append(slope)
        return KernelPredictor(self._kernel, self._x, _arrays.from_host(weights, self._x), slopes)


class LinearPredictor:
    """A linear function of the features.

    Parameters
    ----------
    matrix : array, (n_features, n_targets)

    """

    def __init__(self, matrix: _arrays.Array) -> None:
        self._matrix = matrix

    def predict(self, block: TensorBlock, properties: Labels) -> TensorBlock:
        """Predict values and gradients of all samples."""
        values = _base.as_float(block._values)
        matrix = _kernels.moved(self._matrix, values)
        matrix = _arrays.namespace(values).astype(matrix, values.dtype, copy=False)

        def multiply(array: _arrays.Array) -> _arrays.Array:
            return _base.times(array, matrix)

        return _base.map_block(block, properties, multiply, multiply)


class KernelPredictor:
    """A sum over samples z_j of c_j k(x, z_j), and of derivatives of k along g_j at z_j.

    Parameters
    ----------
    kernel : Kernel or Custom
    z : array, (n_samples, n_features)
    c : array, (n_samples, n_targets)
    slopes : list of array, (n_samples, n_features)
        g for each target; none if there are only values

    """

    def __init__(
        self,
        kernel: _kernels.Kernel | _kernels.Custom,
        z: _arrays.Array,
        c: _arrays.Array,
        slopes: list[_arrays.Array],
    ) -> None:
        self._kernel, self._z, self._c, self._slopes = kernel, z, c, slopes

    def predict(self, block: TensorBlock, properties: Labels) -> TensorBlock:
        """Predict values, and gradients if the kernel has derivatives, of all samples."""
        x = _kernels.rows_of(block._values)
        xp = _arrays.namespace(x)
        with_slopes = isinstance(self._kernel, _kernels.Kernel) and bool(block._gradients)
        here = self._moved(x)
        chunks = list(_base.chunks(x.shape[0], 64 * self._z.shape[0]))
        chunks = chunks or [slice(0, 0)]
        values = xp.concat([here._values(x[chunk, :]) for chunk in chunks], axis=0)
        gradients = {}
        if with_slopes:
            slopes = [
                xp.concat([here._derivative(x[chunk, :], target) for chunk in chunks], axis=0)
                for target in range(len(properties))
            ]
            gradients = {
                name: _along(gradient, slopes, properties)
                for name, gradient in block._gradients.items()
            }
        values = _like(values, block, len(properties))
        return TensorBlock._of(values, block._samples, block._components, properties, gradients)

    def _moved(self, like: _arrays.Array) -> KernelPredictor:
        """Return the same with arrays that go with those of what is predicted from."""
        z, c, *slopes = (_kernels.moved(a, like) for a in (self._z, self._c, *self._slopes))
        return KernelPredictor(self._kernel, z, c, slopes)

    def _values(self, x: _arrays.Array) -> _arrays.Array:
        values = self._kernel.values(x, self._z) @ self._c
        if not self._slopes or isinstance(self._kernel, _kernels.Custom):
            return values
        xp = _arrays.namespace(x)
        A, B = self._kernel.first_terms(self._z, x)  # along g at z, the other way round
        columns = []
        for slope in self._slopes:
            zg = xp.sum(self._z * slope, axis=1)[:, None]
            along = A * (slope @ xp.matrix_transpose(x)) + B * zg
            columns.append(xp.sum(along, axis=0)[:, None])
        return values + xp.concat(columns, axis=1)

    def _derivative(self, x: _arrays.Array, target: int) -> _arrays.Array:
        """Return the derivative with respect to the features, (n_x, n_features)."""
        assert isinstance(self._kernel, _kernels.Kernel)
        xp = _arrays.namespace(x)
        A, B = self._kernel.first_terms(x, self._z)
        c = self._c[:, target]
        along_z, along_x = A * c, B * c
        result = 0.0 * x
        if self._slopes:
            slope = self._slopes[target]
            C, D, E, F, G = self._kernel.second_terms(x, self._z)
            xg = x @ xp.matrix_transpose(slope)
            zg = xp.sum(self._z * slope, axis=1)
            along_z = along_z + D * xg + F * zg
            along_x = along_x + E * xg + G * zg
            if not _kernels.is_zero(C):
                result = result + C @ slope
        # terms that are zero are zero for all x, with one axis less
        return result + along_z @ self._z + xp.sum(along_x, axis=-1, keepdims=True) * x


def _summed(values: _arrays.Array, groups: Positions, n_groups: int) -> _arrays.Array:
    """Sum up rows, and put the entries of components below each other."""
    kept = np.flatnonzero(groups >= 0)
    values = _base.to_float64(values if len(kept) == len(groups) else _arrays.take(values, kept))
    sums = _array_groups.segment_sum(values, groups[kept], n_groups)
    shape = (n_groups * math.prod(values.shape[1:-1]), values.shape[-1])
    return _arrays.namespace(sums).reshape(sums, shape)


def _add(matrix: Matrix, rows: Positions, columns: Positions, part: Matrix) -> None:
    """Add to some rows and columns."""
    matrix[np.ix_(rows, columns)] += part


def _along(gradient: TensorBlock, slopes: list[_arrays.Array], properties: Labels) -> TensorBlock:
    """Return the products of gradient rows with the derivative at their sample."""
    samples = gradient._samples._table[:, 0].astype(np.intp)
    values = _base.as_float(gradient._values)
    xp = _arrays.namespace(values)
    axes = (slice(None), *[None] * (values.ndim - 2), slice(None))
    none = xp.sum(xp.astype(values[:0, ...], xp.float64), axis=-1, keepdims=True)
    parts = [[none] for _ in slopes]
    for chunk in _base.chunks(len(samples), 8 * math.prod(values.shape[1:])):
        for part, slope in zip(parts, slopes):
            taken = values[chunk, ...] * _arrays.take(slope, samples[chunk])[axes]
            part.append(xp.sum(taken, axis=-1, keepdims=True))
    columns = [xp.concat(part, axis=0) for part in parts]
    products = _like(xp.concat(columns, axis=-1), gradient, len(properties))
    return TensorBlock._of(products, gradient._samples, gradient._components, properties)


def _like(values: _arrays.Array, block: TensorBlock, n_targets: int) -> _arrays.Array:
    """Return predictions with the dtype and axes of a block."""
    own = _base.as_float(block._values)
    xp = _arrays.namespace(own)
    return xp.astype(xp.reshape(values, (*own.shape[:-1], n_targets)), own.dtype, copy=False)
