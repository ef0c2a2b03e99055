"""The checks of estimators find what is wrong, by the name of what it is."""

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import Normalizer, Ridge, StandardScaler, _base
from metatensor.sklearn.testing import check_estimator, checks, parametrize_with_checks
from metatensor.sklearn.testing._suite import CHECKS


def failures(estimator, **data):
    """Names of the checks that fail."""
    results = check_estimator(estimator, on_fail=None, **data)
    return {result.check.name for result in results if result.status == "failed"}


def of_values(tensor, function):
    """The same map, with other arrays for values."""
    blocks = []
    for block in tensor:
        values = function(block.values)
        new = TensorBlock(values, block.samples, block.components, block.properties)
        for name, gradient in block.gradients():
            new.add_gradient(name, gradient)
        blocks.append(new)
    return TensorMap(tensor.keys, blocks)


class GradientsCentered(StandardScaler):
    """Removes the mean of gradients from them."""

    def transform(self, X):
        if not _base.is_tensor(X):
            return super().transform(X)
        tensor = _base.to_tensor(super().transform(X)).copy()
        for block in tensor:
            for _, gradient in block.gradients():
                gradient.values[:] = gradient.values - gradient.values.mean(0)
        return _base.like_container(X, tensor)


class GradientsDropped(StandardScaler):
    def transform(self, X):
        if not _base.is_tensor(X):
            return super().transform(X)
        tensor = _base.to_tensor(super().transform(X))
        blocks = [
            TensorBlock(block.values, block.samples, block.components, block.properties)
            for block in tensor
        ]
        return _base.like_container(X, TensorMap(tensor.keys, blocks))


class WeightsIgnored(Ridge):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y)


class GradientsNotWeighted(Ridge):
    """Takes weights for values alone."""

    def fit(self, X, y, sample_weight=None):
        if isinstance(sample_weight, np.ndarray) and _base.is_tensor(y):
            keys = _base.to_tensor(y).keys
            weights = [
                TensorBlock(
                    np.ones((len(block), *block.shape[1:-1], 1)) * _column(sample_weight, block),
                    block.samples,
                    block.components,
                    Labels.single(),
                )
                for block in _base.to_tensor(y)
            ]
            sample_weight = TensorMap(keys, weights)
        return super().fit(X, y, sample_weight)


def _column(weights, block):
    return weights.reshape(-1, *[1] * (len(block.shape) - 1))


class Bent(Normalizer):
    """Applies a function to every component of vectors, with the right derivative."""

    def transform(self, X):
        if not _base.is_tensor(X):
            return super().transform(X)
        tensor = _base.to_tensor(super().transform(X))
        blocks = []
        for block in tensor:
            values = np.tanh(block.values)
            new = TensorBlock(values, block.samples, block.components, block.properties)
            for name, gradient in block.gradients():
                rows = 1 - values[gradient.samples["sample"]] ** 2
                rows = rows.reshape(
                    len(rows), *[1] * (gradient.values.ndim - rows.ndim), *rows.shape[1:]
                )
                new.add_gradient(
                    name,
                    TensorBlock(
                        rows * gradient.values,
                        gradient.samples,
                        gradient.components,
                        gradient.properties,
                    ),
                )
            blocks.append(new)
        return _base.like_container(X, TensorMap(tensor.keys, blocks))


class WritesIntoX(StandardScaler):
    def fit(self, X, y=None, sample_weight=None):
        super().fit(X, y, sample_weight)
        if _base.is_tensor(X):
            block = _base.to_tensor(X).block_by_id(0)
            block.values[:] *= 1 + 1e-9
        return self


class FirstSample(StandardScaler):
    """Removes the first sample in place of the mean."""

    def fit(self, X, y=None, sample_weight=None):
        super().fit(X, y, sample_weight)
        if _base.is_tensor(X):
            blocks = _base.to_tensor(X).items()
            self._first = {key: block.values[:1] + 0 for key, block in blocks}
        return self

    def transform(self, X):
        if not _base.is_tensor(X):
            return super().transform(X)
        tensor = _base.to_tensor(super().transform(X))
        first = iter([self._first[key] for key in tensor.keys])
        return _base.like_container(X, of_values(tensor, lambda values: values - next(first)))


class ByPosition(StandardScaler):
    """Scales properties by where they are."""

    def transform(self, X):
        if not _base.is_tensor(X):
            return super().transform(X)
        tensor = _base.to_tensor(super().transform(X))
        return _base.like_container(X, tensor * 2.0 if len(tensor.keys) else tensor)

    def _aligned_features(self, tensor):
        return tensor


class Remembers(StandardScaler):
    """Adds to what an earlier fit has found."""

    def fit(self, X, y=None, sample_weight=None):
        known = getattr(self, "feature_labels_in_", None)
        is_same = _base.is_tensor(X) and known is not None
        return (self.partial_fit if is_same else super().fit)(X, y, sample_weight)


