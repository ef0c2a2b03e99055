"""Checks of how an estimator behaves: parameters, fitting, copies, containers and labels."""

from __future__ import annotations

import copy
import io
import pickle
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import SkipTest

import joblib
import numpy as np
from sklearn import config_context
from sklearn.base import clone, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.io import mts
from metatensor.labels import Labels
from metatensor.sklearn import _alignment
from metatensor.sklearn.rows import Rows, as_rows
from metatensor.sklearn.testing._data import Data
from metatensor.sklearn.testing._outcome import (
    assert_same,
    converted,
    expect_error,
    fitted,
    is_finite,
    outputs,
    parts,
    rounding,
    seeded,
    takes_arrays,
    transforms,
)
from metatensor.tensor import TensorMap

# ---- parameters and fitting


def check_parameters(estimator: Any, data: Data) -> None:
    """`__init__` stores its arguments and no more; clone, get_params, set_params, repr work."""
    copied = clone(estimator)
    assert repr(copied) == repr(estimator), f"a clone is shown as {copied!r}"
    given = estimator.get_params(deep=False)
    made = type(estimator)(**given)
    assert set(vars(made)) == set(given), (
        f"`__init__` must set its parameters {sorted(given)}, it set {sorted(vars(made))}"
    )
    for name, value in given.items():
        assert getattr(made, name) is value, f"`__init__` changed {name!r}, {value!r}"
        copied.set_params(**{name: value})
        assert getattr(copied, name) is value, f"`set_params` changed {name!r}, {value!r}"


def check_not_fitted(estimator: Any, data: Data) -> None:
    """Before `fit` there is a NotFittedError, unless there is nothing to fit."""
    if get_tags(estimator).requires_fit:
        expect_error(NotFittedError, (), lambda: outputs(seeded(estimator), data.X), "before `fit`")


def check_fit_returns_self(estimator: Any, data: Data) -> None:
    """`fit` returns the estimator, whose parameters stay as they are."""
    model = seeded(estimator)
    before = model.get_params()
    found = model.fit(data.X, data.y)
    assert found is model, f"`fit` must return self, got {type(found).__name__}"
    changed = [name for name, value in model.get_params().items() if value is not before[name]]
    assert not changed, f"`fit` must not change parameters, it changed {changed}"


def check_fit_idempotent(estimator: Any, data: Data) -> None:
    """Fitting twice to the same data is fitting once; `fit_transform` is both steps."""
    X, y = data.X, data.y
    model = fitted(estimator, X, y)
    expected = outputs(model, X)
    assert_same(outputs(model.fit(X, y), X), expected, what="after a second `fit`")
    if hasattr(model, "fit_transform"):
        found = {"transform": seeded(estimator).fit_transform(X, y)}
        expected = {"transform": expected["transform"]}
        assert_same(found, expected, 1e-10, "by `fit_transform`")


def check_refit_forgets(estimator: Any, data: Data) -> None:
    """A fit to other data, or to arrays, leaves nothing behind."""
    X, y = data.rows()
    expected = outputs(fitted(estimator, data.X, data.y), data.X)
    model = fitted(estimator, X[1::2], None if y is None else y[1::2])
    found = outputs(model.fit(data.X, data.y), data.X)
    assert_same(found, expected, what="after a `fit` to other rows before")
    if takes_arrays(estimator):
        array = np.random.default_rng(0).normal(size=(12, 5))
        model.fit(array, array[:, 0])
        assert model.n_features_in_ == 5, f"n_features_in_ is {model.n_features_in_}, expected 5"
        for method, result in outputs(model, array).items():
            assert len(result) == 12, f"`{method}` of an array returned {len(result)} rows of 12"
        found = outputs(model.fit(data.X, data.y), data.X)
        assert_same(found, expected, what="after a `fit` to an array before")


