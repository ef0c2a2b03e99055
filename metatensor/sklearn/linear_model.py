"""Linear models on values and gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError
from sklearn.exceptions import NotFittedError

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base, _matching, _regression
from metatensor.sklearn._least_squares import solve
from metatensor.sklearn._matching import VALUES, Pair
from metatensor.sklearn._stacking import Problem, Stack
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]
Factors = dict[str | None, float]

_SOLVERS = ("auto", "cholesky", "dual", "svd", "lstsq")


class _Target(NamedTuple):
    """A block of y, and the block of X that it is predicted from."""

    position: int
    key: LabelsEntry
    feature_key: LabelsEntry
    properties: Labels
    features: Labels
    centered: bool


class _Fitted(NamedTuple):
    """The result, one entry for each target."""

    coefficients: list[Array]
    intercepts: list[Array]
    conditions: list[float]
    factors: list[Factors]


class Ridge(_regression.TensorRegressor):
    r"""Linear least squares with a penalty on the coefficients, on values and gradients.

    A block with key k of y is predicted from the block of X with the same key:
    :math:`y = X w + b`. With E the values of y and G its gradients with respect to parameter p, the
    coefficients minimise

    .. math::

        \sum_s v_s (E_s - X_s w - b)^2
        + \sum_p g_p \sum_{r \in p} v_{s(r)} (G_r - D_r w)^2
        + \sum_f \alpha_f w_f^2

    where D are the gradients of X, v the sample weights, g the weights of the gradients, r the
    gradient rows of y and s(r) the sample of row r. The intercept b is not penalised, does not
    enter gradients, and is zero for blocks that are not invariant to rotations: those with a
    component axis of more than one entry, with "o3_lambda" other than 0 or "o3_sigma" other than 1.

    Rows are matched by label: a gradient row of y that X has not is a row of zeros there (an atom
    that no sample depends on); one that y has not says nothing, and is left out. Every entry of
    component axes is a row of its own with the same coefficients. Several properties of y are
    several targets.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.linear_model.Ridge`.

    Parameters
    ----------
    alpha : float or TensorMap, default=1.0
        strength of the penalty, not negative. A TensorMap has one value for each property of X, in
        blocks with the keys of y, no components, and one sample or one for each property of y.
    alpha_type : {"absolute", "relative"}, default="absolute"
        "relative": alpha is in units of the mean sum of squares of a property, that is
        trace(A^T A) / n_properties, with A the weighted and centered rows of values and gradients
    fit_intercept : bool, default=True
        whether invariant blocks have an intercept
    gradient_weights : float, dict or "balanced", default=1.0
        weight g of gradient rows against values: one for all parameters, one for each by name, or
        such that all parts of the loss are equally large for w = 0:
        :math:`g_p = \sum_s v_s (E_s - \bar E)^2 / \sum_r v_{s(r)} G_r^2` for each block, with the
        mean :math:`\bar E` only where there is an intercept. With 0, gradients are left out.
    solver : {"auto", "cholesky", "dual", "svd", "lstsq"}, default="auto"
        "cholesky" factorises A^T A, summed up in chunks of rows; "dual" A A^T, for fewer rows than
        properties; "svd" and "lstsq" work on the rows themselves, and give the shortest solution if
        there are several. "auto" takes "lstsq" if any alpha is zero, "dual" in `fit` for fewer rows
        than properties, "cholesky" otherwise, and "lstsq" if that finds a singular matrix.

    Attributes
    ----------
    coef_ : TensorMap or array
        w, in blocks with the keys of y, whose samples are the properties of y and whose properties
        are those of X. For arrays: (n_features,) or (n_targets, n_features).
    intercept_ : TensorMap, array or float
        b, in blocks with the keys and properties of y. For arrays: (n_targets,) or float.
    gradient_weights_ : dict of str to array, (n_blocks,)
        the weights of gradients that were used, for each block of y
    condition_ : array, (n_blocks,)
        estimated condition number of A^T A + diag(alpha), or of what stands for it in "dual"
    n_features_in_ : int
        number of properties of X, of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block of X, for labelled data
    feature_names_in_ : array of str
        names of the columns of X, for data frames

    See Also
    --------
    KeysToProperties, SumOverSamples : make X fit y
    sklearn.linear_model.Ridge : the model for arrays

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import Ridge
    >>> samples, energy = Labels.range("system", 3), Labels.range("energy", 1)
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> X = TensorBlock(x, samples, [], Labels.range("n", 1))
    >>> y = TensorBlock(3 * x + 1, samples, [], energy)
    >>> X, y = (TensorMap(Labels.single(), [block]) for block in (X, y))
    >>> model = Ridge(alpha=1e-12).fit(X, y)
    >>> model.predict(X).block().values.ravel().round(6)
    array([1., 4., 7.])

    """

    def __init__(
        self,
        alpha: float | TensorMap = 1.0,
        *,
        alpha_type: Literal["absolute", "relative"] = "absolute",
        fit_intercept: bool = True,
        gradient_weights: float | Mapping[str, float] | Literal["balanced"] = 1.0,
        solver: Literal["auto", "cholesky", "dual", "svd", "lstsq"] = "auto",
    ) -> None:
        self.alpha = alpha
        self.alpha_type = alpha_type
        self.fit_intercept = fit_intercept
        self.gradient_weights = gradient_weights
        self.solver = solver

    # ---- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Ridge:
        """Find the coefficients.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with one block for each block of y, with the same samples and components
        y : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
            targets, whose gradients X must have as well, unless their weight is zero. An array can
            go with labelled X too: it has one entry for each row of Rows, or each sample of the one
            block of a TensorMap.
        sample_weight : array (n_rows,), TensorMap, Rows or float, optional
            weight of each row, which multiplies its gradients too. A TensorMap like y, with one
            property or those of y, weighs each value, and each gradient value where it has that
            gradient.

        Returns
        -------
        Ridge
            self, fitted

        Raises
        ------
        ValueError
            if X and y do not match, a parameter is not valid, or there is NaN or infinity
        TypeError
            if X is an array and y is not
        scipy.linalg.LinAlgError
            if the matrix is singular, for "cholesky" and "dual"

        """
        self.__dict__.pop("_fitted", None)
        batch = self._open(X, y, sample_weight, first=True)
        self._problems: list[list[Problem]] = []
        solved = []
        for target, stacks in zip(self._targets, batch, strict=True):
            solver = self._solver_for(target, sum(stack.n_rows for stack in stacks))
            problems = _sum_up(target, stacks, solver)
            try:
                solved.append(self._solve(target, problems))
            except LinAlgError:
                if self.solver != "auto":
                    raise
                problems = _sum_up(target, stacks, "lstsq")
                solved.append(self._solve(target, problems))
            self._problems.append(problems)
        self._fitted: _Fitted | None = _Fitted(*map(list, zip(*solved, strict=True)))
        self._keeps_sums = False
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Ridge:
        """Add a batch of data; the result is that of `fit` to all the data so far.

        The coefficients are computed when they are asked for.

        Parameters
        ----------
        X, y, sample_weight
            as in :meth:`fit`, with other samples in each batch

        Returns
        -------
        Ridge
            self

        Raises
        ------
        ValueError
            as in :meth:`fit`; or if the sums are not there, because the estimator was fitted with
            `fit` and pickled

        """
        first = not hasattr(self, "_fitted")
        if not first and not self._problems:
            raise ValueError(
                "`partial_fit` can not add to the result of a `fit` that was pickled, which keeps "
                "no sums; use `partial_fit` from the first batch on"
            )
        batch = self._open(X, y, sample_weight, first)
        if first:
            self._problems = [
                _sum_up(target, stacks, self._solver_for(target))
                for target, stacks in zip(self._targets, batch, strict=True)
            ]
        else:
            for stacks, problems in zip(batch, self._problems, strict=True):
                for stack in stacks:
                    stack.add_to(problems)
        self._fitted = None
        self._keeps_sums = True
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if not state.get("_keeps_sums", True):
            state["_problems"] = []  # large, and a fitted model does not need them
        return state

    def _open(self, X: Any, y: Any, sample_weight: Any, first: bool) -> list[list[Stack]]:
        """Check a batch of data, and return the rows for each block of y."""
        self._check_parameters()
        X, y = self._labelled(X, y, first)
        features, targets = _base.to_tensor(X), _base.to_tensor(y)
        parameters = self._used_gradients(features, targets)
        pairs = _matching.match(targets, features)
        if sample_weight is not None and isinstance(X, Rows) and not isinstance(y, Rows):
            y = X._like(y)  # its weights are those of the rows of X
        weights = _matching.term_weights(sample_weight, y, pairs)
        if first:
            self._remember_targets(pairs, targets._keys)
        batch: list[list[Stack]] = [[] for _ in self._targets]
        for pair, weight in zip(pairs, weights, strict=True):
            batch[self._target_of(pair).position] = _stacks(pair, parameters, weight)
        return batch

    def _remember_targets(self, pairs: list[Pair], keys: Labels) -> None:
        self._target_keys = keys
        self._targets = [
            _Target(
                position=position,
                key=pair.key,
                feature_key=pair.given_key,
                properties=pair.wanted._properties,
                features=pair.given._properties,
                centered=self.fit_intercept and _base.is_invariant(pair.key, pair.wanted),
            )
            for position, pair in enumerate(pairs)
        ]
        # tells library, dtype and device of the coefficients
        self._empty = _arrays.full((0,), 0, _base.as_float(pairs[0].given._values))

    def _target_of(self, pair: Pair) -> _Target:
        """Return what the first batch had under the same key."""
        for target in self._targets:
            if target.key == pair.key and target.properties == pair.wanted._properties:
                return target
        raise ValueError(
            "y must have the keys and properties of the first batch, got other ones under the key "
            f"{pair.key.print()}"
        )

    def _used_gradients(self, features: TensorMap, targets: TensorMap) -> list[str]:
        """Return the names of the gradients to fit, which X and y must have."""
        there = targets._blocks[0].gradients_list()
        weights = self.gradient_weights
        if isinstance(weights, Mapping):
            if not set(there) <= set(weights):
                raise ValueError(
                    f"`gradient_weights` must name all the gradients of y, {there}, with 0 for "
                    f"those that shall not be used; got {list(weights)}"
                )
            there = [name for name in there if weights[name]]
        elif weights == 0:
            return []
        missing = [name for name in there if not features._blocks[0].has_gradient(name)]
        if missing:
            raise ValueError(
                f"y has gradients with respect to {missing}, but X has not; compute them for X, or "
                "leave them out with `gradient_weights`, 0 for all or {name: 0} for one"
            )
        return there

    def _check_parameters(self) -> None:
        if self.alpha_type not in ("absolute", "relative"):
            raise ValueError(
                f"`alpha_type` must be 'absolute' or 'relative', got {self.alpha_type!r}"
            )
        if self.solver not in _SOLVERS:
            raise ValueError(f"`solver` must be one of {list(_SOLVERS)}, got {self.solver!r}")
        if not isinstance(self.alpha, TensorMap):
            _check_not_negative(self.alpha, "alpha", "a number or a TensorMap")
        weights = self.gradient_weights
        if isinstance(weights, Mapping):
            for name, weight in weights.items():
                _check_not_negative(weight, f"gradient_weights[{name!r}]", "a number")
        elif weights != "balanced":
            _check_not_negative(
                weights, "gradient_weights", "a number, a dict of numbers, or 'balanced'"
            )

    # ---- solving

    def _solver_for(self, target: _Target, n_rows: float = math.inf) -> str:
        if self.solver != "auto":
            return self.solver
        if not (self._alpha_for(target) > 0).all():
            return "lstsq"
        return "dual" if n_rows < len(target.features) else "cholesky"

    def _alpha_for(self, target: _Target) -> Array:
        """Return alpha with shape (1 or n_targets, n_features)."""
        if not isinstance(self.alpha, TensorMap):
            return np.full((1, len(target.features)), float(self.alpha))
        names = _matching.Names("y", "alpha")
        position = _matching.match_keys(self._target_keys, self.alpha._keys, names)[target.position]
        block = self.alpha._blocks[position]
        columns = _find_all(target.features, block._properties, "properties")
        rows = np.arange(1)
        if len(block._samples) != 1:
            rows = _find_all(target.properties, block._samples, "samples")
        alpha = _arrays.to_host(_arrays.detach(block._values)).astype(np.float64)
        if alpha.ndim != 2 or not np.isfinite(alpha).all() or (alpha < 0).any():
            raise ValueError(
                "`alpha` must have values that are finite and not negative, and no components"
            )
        return alpha[np.ix_(rows, columns)]

    def _solve(
        self, target: _Target, problems: list[Problem]
    ) -> tuple[Array, Array, float, Factors]:
        factors = self._factors(problems)
        alpha = self._alpha_for(target)
        solutions = []
        for problem in problems:
            part = alpha if len(alpha) == 1 else alpha[problem.targets]
            relative = self.alpha_type == "relative"
            try:
                solutions.append(solve(problem.terms, factors, part, relative, problem.solver))
            except LinAlgError as error:
                raise LinAlgError(
                    f"solver={problem.solver!r} found a matrix that is singular to double "
                    f"precision, for the block with key {target.key.print()}; use a larger "
                    "`alpha`, or solver='lstsq'"
                ) from error
        return (
            np.concatenate([solution.coefficients for solution in solutions]),
            np.concatenate([solution.intercept for solution in solutions]),
            max(solution.condition for solution in solutions),
            factors,
        )

    def _factors(self, problems: list[Problem]) -> Factors:
        """Return the weight of each term in the loss, the same for all properties of a block."""
        factors: Factors = {}
        for name in problems[0].terms:  # all problems have the same terms
            if name is VALUES:
                factors[name] = 1.0
            elif self.gradient_weights == "balanced":
                values = sum(problem.terms[VALUES].square for problem in problems)
                gradients = sum(problem.terms[name].square for problem in problems)
                factors[name] = values / gradients if values > 0 and gradients > 0 else 1.0
            elif isinstance(self.gradient_weights, Mapping):
                factors[name] = float(self.gradient_weights[name])
            else:
                factors[name] = float(self.gradient_weights)
        return factors

    # ---- results

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    @property
    def _result(self) -> _Fitted:
        if not hasattr(self, "_fitted"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet, call `fit` first"
            )
        if self._fitted is None:
            solved = map(self._solve, self._targets, self._problems)
            self._fitted = _Fitted(*map(list, zip(*solved, strict=True)))
        return self._fitted

    def _to_map(
        self, parts: list[Array], samples: list[Labels], properties: list[Labels]
    ) -> TensorMap:
        values = [_arrays.from_host(part, self._empty) for part in parts]
        blocks = [
            TensorBlock._of(v, s, (), p)
            for v, s, p in zip(values, samples, properties, strict=True)
        ]
        return TensorMap._of(self._target_keys, blocks)

    @property
    def coef_(self) -> Any:
        """Coefficients."""
        result = self._result
        if not hasattr(self, "feature_labels_in_"):
            values = _arrays.from_host(result.coefficients[0], self._empty)
            return values[0] if self._target_ndim == 1 else values
        properties = [target.properties for target in self._targets]
        return self._to_map(
            result.coefficients, properties, [target.features for target in self._targets]
        )

    @property
    def intercept_(self) -> Any:
        """Intercepts, zero for blocks that are not invariant."""
        result = self._result
        if not hasattr(self, "feature_labels_in_"):
            values = _arrays.from_host(result.intercepts[0], self._empty)
            return float(values[0]) if self._target_ndim == 1 else values
        rows = [intercept[None, :] for intercept in result.intercepts]
        properties = [target.properties for target in self._targets]
        return self._to_map(rows, [Labels.single() for _ in rows], properties)

    @property
    def condition_(self) -> Array:
        """Estimated condition number for each block."""
        return np.array(self._result.conditions)

    @property
    def gradient_weights_(self) -> dict[str, Array]:
        """Weights of the gradients for each block."""
        factors = self._result.factors
        names = sorted({name for block in factors for name in block if name is not None})
        return {name: np.array([block.get(name, 0.0) for block in factors]) for name in names}

    def predict(self, X: Any) -> Any:
        """Predict values, and gradients with respect to whatever X has gradients for.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`; other properties are refused

        Returns
        -------
        TensorMap, Rows or array
            labelled as X is, in blocks with the keys and properties of y; an array if y was one

        Raises
        ------
        ValueError
            if keys or properties differ from those in `fit`
        TypeError
            if X is an array and was not in `fit`, or the other way round

        """
        features = _base.to_tensor(self._labelled_features(X))
        result = self._result
        blocks = []
        for target, coefficients, intercept in zip(
            self._targets, result.coefficients, result.intercepts, strict=True
        ):
            position = features._keys.position(target.feature_key)
            if position is None:
                raise ValueError(
                    f"X has no block with key {target.feature_key.print()}, which the block "
                    f"{target.key.print()} is predicted from"
                )
            block = features._blocks[position]
            blocks.append(_predicted(block, coefficients, intercept, target.properties))
        return self._to_container(X, TensorMap._of(self._target_keys, blocks))


def _check_not_negative(value: Any, name: str, kinds: str) -> None:
    if not isinstance(value, (float, int, np.floating, np.integer)) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be {kinds}, got {_checks.kind(value)}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"`{name}` must be finite and not negative, got {value}")


def _find_all(wanted: Labels, given: Labels, what: str) -> npt.NDArray[np.intp]:
    if set(wanted._names) != set(given._names):
        raise ValueError(
            f"the {what} of `alpha` must have the names {wanted.names}, got {given.names}"
        )
    positions = _alignment.find(wanted, given)
    if len(positions) and positions.min() < 0:
        raise ValueError(
            f"the {what} of `alpha` must be those of the coefficients, there is none for "
            f"{_base.entries_text(wanted, positions < 0)}"
        )
    return positions


def _stacks(pair: Pair, parameters: list[str], weights: dict[str | None, Array]) -> list[Stack]:
    """Return the rows of values and gradients."""
    stacks = [Stack(VALUES, pair.given, pair.wanted, pair.samples, weights[VALUES])]
    for name in parameters:
        rows = pair.gradient_rows(name, _matching.X_AND_Y)
        features, targets = pair.given._gradients[name], pair.wanted._gradients[name]
        stacks.append(Stack(name, features, targets, rows, weights[name]))
    return stacks


def _sum_up(target: _Target, stacks: list[Stack], solver: str) -> list[Problem]:
    """Sum up the first rows; targets whose weights differ are problems of their own."""
    n_targets, n_features = len(target.properties), len(target.features)
    if any(stack.weights.shape[-1] > 1 for stack in stacks):
        parts = [slice(position, position + 1) for position in range(n_targets)]
    else:
        parts = [slice(0, n_targets)]
    problems = [Problem(n_features, part, solver, target.centered) for part in parts]
    for stack in stacks:
        stack.add_to(problems)
    return problems


def _predicted(
    block: TensorBlock, coefficients: Array, intercept: Array, properties: Labels
) -> TensorBlock:
    """Apply a linear model to values and gradients."""
    values = _base.as_float(block._values)
    matrix = _arrays.from_host(np.ascontiguousarray(coefficients.T), values)
    shift = _arrays.from_host(intercept, values)
    return _base.map_block(
        block,
        properties,
        on_values=lambda array: _base.times(array, matrix) + shift,
        on_gradients=lambda array: _base.times(array, matrix),
    )
