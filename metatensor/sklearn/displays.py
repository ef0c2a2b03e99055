"""Pictures of predictions, learning curves and blocks, built on scikit-learn's displays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import LearningCurveDisplay as _CurveDisplay
from sklearn.model_selection import check_cv

from metatensor import _checks
from metatensor.labels import Labels
from metatensor.sklearn import _learning, _panels, metrics
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]
#: a legend with more entries is below its panel
_MOST_INSIDE = 4
#: a picture of more blocks along an axis has no texts, and not all labels
_MOST_LABELS = 100


# ---- parity


class ParityDisplay:
    """True against predicted values, with a panel for the values and one for each gradient.

    It is recommended to use :meth:`from_predictions` or :meth:`from_estimator`. Every panel is a
    :class:`sklearn.metrics.PredictionErrorDisplay` for each prediction, with its root mean squared
    error in the legend.

    Gradients: matched by label, as in :func:`metatensor.sklearn.rmse`; a row that only the truth
    has counts as predicted to be zero. Every entry of components and properties is a point.

    Parameters
    ----------
    pairs : list of dict of str to (array, array)
        for each panel and the name of each prediction, true and predicted values (n_points,)
    titles : list of str
        for each panel
    units : list of str
        for each panel, "" for none

    Attributes
    ----------
    errors_ : list of dict of str to float
        the root mean squared error of each prediction, for each panel
    displays_ : list of dict of str to sklearn.metrics.PredictionErrorDisplay
        what is drawn in each panel, with its `scatter_` and `line_`
    axes_ : array of matplotlib Axes
        one for each panel
    figure_ : matplotlib Figure

    See Also
    --------
    metatensor.sklearn.rmse : the errors in the legends
    sklearn.metrics.PredictionErrorDisplay : the same for arrays

    Examples
    --------
    >>> from metatensor.sklearn import ParityDisplay
    >>> predictions = {"good": [1.0, 2.0], "bad": [2.0, 5.0]}
    >>> display = ParityDisplay.from_predictions([1.0, 2.0], predictions)
    >>> [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    ['good: 0', 'bad: 2.24']

    """

    def __init__(
        self,
        *,
        pairs: Sequence[Mapping[str, tuple[Array, Array]]],
        titles: Sequence[str],
        units: Sequence[str],
    ) -> None:
        self.pairs = pairs
        self.titles = titles
        self.units = units

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        gradients: Sequence[str] | None = None,
        keys: metrics.Selection | None = None,
        normalize: Any = None,
        factors: Sequence[float] | None = None,
        titles: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        kind: Literal["actual_vs_predicted", "residual_vs_predicted"] = "actual_vs_predicted",
        ax: Any = None,
        scatter_kwargs: Mapping[str, Any] | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> ParityDisplay:
        """Draw predictions.

        Parameters
        ----------
        y_true : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
            true values
        y_pred : like y_true, or dict of str to such
            predicted values, or several predictions by name
        gradients : sequence of str, optional
            which gradients get a panel, by default all that y_true has
        keys : int, dict, Labels or LabelsEntry, optional
            which blocks to show, as in :meth:`metatensor.TensorMap.blocks`
        normalize : "n_atoms" or array (n_rows,), optional
            what to divide the values by, as in :func:`metatensor.sklearn.rmse`; gradients are not
            divided
        factors : sequence of float, optional
            what to multiply each panel with: the values, then the gradients; 1000 for meV from eV,
            -1 for forces from gradients
        titles, units : sequence of str, optional
            title and unit of each panel
        kind : {"actual_vs_predicted", "residual_vs_predicted"}, default="actual_vs_predicted"
            what to draw against the predictions: the truth, or by how much they differ from it
        ax : matplotlib Axes or sequence of them, optional
            where to draw, one for each panel; by default in a new figure
        scatter_kwargs, line_kwargs : dict, optional
            for matplotlib, what points and lines look like

        Returns
        -------
        ParityDisplay

        Raises
        ------
        ValueError
            if y_true and y_pred do not match, have NaN or infinity, or there is not one entry for
            each panel
        ImportError
            if matplotlib is not installed

        """
        predictions = _panels.named(y_pred)
        if isinstance(gradients, str):
            raise TypeError(f"`gradients` must be a list of names, got {gradients!r}")
        if gradients is None:
            gradients = _gradients_of(y_true)
        parts = [None, *gradients]
        numbers = _panels.per_panel(factors, [1.0] * len(parts), "factors")
        pairs = [
            {
                name: _points(y_true, prediction, part, keys, normalize, factor)
                for name, prediction in predictions.items()
            }
            for part, factor in zip(parts, numbers)
        ]
        names = ["values", *(f"{gradient} gradient" for gradient in gradients)]
        display = cls(
            pairs=pairs,
            titles=_panels.per_panel(titles, names, "titles"),
            units=_panels.per_panel(units, [""] * len(parts), "units"),
        )
        return display.plot(ax, kind=kind, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, **options: Any) -> ParityDisplay:
        """Draw what an estimator, or several, predict.

        Parameters
        ----------
        estimator : estimator, or dict of str to estimator
            fitted
        X : TensorMap, Rows, or array (n_samples, n_features)
        y : TensorMap, Rows, or array
            true values
        **options
            as in :meth:`from_predictions`

        Returns
        -------
        ParityDisplay

        """
        models = _panels.named(estimator)
        for one in models.values():
            if isinstance(one, type) or not hasattr(one, "predict"):
                raise TypeError(
                    "`estimator` must be a fitted estimator with `predict`, or a dict of several "
                    f"by name, got {_checks.kind(one)}"
                )
        predictions = {name: one.predict(X) for name, one in models.items()}
        return cls.from_predictions(y, predictions, **options)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: Literal["actual_vs_predicted", "residual_vs_predicted"] = "actual_vs_predicted",
        scatter_kwargs: Mapping[str, Any] | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> ParityDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax, kind, scatter_kwargs, line_kwargs
            as in :meth:`from_predictions`

        Returns
        -------
        ParityDisplay
            self

        """
        n_below = max((len(pairs) for pairs in self.pairs), default=0) - _MOST_INSIDE
        axes = _panels.axes(ax, len(self.pairs), (4.0, 4.2 + 0.2 * max(n_below, 0)))
        styles = {"s": 16, "alpha": 0.6, "linewidths": 0, **(scatter_kwargs or {})}
        line = {"color": "black", "linewidth": 0.8, "linestyle": "-", "zorder": 3}
        line.update(line_kwargs or {})
        self.errors_: list[dict[str, float]] = []
        self.displays_: list[dict[str, Any]] = []
        for axis, pairs, title, unit in zip(axes, self.pairs, self.titles, self.units):
            errors = {
                name: float(np.sqrt(np.mean((true - predicted) ** 2)))
                for name, (true, predicted) in pairs.items()
            }
            self.errors_.append(errors)
            self.displays_.append(_draw_parity(axis, pairs, kind, styles, line))
            for name, display in self.displays_[-1].items():
                start = f"{name}: " if name else "RMSE: "
                display.scatter_.set_label(f"{start}{errors[name]:.3g} {unit}".rstrip())
            _finish_parity(axis, pairs, kind, title, unit)
            if kind == "actual_vs_predicted":
                for display in self.displays_[-1].values():
                    display.line_.set_data(axis.get_xlim(), axis.get_ylim())
        self.axes_ = np.array(axes, dtype=object)
        self.figure_ = axes[0].figure
        return self


def _gradients_of(y: Any) -> list[str]:
    tensor = getattr(y, "tensor", y)
    return tensor.block_by_id(0).gradients_list() if isinstance(tensor, TensorMap) else []


def _points(
    y_true: Any, y_pred: Any, part: str | None, keys: Any, normalize: Any, factor: float
) -> tuple[Array, Array]:
    """Return true and predicted values of all blocks, as flat arrays."""
    normalize = normalize if part is None else None
    errors = metrics._compare(y_true, y_pred, part, keys, normalize, None)
    if not sum(error.truth.size for error in errors):
        raise ValueError(f"there is nothing to show, no {part or 'values'}")
    true = np.concatenate([error.truth.ravel() for error in errors])
    difference = np.concatenate([error.difference.ravel() for error in errors])
    if not np.isfinite(difference).all():
        raise ValueError(
            f"true and predicted values must be finite, there is NaN or infinity among the "
            f"{f'gradients {part!r}' if part else 'values'}; take these samples away first"
        )
    return factor * true, factor * (true - difference)


def _draw_parity(
    axis: Any,
    pairs: Mapping[str, tuple[Array, Array]],
    kind: str,
    styles: Mapping[str, Any],
    line: Mapping[str, Any],
) -> dict[str, Any]:
    displays = {}
    for number, (name, (true, predicted)) in enumerate(pairs.items()):
        color = {} if "c" in styles or "color" in styles else {"color": f"C{number}"}
        displays[name] = PredictionErrorDisplay(y_true=true, y_pred=predicted).plot(
            ax=axis,
            kind=kind,
            scatter_kwargs={**color, "rasterized": len(true) > 5000, **styles},
            line_kwargs=dict(line),
        )
    return displays


def _finish_parity(
    axis: Any, pairs: Mapping[str, tuple[Array, Array]], kind: str, title: str, unit: str
) -> None:
    """Give a panel its title, legend and limits, and equal axes where they show the same thing."""
    from matplotlib.ticker import MaxNLocator

    labels = ["predicted", "true" if kind == "actual_vs_predicted" else "true - predicted"]
    xlabel, ylabel = (f"{label} ({unit})" if unit else label for label in labels)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if kind == "actual_vs_predicted":
        every = np.concatenate([values for pair in pairs.values() for values in pair])
        low, high = every.min(), every.max()
        margin = 0.04 * (high - low) or 0.5
        limits = (low - margin, high + margin)
        ticks = MaxNLocator(5).tick_values(*limits)
        ticks = ticks[(ticks >= limits[0]) & (ticks <= limits[1])]
        axis.set_aspect("equal", adjustable="box")
        axis.set(xlim=limits, ylim=limits, xticks=ticks, yticks=ticks)
    place: dict[str, Any] = {"loc": "upper left"}
    if len(pairs) > _MOST_INSIDE:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17)}
    elif _is_above(pairs):
        place = {"loc": "lower right"}
    title_of_legend = "RMSE" if any(pairs) else None
    axis.legend(fontsize=8, title=title_of_legend, title_fontsize=8, **place)


