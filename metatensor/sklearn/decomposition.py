"""Fewer properties that carry most of the variance."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg
from sklearn.utils.validation import check_is_fitted

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _base, _selection
from metatensor.sklearn._counts import is_fraction, limited
from metatensor.sklearn._least_squares import NormalEquations, TriangularRows
from metatensor.sklearn._moments import folded_rows
from metatensor.sklearn._transformation import TensorTransformer
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)


class PCA(TensorTransformer):
    """Project properties on the directions of largest variance, block by block.

    Blocks that are not invariant to rotations (with a component axis of more than one entry,
    "o3_lambda" other than 0 or "o3_sigma" other than 1) have no mean: their directions are those
    of the largest mean square, where component axes are folded into rows, so that all components
    of a sample are projected by the same matrix.

    Gradients: multiplied by the same matrix, ``gradient @ components.T``; no mean is removed from
    them: they stay the derivatives of the values. They do not count in `fit`.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.decomposition.PCA`.

    Parameters
    ----------
    n_components : int, float, None, or dict of these by key, default=None
        how many directions to keep in each block: a number (blocks with fewer keep all), as many
        as explain more than this fraction of the variance for a float between 0 and 1, or all along
        which anything varies, but at least one, for None. Keys of a dict are those of X, as entries
        or tuples
    whiten : bool, default=False
        divide the result by its standard deviations; what does not vary is zero then
    svd_solver : {"auto", "covariance_eigh", "full"}, default="auto"
        "covariance_eigh", which is also the choice of "auto", sums up the matrix of products of
        properties; directions whose standard deviation is less than 1e-8 of the largest one are
        lost in rounding errors. "full" has singular values of triangular factors of the data
        instead: slower, and exact for small variances

    Attributes
    ----------
    components_ : TensorMap or array (n_components, n_features)
        the directions, sorted by variance; a map has a sample "component" for each one. Their
        entries of largest size are positive
    mean_ : TensorMap or array (n_features,)
        mean of each property, zero for blocks that are not invariant; a map has one sample in each
        block, as the following ones
    explained_variance_ : TensorMap or array (n_components,)
        variance along each direction (with n - 1 in the denominator; n for blocks without a mean)
    explained_variance_ratio_ : TensorMap or array (n_components,)
        its fraction of the sum of the variances of all properties
    singular_values_ : TensorMap or array (n_components,)
        root of the sum of squares of the projected rows
    n_components_ : dict of LabelsEntry to int, or int
        number of directions in each block
    n_samples_seen_ : array of int (n_blocks,), or int
        number of rows of each block: of samples, times the component entries
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    sklearn.decomposition.PCA : the transformer for arrays
    FPSSelector, CURSelector : keep some of the properties as they are

    Notes
    -----
    Means and products are summed up in chunks as in Chan, Golub and LeVeque, Am. Stat. 37, 242
    (1983), and triangular factors as in Demmel, Grigori, Hoemmen and Langou, SIAM J. Sci. Comput.
    34, A206 (2012), so that memory is needed for the square of the number of properties, not for
    copies of the data.

    The mean is removed from every sample. Summed up by :class:`SumOverSamples` afterwards, it has
    been removed once for each atom, and the features do not tell any more how many atoms a system
    has. A model without intercept then needs :class:`CompositionRegressor` before it, as in
    :class:`AdditiveRegressor`; or use :class:`FPSSelector`, which leaves values as they are.

    For arrays with less variance than columns, scikit-learn keeps directions without any variance
    by default, which are arbitrary.

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import PCA
    >>> values = np.array([[3.0, 4.0], [6.0, 8.0], [0.0, 0.0]])
    >>> block = TensorBlock(values, Labels.range("system", 3), [], Labels.range("n", 2))
    >>> X = TensorMap(Labels.single(), [block])
    >>> PCA(n_components=1).fit_transform(X).block().values.round(12) + 0.0
    array([[ 0.],
           [ 5.],
           [-5.]])

    """

    components_: Any
    n_components_: dict[LabelsEntry, int] | int
    n_samples_seen_: Any

    def __init__(
        self,
        n_components: Any = None,
        *,
        whiten: bool = False,
        svd_solver: Literal["auto", "covariance_eigh", "full"] = "auto",
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver

    def fit(self, X: Any, y: Any = None) -> PCA:
        """Find the directions.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            without NaN; gradients do not count
        y : None
            not used

        Returns
        -------
        PCA
            self, fitted

        Raises
        ------
        ValueError
            if there are not as many directions as `n_components`, the smaller of the numbers of
            rows and properties, in any block

        """
        for name in ("_sums", "_labels_out"):
            self.__dict__.pop(name, None)
        return self._finish(self._add(X, at_once=True))

    def partial_fit(self, X: Any, y: Any = None) -> PCA:
        """Add a batch of data; the result is that of `fit` to all the data so far.

        Parameters
        ----------
        X, y
            as in :meth:`fit`; a batch may lack blocks. While there are fewer rows than
            `n_components`, there are as many directions as rows

        Returns
        -------
        PCA
            self

        """
        return self._finish(self._add(X, at_once=False))

    def _add(self, X: Any, at_once: bool) -> list[Any]:
        """Add the rows of all blocks to the sums, and return the `n_components` of each block."""
        _base.check_choice(self.svd_solver, "svd_solver", ("auto", "covariance_eigh", "full"))
        _base.check_flags(self, "whiten")
        first = not hasattr(self, "_sums")
        tensor = _base.to_tensor(self._labelled_features(X, reset=first))
        _base.check_finite(tensor, "X")
        if first:
            self._keys, blocks = tensor._keys, tensor._blocks
            self._properties = {key: block._properties for key, block in tensor.items()}
            self._empty = _base.to_float64(_arrays.full((0,), 0, blocks[0]._values))
        limits = [len(properties) for properties in self._properties.values()]
        if at_once:
            limits = [min(n, _n_rows(block)) for n, block in zip(limits, tensor, strict=True)]
        wanted = _checked_numbers(self.n_components, self._keys, limits)
        if first:
            kind = TriangularRows if self.svd_solver == "full" else NormalEquations
            self._centered = {k: _base.is_invariant(k, block) for k, block in tensor.items()}
            self._sums = {
                key: kind(len(properties), 0, self._centered[key])
                for key, properties in self._properties.items()
            }
            self._n_rows = dict.fromkeys(self._sums, 0)
        for key, block in tensor.items():
            self._n_rows[key] += _n_rows(block)
            for _, rows in folded_rows(block._values):
                self._sums[key].add(rows, rows[:, :0], None)
        return wanted

    def _finish(self, wanted: list[Any]) -> PCA:
        """Set what is learnt."""
        self._projections = {}
        for (key, sums), number in zip(self._sums.items(), wanted, strict=True):
            spectrum = _spectrum(sums, self._n_rows[key], self._centered[key])
            self._projections[key] = spectrum.first(_n_kept(number, spectrum))
        self._set_learnt(list(self._projections.values()))
        return self

    def _set_learnt(self, spectra: list[_Spectrum]) -> None:
        self._labels_out = {
            key: Labels.range("component", len(part.squares))
            for key, part in self._projections.items()
        }
        self.mean_ = self._learnt(self._keys, [self._like_X(part.mean) for part in spectra])
        self.explained_variance_ = self._of_components([part.variance for part in spectra])
        self.explained_variance_ratio_ = self._of_components([part.ratio for part in spectra])
        self.singular_values_ = self._of_components([np.sqrt(part.squares) for part in spectra])
        components = [self._like_X(part.components) for part in spectra]
        counts = {key: len(kept) for key, kept in self._labels_out.items()}
        if not self._is_labelled:
            self.components_ = components[0]
            (self.n_samples_seen_,), (self.n_components_,) = self._n_rows.values(), counts.values()
            return
        blocks = [
            TensorBlock._of(values, samples, (), properties)
            for values, samples, properties in zip(
                components, self._labels_out.values(), self.feature_labels_in_.values(), strict=True
            )
        ]
        self.components_ = TensorMap._of(self._keys, blocks)
        self.n_samples_seen_ = np.array(list(self._n_rows.values()))
        self.n_components_ = counts

    def _like_X(self, part: Array) -> _arrays.Array:
        return _arrays.from_host(part, self._empty)

    def _of_components(self, parts: list[Array]) -> Any:
        return self._learnt(self._keys, [self._like_X(p) for p in parts], self._labels_out.values())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_labels_out")

    def _column_names(self, input_features: Any) -> npt.NDArray[np.object_]:
        """Return "pca0", "pca1"..."""
        (components,) = self._labels_out.values()
        return np.array([f"pca{n}" for n in range(len(components))], dtype=object)

    def transform(self, X: Any) -> Any:
        """Project on the directions.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`; blocks may be absent

        Returns
        -------
        TensorMap, Rows or array
            like X, with properties "component"; float32 stays float32, integers become float64

        """
        tensor = _base.to_tensor(self._labelled_features(X))
        blocks = []
        for key, block in tensor.items():
            part = self._projections[key]
            matrix = part.components.T * (part.whitening if self.whiten else 1.0)
            blocks.append(_projected(block, self._labels_out[key], matrix, before=-part.mean))
        return self._in_container(X, tensor, blocks)

    def inverse_transform(self, X: Any) -> Any:
        """Go back to the properties, as far as the directions can tell.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_components)
            what `transform` gives

        Returns
        -------
        TensorMap, Rows or array
            like X

        """
        check_is_fitted(self)
        tensor = self._transformed(X, self._labels_out)
        blocks = []
        for key, block in tensor.items():
            part = self._projections[key]
            scale = np.sqrt(part.variance)[:, None] if self.whiten else 1.0
            matrix = part.components * scale
            blocks.append(_projected(block, self._properties[key], matrix, after=part.mean))
        return self._in_container(X, tensor, blocks)


class _Spectrum(NamedTuple):
    """Directions of one block, with the sums of squares along them, largest first."""

    mean: Array
    components: Array
    squares: Array
    total: float  # sum of squares of all properties
    n_free: int  # what sums are divided by

    @property
    def variance(self) -> Array:
        return self.squares / max(self.n_free, 1)

    @property
    def ratio(self) -> Array:
        return self.squares / (self.total or 1.0)

    @property
    def whitening(self) -> Array:
        """Factors that give the variance 1; what does not vary becomes zero."""
        deviation = np.sqrt(self.variance)
        return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)

    def first(self, count: int) -> _Spectrum:
        return self._replace(components=self.components[:count], squares=self.squares[:count])


def _spectrum(sums: NormalEquations | TriangularRows, n_rows: int, centered: bool) -> _Spectrum:
    """Return as many directions as there can be for this number of rows."""
    mean, _, features, _ = sums.reduced()
    n_properties = len(mean)
    if isinstance(sums, TriangularRows):
        _, singular, components = scipy.linalg.svd(
            features, full_matrices=False, check_finite=False
        )
        squares, cutoff = singular**2, (EPSILON * max(n_rows, n_properties, 100)) ** 2
    else:
        squares, vectors = scipy.linalg.eigh(features, driver="evd", check_finite=False)
        squares, components = squares[::-1], vectors.T[::-1]
        cutoff = EPSILON * max(n_properties, 100)
    squares = np.where(squares > cutoff * squares.max(initial=0.0), squares, 0.0)
    components = np.ascontiguousarray(components)
    for component in components:
        component *= np.sign(component[_selection.first_largest(np.abs(component))]) or 1.0
    spectrum = _Spectrum(mean, components, squares, float(squares.sum()), n_rows - centered)
    return spectrum.first(min(n_rows, n_properties))


def _n_rows(block: TensorBlock) -> int:
    """Return the number of rows of a block, one for each entry of the component axes."""
    return math.prod(block._values.shape[:-1])


def _checked_numbers(n_components: Any, keys: Labels, limits: list[int]) -> list[Any]:
    """Return `n_components` of each block: an int up to the limit, a fraction, or None."""
    numbers = limited(n_components, keys, limits, "n_components", "components")
    for number in numbers:
        is_share = is_fraction(number) and number < 1
        if not (number is None or type(number) is int or is_share):
            raise ValueError(
                "`n_components` must be an int, a fraction of the variance between 0 and 1 (not "
                f"included), None, or a dict of these by key; got {number!r}"
            )
    return numbers


def _n_kept(number: Any, spectrum: _Spectrum) -> int:
    """Return how many directions to keep: `number`, or what explains this fraction."""
    if number is None:  # directions without variance are any, and not the same in the next fit
        return max(1, int(np.count_nonzero(spectrum.squares)))
    if type(number) is int:
        return number
    return 1 + int((np.cumsum(spectrum.ratio) <= number).sum())


def _projected(
    block: TensorBlock,
    properties: Labels,
    matrix: Array,
    before: Array | float = 0.0,
    after: Array | float = 0.0,
) -> TensorBlock:
    """Multiply by a matrix; to the values alone, add something before and after."""
    like = _base.as_float(block._values)
    factor = _arrays.from_host(matrix, like)
    first, last = (_arrays.from_host(np.asarray(shift), like) for shift in (before, after))

    def multiplied(values: _arrays.Array) -> _arrays.Array:
        return _base.times(_base.as_float(values), factor)

    return _base.map_block(
        block, properties, lambda values: multiplied(values + first) + last, multiplied
    )