def check_partial_fit(estimator: Any, data: Data) -> None:
    """`partial_fit` to batches is `fit` to all of them."""
    X, y = data.rows()
    expected = outputs(fitted(estimator, X, y), X)
    model = seeded(estimator)
    for rows in (slice(None, 4), slice(4, 5), slice(5, None)):
        model.partial_fit(X[rows], None if y is None else y[rows])
    assert_same(outputs(model, X), expected, 1e-8, "after `partial_fit`")


def check_copies(estimator: Any, data: Data) -> None:
    """What is pickled, dumped by joblib or deeply copied gives the same."""
    model = fitted(estimator, data.X, data.y)
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    copies = {
        "pickled": pickle.loads(pickle.dumps(model)),
        "dumped by joblib": joblib.load(buffer),
        "deeply copied": copy.deepcopy(model),
    }
    for what, again in copies.items():
        assert_same(outputs(again, data.X), outputs(model, data.X), what=f"when {what}")


def check_html(estimator: Any, data: Data) -> None:
    """Notebooks show it."""
    text = fitted(estimator, data.X, data.y)._repr_html_()
    assert type(estimator).__name__ in text, f"the HTML form lacks {type(estimator).__name__!r}"


# ---- what is given


def check_inputs_unchanged(estimator: Any, data: Data) -> None:
    """Nothing in X and y is ever modified."""
    X, y = data.X.copy(), None if data.y is None else data.y.copy()
    outputs(fitted(estimator, X, y), X)
    for name, now, before in (("X", X, data.X), ("y", y, data.y)):
        if now is not None and before is not None:
            assert now == before, f"{name} was modified"
            assert now.info() == before.info(), f"the info of {name} was modified"


def check_read_only(estimator: Any, data: Data) -> None:
    """Read-only arrays, memory-mapped ones and mapped files are the same as others."""
    expected = outputs(fitted(estimator, data.X, data.y), data.X)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for what, protect in _PROTECTED.items():
            X = protect(data.X, Path(folder))
            y = None if data.y is None else protect(data.y, Path(folder))
            assert_same(outputs(fitted(estimator, X, y), X), expected, what=f"of {what}")


def _read_only(tensor: TensorMap, folder: Path) -> TensorMap:
    def protect(values: Any) -> Any:
        values = np.array(values)
        values.flags.writeable = False
        return values

    return converted(tensor, protect)


def _mapped(tensor: TensorMap, folder: Path) -> TensorMap:
    def protect(values: Any) -> Any:
        if not values.size:
            return values
        path = folder / f"{len(list(folder.iterdir()))}.array"
        np.asarray(values).tofile(path)
        return np.memmap(path, values.dtype, "r", shape=values.shape)

    return converted(tensor, protect)


def _loaded(tensor: TensorMap, folder: Path) -> TensorMap:
    path = folder / f"{len(list(folder.iterdir()))}.mts"
    mts.save(path, tensor)
    return mts.load(path, mmap=True)


_PROTECTED = {"read-only arrays": _read_only, "numpy.memmap": _mapped, "mapped files": _loaded}


def check_nan_refused(estimator: Any, data: Data) -> None:
    """NaN in X or y, or their gradients, is refused by `fit`."""
    tags = get_tags(estimator)
    checked = []
    if not tags.no_validation and not tags.input_tags.allow_nan:
        checked.append("X")
    if is_regressor(estimator):
        checked.append("y")
    for name in checked:
        tensor = getattr(data, name)
        for parameter in (None, *tensor.block_by_id(0).gradients_list()):
            given = {"X": data.X, "y": data.y, name: _with_nan(tensor, parameter)}
            when = (
                f"with NaN in {f'the gradient {parameter!r}' if parameter else 'values'} of {name}"
            )
            expect_error(ValueError, ("NaN",), lambda: fitted(estimator, **given), when)  # noqa: B023


def _with_nan(tensor: TensorMap, parameter: str | None) -> TensorMap:
    changed = tensor.copy()
    block = changed.block_by_id(0)
    values = (block.gradient(parameter) if parameter else block).values
    values[(0,) * values.ndim] = np.nan
    return changed


