"""Linear models on values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError

from metatensor import _checks
from metatensor.sklearn import (
    _base,
    _gradient_weights,
    _leave_out_search,
    _linear,
    _regression,
)
from metatensor.sklearn._gradient_weights import GradientWeights
from metatensor.sklearn._least_squares import Factors, Model, solve
from metatensor.sklearn._leave_out import leave_out
from metatensor.sklearn._leave_out_search import Trial, row_groups
from metatensor.sklearn._linear import Target
from metatensor.sklearn._stacking import Problem, Stack, Unfolded, unfold
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]

_SOLVERS = ("auto", "cholesky", "dual", "svd", "lstsq")
_ALPHA_TYPES = ("absolute", "relative")


class Ridge(_regression.LinearRegressor):
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
    compute_std : bool, default=False
        whether `fit` prepares for ``predict(X, return_std=True)``, see Notes; this needs alpha > 0,
        and all rows of a block in memory at once

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
    scale_ : TensorMap, array or float
        standard deviation of the noise of a value with weight one, labelled like `intercept_`, with
        ``compute_std=True``; NaN, as all standard deviations are then, for a block of which no
        value has any weight
    n_features_in_ : int
        number of properties of X, of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block of X, for labelled data
    feature_names_in_ : array of str
        names of the columns of X, for data frames

    See Also
    --------
    KeysToProperties, SumOverSamples : make X fit y
    RidgeCV : finds alpha
    sklearn.linear_model.Ridge : the model for arrays

    Notes
    -----
    The standard deviation is that of Bayesian linear regression (Bishop, Pattern Recognition and
    Machine Learning, 3.3.2) with the gradient rows as further observations. With the rows A of
    weighted values and gradients, and :math:`\bar x` the mean of X, it is

    .. math::

        \sigma \sqrt{1 + \frac{1}{\sum_s v_s}
        + (x - \bar x) (A^T A + \mathrm{diag}(\alpha))^{-1} (x - \bar x)^T}

    where the second term and the mean are there with an intercept. The scale :math:`\sigma` makes
    the values agree with their predictions by fits without their row, all its samples and their
    gradients: squared residuals are, in units of their variance in such a fit (for components, its
    mean over those of a sample), one on average. A row is one of Rows, or a sample of a TensorMap
    or array; a value of weight v has noise of variance :math:`\sigma^2 / v`.

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
        compute_std: bool = False,
    ) -> None:
        self.alpha = alpha
        self.alpha_type = alpha_type
        self.fit_intercept = fit_intercept
        self.gradient_weights = gradient_weights
        self.solver = solver
        self.compute_std = compute_std

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
        batch, labelled = self._open(X, y, sample_weight, first=True)
        groups = row_groups(labelled) if self.compute_std else [None] * len(batch)
        self._problems: list[list[Problem]] = []
        models = []
        for target, stacks, rows in zip(self._targets, batch, groups, strict=True):
            solver = self._solver_for(target, sum(stack.n_rows for stack in stacks))
            problems = _sum_up(target, stacks, solver)
            try:
                model = self._solve(target, problems)
            except LinAlgError:
                if self.solver != "auto":
                    raise
                problems = _sum_up(target, stacks, "lstsq")
                model = self._solve(target, problems)
            self._problems.append(problems)
            if rows is not None:
                model = self._with_deviations(target, model, unfold(stacks, rows))
            models.append(model)
        self._fitted = models
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
        batch, _ = self._open(X, y, sample_weight, first)
        if first:
            self._problems = [
                _sum_up(target, stacks, self._solver_for(target))
                for target, stacks in zip(self._targets, batch, strict=True)
            ]
        else:
            pairs = list(zip(batch, self._problems, strict=True))
            for stacks, problems in pairs:
                for problem in problems:
                    problem.check_weights(stacks)
            for stacks, problems in pairs:
                for stack in stacks:
                    stack.add_to(problems)
        self._fitted = None
        self._keeps_sums = True
        return self

    def fit_batches(self, batches: Iterable[Sequence[Any]]) -> Ridge:
        """Fit to batches of data that come one after the other, and need not exist together.

        Parameters
        ----------
        batches : iterable of (X, y) or (X, y, sample_weight)
            as in :meth:`fit`, with other samples in each batch, such as from a generator that
            computes features

        Returns
        -------
        Ridge
            self, fitted as by `fit` to all the batches together

        Raises
        ------
        ValueError
            as in :meth:`fit`; or if there are no batches

        """
        self.__dict__.pop("_fitted", None)
        for batch in batches:
            self.partial_fit(*batch)
        if not hasattr(self, "_fitted"):
            raise ValueError("`batches` must have at least one (X, y), got none")
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if not state.get("_keeps_sums", True):
            state["_problems"] = []  # large, and a fitted model does not need them
        return state

    def _gradient_options(self) -> Sequence[GradientWeights]:
        return [self.gradient_weights]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _base.check_choice(self.alpha_type, "alpha_type", _ALPHA_TYPES)
        _base.check_choice(self.solver, "solver", _SOLVERS)
        if not isinstance(self.alpha, TensorMap):
            _base.check_not_negative(self.alpha, "alpha", "a number or a TensorMap")

    # ---- solving

    def _solver_for(self, target: Target, n_rows: float = math.inf) -> str:
        if self.solver != "auto":
            return self.solver
        if not (self._alpha_for(target) > 0).all():
            return "lstsq"
        return "dual" if n_rows < len(target.features) else "cholesky"

    def _alpha_for(self, target: Target) -> Array:
        return _linear.alpha_for(self.alpha, target, self._target_keys)

    def _solve(self, target: Target, problems: list[Problem]) -> Model:
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
        return Model(
            coefficients=np.concatenate([solution.coefficients for solution in solutions]),
            intercept=np.concatenate([solution.intercept for solution in solutions]),
            factors=factors,
            unseen=np.all([solution.unseen for solution in solutions], axis=0),
            condition=max(solution.condition for solution in solutions),
        )

    def _factors(self, problems: list[Problem]) -> Factors:
        """Return the weight of each term in the loss, the same for all properties of a block."""
        squares = {
            name: sum(problem.terms[name].square for problem in problems)
            for name in problems[0].terms  # all problems have the same terms
        }
        return _gradient_weights.factors(self.gradient_weights, squares)

    def _with_deviations(self, target: Target, model: Model, rows: Unfolded) -> Model:
        alpha = self._alpha_for(target)
        if not (alpha > 0).all():
            raise ValueError("compute_std=True needs `alpha` > 0 for all properties")
        relative = self.alpha_type == "relative"
        parts = leave_out(rows, model.factors, target.centered, alpha, relative)
        return model._replace(deviations=[part.deviation(1.0) for part in parts])

    # ---- results

    @property
    def _models(self) -> list[Model]:
        if getattr(self, "_fitted", ()) is None:  # after a batch
            self._fitted = list(map(self._solve, self._targets, self._problems))
        return super()._models

    @property
    def condition_(self) -> Array:
        """Estimated condition number for each block."""
        return np.array([model.condition for model in self._models])


class RidgeCV(_regression.LinearRegressor):
    r"""Ridge with the penalty that predicts best what was left out of the fit.

    Rows are left out one after the other, or in groups: a row is one of Rows, with all its samples
    and all their gradients, or a sample of a TensorMap or array with its gradients. The predictions
    of all fits follow exactly from one singular value decomposition for each choice of
    `gradient_weights`, so that there are no refits: see :class:`Ridge` for the model.

    Parameters
    ----------
    alphas : sequence of float, default=(0.1, 1.0, 10.0)
        strengths of the penalty to try, above zero
    alpha_type : {"absolute", "relative"}, default="absolute"
        as in :class:`Ridge`
    fit_intercept : bool, default=True
        whether invariant blocks have an intercept
    gradient_weights : float, dict, "balanced", or list of these, default=1.0
        as in :class:`Ridge`; what is best in a list is used for all blocks
    scoring : str or callable, optional
        how good predictions are: a name of :func:`metatensor.sklearn.get_scorer`, such as
        "neg_rmse:positions", or of scikit-learn for arrays, or a scorer, called as
        ``scoring(estimator, X, y)`` and with ``sample_weight=`` if `fit` got one, where X are the
        predictions and the estimator predicts what it is given. By default minus the mean of the
        squared errors of values and gradients, weighted as in the loss; or, for a list of
        `gradient_weights`, whose losses can not be compared, as with "balanced".
    cv : int or splitter, optional
        whose test sets are left out, such as ``GroupKFold()``: each row must be in one of them
    alpha_per_target : bool, default=False
        whether each property of each block has its own alpha
    compute_std : bool, default=False
        as in :class:`Ridge`; the scale is that of the groups left out

    Attributes
    ----------
    alpha_ : float, TensorMap or array
        the best of `alphas`; with `alpha_per_target` labelled like `intercept_`
    best_gradient_weights_ : float, dict or "balanced"
        the best of `gradient_weights`: with `alpha_per_target` that whose best scores have the
        largest mean
    best_score_ : float, TensorMap or array
        the score of what is best
    cv_results_ : dict of str to array, (n_candidates, ...)
        "gradient_weights" and "alpha" of each candidate, its "score", or those of all properties,
        and the root mean square errors "rmse" of values, and "rmse:positions" or so of all
        gradients that X and y have, of all blocks together, weighted as the samples are
    coef_, intercept_, gradient_weights_, scale_
        as in :class:`Ridge`
    n_features_in_, feature_labels_in_, feature_names_in_
        as in :class:`Ridge`

    See Also
    --------
    Ridge : the model, and what to use if rows do not fit into memory at once
    sklearn.linear_model.RidgeCV : the same for arrays

    Notes
    -----
    Residuals of a fit without the rows S are :math:`(1 - H_{SS})^{-1} r_S`, with the residuals r of
    the fit to all rows, and their hat matrix H (Cook and Weisberg, Residuals and Influence in
    Regression, 1982). The time for each alpha grows with the squares of the numbers of rows that
    are left out together; the memory is a few times that of all rows of values and gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor.sklearn import RidgeCV
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> model = RidgeCV(alphas=[1e-3, 1.0, 1e3]).fit(X, X @ [1.0, 2.0])
    >>> model.alpha_
    0.001
    >>> model.coef_.round(2)
    array([1., 2.])

    """

    def __init__(
        self,
        alphas: Sequence[float] = (0.1, 1.0, 10.0),
        *,
        alpha_type: Literal["absolute", "relative"] = "absolute",
        fit_intercept: bool = True,
        gradient_weights: GradientWeights | Sequence[GradientWeights] = 1.0,
        scoring: str | Callable[..., float] | None = None,
        cv: Any = None,
        alpha_per_target: bool = False,
        compute_std: bool = False,
    ) -> None:
        self.alphas = alphas
        self.alpha_type = alpha_type
        self.fit_intercept = fit_intercept
        self.gradient_weights = gradient_weights
        self.scoring = scoring
        self.cv = cv
        self.alpha_per_target = alpha_per_target
        self.compute_std = compute_std

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> RidgeCV:
        """Find the best penalty, and the coefficients.

        Parameters
        ----------
        X, y, sample_weight
            as in :meth:`Ridge.fit`
        groups : array (n_rows,), optional
            rows with the same entry are left out together; or what `cv` splits by

        Returns
        -------
        RidgeCV
            self, fitted

        Raises
        ------
        ValueError
            if X and y do not match, a parameter is not valid, there is NaN or infinity, or nothing
            remains when a group is left out
        TypeError
            if X is an array and y is not

        """
        self.__dict__.pop("_fitted", None)
        batch, labelled = self._open(X, y, sample_weight, first=True)
        numbers = row_groups(labelled, groups, self.cv)
        rows = [unfold(stacks, of_block) for stacks, of_block in zip(batch, numbers, strict=True)]
        options = self._gradient_options()
        score: _leave_out_search.Score
        if self.scoring is None:
            weights = options[0] if len(options) == 1 else "balanced"
            factors = _leave_out_search.loss_factors(weights, self._centered, rows)
            score = _leave_out_search.loss_score(rows, factors, self.alpha_per_target)
        else:
            score = _leave_out_search.ScorerScore(
                self.scoring,
                labelled,
                self._target_ndim,
                batch,
                self.alpha_per_target,
                sample_weight,
            )
        self._search(options, rows, score)
        return self

    def _gradient_options(self) -> Sequence[GradientWeights]:
        options: Any = self.gradient_weights
        if isinstance(options, np.ndarray) and options.ndim:
            options = options.tolist()
        return options if isinstance(options, (list, tuple)) else [options]

    def _parameters(self, features: TensorMap, targets: TensorMap) -> list[str]:
        super()._parameters(features, targets)  # what is not there must not be needed
        there = targets._blocks[0].gradients_list()
        return [name for name in there if features._blocks[0].has_gradient(name)]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _base.check_choice(self.alpha_type, "alpha_type", _ALPHA_TYPES)
        _base.check_flags(self, "alpha_per_target")
        for name in ("alphas", "gradient_weights"):
            if not np.size(getattr(self, name)):
                raise ValueError(f"`{name}` must have at least one entry, got none")
        if np.ndim(self.alphas) != 1:
            raise TypeError(
                f"`alphas` must be a sequence of numbers, got {_checks.kind(self.alphas)}"
            )
        for position, alpha in enumerate(self.alphas):
            _base.check_not_negative(alpha, f"alphas[{position}]", "a number")
            if alpha == 0:
                raise ValueError(f"`alphas` must all be above zero, alphas[{position}] is not")

    @property
    def _centered(self) -> list[bool]:
        return [target.centered for target in self._targets]

    def _search(
        self,
        options: Sequence[GradientWeights],
        rows: list[Unfolded],
        score: _leave_out_search.Score,
    ) -> None:
        relative = self.alpha_type == "relative"
        alphas = np.array([float(alpha) for alpha in self.alphas])
        results: dict[str, list[Any]] = {"gradient_weights": [], "alpha": [], "score": []}
        best: tuple[float, Trial, Array] | None = None
        for trial in _leave_out_search.trials(options, self._centered, rows, relative):
            scores = []
            for alpha in alphas:
                residuals = trial.residuals(float(alpha))
                scores.append(score(residuals))
                errors = _leave_out_search.errors(rows, residuals)
                candidate = {"gradient_weights": trial.weights, "alpha": alpha, **errors}
                for name, value in candidate.items():
                    results.setdefault(name, []).append(value)
            results["score"] += scores
            ranked = np.nan_to_num(scores, nan=-np.inf)
            value = float(ranked.max(axis=0).mean())
            if best is None or value > best[0]:
                best = value, trial, ranked
        if best is None or best[0] == -np.inf:
            raise ValueError("`scoring` must give a number for one of `alphas`, got NaN for all")
        self._finish(best[1], alphas, best[2])
        self.cv_results_ = {name: _as_column(values) for name, values in results.items()}
        if not self.alpha_per_target:
            self.cv_results_["score"] = self.cv_results_["score"][:, 0]

    def _finish(self, trial: Trial, alphas: Array, scores: Array) -> None:
        """Fit to all rows with what is best."""
        chosen = scores.argmax(axis=0)
        found, reached = alphas[chosen], scores.max(axis=0)
        ends = np.cumsum([len(target.properties) for target in self._targets])
        if not self.alpha_per_target:
            found, reached = np.repeat(found, ends[-1]), np.repeat(reached, ends[-1])
        split = [np.split(numbers, ends[:-1]) for numbers in (found, reached)]
        self._fitted = trial.models(split[0], self.compute_std)
        self.best_gradient_weights_ = trial.weights
        if self.alpha_per_target:
            self.alpha_, self.best_score_ = map(self._per_target, split)
        else:
            self.alpha_, self.best_score_ = float(found[0]), float(reached[0])


def _as_column(values: list[Any]) -> npt.NDArray[Any]:
    """Return an array of numbers, or of objects."""
    if all(isinstance(value, (float, np.ndarray)) for value in values):
        return np.array(values)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _sum_up(target: Target, stacks: list[Stack], solver: str) -> list[Problem]:
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
