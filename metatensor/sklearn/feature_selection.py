"""Selection of properties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
from sklearn.utils import check_random_state

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _base, _selection
from metatensor.sklearn._counts import fractions
from metatensor.sklearn._least_squares import NormalEquations
from metatensor.sklearn._moments import Moments, folded_rows
from metatensor.sklearn._property_selection import PropertySelector

if TYPE_CHECKING:
    from typing import Self

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]


class VarianceThreshold(PropertySelector):
    """Keep the properties whose variance exceeds a threshold.

    Component axes are folded into rows, so that all components of a property stay or go. Blocks
    that are not invariant to rotations (with a component axis of more than one entry, "o3_lambda"
    other than 0 or "o3_sigma" other than 1) have no mean: what counts is the mean square over
    samples and components. Blocks stay, if need be without properties.

    Gradients: the same properties are kept; they do not count in `fit`.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.feature_selection.VarianceThreshold`.

    Parameters
    ----------
    threshold : float, default=0.0
        properties with this variance or less are left out: by default, what is the same in all
        samples

    Attributes
    ----------
    variances_ : TensorMap or array (n_features,)
        variance, or mean square, of each property; a map has one sample in each block
    support_ : dict of LabelsEntry to Labels, or array of bool (n_features,)
        the properties of each block that are kept; a mask for arrays
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    sklearn.feature_selection.VarianceThreshold : the transformer for arrays

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import VarianceThreshold
    >>> block = TensorBlock(
    ...     np.array([[1.0, 0.1], [1.0, 0.3]]), Labels.range("system", 2), [], Labels.range("n", 2)
    ... )
    >>> X = TensorMap(Labels.single(), [block])
    >>> VarianceThreshold().fit_transform(X).block().properties
    Labels
        n
        1

    """

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def fit(self, X: Any, y: Any = None) -> VarianceThreshold:
        """Find the variances, and with them the properties to keep.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            without NaN; gradients do not count
        y : None
            not used

        Returns
        -------
        VarianceThreshold
            self, fitted

        Raises
        ------
        ValueError
            if no property has a variance above the threshold

        """
        _base.check_not_negative(self.threshold, "threshold", "a number")
        self.__dict__.pop("_labels_out", None)
        tensor = _base.to_tensor(self._labelled_features(X, reset=True))
        _base.check_finite(tensor, "X")
        variances = [_variance(key, block) for key, block in tensor.items()]
        masks = [variance > self.threshold for variance in variances]
        if not any(mask.any() for mask in masks):
            n_samples = sum(len(block._samples) for block in tensor)
            raise ValueError(
                f"no property of X has a variance above the threshold, {self.threshold}"
                + (" (X contains only one sample)" if n_samples == 1 else "")
            )
        like = _base.to_float64(tensor._blocks[0]._values[:0, ...])
        self.variances_ = self._learnt(
            tensor._keys, [_arrays.from_host(variance, like) for variance in variances]
        )
        self._keep(tensor, masks)
        return self


def _variance(key: LabelsEntry, block: TensorBlock) -> Array:
    """Return the variance of each property, or the mean square if there is no mean."""
    moments = Moments(len(block._properties), _base.is_invariant(key, block))
    moments.add(block._values, np.ones(len(block._samples)))
    if not moments.centered:
        return moments.variance
    values = _arrays.detach(block._values)
    axes = tuple(range(values.ndim - 1))
    constant = _arrays.namespace(values).all(values == values[:1, ...], axis=axes)
    # what is constant may have a variance by rounding
    return np.where(_arrays.to_host(constant), 0.0, moments.variance)


class _ChosenProperties(PropertySelector):
    """What chooses properties one by one, given the scalar products of all of them."""

    n_to_select: Any
    random_state: Any = None
    order_: dict[LabelsEntry, Labels] | Positions
    scores_: Any

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the properties to keep.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            without NaN; gradients do not count
        y : None
            not used

        Returns
        -------
        self
            fitted

        Raises
        ------
        ValueError
            if a parameter is not possible, or nothing can be chosen

        """
        self.__dict__.pop("_labels_out", None)
        tensor = _base.to_tensor(self._labelled_features(X, reset=True))
        _base.check_finite(tensor, "X")
        limits = [len(block._properties) for block in tensor]
        counts = fractions(self.n_to_select, tensor._keys, limits, "n_to_select", "properties")
        random = check_random_state(self.random_state)
        choices = [self._chosen(block, n, random) for block, n in zip(tensor, counts, strict=True)]
        if not any(len(positions) for positions, _ in choices):
            raise ValueError(f"{type(self).__name__} needs properties that are not zero in X")
        masks = [
            np.isin(np.arange(limit), positions)
            for limit, (positions, _) in zip(limits, choices, strict=True)
        ]
        self._keep(tensor, masks)
        order = {
            key: block._properties._like(block._properties._table[positions])
            for (key, block), (positions, _) in zip(tensor.items(), choices, strict=True)
        }
        like = _base.to_float64(tensor._blocks[0]._values[:0, ...])
        scores = [_arrays.from_host(scores, like) for _, scores in choices]
        self.scores_ = self._learnt(tensor._keys, scores, order.values())
        self.order_ = order if self._is_labelled else choices[0][0]
        return self

    def _chosen(
        self, block: TensorBlock, count: int, random: np.random.RandomState
    ) -> tuple[Positions, Array]:
        """Return where the chosen properties of a block are, and their scores."""
        if not count:
            return np.zeros(0, dtype=np.intp), np.zeros(0)
        order = _selection.order_of(block._properties)
        gram = _scalar_products(block)[np.ix_(order, order)]
        positions, scores = self._choice(gram, order, count, random)
        return order[positions], scores

    def _choice(
        self, gram: Array, order: Positions, count: int, random: np.random.RandomState
    ) -> tuple[Positions, Array]:
        """Choose by scalar products of properties, which are sorted: `order` is where they were."""
        raise NotImplementedError


class FPSSelector(_ChosenProperties):
    """Keep properties that are far from each other: farthest point sampling.

    Properties are chosen one by one, each as far as possible from those before it; the distance
    is that of the columns, ``sqrt(sum((x_i - x_j)**2))`` over samples and components. It does not
    change with rotations, so that this is for all kinds of blocks: component axes are folded into
    rows, and all components of a property stay or go.

    Gradients: the same properties are kept; they do not count in `fit`.

    Plain 2-D arrays are taken as well.

    Parameters
    ----------
    n_to_select : int, float, None, or dict of these by key, default=None
        how many properties to keep in each block: a number (blocks with fewer keep all), a
        fraction, or half of them for None. Keys of a dict are those of X, as entries or tuples
    initialize : {"norm", "random"} or int, default="norm"
        what to choose first in each block: the property with the largest sum of squares, any, or
        the one at this position
    random_state : int, RandomState or None, default=None
        for ``initialize="random"``

    Attributes
    ----------
    support_ : dict of LabelsEntry to Labels, or array of bool (n_features,)
        the properties of each block that are kept, in the order of X; a mask for arrays
    order_ : dict of LabelsEntry to Labels, or array of int (n_kept_features,)
        the same in the order of their choice; positions for arrays
    scores_ : TensorMap or array (n_kept_features,)
        distance of each property in `order_` to the nearest of those before it (the Hausdorff
        distance of these to all properties); infinity for the first one
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    CURSelector : choose what explains the most
    SampleSelector : choose samples

    Notes
    -----
    The algorithm is that of Eldar, Lindenbaum, Porat and Zeevi, IEEE Trans. Image Process. 6, 1305
    (1997), and works on the matrix of all scalar products of properties. Fewer properties are kept
    if those that are left coincide with chosen ones. Distances below 1e-7 of the norm count as
    zero.

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import FPSSelector
    >>> values = np.array([[3.0, 2.9, 0.1], [4.0, 4.1, 0.1]])
    >>> block = TensorBlock(values, Labels.range("system", 2), [], Labels.range("n", 3))
    >>> X = TensorMap(Labels.single(), [block])
    >>> FPSSelector(n_to_select=2).fit_transform(X).block().properties
    Labels
        n
        1
        2

    """

    def __init__(
        self, n_to_select: Any = None, *, initialize: Any = "norm", random_state: Any = None
    ) -> None:
        self.n_to_select = n_to_select
        self.initialize = initialize
        self.random_state = random_state

    def _choice(
        self, gram: Array, order: Positions, count: int, random: np.random.RandomState
    ) -> tuple[Positions, Array]:
        first = _selection.starting_point(np.diagonal(gram), order, self.initialize, random)
        positions, squares = _selection.farthest_of_gram(gram, count, first)
        return positions, np.sqrt(squares)


class CURSelector(_ChosenProperties):
    """Keep the properties that explain the most of all others: CUR decomposition.

    Properties are chosen one by one, each with the largest leverage (the sum of squares of its
    entries in the first right singular vectors), and all are made orthogonal to it before the next
    choice. Component axes are folded into rows, and all components of a property stay or go: the
    choice does not change with rotations, so that this is for all kinds of blocks. No mean is
    removed.

    Gradients: the same properties are kept; they do not count in `fit`.

    Plain 2-D arrays are taken as well.

    Parameters
    ----------
    n_to_select : int, float, None, or dict of these by key, default=None
        how many properties to keep in each block: a number (blocks with fewer keep all), a
        fraction, or half of them for None. Keys of a dict are those of X, as entries or tuples
    n_singular : int, default=1
        number of singular vectors that count

    Attributes
    ----------
    support_ : dict of LabelsEntry to Labels, or array of bool (n_features,)
        the properties of each block that are kept, in the order of X; a mask for arrays
    order_ : dict of LabelsEntry to Labels, or array of int (n_kept_features,)
        the same in the order of their choice; positions for arrays
    scores_ : TensorMap or array (n_kept_features,)
        leverage of each property in `order_` when it was chosen
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    FPSSelector : choose what is far from each other
    SampleSelector : choose samples

    Notes
    -----
    The algorithm is that of Imbalzano, Anelli, Giofré, Klees, Behler and Ceriotti, J. Chem. Phys.
    148, 241730 (2018), and works on the matrix of all scalar products of properties. Fewer
    properties are kept if they explain all others, to 1e-7 of the norm of the block.

    The time of each choice grows with the cube of the number of properties, that of
    :class:`FPSSelector` with this number: which is what to use first for thousands of properties.

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import CURSelector
    >>> values = np.array([[3.0, 6.0, 0.1], [4.0, 8.0, 0.0]])
    >>> block = TensorBlock(values, Labels.range("system", 2), [], Labels.range("n", 3))
    >>> X = TensorMap(Labels.single(), [block])
    >>> CURSelector(n_to_select=2).fit_transform(X).block().properties
    Labels
        n
        1
        2

    """

    def __init__(self, n_to_select: Any = None, *, n_singular: int = 1) -> None:
        self.n_to_select = n_to_select
        self.n_singular = n_singular

    def _choice(
        self, gram: Array, order: Positions, count: int, random: np.random.RandomState
    ) -> tuple[Positions, Array]:
        if _checks.require_int(self.n_singular, "n_singular") < 1:
            raise ValueError(f"`n_singular` must be from 1 on, got {self.n_singular}")
        return _selection.leverage(_root(gram), count, self.n_singular)


def _scalar_products(block: TensorBlock) -> Array:
    """Return the scalar products of properties, over samples and components."""
    sums = NormalEquations(len(block._properties), 0, centered=False)
    for _, rows in folded_rows(block._values):
        sums.add(rows, rows[:, :0], None)
    return sums.reduced().features


def _root(gram: Array) -> Array:
    """Return rows with these scalar products."""
    squares, vectors = scipy.linalg.eigh(gram, check_finite=False)
    root: Array = vectors * np.sqrt(np.maximum(squares, 0.0))
    return root