def check_single_row(estimator: Any, data: Data) -> None:
    """`fit` takes a single row, or refuses it with a ValueError."""
    X, y = data.rows()
    try:
        model = fitted(estimator, X[3:4], None if y is None else y[3:4])
    except ValueError:
        return
    for method, result in outputs(model, X).items():
        assert is_finite(result.tensor), f"`{method}` is not finite after `fit` to a single row"


def check_no_rows(estimator: Any, data: Data) -> None:
    """Nothing comes out where nothing goes in; `fit` to nothing works or is a ValueError."""
    X, y = data.rows()
    for method, result in outputs(fitted(estimator, X, y), X[:0]).items():
        n_rows, n_samples = len(result), sum(map(len, result.tensor))
        assert (n_rows, n_samples) == (0, 0), f"`{method}` made {n_samples} samples of no row"
    with suppress(ValueError):
        fitted(estimator, X[:0], None if y is None else y[:0])


def check_missing_keys(estimator: Any, data: Data) -> None:
    """A block that is absent after `fit` is done without, or asked for by its key."""
    model = fitted(estimator, data.X, data.y)
    expected = outputs(model, data.X)
    for absent in range(len(data.X)) if len(data.X) > 1 else ():
        X = _without(data.X, absent)
        try:
            found = outputs(model, X)
        except ValueError as error:
            text = str(error)
            assert "key" in text, f"a missing block was refused, not saying which key: {text}"
            continue
        for method, result in found.items():
            assert is_finite(result), f"`{method}` is not finite without a block"
            if set(expected[method].keys) == set(data.X.keys) == {*X.keys, *result.keys}:
                continue  # the block is there, filled in
            if set(expected[method].keys) == set(data.X.keys):
                rest = {method: _without(expected[method], data.X.keys.entry(absent))}
                assert_same({method: result}, rest, 1e-10, "without a block")


def _without(tensor: TensorMap, absent: Any) -> TensorMap:
    position = absent if isinstance(absent, int) else tensor.keys.position(absent)
    kept = [number for number in range(len(tensor)) if number != position]
    keys = Labels(tensor.keys.names, np.array(tensor.keys.values)[kept])
    return TensorMap(keys, [tensor.block_by_id(number) for number in kept])


# ---- containers


def check_rows(estimator: Any, data: Data) -> None:
    """Rows come out where Rows go in, with the values of the TensorMap in them."""
    X, y = data.rows()
    expected = outputs(fitted(estimator, data.X, data.y), data.X)
    for method, result in outputs(fitted(estimator, X, y), X).items():
        assert isinstance(result, Rows), f"`{method}` of Rows is {type(result).__name__}"
        assert result.rows == X.rows, f"`{method}` gave other rows"
        wanted = expected[method]
        assert isinstance(wanted, TensorMap), f"`{method}` of a TensorMap is {type(wanted)}"
        assert_same({method: _at(result.tensor, wanted)}, {method: wanted}, 1e-10, "of Rows")


def _at(tensor: TensorMap, wanted: TensorMap) -> TensorMap:
    """Return the samples that another map has; others may only be those of empty rows, zero."""
    blocks = []
    for block, other in zip(tensor, wanted):
        extra = np.flatnonzero(_alignment.find(block.samples, other.samples) < 0)
        assert not np.asarray(block.values)[extra].any(), "there are samples that X has not"
        blocks.append(_alignment.take_samples(block, _alignment.find(other.samples, block.samples)))
    return TensorMap(tensor.keys, blocks)


def check_other_containers(estimator: Any, data: Data) -> None:
    """What was fitted to arrays refuses tensors, and the reverse; both are named."""
    array = np.random.default_rng(0).normal(size=(12, 5))
    model = fitted(estimator, data.X, data.y)
    words = ("TensorMap", "array")
    when = "after `fit` to a TensorMap, for an array"
    expect_error(TypeError, words, lambda: outputs(model, array), when)
    if takes_arrays(estimator):
        other = fitted(estimator, array, array[:, 0])
        when = "after `fit` to an array, for a TensorMap"
        expect_error(TypeError, words, lambda: outputs(other, data.X), when)
    else:
        y = None if data.y is None else array[:, 0]
        expect_error(TypeError, ("TensorMap",), lambda: fitted(estimator, array, y), "for arrays")
    expect_error(
        TypeError,
        ("as_rows",),
        lambda: seeded(estimator).fit(list(data.X), data.y),
        "for a list of blocks, which scikit-learn makes by indexing",
    )


