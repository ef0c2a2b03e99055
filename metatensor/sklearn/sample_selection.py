"""Selection of samples."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base, _selection
from metatensor.sklearn._counts import fractions
from metatensor.sklearn._transformation import LabelTransformer
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]


class SampleSelector(LabelTransformer):
    """Keep few samples of each block that stand for all of them, such as inducing points.

    Components and properties together are the features of a sample: neither distances nor
    leverages change with rotations, so that this is for all kinds of blocks.

    Gradients: those of the samples that are kept; they do not count in `fit`.

    Parameters
    ----------
    method : {"fps", "cur"}, default="fps"
        how to choose samples one by one: each as far as possible from those before it (farthest
        point sampling), or each with the largest leverage after all were made orthogonal to those
        before it (CUR decomposition)
    n_to_select : int, float, None, or dict of these by key, default=None
        how many samples to keep in each block: a number (blocks with fewer keep all), a fraction,
        or half of them for None. Keys of a dict are those of X, as entries or tuples
    initialize : {"norm", "random"} or int, default="norm"
        for "fps", what to choose first in each block: the sample with the largest norm, any, or
        the one at this position
    random_state : int, RandomState or None, default=None
        for ``initialize="random"``

    Attributes
    ----------
    support_ : dict of LabelsEntry to Labels
        the samples of each block that are kept, in the order of X
    order_ : dict of LabelsEntry to Labels
        the same in the order of their choice
    scores_ : TensorMap
        distance of each sample in `order_` to the nearest of those before it (the Hausdorff
        distance of these to all samples; infinity for the first one), or its leverage when it was
        chosen; one property "score"
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block

    See Also
    --------
    FPSSelector, CURSelector : choose properties

    Notes
    -----
    This is no step of a pipeline that ends with a regressor: samples that are left out would still
    be in y, which is therefore refused. Rows stay the rows they are; those whose samples are all
    gone are rows without samples.

    The algorithms are those of Eldar, Lindenbaum, Porat and Zeevi, IEEE Trans. Image Process. 6,
    1305 (1997), and of Imbalzano, Anelli, Giofré, Klees, Behler and Ceriotti, J. Chem. Phys. 148,
    241730 (2018). Fewer samples are kept if those that are left coincide with chosen ones, or are
    linear combinations of them for "cur".

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import SampleSelector
    >>> values = np.array([[5.0, 1.0], [5.0, 1.1], [0.0, 1.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 3), [], Labels.range("n", 2))
    >>> X = TensorMap(Labels.single(), [block])
    >>> SampleSelector(n_to_select=2).fit_transform(X).block().samples
    Labels
        atom
         1
         2

    """

    def __init__(
        self,
        method: Literal["fps", "cur"] = "fps",
        n_to_select: Any = None,
        *,
        initialize: Any = "norm",
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.n_to_select = n_to_select
        self.initialize = initialize
        self.random_state = random_state

    def fit(self, X: Any, y: None = None) -> SampleSelector:
        """Choose the samples to keep.

        Parameters
        ----------
        X : TensorMap or Rows
            without NaN; gradients do not count
        y : None
            there is no y for what is left

        Returns
        -------
        SampleSelector
            self, fitted

        Raises
        ------
        TypeError
            if X has no labels, or there is a y
        ValueError
            if a parameter is not possible

        """
        if y is not None:
            raise TypeError(
                "SampleSelector leaves out samples of X that would still be in y; use it before "
                "the pipeline, `SampleSelector().fit_transform(X)`, and without y"
            )
        _base.check_choice(self.method, "method", ("fps", "cur"))
        tensor = self._tensor(X)
        _base.check_finite(tensor, "X")
        limits = [len(block._samples) for block in tensor]
        counts = fractions(self.n_to_select, tensor._keys, limits, "n_to_select", "samples")
        random = check_random_state(self.random_state)
        choices = [
            self._choice(block, count, random) for block, count in zip(tensor, counts, strict=True)
        ]
        self._remember_features(tensor)
        self._keep(tensor, choices)
        return self

    def _choice(
        self, block: TensorBlock, count: int, random: np.random.RandomState
    ) -> tuple[Positions, Array]:
        """Return where the chosen samples of a block are, and their scores."""
        if not count:
            return np.zeros(0, dtype=np.intp), np.zeros(0)
        order = _selection.order_of(block._samples)
        rows = _features(block)[order]
        if self.method == "cur":
            positions, scores = _selection.leverage(rows, count)
            return order[positions], scores
        squares = np.einsum("rc,rc->r", rows, rows)
        first = _selection.starting_point(squares, order, self.initialize, random)
        positions, distances = _selection.farthest_points(rows, count, first)
        return order[positions], np.sqrt(distances)

    def _keep(self, tensor: TensorMap, choices: list[tuple[Positions, Array]]) -> None:
        self.support_: dict[LabelsEntry, Labels] = {}
        self.order_: dict[LabelsEntry, Labels] = {}
        scores = []
        for (key, block), (positions, score) in zip(tensor.items(), choices, strict=True):
            samples = block._samples
            self.support_[key] = samples._like(samples._table[np.sort(positions)])
            self.order_[key] = samples._like(samples._table[positions])
            like = _base.to_float64(block._values[:0, ...])
            column = _arrays.from_host(score[:, None], like)
            labels = Labels.range("score", 1)
            scores.append(TensorBlock._of(column, self.order_[key], (), labels))
        self.scores_ = TensorMap._of(tensor._keys, scores)

    def transform(self, X: Any) -> Any:
        """Leave out samples.

        Parameters
        ----------
        X : TensorMap or Rows
            with the chosen samples, and the keys and properties of the X in `fit`; blocks may be
            absent

        Returns
        -------
        TensorMap or Rows
            like X, with the samples in their order in X

        Raises
        ------
        ValueError
            if X lacks a chosen sample

        """
        self._check_container(X)
        tensor = self._aligned_features(self._tensor(X))
        blocks = [self._selected(key, block) for key, block in tensor.items()]
        return _base.like_container(X, TensorMap._of(tensor._keys, blocks, tensor._info))

    def _selected(self, key: LabelsEntry, block: TensorBlock) -> TensorBlock:
        chosen = self.support_[key]
        if set(chosen._names) != set(block._samples._names):
            raise ValueError(
                f"X has the sample names {block._samples.names}, but SampleSelector was fitted on "
                f"{chosen.names}"
            )
        positions = _alignment.find(chosen, block._samples)
        if (positions < 0).any():
            raise ValueError(
                "X must have all the samples that were chosen, the block with key "
                f"{key.print()} lacks {_base.entries_text(chosen, positions < 0)}"
            )
        return _alignment.take_samples(block, np.sort(positions))


def _features(block: TensorBlock) -> Array:
    """Return one row for each sample, with all components and properties."""
    values: Array = _arrays.to_host(_base.to_float64(block._values))
    return values.reshape(len(values), math.prod(values.shape[1:]))
