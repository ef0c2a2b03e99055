"""Kernel models on values and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import (
    _alignment,
    _base,
    _gradient_weights,
    _kernels,
    _matching,
    _regression,
    _representers,
)
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._kernel_model import AnyBlock, KernelModel, Weights
from metatensor.sklearn._least_squares import Factors
from metatensor.sklearn._matching import Pair
from metatensor.sklearn._representers import Layout, Links
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap

Matrix = npt.NDArray[np.float64]

#: a matrix with more rows takes more than 3.2 GB
MAX_ROWS = 20_000


class KernelRidge(_regression.TensorRegressor):
    r"""Exact kernel ridge regression on values and gradients: the mean of a Gaussian process.

    The value of a system A is a sum over its samples, such as its atoms, so that the kernel of two
    systems is the sum of the kernel k of all pairs of samples with the same key:

    .. math::

        K(A, B) = \sum_{\mathrm{keys}} \sum_{i \in A, j \in B} k(x_i, x_j)

    With E the values of y and G its gradients, a and b gradient rows, the prediction is a sum over
    the values and gradients of the systems in `fit`, and its coefficients c and d solve

    .. math::

        \begin{pmatrix} K_{EE} + \alpha / v & K_{EG} \\ K_{GE} & K_{GG} + \alpha / (g v)
        \end{pmatrix} \begin{pmatrix} c \\ d \end{pmatrix} = \begin{pmatrix} E \\ G \end{pmatrix}

    .. math::

        K_{EG}[A, b] = \sum_{ij} \frac{\partial k}{\partial x_j} \frac{\partial x_j}{\partial b},
        \quad K_{GG}[a, b] = \sum_{ij} \frac{\partial x_i}{\partial a}
        \frac{\partial^2 k}{\partial x_i \partial x_j} \frac{\partial x_j}{\partial b}

    where v are the sample weights and g the weights of the gradients (Rasmussen and Williams,
    Gaussian Processes for Machine Learning, 2006, sections 2.2 and 9.4; Christensen et al.,
    J. Chem. Phys. 150, 064105, 2019, for gradients). There is no intercept: fit
    :class:`CompositionRegressor` before, or scale y with :class:`TransformedTarget`.

    A block of y is predicted from all the blocks of X that agree in the key dimensions of y, and
    samples of X may have more dimensions than those of y, which are summed over. Blocks with
    different keys share nothing; move a dimension with :class:`KeysToSamples` or
    :class:`KeysToProperties` before if they shall. Blocks that are absent in `predict` contribute
    nothing.

    Gradients: fitted as above, and predicted with respect to whatever X has gradients for, as the
    exact derivatives of the predicted values. Rows are matched by label: a gradient row of y that X
    has not is a row of zeros there (an atom that no sample depends on); one that y has not says
    nothing, and is left out.

    Blocks with components, and all others that are not invariant to rotations, can only have the
    linear kernel, for which every entry of the components is a row of its own: the model is that of
    :class:`Ridge` without intercept.

    Time and memory grow with the number n of rows, which is that of values and gradient entries of
    y together: n^2 numbers, n^3 / 3 operations. More than 20000 rows in a block are refused.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.kernel_ridge.KernelRidge`.

    Parameters
    ----------
    alpha : float, default=1.0
        strength of the penalty, or the variance of the noise of values with unit weight, not
        negative
    kernel : {"linear", "poly", "rbf", "cosine", "precomputed"} or callable, default="linear"
        "linear" is x.z, "poly" (gamma x.z + coef0)^degree, "rbf" exp(-gamma \|x - z\|^2), "cosine"
        x.z / (\|x\| \|z\|), zero for a row of zeros. "precomputed" takes as X the
        symmetric array (n_samples, n_samples) of the kernel, in `predict` (n_samples, n_samples of
        `fit`). A callable is given rows (n, n_features) and (m, n_features) in double precision and
        returns (n, m); it has no derivatives, so neither have predictions.
    gamma : float, optional
        parameter of "poly" and "rbf", not negative; by default 1 / number of properties of the
        block
    degree : float, default=3
        exponent of "poly", not negative; a whole number where gamma x.z + coef0 is negative
    coef0 : float, default=1
        constant of "poly"
    gradient_weights : float, dict or "balanced", default=1.0
        weight g of gradient rows against values: one for all parameters, one for each by name, or
        such that all parts of the loss are equally large for a prediction of zero:
        :math:`g_p = \sum_s v_s E_s^2 / \sum_r v_{s(r)} G_r^2` for each block. With 0, gradients are
        left out.
    aggregate : {"sum", "mean"} or None, default="sum"
        what to do with the samples of X that belong to one sample of y: sum the kernel over them,
        for energies; divide by their number too, for what does not grow with the system, where a
        sample that several blocks have counts once; or refuse samples of X with more dimensions
        than those of y.

    Attributes
    ----------
    dual_coef_ : TensorMap or array
        c, and as gradients d, in blocks with the keys and labels of the y in `fit`, without the
        samples of weight zero. For arrays: (n_samples,) or (n_samples, n_targets), with zeros for
        those.
    X_fit_ : TensorMap or array
        the X in `fit`, with those gradients that were used
    scale_ : TensorMap, array or float
        factor of the standard deviations, for each block and property of y, such that the values in
        `fit`, each predicted without its own sample and its gradients, deviate by one standard
        deviation in root mean square. For arrays: (n_targets,) or float.
    gradient_weights_ : dict of str to array, (n_blocks,)
        the weights of gradients that were used, for each block of y
    n_features_in_ : int
        number of properties of X, of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block of X, for labelled data
    feature_names_in_ : array of str
        names of the columns of X, for data frames

    See Also
    --------
    Ridge : the same model for the linear kernel, for few features and many rows
    SparseKernelRidge : for many rows
    sklearn.kernel_ridge.KernelRidge : the model for arrays

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import KernelRidge
    >>> atoms = Labels(["system", "atom"], np.array([[0, 0], [1, 0], [1, 1], [2, 0]]))
    >>> x = np.array([[0.0], [0.5], [1.0], [2.0]])
    >>> X = TensorBlock(x, atoms, [], Labels.range("n", 1))
    >>> energies = np.array([[1.0], [3.0], [0.5]])
    >>> y = TensorBlock(energies, Labels.range("system", 3), [], Labels.range("energy", 1))
    >>> X, y = (TensorMap(Labels.single(), [block]) for block in (X, y))
    >>> model = KernelRidge(alpha=1e-9, kernel="rbf").fit(X, y)
    >>> model.predict(X).block().values.ravel().round(6)
    array([1. , 3. , 0.5])

    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        kernel: Literal["linear", "poly", "rbf", "cosine", "precomputed"]
        | _kernels.Function = "linear",
        gamma: float | None = None,
        degree: float = 3,
        coef0: float = 1,
        gradient_weights: float | Mapping[str, float] | Literal["balanced"] = 1.0,
        aggregate: Literal["sum", "mean"] | None = "sum",
    ) -> None:
        self.alpha = alpha
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.gradient_weights = gradient_weights
        self.aggregate = aggregate

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = isinstance(self.kernel, str) and self.kernel == "precomputed"
        return tags

    # ---- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KernelRidge:
        """Find the coefficients.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the components of y
        y : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
            targets, whose gradients X must have as well, unless their weight is zero. An array can
            go with labelled X too: it has one entry for each row of Rows, or each sample of the one
            block of a TensorMap.
        sample_weight : array (n_rows,), TensorMap, Rows or float, optional
            weight of each row, which multiplies its gradients too. A TensorMap like y, with one
            property or those of y, weighs each value, and each gradient value where it has that
            gradient. Properties of y with different weights are factorised one by one.

        Returns
        -------
        KernelRidge
            self, fitted

        Raises
        ------
        ValueError
            if X and y do not match, a parameter is not valid, there are too many rows, or there is
            NaN or infinity
        TypeError
            if X is an array and y is not, or X is labelled and the kernel precomputed
        scipy.linalg.LinAlgError
            if the kernel matrix plus alpha is singular to double precision

        """
        self._check_parameters()
        if self.kernel == "precomputed" and _base.is_tensor(X):
            raise TypeError(
                "kernel='precomputed' needs an array for X, got labelled data: "
                f"{_checks.kind(X)}; give a callable as `kernel` instead"
            )
        X, y = self._labelled(X, y, first=True)
        features, targets = _base.to_tensor(X), _base.to_tensor(y)
        if self.kernel == "precomputed":
            _check_symmetric(features._blocks[0]._values)
        parameters = self._used_gradients(features, targets)
        extra = self._check_names(features, targets)
        matches = _matching.agreeing_keys(targets._keys, features._keys, _matching.X_AND_Y)
        pairs = [
            Pair(key, features._keys.entry(int(found[0])), block, block, np.empty(0, np.intp))
            for (key, block), found in zip(targets.items(), matches)
        ]
        if sample_weight is not None and isinstance(X, Rows) and not isinstance(y, Rows):
            y = X._like(y)  # its weights are those of the rows of X
        weights = _matching.term_weights(sample_weight, y, pairs)
        blocks = [_alignment.with_gradients(block, parameters) for block in features]
        self.X_fit_ = TensorMap._of(features._keys, blocks, features._info)
        self._models, self._factors = [], []
        for pair, found, weight in zip(pairs, matches, weights, strict=True):
            block, weight = _weighted_part(pair.wanted, weight, parameters)
            layout = Layout(block, parameters)
            self._check_size(layout, pair.key)
            used = {features._keys.entry(int(position)): blocks[position] for position in found}
            averaged = bool(extra) and self.aggregate == "mean"
            model = KernelModel(pair.key, layout, used, self._contribution, averaged)
            rows, factors = self._row_weights(layout, weight)
            model.solve(rows, float(self.alpha))
            self._models.append(model)
            self._factors.append(factors)
        self._remember(features, targets)
        return self

    def _remember(self, features: TensorMap, targets: TensorMap) -> None:
        self._target_keys = targets._keys
        self._sample_names = features._blocks[0]._samples.names
        # tells library, dtype and device of the coefficients
        self._empty = _arrays.full((0,), 0, _base.as_float(features._blocks[0]._values))
        if not hasattr(self, "feature_labels_in_"):
            self._n_samples = len(targets._blocks[0]._samples)
            self.X_fit_ = features._blocks[0]._values

    def _used_gradients(self, features: TensorMap, targets: TensorMap) -> list[str]:
        parameters = _gradient_weights.used([self.gradient_weights], features, targets)
        if parameters and callable(self.kernel):
            raise ValueError(
                f"y has gradients with respect to {parameters}, but a callable `kernel` has no "
                f"derivatives; use one of {list(_kernels.KERNELS)}, or gradient_weights=0"
            )
        return parameters

    def _check_names(self, features: TensorMap, targets: TensorMap) -> list[str]:
        """Return the names of the dimensions that are summed over."""
        given, wanted = features.sample_names, targets.sample_names
        extra = [name for name in given if name not in wanted]
        if any(name not in given for name in wanted):
            raise ValueError(f"X must have the sample names of y, {wanted}, got {given}")
        if extra and self.aggregate is None:
            raise ValueError(
                f"with aggregate=None, X must have the sample names of y, {wanted}, got {given}; "
                f"use aggregate='sum', or sum over them with `SumOverSamples({extra})`"
            )
        return extra

    def _contribution(
        self, key: LabelsEntry, block: TensorBlock, links: Links, layout: Layout
    ) -> AnyBlock:
        """Return the rows of a block of X."""
        if self.kernel == "linear":
            return _representers.LinearBlock(block, links, layout)
        if not _base.is_invariant(key, block):
            raise ValueError(
                f"the block of X with key {key.print()} is not invariant to rotations, only "
                f"kernel='linear' keeps what it becomes under them, got kernel={self.kernel!r}"
            )
        if self.kernel == "precomputed":
            return _representers.PrecomputedBlock(block, links, layout)
        n_features = len(block._properties)
        kernel = _kernels.of_parameters(
            self.kernel, self.gamma, self.coef0, self.degree, n_features
        )
        return _representers.KernelBlock(kernel, block, links, layout)

    def _row_weights(self, layout: Layout, weights: Weights) -> tuple[Matrix, Factors]:
        """Return the weight of each row, (n_rows, 1 or n_targets), and those of gradients."""
        width = max(part.shape[-1] for part in weights.values())
        parts, squares = {}, {}
        for name, block in layout.parts.items():
            shape = (*block._values.shape[:-1], width)
            parts[name] = np.broadcast_to(weights[name], shape).reshape(-1, width)
            values = _arrays.to_host(_base.to_float64(block._values))
            squares[name] = float(np.sum(weights[name] * values**2))
        factors = _gradient_weights.factors(self.gradient_weights, squares)
        return np.concatenate([factors[name] * part for name, part in parts.items()]), factors

    # ---- checks

    def _check_parameters(self) -> None:
        _kernels.check_parameters(self.kernel, self.gamma, self.coef0, self.degree, ["precomputed"])
        _base.check_not_negative(self.alpha, "alpha", "a number")
        _gradient_weights.check(self.gradient_weights)
        if self.aggregate not in ("sum", "mean", None):
            raise ValueError(f"`aggregate` must be 'sum', 'mean' or None, got {self.aggregate!r}")

    def _check_size(self, layout: Layout, key: LabelsEntry) -> None:
        if layout.n_rows > MAX_ROWS:
            raise ValueError(
                f"KernelRidge can fit {MAX_ROWS} rows of values and gradients in a block, got "
                f"{layout.n_rows} in the one with key {key.print()}; use `SparseKernelRidge`, "
                "fewer systems, or gradient_weights=0"
            )

    # ---- results

    def _to_map(self, parts: list[Matrix]) -> TensorMap:
        """Return a number for each property of each block."""
        blocks = [
            TensorBlock._of(
                _arrays.from_host(part[None, :], self._empty),
                Labels.single(),
                (),
                model.layout.block._properties,
            )
            for part, model in zip(parts, self._models)
        ]
        return TensorMap._of(self._target_keys, blocks)

    @property
    def dual_coef_(self) -> Any:
        """Coefficients of the values and gradients in `fit`."""
        if not hasattr(self, "feature_labels_in_"):
            model = self._models[0]
            host = np.zeros((self._n_samples, model.dual.shape[1]))
            host[model.layout.block._samples._table[:, 0]] = model.dual
            values = _arrays.from_host(host, self._empty)
            return values[:, 0] if self._target_ndim == 1 else values
        blocks = [
            model.layout.fill(_arrays.from_host(model.dual, self._empty)) for model in self._models
        ]
        return TensorMap._of(self._target_keys, blocks)

    @property
    def scale_(self) -> Any:
        """Factors of standard deviations."""
        scales = [model.scale for model in self._models]
        if hasattr(self, "feature_labels_in_"):
            return self._to_map(scales)
        if self._target_ndim == 1:
            return float(scales[0][0])
        return _arrays.from_host(scales[0], self._empty)

    @property
    def gradient_weights_(self) -> dict[str, Matrix]:
        """Weights of the gradients for each block."""
        names = [name for name in self._factors[0] if name is not None]
        return {name: np.array([block[name] for block in self._factors]) for name in names}

    def predict(self, X: Any, return_std: bool = False) -> Any:
        r"""Predict values, and gradients with respect to whatever X has gradients for.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with keys, sample names and properties of the X in `fit`; other ones are refused, absent
            blocks contribute nothing
        return_std : bool, default=False
            whether to return standard deviations of the values too: with k the kernel of a new
            value with all rows in `fit`, and W their weights,
            :math:`\mathrm{scale} \sqrt{\alpha + K(A, A) - k (K + \alpha W^{-1})^{-1} k^T}`, that of
            the Gaussian process for a new value with unit weight, noise included, times
            :attr:`scale_`

        Returns
        -------
        prediction : TensorMap, Rows or array
            in blocks with the keys and properties of y. Its samples are those of X, sorted and
            without the dimensions that are summed over; for Rows by what is left, all the rows. An
            array if y was one.
        std : TensorMap, Rows or array
            the standard deviations, labelled like the values; only with `return_std`

        Raises
        ------
        ValueError
            if there are other keys, sample names or properties than in `fit`, or the kernel is
            precomputed and `return_std` asked for
        TypeError
            if X is an array and was not in `fit`, or the other way round

        """
        features = _base.to_tensor(self._labelled_features(X))
        self._check_sample_names(features)
        rows = X.rows if isinstance(X, Rows) else None
        blocks = [model.predict(features, rows) for model in self._models]
        prediction = self._to_container(X, TensorMap._of(self._target_keys, blocks))
        if not return_std:
            return prediction
        deviations = [
            model.deviations(features, block) for model, block in zip(self._models, blocks)
        ]
        return prediction, self._to_container(X, TensorMap._of(self._target_keys, deviations))

    def _check_sample_names(self, features: TensorMap) -> None:
        if not len(features):
            raise ValueError("X must have at least one block, got a TensorMap without blocks")
        if set(features.sample_names) != set(self._sample_names):
            raise ValueError(
                f"X must have the sample names that it had in `fit`, {self._sample_names}, got "
                f"{features.sample_names}"
            )


def _check_symmetric(kernel: Any) -> None:
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(
            f"kernel='precomputed' needs a square matrix as X in `fit`, got {tuple(kernel.shape)}"
        )
    kernel = _arrays.to_host(_base.to_float64(kernel))
    difference = np.abs(kernel - kernel.T).max()
    if difference > 1e-4 * np.abs(kernel).max():  # far above what rounding to float32 does
        raise ValueError(
            "kernel='precomputed' needs a symmetric matrix as X in `fit`, got one that differs "
            f"from its transpose by up to {difference:.3g}"
        )


def _weighted_part(
    block: TensorBlock, weights: Weights, parameters: list[str]
) -> tuple[TensorBlock, Weights]:
    """Return the samples of y with a weight above zero, in values or gradients."""
    counts = np.zeros(len(block._samples), bool)
    for name in (VALUES, *parameters):
        above = _matching.any_weight(weights[name])
        gradient = block if name is None else block._gradients[name]
        samples = np.arange(len(counts)) if name is None else gradient._samples._table[:, 0]
        counts[samples[above]] = True
    if counts.all():
        return block, weights
    new = np.where(counts, np.cumsum(counts) - 1, -1)
    kept: Weights = {VALUES: weights[VALUES][counts]}
    for name in parameters:
        rows = _alignment.kept_in_order(new[block._gradients[name]._samples._table[:, 0]])
        kept[name] = weights[name][rows]
    return _alignment.take_samples(block, np.flatnonzero(counts)), kept
