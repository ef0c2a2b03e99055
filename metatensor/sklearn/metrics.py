"""How far predictions are from the truth, for values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sklearn.metrics
from sklearn.utils.validation import check_array, check_consistent_length

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base, _matching
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]
Selection = int | Mapping[str, int] | Labels | LabelsEntry

_NAMES = _matching.Names("y_true", "y_pred")


class _Errors(NamedTuple):
    """What to compare in one block: true values, what predictions are off, and weights."""

    key: LabelsEntry
    block: TensorBlock
    truth: Array
    difference: Array
    weights: Array
    has_mean: bool


def rmse(
    y_true: Any,
    y_pred: Any,
    *,
    gradient: str | None = None,
    keys: Selection | None = None,
    per_key: bool = False,
    per_component: bool = False,
    per_property: bool = False,
    normalize: Any = None,
    sample_weight: Any = None,
) -> float | TensorMap:
    """Return the root of the mean squared error, over all values of all blocks together.

    Gradients: compared on request, matched by label. A gradient row that only y_true has counts
    as predicted to be zero; one that only y_pred has does not count.

    Parameters
    ----------
    y_true, y_pred : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
        true and predicted values, matched by label; y_pred must have all the samples of y_true
    gradient : str, optional
        compare the gradients with respect to this parameter instead of the values
    keys : int, dict, Labels or LabelsEntry, optional
        which blocks of y_true to compare, as in :meth:`metatensor.TensorMap.blocks`
    per_key, per_component, per_property : bool, default=False
        give one error for each block, entry of the component axes, or property
    normalize : "n_atoms", array (n_rows,), TensorMap or Rows, optional
        divide truth and prediction by a number for each row; "n_atoms" counts the rows that the
        gradient "positions" of y_true has for each sample. A map has one number for each sample,
        found by label, so that it serves all folds of a cross-validation: one block for all blocks
        of y_true, or one for each.
    sample_weight : array (n_rows,), TensorMap or Rows, optional
        as in :meth:`metatensor.sklearn.Ridge.fit`

    Returns
    -------
    float, or TensorMap
        a float64 map on request of more than one error, with one sample in each block

    Raises
    ------
    ValueError
        if y_true and y_pred do not match, or there is nothing to compare

    See Also
    --------
    get_scorer : metrics for ``scoring=`` of scikit-learn's tools

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn.metrics import rmse
    >>> samples, energy = Labels.range("system", 2), Labels.range("energy", 1)
    >>> truth, prediction = (
    ...     TensorMap(Labels.single(), [TensorBlock(np.array(values), samples, [], energy)])
    ...     for values in ([[1.0], [2.0]], [[4.0], [6.0]])
    ... )
    >>> round(rmse(truth, prediction), 4)
    3.5355

    """
    errors = _compare(y_true, y_pred, gradient, keys, normalize, sample_weight)
    return _reduce(errors, _squared, _root_of_mean, per_key, per_component, per_property)


def mae(
    y_true: Any,
    y_pred: Any,
    *,
    gradient: str | None = None,
    keys: Selection | None = None,
    per_key: bool = False,
    per_component: bool = False,
    per_property: bool = False,
    normalize: Any = None,
    sample_weight: Any = None,
) -> float | TensorMap:
    """Return the mean absolute error, over all values of all blocks together.

    Gradients: as in :func:`rmse`.

    Parameters
    ----------
    y_true, y_pred, gradient, keys, per_key, per_component, per_property, normalize, sample_weight
        as in :func:`rmse`

    Returns
    -------
    float, or TensorMap
        as :func:`rmse`

    Examples
    --------
    >>> from metatensor.sklearn.metrics import mae
    >>> mae([1.0, 2.0], [4.0, 6.0])
    3.5

    """
    errors = _compare(y_true, y_pred, gradient, keys, normalize, sample_weight)
    return _reduce(errors, _absolute, _mean, per_key, per_component, per_property)


def max_error(
    y_true: Any,
    y_pred: Any,
    *,
    gradient: str | None = None,
    keys: Selection | None = None,
    per_key: bool = False,
    per_component: bool = False,
    per_property: bool = False,
    normalize: Any = None,
    sample_weight: Any = None,
) -> float | TensorMap:
    """Return the largest absolute error, of all values of all blocks together.

    Gradients: as in :func:`rmse`.

    Parameters
    ----------
    y_true, y_pred, gradient, keys, per_key, per_component, per_property, normalize
        as in :func:`rmse`
    sample_weight : array (n_rows,), TensorMap or Rows, optional
        what has no weight does not count; other weights make no difference

    Returns
    -------
    float, or TensorMap
        as :func:`rmse`

    Examples
    --------
    >>> from metatensor.sklearn.metrics import max_error
    >>> max_error([1.0, 2.0], [4.0, 6.0])
    4.0

    """
    errors = _compare(y_true, y_pred, gradient, keys, normalize, sample_weight)
    return _reduce(errors, _distances, _largest, per_key, per_component, per_property)


def medae(
    y_true: Any,
    y_pred: Any,
    *,
    gradient: str | None = None,
    keys: Selection | None = None,
    per_key: bool = False,
    per_component: bool = False,
    per_property: bool = False,
    normalize: Any = None,
    sample_weight: Any = None,
) -> float | TensorMap:
    """Return the median of the absolute errors, of all values of all blocks together.

    That is the error up to which half of the weight lies: the average of two neighbours if both
    are such errors.

    Gradients: as in :func:`rmse`.

    Parameters
    ----------
    y_true, y_pred, gradient, keys, per_key, per_component, per_property, normalize, sample_weight
        as in :func:`rmse`

    Returns
    -------
    float, or TensorMap
        as :func:`rmse`

    Examples
    --------
    >>> from metatensor.sklearn.metrics import medae
    >>> medae([1.0, 2.0, 3.0], [1.5, 2.0, 9.0])
    0.5

    """
    errors = _compare(y_true, y_pred, gradient, keys, normalize, sample_weight)
    return _reduce(errors, _distances, _median, per_key, per_component, per_property)


def r2(
    y_true: Any,
    y_pred: Any,
    *,
    gradient: str | None = None,
    keys: Selection | None = None,
    per_key: bool = False,
    per_component: bool = False,
    per_property: bool = False,
    normalize: Any = None,
    sample_weight: Any = None,
) -> float | TensorMap:
    """Return the coefficient of determination, over all values of all blocks together.

    That is one minus the squared error over the squared distance of the truth from its reference:
    the mean of each property for blocks that are invariant to rotations, zero for all others and
    for gradients. Without any such distance it is 1 if there is no error either, else 0.

    Gradients: as in :func:`rmse`.

    Parameters
    ----------
    y_true, y_pred, gradient, keys, per_key, per_component, per_property, normalize, sample_weight
        as in :func:`rmse`

    Returns
    -------
    float, or TensorMap
        as :func:`rmse`

    Examples
    --------
    >>> from metatensor.sklearn.metrics import r2
    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    0.5

    """
    errors = _compare(y_true, y_pred, gradient, keys, normalize, sample_weight)
    return _reduce(errors, _explained, _one_minus_ratio, per_key, per_component, per_property)


# ---- what to compare


def _compare(
    y_true: Any,
    y_pred: Any,
    gradient: str | None,
    keys: Selection | None,
    normalize: Any,
    sample_weight: Any,
) -> list[_Errors]:
    y_true, y_pred = _same_containers(y_true, y_pred)
    truth = _base.to_tensor(y_true)
    pairs = _matching.match(truth, _base.to_tensor(y_pred), _NAMES)
    weights = _matching.term_weights(sample_weight, y_true, pairs)
    numbers = _numbers(normalize, y_true)
    positions = _selected(truth, keys)
    return [_errors(pairs[p], gradient, weights[p], numbers[p]) for p in positions]


def _selected(tensor: TensorMap, keys: Selection | None) -> Sequence[int]:
    if keys is None:
        return range(len(tensor))
    if isinstance(keys, int):
        tensor.block_by_id(keys)  # says what is wrong with other numbers
        return [keys]
    return [int(position) for position in tensor._matches(keys)]


def _same_containers(y_true: Any, y_pred: Any) -> tuple[_base.Tensor, _base.Tensor]:
    """Return both as labelled data, matched by position if one is an array."""
    if _base.is_tensor(y_true) and _base.is_tensor(y_pred):
        return y_true, y_pred
    for y in (y_true, y_pred):
        if isinstance(y, TensorMap):
            raise TypeError("y_true and y_pred must both be labelled, or both be arrays or Rows")
    arrays = [check_array(y, ensure_2d=False, dtype="numeric") for y in (y_true, y_pred)]
    check_consistent_length(*arrays)
    matrices = [array[:, None] if array.ndim == 1 else array for array in arrays]
    if matrices[0].shape != matrices[1].shape:
        raise ValueError(
            "y_true and y_pred must have the same shape, "
            f"got {arrays[0].shape} and {arrays[1].shape}"
        )
    first, second = (_base.from_matrix(matrix, "target") for matrix in matrices)
    return first, second


def _numbers(normalize: Any, y_true: _base.Tensor) -> list[Array | None]:
    """Return what to divide the samples of each block by."""
    tensor = _base.to_tensor(y_true)
    numbers: list[Array | None] = []
    if normalize is None:
        return [None] * len(tensor)
    if not isinstance(normalize, str):
        if _base.is_tensor(normalize):
            divisors = _numbers_by_label(_base.to_tensor(normalize), tensor)
        else:
            divisors = _matching.row_weights(normalize, y_true, "`normalize`")
        if not all((part > 0).all() for part in divisors):
            raise ValueError("`normalize` must have numbers above zero only")
        return list(divisors)
    if normalize != "n_atoms":
        raise ValueError(
            f"`normalize` must be 'n_atoms', an array or labelled data, got {normalize!r}"
        )
    for block in tensor:
        if not block.has_gradient("positions"):
            raise ValueError(
                "normalize='n_atoms' needs y_true to have the gradient 'positions', and counts "
                "its rows; an array or a map with the number of atoms of each row is possible too"
            )
        rows = block.gradient("positions")._samples._table[:, 0]
        counts = np.bincount(rows, minlength=len(block._samples)).astype(np.float64)
        if (counts == 0).any():
            raise ValueError(
                "normalize='n_atoms' counts the rows of the gradient 'positions' of y_true, there "
                f"are none for {_base.entries_text(block._samples, counts == 0)}"
            )
        numbers.append(counts)
    return numbers


def _numbers_by_label(normalize: TensorMap, tensor: TensorMap) -> list[Array]:
    """Return the number of each sample of each block, from the one that has the same labels."""
    positions = [0] * len(tensor)
    if len(normalize) != 1:
        names = _matching.Names("y_true", "normalize")
        positions = _matching.match_keys(tensor._keys, normalize._keys, names)
    numbers = []
    for block, position in zip(tensor, positions, strict=True):
        given = normalize._blocks[position]
        samples, values = given._samples, _host(given)
        if set(samples._names) != set(block._samples._names) or values.shape[1:] != (1,):
            raise ValueError(
                f"`normalize` must have the sample names of y_true, {block._samples.names}, one "
                f"property and no components, got {samples.names} and values of shape "
                f"{values.shape}"
            )
        found = _alignment.find(block._samples, samples)
        if (found < 0).any():
            raise ValueError(
                "`normalize` must have a number for each sample of y_true, there is none for "
                f"{_base.entries_text(block._samples, found < 0)}"
            )
        numbers.append(values[found, 0])
    return numbers


def _errors(
    pair: _matching.Pair,
    gradient: str | None,
    weights: dict[str | None, Array],
    numbers: Array | None,
) -> _Errors:
    """Return the errors of the values, or of one gradient, of a block."""
    block, predicted, positions = pair.wanted, pair.given, pair.samples
    if gradient is not None:
        for name, where in zip(_NAMES, (block, predicted), strict=True):
            if not where.has_gradient(gradient):
                hint = "; predictions have those of X" if name == "y_pred" else ""
                raise ValueError(
                    f"{name} has no gradient {gradient!r} to compare, only "
                    f"{where.gradients_list()}{hint}"
                )
        positions = pair.gradient_rows(gradient, _NAMES)
        block, predicted = block._gradients[gradient], predicted._gradients[gradient]
        if numbers is not None:
            numbers = numbers[block._samples._table[:, 0]]
    if block._properties != predicted._properties:
        predicted = _reordered(pair.key, block, predicted)
    truth = _host(block)
    prediction = (
        np.where(_with_axes(positions >= 0, truth), _host(predicted)[positions], 0.0)
        if len(predicted._samples)
        else np.zeros_like(truth)
    )
    if numbers is not None:
        truth, prediction = (
            truth / _with_axes(numbers, truth),
            prediction / _with_axes(numbers, truth),
        )
    has_mean = gradient is None and _base.is_invariant(pair.key, pair.wanted)
    spread = np.broadcast_to(weights[gradient], truth.shape)
    return _Errors(pair.key, block, truth, truth - prediction, spread, has_mean)


def _reordered(key: LabelsEntry, block: TensorBlock, predicted: TensorBlock) -> TensorBlock:
    """Return predictions with the properties in the order of the truth."""
    properties = block._properties
    if not _alignment.same_entries(properties, predicted._properties):
        raise ValueError(
            f"y_true and y_pred must have the same properties, in the block with key {key.print()}"
        )
    return _alignment.take_properties(predicted, properties)


def _host(block: TensorBlock) -> Array:
    return _arrays.to_host(_arrays.detach(block._values)).astype(np.float64)


def _with_axes(numbers: npt.NDArray[Any], values: Array) -> npt.NDArray[Any]:
    return numbers.reshape(-1, *[1] * (values.ndim - 1))


# ---- the terms that a metric is made of, for every value, and what it makes of them


def _squared(errors: _Errors) -> Array:
    return np.stack([errors.weights * errors.difference**2, errors.weights])


def _absolute(errors: _Errors) -> Array:
    return np.stack([errors.weights * np.abs(errors.difference), errors.weights])


def _distances(errors: _Errors) -> Array:
    return np.stack([np.abs(errors.difference), errors.weights])


def _explained(errors: _Errors) -> Array:
    weights, distance = errors.weights, errors.truth
    if errors.has_mean:
        total = weights.sum(axis=0)
        distance = distance - (weights * distance).sum(axis=0) / np.where(total > 0, total, 1)
    return np.stack([weights * errors.difference**2, weights * distance**2])


#: the terms of some blocks, each (n_terms, n_values, ...), where the last axes stay
Parts = Iterable[Array]


def _total(parts: Parts) -> Array:
    return np.asarray(sum(part.sum(axis=1) for part in parts))


def _mean(parts: Parts) -> Array:
    sums = _total(parts)
    nothing = np.full(sums[0].shape, np.nan)
    return np.asarray(np.divide(sums[0], sums[1], out=nothing, where=sums[1] > 0))


def _root_of_mean(parts: Parts) -> Array:
    return np.sqrt(_mean(parts))


def _one_minus_ratio(parts: Parts) -> Array:
    sums = _total(parts)
    unexplained = np.where(sums[0] > 0, 1.0, 0.0)
    return np.asarray(1 - np.divide(sums[0], sums[1], out=unexplained, where=sums[1] > 0))


def _largest(parts: Parts) -> Array:
    # -1 stands for nothing that counts
    largest = [np.where(part[1] > 0, part[0], -1.0).max(axis=0, initial=-1.0) for part in parts]
    result = np.max(largest, axis=0)
    return np.where(result < 0, np.nan, result)


def _median(parts: Parts) -> Array:
    errors, weights = np.concatenate(list(parts), axis=1)
    errors = np.where(weights > 0, errors, np.inf)
    order = np.argsort(errors, axis=0)
    errors, weights = (np.take_along_axis(array, order, axis=0) for array in (errors, weights))
    below = np.cumsum(weights, axis=0)
    if not len(below):
        return np.full(below.shape[1:], np.nan)
    # weights that only differ from a half by rounding are a half
    half, rounding = below[-1:] / 2, len(below) * np.finfo(np.float64).eps
    ends = [(below >= half * (1 - rounding)), (below > half * (1 + rounding))]
    first, last = (
        np.take_along_axis(errors, end.argmax(axis=0, keepdims=True), axis=0)[0] for end in ends
    )
    defined = (half[0] > 0) & ~np.isnan(errors).any(axis=0)
    return np.where(defined, first / 2 + last / 2, np.nan)


def _reduce(
    errors: list[_Errors],
    terms: Callable[[_Errors], Array],
    finish: Callable[[Parts], Array],
    per_key: bool,
    per_component: bool,
    per_property: bool,
) -> float | TensorMap:
    """Make a metric of the terms of all values that are not asked for apart."""
    if not any(error.weights.any() for error in errors):
        raise ValueError("there is nothing to compare: no samples, or no weights above zero")
    groups = [[error] for error in errors] if per_key else [errors]
    kept = per_component, per_property
    if not (per_key or per_component or per_property):
        return float(finish(_values_first(terms(error), *kept) for error in errors))
    labels = [_kept_labels(error.block, *kept) for error in errors]
    keys = Labels(errors[0].key.names, np.array([[int(n) for n in error.key] for error in errors]))
    if not per_key:
        if any(other != labels[0] for other in labels):
            raise ValueError(
                "blocks must have the same components and properties for errors of all keys "
                "together; use per_key=True"
            )
        keys = Labels.single()
    blocks = []
    for group, (components, properties) in zip(groups, labels, strict=False):
        values = finish(_values_first(terms(error), *kept) for error in group)
        values = values.reshape(1, *map(len, components), len(properties))
        blocks.append(TensorBlock._of(values, Labels.single(), components, properties))
    return TensorMap._of(keys, blocks)


def _values_first(terms: Array, per_component: bool, per_property: bool) -> Array:
    """Return terms with one axis for all values that are not asked for apart, and then the rest."""
    last = terms.ndim - 1
    axes = [1, *(() if per_component else range(2, last)), *(() if per_property else (last,))]
    terms = np.moveaxis(terms, axes, range(1, len(axes) + 1))
    shape = terms.shape
    return terms.reshape(shape[0], math.prod(shape[1 : len(axes) + 1]), *shape[len(axes) + 1 :])


def _kept_labels(
    block: TensorBlock, per_component: bool, per_property: bool
) -> tuple[tuple[Labels, ...], Labels]:
    components = block._components if per_component else ()
    return components, block._properties if per_property else Labels.single()


# ---- scorers

#: names of scorers; "neg_" is for metrics of which less is better
_SCORERS: dict[str, Callable[..., Any]] = {
    "neg_rmse": rmse,
    "neg_mae": mae,
    "neg_max_error": max_error,
    "neg_medae": medae,
    "r2": r2,
}
_GREATER_IS_BETTER = {metric: not name.startswith("neg_") for name, metric in _SCORERS.items()}


def make_scorer(
    metric: Callable[..., Any], *, greater_is_better: bool | None = None, **options: Any
) -> Callable[..., float]:
    """Make a scorer for ``scoring=`` of scikit-learn's tools.

    Parameters
    ----------
    metric : callable
        a function of this module, or any other one of y_true and y_pred
    greater_is_better : bool, optional
        whether the score is the metric, or minus the metric; known for the functions of this
        module, True for others
    **options
        arguments of the metric, such as ``gradient="positions"``

    Returns
    -------
    callable
        a scorer of scikit-learn

    Examples
    --------
    >>> from metatensor.sklearn.metrics import make_scorer, mae
    >>> scoring = make_scorer(mae, gradient="positions")

    """
    if greater_is_better is None:
        greater_is_better = _GREATER_IS_BETTER.get(metric, True)
    scorer: Callable[..., float] = sklearn.metrics.make_scorer(
        metric, greater_is_better=greater_is_better, **options
    )
    return scorer


def get_scorer(scoring: str, **options: Any) -> Callable[..., float]:
    """Return the scorer with a name, for values or a gradient.

    Parameters
    ----------
    scoring : str
        "neg_rmse", "neg_mae", "neg_max_error", "neg_medae" or "r2", for the values; followed by ":"
        and the name of a parameter, as in "neg_rmse:positions", for the gradient with respect to it
    **options
        further arguments of the metric

    Returns
    -------
    callable
        a scorer of scikit-learn

    Raises
    ------
    ValueError
        if there is no such metric

    Examples
    --------
    >>> from metatensor.sklearn.metrics import get_scorer
    >>> scoring = {"energy": get_scorer("neg_rmse"), "forces": get_scorer("neg_rmse:positions")}

    """
    if not isinstance(scoring, str):
        raise TypeError(f"`scoring` must be the name of a metric, got {_checks.kind(scoring)}")
    name, _, gradient = scoring.partition(":")
    if name not in _SCORERS:
        raise ValueError(
            f"`scoring` must be one of {list(_SCORERS)}, with ':' and the name of a gradient "
            f"behind it or not, got {scoring!r}"
        )
    if gradient:
        options["gradient"] = gradient
    return make_scorer(_SCORERS[name], **options)


def as_scorer(scoring: str | Callable[..., float]) -> Callable[..., float]:
    """Return the scorer with a name, of this module or else of scikit-learn; others as they are."""
    if callable(scoring):
        return scoring
    try:
        return get_scorer(scoring)
    except ValueError:
        if scoring not in sklearn.metrics.get_scorer_names():
            raise
    scorer: Callable[..., float] = sklearn.metrics.get_scorer(scoring)
    return scorer