class ChangesParameters(Ridge):
    def fit(self, X, y, sample_weight=None):
        self.alpha = float(self.alpha) * 2
        return super().fit(X, y, sample_weight)


class NotPickled(Ridge):
    def __getstate__(self):
        return {**super().__getstate__(), "_fitted": None, "_problems": []}


class InfoLost(Normalizer):
    def transform(self, X):
        result = super().transform(X)
        if _base.is_tensor(X):
            tensor = _base.to_tensor(result)
            result = _base.like_container(X, TensorMap(tensor.keys, list(tensor)))
        return result


class MeanOfAll(Normalizer):
    """Removes the mean of what is transformed."""

    def transform(self, X):
        result = super().transform(X)
        if not _base.is_tensor(X):
            return result
        centered = of_values(_base.to_tensor(result), lambda v: v - v.sum(0) / max(1, len(v)))
        return _base.like_container(X, centered)


BROKEN = {
    GradientsCentered: "check_gradients",
    GradientsDropped: "check_gradients",
    WeightsIgnored: "check_weights_are_copies",
    GradientsNotWeighted: "check_weights_of_zero",
    Bent: "check_rotations",
    WritesIntoX: "check_inputs_unchanged",
    FirstSample: "check_sample_order",
    ByPosition: "check_property_order",
    Remembers: "check_refit_forgets",
    ChangesParameters: "check_fit_returns_self",
    NotPickled: "check_copies",
    InfoLost: "check_info",
    MeanOfAll: "check_subsets",
}


@pytest.mark.parametrize(("broken", "check"), BROKEN.items())
def test_mistakes_are_found(broken, check):
    found = failures(broken())
    assert check in found
    assert check not in failures(broken.__mro__[1]())


def test_a_right_derivative_is_no_excuse_for_bending_vectors():
    assert "check_gradients" not in failures(Bent())


OTHERS = {"check_info": "is lost too", "check_rotated_fit": "bends vectors too"}


def test_messages_say_what_is_wrong():
    with pytest.raises(AssertionError) as error:
        check_estimator(GradientsDropped(), expected_failed_checks={"check_info": "is lost too"})
    for part in ("check_gradients", "GradientsDropped()", "'vectors'", "positions"):
        assert part in str(error.value)
    with pytest.warns(UserWarning, match="check_rotations of Bent"):
        check_estimator(Bent(), expected_failed_checks=OTHERS, on_fail="warn")


def test_failures_can_be_expected():
    reason = {"check_gradients": "drops them", "check_info[atoms]": "has none"}
    results = check_estimator(GradientsDropped(), expected_failed_checks=reason, on_fail=None)
    status = {repr(result.check): result.status for result in results}
    assert status["check_gradients[vectors]"] == status["check_info[atoms]"] == "xfail"
    assert status["check_info[vectors]"] == "failed"
    with pytest.raises(ValueError, match="on_fail"):
        check_estimator(Normalizer(), on_fail="ignore")


def test_data_can_be_given(features, y):
    found = {check.data for check in checks(Ridge(alpha=1e-3), features, y)}
    assert found == {"given"}
    assert not failures(Ridge(alpha=1e-3), X=features, y=y)
    assert not failures(StandardScaler(), X=features)


def test_estimators_that_take_nothing():
    with pytest.raises(ValueError, match="takes none of the data.*vectors: `solver`"):
        list(checks(Ridge(solver="magic")))


class ScalarsOnly(Normalizer):
    def fit(self, X, y=None):
        if _base.is_tensor(X) and any(block.components for block in _base.to_tensor(X)):
            raise ValueError(self.text)
        return super().fit(X, y)


@pytest.mark.parametrize(
    ("text", "is_clear"), [("no vectors", False), ("no vectors, got (o3_lambda=1)", True)]
)
def test_refused_blocks_must_be_named(text, is_clear, monkeypatch):
    monkeypatch.setattr(ScalarsOnly, "text", text, raising=False)
    estimator = ScalarsOnly()
    assert "check_refusal" in {check.name for check in checks(estimator)}
    assert failures(estimator) == (set() if is_clear else {"check_refusal"})


@parametrize_with_checks(
    [InfoLost()], expected_failed_checks=lambda estimator: {"check_info": "loses it"}
)
def test_one_test_for_each_check(estimator, check):
    check(estimator)


def test_every_check_is_in_the_table():
    from metatensor.sklearn.testing import _contract, _invariance

    defined = {
        name
        for module in (_contract, _invariance)
        for name in vars(module)
        if name.startswith("check_")
    }
    assert defined - {"check_gradients"} == {check.__name__ for check in CHECKS} - {
        "check_gradients"
    }
