"""Kernel regression on values and gradients, for more data than all pairs of them allow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations.joining import join
from metatensor.sklearn import _alignment, _base, _kernels, _matching, _regression
from metatensor.sklearn._base import VALUES
from metatensor.sklearn.feature_extraction import (
    KeysToProperties,
    KeysToSamples,
    MeanOverSamples,
    SumOverSamples,
)
from metatensor.sklearn.kernel_approximation import Nystroem
from metatensor.sklearn.linear_model import Ridge
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]

#: bytes of the features of atoms, and of their gradients, that are there at once
BATCH_BYTES = 1 << 27

_PREDICTED = _matching.Names("y", "the prediction")


class SparseKernelRidge(_regression.TensorRegressor):
    r"""Kernel regression on values and gradients, with some of the samples as inducing points.

    A sample A of y is predicted from the samples i of X that belong to it, usually the atoms of a
    system, with the inducing points z of the block of each:

    .. math:: y_A = \sum_{i \in A} k(x_i, Z) \, c

    This is the method of the subset of regressors. With the weights W, and the rows of
    :math:`K_{NM}` made of these sums of kernels and of their derivatives, the coefficients are

    .. math:: c = (K_{NM}^T W K_{NM} + \alpha K_{MM})^{-1} K_{NM}^T W t

    which is what :class:`Nystroem`, :class:`SumOverSamples`, :class:`KeysToProperties` and
    :class:`Ridge` without intercept give one after the other. Memory is one row of
    :math:`K_{NM}` for each value and gradient value of y; the atoms are worked on in batches.

    A block of y is predicted from the blocks of X whose keys agree with its own in all its
    dimensions; several of them are added up, so that an atom is compared with atoms of its own
    block alone. What X has not contributes nothing: blocks that are absent in `predict`, or
    systems without samples in some of them.

    Gradients: those of y are targets too, matched by label as in :class:`Ridge`, by the first
    derivative of the kernel; predictions have the gradients of X,
    :math:`\sum_i (\partial k(x_i, Z) / \partial x_i \cdot \partial x_i) \, c`. Inducing points
    stand for values only, and no inducing point is a gradient: to learn from forces takes more of
    them than the number of environments suggests, and even with all of them the errors are larger
    than those of the exact :class:`KernelRidge`, where gradients are representers as well. For
    values alone, the two then agree.

    Blocks that are not invariant to rotations only have the linear kernel, see :class:`Nystroem`.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.kernel_ridge.KernelRidge`.

    Parameters
    ----------
    alpha : float, default=1.0
        strength of the penalty :math:`\alpha \, c^T K_{MM} c`, not negative: the variance of the
        noise of values with unit weight
    kernel : {"rbf", "poly", "linear", "cosine"} or callable, default="rbf"
        as in :class:`Nystroem`
    gamma : float, optional
        1/n_features by default; of "rbf" and "poly"
    coef0, degree : float, default=1.0 and 3.0
        of "poly"
    n_components : int or dict, default=100
        number of inducing points in each block of X, see :class:`Nystroem`
    selection : {"fps", "cur", "random"}, default="fps"
        how to choose them, from the samples of X that belong to samples of y with a weight
    jitter : float, default=1e-12
        what is added to the diagonal of :math:`K_{MM}`, in units of its mean
    random_state : int, RandomState or None, default=None
        for selection="random"
    alpha_type : {"absolute", "relative"}, default="absolute"
        "relative": in units of the mean square of a feature, see :class:`Ridge`
    gradient_weights : float, dict or "balanced", default=1.0
        weight of gradient rows against values, see :class:`Ridge`
    aggregate : {"sum", "mean"} or None, default="sum"
        what to make of the samples of X that differ only in dimensions that y has not. "mean" is
        over all the different samples in the blocks of X that a block of y is predicted from; with
        None, X must have the sample dimensions of y.
    compute_std : bool, default=False
        whether `fit` prepares for ``predict(X, return_std=True)``, see :class:`Ridge`

    Attributes
    ----------
    components_ : TensorMap or array (n_components, n_features)
        Z, the inducing points, in blocks with keys of X
    coef_ : TensorMap or array
        c in float64, in blocks with keys of X, whose samples are the properties of y. For arrays:
        (n_components,) or (n_targets, n_components).
    gradient_weights_ : dict of str to array, (n_blocks,)
        the weights of gradients that were used, for each block of y
    nystroem_, ridge_ : Nystroem and Ridge
        the fitted steps
    n_features_in_ : int
        number of properties of X, of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block of X, for labelled data
    feature_names_in_ : array of str
        names of the columns of X, for data frames

    See Also
    --------
    Nystroem, Ridge : the steps
    KernelRidge : the exact model

    References
    ----------
    J. Quiñonero-Candela and C. E. Rasmussen, A unifying view of sparse approximate Gaussian process
    regression, J. Mach. Learn. Res. 6, 1939 (2005), equation 16

    Examples
    --------
    >>> from metatensor.datasets import make_alloys
    >>> from metatensor.sklearn import SparseKernelRidge, as_rows, rmse
    >>> data = make_alloys(20, repeats=[(1, 1, 1)], verbose=False)
    >>> X, y = as_rows(data.descriptor, data.energies)
    >>> model = SparseKernelRidge(1e-6, gamma=0.01, n_components=20, gradient_weights=0.01)
    >>> predicted = model.fit(X[:15], y[:15]).predict(X[15:])
    >>> print(f"{rmse(y[15:], predicted, gradient='positions'):.1f} eV/Å")
    0.2 eV/Å

    """

    _coefficients: TensorMap | None  # None until they are asked for

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        kernel: Literal["rbf", "poly", "linear", "cosine"] | _kernels.Function = "rbf",
        gamma: float | None = None,
        coef0: float = 1.0,
        degree: float = 3.0,
        n_components: int | Mapping[Any, int] = 100,
        selection: Literal["fps", "cur", "random"] = "fps",
        jitter: float = 1e-12,
        random_state: Any = None,
        alpha_type: Literal["absolute", "relative"] = "absolute",
        gradient_weights: float | Mapping[str, float] | Literal["balanced"] = 1.0,
        aggregate: Literal["sum", "mean"] | None = "sum",
        compute_std: bool = False,
    ) -> None:
        self.alpha = alpha
        self.kernel = kernel
        self.gamma = gamma
        self.coef0 = coef0
        self.degree = degree
        self.n_components = n_components
        self.selection = selection
        self.jitter = jitter
        self.random_state = random_state
        self.alpha_type = alpha_type
        self.gradient_weights = gradient_weights
        self.aggregate = aggregate
        self.compute_std = compute_std

    # ---- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SparseKernelRidge:
        """Choose the inducing points, and find the coefficients.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with one or more blocks for each block of y, with the same components
        y : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
            targets, whose gradients X must have as well, unless their weight is zero
        sample_weight : array (n_rows,), TensorMap, Rows or float, optional
            as in :meth:`Ridge.fit`. What belongs to rows without weight is no inducing point.

        Returns
        -------
        SparseKernelRidge
            self, fitted

        Raises
        ------
        ValueError
            if X and y do not match, a parameter is not valid, or there is NaN or infinity
        TypeError
            if X is an array and y is not

        """
        self.__dict__.pop("ridge_", None)
        ridge = self._new_ridge()
        phi, y = self._open(X, y, sample_weight, ridge, first=True)
        self.ridge_ = ridge.fit(phi, y, sample_weight)
        self._coefficients = self._contracted()
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> SparseKernelRidge:
        """Add a batch of data; the inducing points are chosen from the first batch.

        Parameters
        ----------
        X, y, sample_weight
            as in :meth:`fit`, with other samples in each batch; a batch may lack blocks of X

        Returns
        -------
        SparseKernelRidge
            self

        Raises
        ------
        ValueError
            as in :meth:`fit` and :meth:`Ridge.partial_fit`

        """
        first = not hasattr(self, "ridge_")
        ridge = self._new_ridge() if first else self.ridge_
        phi, y = self._open(X, y, sample_weight, ridge, first)
        self.ridge_ = ridge.partial_fit(phi, y, sample_weight)
        self._coefficients = None
        return self

    def _new_ridge(self) -> Ridge:
        return Ridge(
            self.alpha,
            alpha_type=self.alpha_type,
            fit_intercept=False,
            gradient_weights=self.gradient_weights,
            compute_std=self.compute_std,
        )

    def _open(
        self, X: Any, y: Any, sample_weight: Any, ridge: Ridge, first: bool
    ) -> tuple[_base.Tensor, _base.Tensor]:
        """Check a batch of data, and return the features of the samples of y, and y."""
        ridge._check_parameters()
        X, y = self._labelled(X, y, first)
        features, targets = _base.to_tensor(X), _base.to_tensor(y)
        kept = ridge._parameters(features, targets)
        if first:
            self._remember_target(features, targets)
        elif targets.sample_names != self._target_names:
            raise ValueError(
                f"y must have the sample names of the first batch, {self._target_names}, got "
                f"{targets.sample_names}"
            )
        used = self._used_blocks(features)
        blocks = [_alignment.with_gradients(block, kept) for block in used]
        features = TensorMap._of(used._keys, blocks, used._info)
        if first:
            self._fit_steps(features, X, y, sample_weight)
        return self._features(_base.like_container(X, features)), y

    def _remember_target(self, features: TensorMap, targets: TensorMap) -> None:
        """Learn which dimensions of samples and keys of X y has not."""
        self._target_keys, self._target_names = targets._keys, targets.sample_names
        self._target_properties = [block._properties for block in targets]
        names = features.sample_names
        self._dimensions = [name for name in names if name not in self._target_names]
        if self.aggregate not in ("sum", "mean", None):
            raise ValueError(f"`aggregate` must be 'sum', 'mean' or None, got {self.aggregate!r}")
        lacking = set(self._target_names) - set(names)
        if lacking or (self._dimensions and self.aggregate is None):
            advice = "" if lacking else "; use aggregate='sum' or 'mean'"
            raise ValueError(
                f"X must have the sample names of y, {self._target_names}, got {names}{advice}"
            )
        keys = targets._keys
        self._moved = [name for name in features._keys.names if name not in keys._names]
        _matching.agreeing_keys(keys, features._keys, _matching.X_AND_Y)  # refuses what has none

    def _used_blocks(self, tensor: TensorMap) -> TensorMap:
        """Return the blocks that a block of y is predicted from."""
        there = self._target_positions(tensor._keys) >= 0
        if there.all():
            return tensor
        blocks = [block for block, used in zip(tensor, there, strict=True) if used]
        keys = tensor._keys._like(tensor._keys._table[there])
        return TensorMap._of(keys, blocks, tensor._info)

    def _target_positions(self, keys: Labels) -> npt.NDArray[np.intp]:
        """Return which block of y is predicted from the block of X with each key, or -1."""
        names = self._target_keys._names
        if names == ("_",):
            return np.zeros(len(keys), np.intp)
        return self._target_keys._index.find_many(_alignment.columns(keys, names))

    def _fit_steps(self, features: TensorMap, X: Any, y: Any, sample_weight: Any) -> None:
        if sample_weight is not None and isinstance(X, Rows) and not isinstance(y, Rows):
            y = X._like(y)
        candidates = self._candidates(features, y, sample_weight)
        self.nystroem_ = Nystroem(
            self.kernel,
            gamma=self.gamma,
            coef0=self.coef0,
            degree=self.degree,
            n_components=self.n_components,
            selection=self.selection,
            jitter=self.jitter,
            random_state=self.random_state,
        ).fit(candidates)
        phi = self.nystroem_.transform(self.nystroem_._components)
        move, reduce = KeysToProperties(self._moved), self._reduction()
        # the mean is over all atoms; the sum can be taken in each block, with less memory
        self._steps = [move, *reduce] if self.aggregate == "mean" else [*reduce, move]
        self._last_steps = [KeysToSamples(self._moved), SumOverSamples(self._moved), *reduce]
        contributions = self._no_contributions(phi)
        for step in self._steps:
            phi = step.fit_transform(phi)
        self._last_steps[0].fit(contributions)

    def _reduction(self) -> list[Any]:
        if not self._dimensions:
            return []
        kind = SumOverSamples if self.aggregate == "sum" else MeanOverSamples
        return [kind(self._dimensions)]

    def _no_contributions(self, phi: TensorMap) -> TensorMap:
        """Return what the blocks of X without samples contribute to those of y."""
        blocks = []
        for position, block in zip(self._target_positions(phi._keys), phi, strict=True):
            properties = self._target_properties[position]
            shape = (0, *map(len, block._components), len(properties))
            samples = Labels.empty(block._samples._names)
            values = _arrays.full(shape, 0, block._values)
            blocks.append(TensorBlock._of(values, samples, block._components, properties))
        return TensorMap._of(phi._keys, blocks)

    def _candidates(self, features: TensorMap, y: _base.Tensor, sample_weight: Any) -> TensorMap:
        """Return the values of X that belong to samples of y with a weight."""
        targets = _base.to_tensor(y)
        pairs = _matching.match(targets, targets)
        weights = _matching.term_weights(sample_weight, y, pairs)
        there = [_there(pair.wanted, part) for pair, part in zip(pairs, weights, strict=True)]
        blocks = []
        for position, block in zip(self._target_positions(features._keys), features, strict=True):
            table = _alignment.columns(block._samples, self._target_names)
            kept = np.flatnonzero(there[position]._index.find_many(table) >= 0)
            blocks.append(_alignment.take_samples(_alignment.with_gradients(block, []), kept))
        return TensorMap._of(features._keys, blocks)

    # ---- applying the steps

    def _features(self, X: _base.Tensor) -> _base.Tensor:
        """Return the features of the samples of y, in batches of them if atoms are summed up."""
        parts: list[_base.Tensor] = []
        for part in self._batches(X):
            steps = self._steps
            if isinstance(steps[0], KeysToProperties):
                phi = self.nystroem_.transform(part)
            else:
                phi, steps = self._summed(part), steps[1:]
            for step in steps:
                phi = step.transform(phi)
            parts.append(phi)
        if len(parts) == 1:
            return parts[0]
        joined: TensorMap = join([_base.to_tensor(part) for part in parts], "samples")
        return _base.like_container(X, joined)

    def _summed(self, X: _base.Tensor) -> Any:
        """Return what the first two steps give, with the normalization of sums, which are fewer."""
        kernels = self._steps[0].transform(self.nystroem_._contracted(X, None))
        dtype = _base.as_float(_base.to_tensor(X)._blocks[0]._values).dtype
        roots = dict(self.nystroem_._roots.items())
        blocks = []
        for key, block in _base.to_tensor(kernels).items():
            root = _kernels.moved(roots[key]._values, block._values)

            def normalized(values: _arrays.Array, root: _arrays.Array = root) -> _arrays.Array:
                return _arrays.namespace(values).astype(
                    _base.times(values, root), dtype, copy=False
                )

            blocks.append(_base.map_block(block, block._properties, normalized, normalized))
        return _base.like_container(X, TensorMap._of(_base.to_tensor(kernels)._keys, blocks))

    def _batches(self, X: _base.Tensor) -> Iterator[_base.Tensor]:
        """Cut X into parts whose features, and their gradients, take a bounded memory."""
        size = 0
        for key, block in _base.to_tensor(X).items():
            parts = [block, *block._gradients.values()]
            rows = sum(math.prod(part._values.shape[:-1]) for part in parts)
            size += 8 * rows * len(self.nystroem_._labels_out[key])
        if not self._dimensions or size <= BATCH_BYTES:
            yield X
            return
        rows = X if isinstance(X, Rows) else Rows(X, self._target_names)
        step = max(1, len(rows) * BATCH_BYTES // size)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            yield part if isinstance(X, Rows) else part.tensor

    # ---- results

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "ridge_")

    @property
    def components_(self) -> Any:
        """Inducing points."""
        check_is_fitted(self)
        components = self.nystroem_._components
        labelled = hasattr(self, "feature_labels_in_")
        return components if labelled else components._blocks[0]._values

    @property
    def gradient_weights_(self) -> dict[str, Array]:
        """Weights of the gradients for each block of y."""
        check_is_fitted(self)
        return self.ridge_.gradient_weights_

    @property
    def coef_(self) -> Any:
        """Coefficients of the kernels with the inducing points."""
        tensor = self._contraction
        blocks = [
            TensorBlock._of(
                _arrays.namespace(block._values).matrix_transpose(block._values),
                block._properties,
                (),
                block._samples,
            )
            for block in tensor
        ]
        if hasattr(self, "feature_labels_in_"):
            return TensorMap._of(tensor._keys, blocks)
        values = blocks[0]._values
        return values[0, :] if self._target_ndim == 1 else values

    @property
    def _contraction(self) -> TensorMap:
        """Return c for each block of X, (n_components, n_targets)."""
        check_is_fitted(self)
        if self._coefficients is None:
            self._coefficients = self._contracted()
        return self._coefficients

    def _contracted(self) -> TensorMap:
        weights: TensorMap = self.ridge_.coef_
        keys = self.nystroem_._components._keys
        positions = self._target_positions(keys)
        moved = _alignment.columns(keys, self._moved)
        blocks = [
            _contracted(root, weights._blocks[position], self._moved, row)
            for root, position, row in zip(self.nystroem_._roots, positions, moved, strict=True)
        ]
        return TensorMap._of(keys, blocks)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict values, and gradients with respect to whatever X has gradients for.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`; blocks may be absent
        return_std : bool, default=False
            whether to return the standard deviation of the values too, after a `fit` with
            ``compute_std=True``, see :meth:`Ridge.predict`: it knows nothing of what the inducing
            points do not span

        Returns
        -------
        TensorMap, Rows or array
            with the samples of X, less the dimensions that y has not, in blocks with the keys and
            properties of y; an array if y was one. A block for which X has none has no samples,
            or values of zero for Rows. With `return_std`, a tuple of this and the like.

        Raises
        ------
        ValueError
            if keys or properties are not those in `fit`
        TypeError
            if X is an array and was not in `fit`, or the other way round

        """
        check_is_fitted(self)
        if return_std and not self.ridge_.compute_std:
            raise ValueError(
                "a standard deviation needs SparseKernelRidge(compute_std=True) and `fit`, since "
                "it is found from the rows of X, which are not kept"
            )
        X = self._labelled_features(X)
        used = _base.like_container(X, self._used_blocks(_base.to_tensor(X)))
        if return_std:
            both = self.ridge_.predict(self._features(used), return_std=True)
            return tuple(self._to_container(X, _base.to_tensor(part)) for part in both)
        result = self.nystroem_._contracted(used, self._contraction)
        complete = len(_base.to_tensor(used)) == len(self.nystroem_._components)
        for step in self._last_steps[2 if complete and not self._moved else 0 :]:
            result = step.transform(result)
        return self._to_container(X, self._in_order(_base.to_tensor(result)))

    def _in_order(self, tensor: TensorMap) -> TensorMap:
        """Return the blocks in the order of those of y."""
        positions = _matching.match_keys(self._target_keys, tensor._keys, _PREDICTED)
        blocks = [tensor._blocks[position] for position in positions]
        return TensorMap._of(self._target_keys, blocks)


def _there(targets: TensorBlock, weights: dict[str | None, Array]) -> Labels:
    """Return the samples with a weight, of their values or of one of their gradient rows."""
    there = _matching.any_weight(weights[VALUES])
    for name, gradient in targets._gradients.items():
        there[gradient._samples._table[:, 0][_matching.any_weight(weights[name])]] = True
    return targets._samples._like(targets._samples._table[there])


def _contracted(
    root: TensorBlock, weights: TensorBlock, names: list[str], row: npt.NDArray[np.int32]
) -> TensorBlock:
    """Return K_ZZ^(-1/2) times the weights of the features that came from one block of X."""
    table = np.column_stack([np.tile(row, (len(root._samples), 1)), root._samples._table])
    wanted = Labels._of((*names, *root._samples._names), table)
    columns = _alignment.find(wanted, weights._properties)
    part = _arrays.take(_base.to_float64(weights._values), columns, axis=1)
    xp = _arrays.namespace(part)
    values = root._values @ xp.matrix_transpose(part)
    return TensorBlock._of(values, root._samples, (), weights._samples)