def _is_above(pairs: Mapping[str, tuple[Array, Array]]) -> bool:
    """Tell whether more points are far above the diagonal than far below."""
    distances = np.concatenate([true - predicted for true, predicted in pairs.values()])
    return bool(distances.max() > -distances.min())


# ---- learning curves


class LearningCurveDisplay:
    """Errors of values and gradients against the number of rows to learn from.

    It is recommended to use :meth:`from_estimator`. Every score has a panel, which is a
    :class:`sklearn.model_selection.LearningCurveDisplay` for each estimator: the mean over the
    folds of a cross-validation, with its standard deviation as a band. Both axes are logarithmic,
    so that a power law is a line, unless a score can be negative.

    Gradients: any score of :func:`metatensor.sklearn.get_scorer`, such as "neg_rmse:positions".

    Parameters
    ----------
    train_sizes : array of int, (n_sizes,)
        numbers of rows in training
    train_scores, test_scores : dict of str to dict of str to array (n_sizes, n_folds)
        scores by the name of the estimator and the name of the score

    Attributes
    ----------
    displays_ : dict of str to dict of str to sklearn.model_selection.LearningCurveDisplay
        what is drawn, by the name of the score and the name of the estimator
    axes_ : array of matplotlib Axes
        one for each score
    figure_ : matplotlib Figure

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : the same for one score

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor.sklearn import LearningCurveDisplay, Ridge
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> display = LearningCurveDisplay.from_estimator(
    ...     Ridge(), X, X[:, 0], train_sizes=[5, 10], scoring="neg_rmse", cv=2
    ... )
    >>> display.test_scores["Ridge"]["RMSE"].shape
    (2, 2)

    """

    def __init__(
        self,
        *,
        train_sizes: npt.NDArray[np.int64],
        train_scores: Mapping[str, Mapping[str, Array]],
        test_scores: Mapping[str, Mapping[str, Array]],
    ) -> None:
        self.train_sizes = train_sizes
        self.train_scores = train_scores
        self.test_scores = test_scores

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        scoring: _learning.Scoring = "neg_rmse",
        train_sizes: Any = (0.1, 0.2, 0.4, 0.7, 1.0),
        cv: Any = None,
        groups: Any = None,
        shuffle: bool = True,
        random_state: Any = None,
        n_jobs: int | None = None,
        score_type: Literal["test", "train", "both"] | None = None,
        ax: Any = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> LearningCurveDisplay:
        """Fit an estimator, or several, to parts of the data, and draw the scores.

        Parameters
        ----------
        estimator : estimator, or dict of str to estimator
            what to fit, or several by name; each is fitted once for each size and fold, and all
            scores are those of this fit
        X, y : Rows, or arrays
            made with :func:`metatensor.sklearn.as_rows` from labelled data
        scoring : str, callable, sequence of str, or dict of str to str or callable
            scores as in :func:`metatensor.sklearn.get_scorer` or scikit-learn; those that are
            nowhere above zero, as the ones that begin with ``neg_``, are drawn as errors
        train_sizes : sequence of float or int
            numbers of rows in training, or their fractions of the largest possible one
        cv, groups
            how to cross-validate, as in :func:`sklearn.model_selection.learning_curve`
        shuffle : bool, default=True
            whether smaller trainings have a random part of the rows, and not the first ones
        random_state : int, RandomState or None
            for `shuffle`
        n_jobs : int, optional
            how many fits run at a time
        score_type : {"test", "train", "both"}, optional
            which scores to draw, by default both of one estimator, and "test" of several
        ax : matplotlib Axes or sequence of them, optional
            where to draw, one for each score; by default in a new figure
        line_kwargs : dict, optional
            for matplotlib, what lines look like

        Returns
        -------
        LearningCurveDisplay

        Raises
        ------
        ValueError
            if a score is not known, or a size is not possible
        TypeError
            if X or y is a TensorMap
        ImportError
            if matplotlib is not installed

        """
        _panels.pyplot()
        for name, data in (("X", X), ("y", y)):
            if isinstance(data, TensorMap):
                raise TypeError(
                    f"`{name}` must be Rows or an array, which can be cut into folds, got a "
                    "TensorMap; use `X, y = as_rows(X, y)`"
                )
        estimators = _panels.named(estimator, type(estimator).__name__)
        scorers = _learning.scorers(scoring)
        splits = list(check_cv(cv).split(X, y, groups))
        sizes = _learning.sizes(train_sizes, min(len(train) for train, _ in splits))
        parts = _learning.training_parts(splits, sizes, shuffle, random_state)
        scores = _learning.scores(estimators, X, y, parts, scorers, len(sizes), n_jobs)
        display = cls(train_sizes=sizes, train_scores=scores["train"], test_scores=scores["test"])
        return display.plot(ax, score_type=score_type, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        score_type: Literal["test", "train", "both"] | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> LearningCurveDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax, score_type, line_kwargs
            as in :meth:`from_estimator`

        Returns
        -------
        LearningCurveDisplay
            self

        """
        names = list(self.test_scores)
        scores = list(self.test_scores[names[0]])
        if score_type is None:
            score_type = "both" if len(names) == 1 else "test"
        axes = _panels.axes(ax, len(scores), (4.4, 3.8))
        self.displays_: dict[str, dict[str, Any]] = {}
        for axis, score in zip(axes, scores):
            self.displays_[score] = {
                name: self._draw(axis, name, score, score_type, line_kwargs or {}) for name in names
            }
            _finish_curves(axis, self.train_sizes, score)
        self.axes_ = np.array(axes, dtype=object)
        self.figure_ = axes[0].figure
        return self

    def _draw(
        self, axis: Any, name: str, score: str, score_type: str, line_kwargs: Mapping[str, Any]
    ) -> Any:
        every = [scores[name][score] for scores in (self.train_scores, self.test_scores)]
        display = _CurveDisplay(
            train_sizes=self.train_sizes,
            train_scores=every[0],
            test_scores=every[1],
            score_name=score,
        )
        display.plot(
            ax=axis,
            negate_score=all(bool((scores <= 0).all()) for scores in every),
            score_type=score_type,
            line_kw={"marker": "o", "markersize": 4, **line_kwargs},
            fill_between_kw={"alpha": 0.2, "linewidth": 0},
        )
        if len(self.test_scores) > 1:
            for line in display.lines_:
                kind = f", {line.get_label().lower()}" if score_type == "both" else ""
                line.set_label(f"{name}{kind}")
        return display


def _finish_curves(axis: Any, sizes: npt.NDArray[np.int64], score: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    axis.set(xscale="log", xlabel="rows in training", ylabel=score)
    axis.set_xticks(sizes, labels=[str(size) for size in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    values = np.concatenate([line.get_ydata() for line in axis.lines])
    if (values > 0).all():
        axis.set_yscale("log")
        # a band that reaches down to zero would hide all the rest
        low, high = axis.set_ylim(bottom=max(axis.get_ylim()[0], values.min() / 2))
        decades = np.log10(high / low)
        subs = (1, 1.5, 2, 3, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2.5 else (1,)
        axis.yaxis.set_major_locator(LogLocator(subs=subs))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.legend(fontsize=8)


# ---- sparsity


class SparsityDisplay:
    """Which blocks a map has, and how large they are.

    It is recommended to use :meth:`from_tensor`. With two key dimensions there is a grid of all
    combinations of their values; those without a block are empty. Otherwise every block has a bar.
    Colours and bars tell the number of samples, texts the shape, if there are not more than 100
    blocks, or values of a dimension of the keys.

    Gradients: not shown.

    Parameters
    ----------
    keys : Labels
        of the blocks
    shapes : list of tuple of int
        the shape of each block: samples, components, properties

    Attributes
    ----------
    counts_ : array of int
        number of samples: (n_first_values, n_second_values) for two key dimensions, with -1 where
        there is no block, otherwise (n_blocks,)
    image_ : matplotlib AxesImage
        for two key dimensions
    bars_ : matplotlib BarContainer
        otherwise
    texts_ : list of matplotlib Text
        the shape of each block, unless there are too many
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import SparsityDisplay
    >>> keys = Labels(["center_type", "neighbor_type"], np.array([[1, 1], [1, 8]]))
    >>> blocks = [
    ...     TensorBlock(np.zeros((n, 2)), Labels.range("atom", n), [], Labels.range("n", 2))
    ...     for n in (3, 5)
    ... ]
    >>> SparsityDisplay.from_tensor(TensorMap(keys, blocks)).counts_
    array([[3, 5]])

    """

    def __init__(self, *, keys: Labels, shapes: Sequence[tuple[int, ...]]) -> None:
        self.keys = keys
        self.shapes = shapes

    @classmethod
    def from_tensor(cls, tensor: TensorMap, *, ax: Any = None) -> SparsityDisplay:
        """Draw the blocks of a map.

        Parameters
        ----------
        tensor : TensorMap or Rows
        ax : matplotlib Axes, optional
            where to draw; by default in a new figure

        Returns
        -------
        SparsityDisplay

        Raises
        ------
        TypeError
            if `tensor` is no map
        ImportError
            if matplotlib is not installed

        """
        tensor = getattr(tensor, "tensor", tensor)
        _checks.require_type(tensor, TensorMap, "tensor")
        return cls(keys=tensor.keys, shapes=[block.shape for block in tensor]).plot(ax)

    def plot(self, ax: Any = None) -> SparsityDisplay:
        """Draw the blocks.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        SparsityDisplay
            self

        """
        _panels.pyplot()
        self.texts_: list[Any] = []
        if len(self.keys.names) == 2 and len(self.keys):
            self._plot_grid(ax)
        else:
            self._plot_bars(ax)
        n_values = sum(int(np.prod(shape)) for shape in self.shapes)
        size = f"{n_values:,}".replace(",", "\u202f")
        blocks = "1 block" if len(self.shapes) == 1 else f"{len(self.shapes)} blocks"
        self.ax_.set_title(f"{blocks}, {size} values")
        self.figure_ = self.ax_.figure
        return self

    def _plot_grid(self, ax: Any) -> None:
        table = np.asarray(self.keys._table)
        (rows, row_of), (columns, column_of) = (
            np.unique(column, return_inverse=True) for column in table.T
        )
        self.counts_ = np.full((len(rows), len(columns)), -1)
        self.counts_[row_of, column_of] = [shape[0] for shape in self.shapes]
        n_most = max(len(rows), len(columns))
        texts = [_shape_text(shape) if n_most <= _MOST_LABELS else "" for shape in self.shapes]
        width = max(0.75, 0.07 * max(map(len, texts)) + 0.15)
        size = (
            2 + width * min(len(columns), _MOST_LABELS),
            1.4 + 0.6 * min(len(rows), _MOST_LABELS),
        )
        (axis,) = _panels.axes(ax, 1, (max(size[0], 3.6), max(size[1], 2.8)))
        shown = np.ma.masked_less(self.counts_, 0)
        largest = max(int(self.counts_.max()), 1)
        self.image_ = axis.imshow(shown, cmap="Blues", vmin=0, vmax=largest, aspect="auto")
        axis.set_facecolor("0.93")
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
        self.texts_ = [
            axis.text(
                column, row, text, color="white" if shape[0] > 0.55 * largest else "black", **style
            )
            for row, column, shape, text in zip(row_of, column_of, self.shapes, texts)
            if text
        ]
        axis.set_xticks(*_ticks(columns))
        axis.set_yticks(*_ticks(rows))
        axis.set(xlabel=self.keys.names[1], ylabel=self.keys.names[0])
        # white lines between the cells
        axis.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
        axis.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
        axis.grid(which="minor", color="white", linewidth=2 if n_most <= _MOST_LABELS else 0.5)
        axis.tick_params(which="both", length=0)
        axis.spines[:].set_visible(False)
        axis.figure.colorbar(self.image_, ax=axis, label="samples")
        self.ax_ = axis

    def _plot_bars(self, ax: Any) -> None:
        self.counts_ = np.array([shape[0] for shape in self.shapes], dtype=int)
        n_blocks = len(self.shapes)
        height = 0.26 * min(max(n_blocks, 3), _MOST_LABELS)
        (axis,) = _panels.axes(ax, 1, (6.4, 1.2 + height))
        self.bars_ = axis.barh(np.arange(n_blocks), self.counts_, color="tab:blue", height=0.7)
        if n_blocks <= _MOST_LABELS:
            labels = [_shape_text(shape) for shape in self.shapes]
            self.texts_ = list(axis.bar_label(self.bars_, labels=labels, padding=4, fontsize=8))
        axis.set_yticks(*_ticks(list(_key_texts(self.keys))), fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.18, y=0.3 / max(n_blocks, 1))
        names = ", ".join(name for name in self.keys.names if name != "_")
        axis.set(xlabel="samples", ylabel=names)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        self.ax_ = axis


def _ticks(values: Any) -> tuple[Any, list[str]]:
    """Return the positions and labels of all values, or of some that are evenly spaced."""
    positions = np.arange(0, len(values), math.ceil(len(values) / _MOST_LABELS) or 1)
    return positions, [str(values[position]) for position in positions]


def _shape_text(shape: tuple[int, ...]) -> str:
    return " × ".join(str(size) for size in shape)


def _key_texts(keys: Labels) -> Iterator[str]:
    for row in keys._table:
        yield ", ".join(str(value) for value in row)
