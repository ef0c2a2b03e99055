"""A kernel model of one block of y: its rows, what it is solved for, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.operations.reductions import sum_over_samples
from metatensor.sklearn import _alignment, _base, _representers
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._dual import DualSolution
from metatensor.sklearn._representers import Layout, Links
from metatensor.tensor import TensorMap

Matrix = npt.NDArray[np.float64]
AnyBlock: TypeAlias = (
    _representers.KernelBlock | _representers.LinearBlock | _representers.PrecomputedBlock
)
Weights: TypeAlias = dict[str | None, Matrix]
Make: TypeAlias = Callable[[LabelsEntry, TensorBlock, Links, Layout], AnyBlock]

_PART = "_part"


class KernelModel:
    """The model of one block of y.

    Parameters
    ----------
    key : LabelsEntry
        key of the block
    layout : Layout
        its rows
    blocks : dict of LabelsEntry to TensorBlock
        the blocks of X that it is predicted from
    make : callable
        returns what a block of X contributes
    mean : bool
        whether rows are means over their samples

    """

    def __init__(
        self,
        key: LabelsEntry,
        layout: Layout,
        blocks: Mapping[LabelsEntry, TensorBlock],
        make: Make,
        mean: bool,
    ) -> None:
        self.key, self.layout, self._mean = key, layout, mean
        links = {name: _representers.link(name, block, layout) for name, block in blocks.items()}
        samples = layout.block._samples
        found = np.zeros(len(samples), bool)
        for part in links.values():
            found[part.owners[part.owners >= 0]] = True
        if not found.all():
            raise ValueError(
                f"X must have all the samples of y, the blocks for the key {key.print()} lack "
                f"{_base.entries_text(samples, ~found)}"
            )
        self._blocks = {
            name: make(name, block, links[name], layout) for name, block in blocks.items()
        }
        self._shares = np.ones(layout.n_rows)
        if mean:
            self._shares = 1 / _sample_counts(blocks.values(), samples)[layout.samples]

    # ---- fitting

    def gram(self) -> Matrix:
        """Return the kernel of all rows."""
        half = np.zeros((self.layout.n_rows + 1, self.layout.n_rows + 1))
        for block in self._blocks.values():
            block.add_half_to(half)
        gram: Matrix = half[:-1, :-1] + half[:-1, :-1].T
        if self._mean:
            gram *= self._shares
            gram *= self._shares[:, None]
        if not np.isfinite(gram).all():
            raise ValueError(
                f"the kernel of X is not finite, for the block of y with key {self.key.print()}; "
                "scale X, or choose other parameters of the kernel"
            )
        return gram

    def solve(self, weights: Matrix, alpha: float) -> None:
        """Find the numbers of all rows.

        Parameters
        ----------
        weights : array, (n_rows, 1 or n_targets)
        alpha : float

        """
        gram, targets = self.gram(), self.layout.targets()
        n_targets = targets.shape[1]
        shared = weights.shape[1] == 1
        columns = [slice(0, n_targets)] if shared else [slice(t, t + 1) for t in range(n_targets)]
        try:
            self._solutions = [
                DualSolution(gram, targets[:, part], weight, alpha)
                for part, weight in zip(columns, weights.T)
            ]
        except LinAlgError as error:
            raise LinAlgError(
                "the kernel matrix plus `alpha` is singular to double precision, for the block of "
                f"y with key {self.key.print()}; use a larger `alpha`"
            ) from error
        self.dual = np.concatenate([solution.dual for solution in self._solutions], axis=1)
        shares = self._shares[:, None] * self.dual
        self._predictors = {name: block.predictor(shares) for name, block in self._blocks.items()}
        self._scale: Matrix | None = None

    @property
    def scale(self) -> Matrix:
        """The calibration of standard deviations, (n_targets,)."""
        if self._scale is None:
            layout = self.layout
            parts = [s.left_out(layout.samples, layout.n_values) for s in self._solutions]
            self._scale = np.sqrt(np.concatenate(parts))
        return self._scale

    # ---- prediction

    def predict(self, features: TensorMap, rows: Labels | None) -> TensorBlock:
        """Predict a block, with all of some rows if they are samples of it."""
        properties = self.layout.block._properties
        parts = [
            self._predictors[key].predict(block, properties)
            for key, block in features.items()
            if key in self._predictors
        ]
        if not parts:
            parts = [_without_samples(features._blocks[0], self.layout.block)]
        block = _added(parts, self.layout.block._samples)
        if rows is not None and set(rows._names) == set(block._samples._names):
            block = _alignment.spread_samples(block, rows)
        return self._shared(features, block) if self._mean else block

    def _own(self, features: TensorMap) -> dict[LabelsEntry, TensorBlock]:
        return {key: block for key, block in features.items() if key in self._blocks}

    def _shared(self, features: TensorMap, block: TensorBlock) -> TensorBlock:
        """Divide sums by the numbers of samples."""
        counts = _sample_counts(self._own(features).values(), block._samples)
        shares = _arrays.from_host(1 / np.maximum(counts, 1), block._values)

        def scaled(part: TensorBlock, samples: npt.NDArray[np.integer]) -> TensorBlock:
            values = _arrays.scale_rows(shares, samples, part._values)
            gradients = {
                name: scaled(gradient, gradient._samples._table[:, 0])
                for name, gradient in part._gradients.items()
            }
            return TensorBlock._of(
                values, part._samples, part._components, part._properties, gradients
            )

        return scaled(block, np.arange(len(block._samples)))

    def deviations(self, features: TensorMap, block: TensorBlock) -> TensorBlock:
        """Return the standard deviations of predicted values."""
        samples = block._samples
        n_rows = len(samples) * self.layout.entries[VALUES]
        cross, own = np.zeros((n_rows, self.layout.n_rows)), np.zeros(n_rows)
        blocks = self._own(features)
        for key, given in blocks.items():
            owners = _representers.owners_of(given, samples)
            parts = self._blocks[key].cross(given, owners, len(samples))
            cross += parts[0]
            own += parts[1]
        if self._mean:
            counts = np.maximum(_sample_counts(blocks.values(), samples), 1)
            counts = np.repeat(counts, self.layout.entries[VALUES])
            cross *= self._shares / counts[:, None]
            own /= counts**2
        columns = []
        for solution in self._solutions:
            variances = solution.variances(cross, own)[:, None]
            columns.append(np.repeat(variances, solution.dual.shape[1], axis=1))
        deviations = self.scale * np.sqrt(np.concatenate(columns, axis=1))
        values = _arrays.from_host(deviations.reshape(block._values.shape), block._values)
        return TensorBlock._of(values, samples, block._components, block._properties)


def _sample_counts(blocks: Iterable[TensorBlock], samples: Labels) -> Matrix:
    """Return how many different samples of some blocks belong to each of the given ones."""
    names: tuple[str, ...] = ()
    tables = []
    for block in blocks:
        names = names or block._samples._names
        tables.append(_alignment.columns(block._samples, names))
    if not tables:
        return np.zeros(len(samples))
    different = Labels._of(names, np.unique(np.concatenate(tables), axis=0))
    owners = samples._index.find_many(_alignment.columns(different, samples._names))
    return np.bincount(owners[owners >= 0], minlength=len(samples)).astype(np.float64)


def _without_samples(block: TensorBlock, like: TensorBlock) -> TensorBlock:
    """Return a prediction without samples, for lack of blocks to predict from."""
    none = _alignment.take_samples(block, np.empty(0, np.intp))
    shape = (len(block._properties), len(like._properties))
    zeros = _arrays.full(shape, 0, _base.as_float(block._values))

    def multiply(values: _arrays.Array) -> _arrays.Array:
        return _base.times(values, zeros)

    return _base.map_block(none, like._properties, multiply, multiply)


def _added(parts: list[TensorBlock], samples: Labels) -> TensorBlock:
    """Add up blocks, and what belongs to the same of the given names of samples."""
    extra = [name for name in parts[0]._samples._names if name not in samples._names]
    if len(parts) == 1 and not extra:
        return parts[0]
    tensor = TensorMap._of(Labels.range(_PART, len(parts)), parts)
    tensor = tensor.keys_to_samples(_PART)
    return sum_over_samples(tensor, [*extra, _PART]).block_by_id(0)