def check_output_stays_labelled(estimator: Any, data: Data) -> None:
    """Tensors stay tensors when data frames are asked for by `set_output` or globally."""
    for X in (data.X, data.rows()[0]):
        y = data.y if X is data.X else data.rows()[1]
        expected = outputs(fitted(estimator, X, y), X)
        if hasattr(estimator, "set_output"):  # scikit-learn has it for named features only
            found = outputs(seeded(estimator).set_output(transform="pandas").fit(X, y), X)
            assert_same(found, expected, what="after `set_output`")
        with config_context(transform_output="pandas"):
            found = outputs(fitted(estimator, X, y), X)
        assert_same(found, expected, what='with `transform_output="pandas"`')


def check_info(estimator: Any, data: Data) -> None:
    """Transformers keep the `info` of X, predictions have none."""
    X = data.X.copy()
    X.set_info("name", "value")
    info = {"name": "value"} if transforms(estimator) else {}
    rows = as_rows(X, by=data.by)
    assert isinstance(rows, Rows)
    for given, y in ((X, data.y), (rows, data.rows()[1])):
        model = fitted(estimator, given, y)
        for method, result in outputs(model, given).items():
            got = (result.tensor if isinstance(result, Rows) else result).info()
            expected = {} if method == "predict" else info
            container = type(given).__name__
            assert got == expected, f"`{method}` of {container} has info {got}, not {expected}"


# ---- labels and dtypes


def check_features_remembered(estimator: Any, data: Data) -> None:
    """`feature_labels_in_` and `n_features_in_` tell the properties of X."""
    model = fitted(estimator, data.X, data.y)
    expected = {key: block.properties for key, block in data.X.items()}
    n_features = sum(map(len, expected.values()))
    assert model.n_features_in_ == n_features, (
        f"n_features_in_ is {model.n_features_in_}, expected {n_features}"
    )
    got = model.feature_labels_in_
    assert got == expected, f"feature_labels_in_ is {got}, expected {expected}"
    assert not hasattr(model, "feature_names_in_"), "feature_names_in_ is for arrays"


def check_feature_names(estimator: Any, data: Data) -> None:
    """`get_feature_names_out` has a different name for each property that comes out."""
    model = fitted(estimator, data.X, data.y)
    names = list(model.get_feature_names_out())
    n_properties = sum(len(block.properties) for block in model.transform(data.X))
    assert len(names) == n_properties, f"got {len(names)} names for {n_properties} properties"
    assert len(set(names)) == len(names), f"the names are not unique: {names}"
    assert all(isinstance(name, str) for name in names), f"the names must be str, got {names}"


def check_prediction_labels(estimator: Any, data: Data) -> None:
    """Predictions have the keys, samples, components and properties of y."""
    assert data.y is not None
    prediction = fitted(estimator, data.X, data.y).predict(data.X)
    expected, found = (
        {key: _axes(block) for key, block in tensor.items()} for tensor in (data.y, prediction)
    )
    assert set(found) == set(expected), f"got the keys {prediction.keys}, expected {data.y.keys}"
    for key, axes in expected.items():
        assert found[key] == axes, f"got the axes {found[key]}, expected {axes}"


def _axes(block: TensorBlock) -> tuple[Any, ...]:
    return set(block.samples), block.components, set(block.properties)


def check_standard_deviation(estimator: Any, data: Data) -> None:
    """`predict(X, return_std=True)` adds deviations labelled as the values, without gradients."""
    model = seeded(estimator)
    names = [name for name in model.get_params() if name.split("__")[-1] == "compute_std"]
    model.set_params(**dict.fromkeys(names, True))
    model.fit(data.X, data.y)
    prediction, std = model.predict(data.X, return_std=True)
    expected = model.predict(data.X)
    assert_same({"predict": prediction}, {"predict": expected}, what="with `return_std`")
    assert [_axes(block) for block in std] == [_axes(block) for block in expected], (
        "the labels of the deviations must be those of the values"
    )
    assert not any(block.gradients_list() for block in std), "deviations must have no gradients"
    assert is_finite(std), "the deviations are not finite"
    assert all((np.asarray(block.values) >= 0).all() for block in std), "deviations are negative"


def check_score(estimator: Any, data: Data) -> None:
    """`score` is one number, the same for TensorMap and Rows."""
    X, y = data.rows()
    score = fitted(estimator, data.X, data.y).score(data.X, data.y)
    assert isinstance(score, float), f"`score` must be a float, got {type(score).__name__}"
    assert score <= 1, f"`score` must not exceed 1, got {score}"
    other = fitted(estimator, X, y).score(X, y)
    assert abs(score - other) <= 1e-8 * max(1, abs(score)), f"{score} becomes {other} for Rows"


def check_inverse(estimator: Any, data: Data) -> None:
    """What `inverse_transform` gives is transformed back to the same, with gradients."""
    model = fitted(estimator, data.X, data.y)
    expected = outputs(model, data.X)
    found = outputs(model, model.inverse_transform(model.transform(data.X)))
    assert_same(found, expected, 1e-8, "of `inverse_transform`")


def check_single_precision(estimator: Any, data: Data) -> None:
    """Single precision goes in and comes out, computed with care."""
    X, y = data.X.to(np.float32), None if data.y is None else data.y.to(np.float32)
    expected = outputs(fitted(estimator, data.X, data.y), data.X)
    assert_same(outputs(fitted(estimator, data.X, data.y), X), expected, 1e-3, "of float32")
    for method, result in outputs(fitted(estimator, X, y), X).items():
        dtypes = {str(part.values.dtype) for part in parts(result)}
        assert dtypes == {"float32"}, f"`{method}` of float32 has dtypes {sorted(dtypes)}"
        assert is_finite(result), f"`{method}` of float32 is not finite"


# ---- array libraries


def check_torch(estimator: Any, data: Data) -> None:
    """Torch tensors come out where they go in, with the values of numpy to rounding."""
    _check_torch(estimator, data, "cpu", max(1e-12, 10 * rounding(estimator, data)))


def check_cuda(estimator: Any, data: Data) -> None:
    """The same on a graphics card, where everything stays."""
    _check_torch(estimator, data, "cuda", max(1e-12, 10 * rounding(estimator, data)))


def _check_torch(estimator: Any, data: Data, device: str, tolerance: float) -> None:
    try:
        import torch
    except ImportError:
        raise SkipTest("torch is not installed") from None
    if device == "cuda" and not torch.cuda.is_available():
        raise SkipTest("there is no graphics card")
    X = data.X.to(arrays="torch", device=device)
    y = None if data.y is None else data.y.to(arrays="torch", device=device)
    model = fitted(estimator, X, y)
    found = outputs(model, X)
    learnt = {
        f"the attribute {name!r}": value
        for name in dir(model)
        if name.endswith("_") and not name.startswith("_")
        if isinstance(value := getattr(model, name, None), TensorMap)
    }
    for what, result in {
        **{f"`{name}`": tensor for name, tensor in found.items()},
        **learnt,
    }.items():
        for part in parts(result):
            library = type(part.values).__module__.split(".")[0]
            where = f"{library} on {_arrays.device(part.values)}"
            assert where.startswith(f"torch on {device}"), f"{what} of torch on {device} is {where}"
    host = {method: result.to(arrays="numpy") for method, result in found.items()}
    expected = outputs(fitted(estimator, data.X, data.y), data.X)
    assert_same(host, expected, tolerance, f"of torch on {device}")
