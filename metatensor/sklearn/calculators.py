"""From structures to labelled features, as the first step of a pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import EllipsisType, ModuleType
from typing import TYPE_CHECKING, Any

import array_api_compat.numpy
import numpy as np
import numpy.typing as npt

from metatensor import _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.sklearn._transformation import LabelTransformer
from metatensor.sklearn.rows import RowKey, Rows, as_positions
from metatensor.tensor import TensorMap

if TYPE_CHECKING:
    from typing import Self


class Systems(Sequence[Any]):
    """Structures that keep their numbers when scikit-learn cuts them.

    It is a list of structures, and says for each of them to which row of the targets it belongs.
    Positions, a slice or a mask give the structures there, with their numbers; a single position
    gives the structure itself.

    Parameters
    ----------
    systems : sequence
        the structures, of any type
    rows : Labels, (n_systems,), optional
        the number of each structure, one dimension; usually ``y.rows`` of the targets. By default,
        ``"system"`` from 0.

    Attributes
    ----------
    systems : list
        the structures
    rows : Labels, (n_systems,)
        their numbers

    Raises
    ------
    TypeError
        if `rows` are no Labels
    ValueError
        if there is not one row for each structure, or `rows` have more than one dimension

    See Also
    --------
    CalculatorTransformer : turns them into features
    as_rows : the same for features that are there already

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels
    >>> from metatensor.sklearn import Systems
    >>> from sklearn.model_selection import train_test_split
    >>> numbers = Labels("system", np.array([[3], [5], [7], [8]]))
    >>> systems = Systems(["water", "ice", "steam", "fog"], numbers)
    >>> train, test = train_test_split(systems, shuffle=False, test_size=1)
    >>> list(test), test.rows["system"]
    (['fog'], array([8], dtype=int32))

    """

    def __init__(self, systems: Iterable[Any], rows: Labels | None = None) -> None:
        self.systems = list(systems)
        if rows is None:
            rows = Labels.range("system", len(self.systems))
        _checks.require_type(rows, Labels, "rows")
        if len(rows._names) != 1 or len(rows) != len(self.systems):
            raise ValueError(
                "`rows` must have one dimension and one entry for each of the "
                f"{len(self.systems)} systems, got {len(rows)} entries of {rows.names}"
            )
        self.rows = rows

    @property
    def shape(self) -> tuple[int]:
        """Number of structures, as for a one-dimensional array."""
        return (len(self.systems),)

    @property
    def ndim(self) -> int:
        """Always 1."""
        return 1

    @property
    def device(self) -> str:
        """Where positions of structures live, which is always the host."""
        return "cpu"

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self.systems)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.systems)

    def __getitem__(self, key: RowKey | tuple[RowKey, EllipsisType]) -> Any:
        """Return the structures at some positions, or the structure at one."""
        if isinstance(key, tuple):
            if len(key) != 2 or key[1] is not Ellipsis:
                raise TypeError("Systems have one axis, they can not be indexed with a tuple")
            key = key[0]
        if isinstance(key, (int, np.integer)):
            return self.systems[int(key)]
        positions = as_positions(key, len(self))
        rows = self.rows._like(self.rows._table[positions])
        return Systems([self.systems[position] for position in positions.tolist()], rows)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        return self[args[1]] if func is np.take and args[0] is self else NotImplemented

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        # under `array_api_dispatch`, scikit-learn takes rows with `take` of this namespace
        return array_api_compat.numpy

    def __repr__(self) -> str:
        return f"Systems({len(self)} by {self.rows.names[0]!r})"


class CalculatorTransformer(LabelTransformer):
    """Turn structures into features with a function: the first step from structures to predictions.

    The options of the function are parameters of the step, so that ``GridSearchCV`` can search
    them, such as the cutoff of a descriptor. Nothing is learnt. For a search that changes only
    later steps, ``Pipeline(memory=...)`` computes the features of each fold once.

    Numbers of systems: a calculator counts the structures that it is given from 0, while the
    targets of a fold keep their numbers. So :class:`Systems` hand their numbers on to the features.
    A plain list has the numbers of ``y`` in `fit`, if that is :class:`Rows` of as many systems, and
    counts from 0 otherwise.

    Gradients: those of the calculator, whose samples get the same numbers. Blocks with components
    stay as they are.

    Parameters
    ----------
    calculator : callable, or object with a method ``compute``
        ``calculator(systems, **options)`` or ``calculator.compute(systems, **options)``, which
        gets a list of structures and returns a TensorMap with a sample dimension for the position
        in this list
    rows_by : str, default="system"
        name of this sample dimension
    **options
        keyword arguments of the calculator

    Raises
    ------
    TypeError
        if `calculator` can not be called and has no ``compute``, or does not return a TensorMap
    ValueError
        if the result has no sample dimension `rows_by`, or other systems than there are

    See Also
    --------
    Systems : a list of structures with their numbers
    KeysToProperties : the step after it, if elements may be missing from a fold

    Examples
    --------
    >>> from metatensor.datasets import make_alloys, radial_descriptor
    >>> from metatensor.sklearn import (
    ...     CalculatorTransformer, KeysToProperties, Ridge, SumOverSamples, Systems, as_rows
    ... )
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> data = make_alloys(12, elements=["Cu", "Ni"], repeats=[(1, 1, 1)], verbose=False)
    >>> y = as_rows(data.energies)
    >>> X = Systems(data.systems, y.rows)
    >>> model = make_pipeline(
    ...     CalculatorTransformer(radial_descriptor, cutoff=4.0, n_radial=4),
    ...     KeysToProperties(["center_type", "neighbor_type"], unknown="ignore"),
    ...     SumOverSamples("atom"),
    ...     Ridge(alpha=1e-4, fit_intercept=False),
    ... )
    >>> grid = {"calculatortransformer__cutoff": [3.0, 5.0]}
    >>> search = GridSearchCV(model, grid, cv=3).fit(X, y)
    >>> search.predict(data.systems[:2]).shape
    (2, 1)

    """

    def __init__(self, calculator: Any, *, rows_by: str = "system", **options: Any) -> None:
        self.calculator = calculator
        self.rows_by = rows_by
        self.options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, the options among them.

        Parameters
        ----------
        deep : bool, default=True
            return the parameters of a calculator that is an estimator as well

        Returns
        -------
        dict
            values by name

        """
        params: dict[str, Any] = super().get_params(deep)
        return {**params, **self.options}

    def set_params(self, **params: Any) -> Self:
        """Set parameters and options, also options that were not set before.

        Parameters
        ----------
        **params
            values by name

        Returns
        -------
        self
            with other parameters

        Raises
        ------
        ValueError
            if the calculator has no such option

        """
        known = super().get_params(deep=True)
        options = {name: params.pop(name) for name in list(params) if name not in known}
        super().set_params(**params)
        self._check_options(options)
        self.options = {**self.options, **options}
        return self

    def _check_options(self, names: Iterable[str]) -> None:
        taken = _keywords(self._function())
        for name in names:
            if taken is not None and name not in taken:
                raise ValueError(
                    f"Invalid parameter {name!r} for {type(self).__name__}; the options of the "
                    f"calculator are {taken}"
                )

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the calculator; nothing is learnt.

        Parameters
        ----------
        X : Systems, or list of structures
            not used
        y : Rows
            not used

        Returns
        -------
        self
            as it was

        Raises
        ------
        TypeError
            if the calculator is no function, and has no `compute`
        ValueError
            if it has no such options

        """
        self._check_options(self.options)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Rows:
        """Compute the features of structures, with the numbers of their targets.

        Parameters
        ----------
        X : Systems, or list of structures
            the structures
        y : Rows, TensorMap or array, optional
            the targets: the structures of a plain list get the numbers of Rows

        Returns
        -------
        Rows
            one for each structure, in the order of X

        """
        self.fit(X)
        if isinstance(y, Rows) and not isinstance(X, Systems):
            X = Systems(X, y.rows)
        return self.transform(X)

    def transform(self, X: Any) -> Rows:
        """Compute the features of structures.

        Parameters
        ----------
        X : Systems, or list of structures
            the structures; those of a list are numbered from 0

        Returns
        -------
        Rows
            one for each structure, in the order of X

        """
        if not isinstance(X, Systems):
            X = Systems(X, Labels.range(self.rows_by, len(X)))
        if X.rows.names != [self.rows_by]:
            raise ValueError(
                f"the systems must be numbered by {self.rows_by!r}, like the samples of the "
                f"calculator, got {X.rows.names}; set `rows_by`, or use other names in y"
            )
        tensor = self._function()(X.systems, **self.options)
        if not isinstance(tensor, TensorMap):
            raise TypeError(
                f"`calculator` must return a TensorMap, got {_checks.kind(tensor)} from "
                f"{self.calculator!r}"
            )
        if len(tensor) and self.rows_by not in tensor.sample_names:
            raise ValueError(
                f"the calculator must return samples with the dimension {self.rows_by!r}, got "
                f"{tensor.sample_names}; set `rows_by`"
            )
        blocks = [_numbered(block, X.rows) for block in tensor]
        return Rows(TensorMap._of(tensor._keys, blocks, tensor._info), self.rows_by, X.rows)

    def _function(self) -> Callable[..., Any]:
        function = getattr(self.calculator, "compute", self.calculator)
        if not callable(function) or isinstance(self.calculator, type):
            raise TypeError(
                "`calculator` must be a function of a list of structures, or an object with a "
                f"method `compute`, got {_checks.kind(self.calculator)}"
            )
        checked: Callable[..., Any] = function
        return checked

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


def _keywords(function: Callable[..., Any]) -> list[str] | None:
    """Return the names that may be given to a function as options, None if it takes any."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of some compiled functions
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    first_is_named = bool(parameters) and parameters[0].kind is parameters[0].POSITIONAL_OR_KEYWORD
    return named[1:] if first_is_named else named


def _numbered(block: TensorBlock, rows: Labels) -> TensorBlock:
    """Replace positions in the list of systems by their numbers, in samples and gradients."""
    gradients = {name: _numbered(gradient, rows) for name, gradient in block._gradients.items()}
    samples = block._samples
    name, numbers = rows._names[0], rows._table[:, 0]
    if name in samples._names:
        samples = samples._like(_with_numbers(samples._table, samples._names.index(name), numbers))
    return TensorBlock._of(block._values, samples, block._components, block._properties, gradients)


def _with_numbers(
    table: npt.NDArray[np.int32], column: int, numbers: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    positions = table[:, column]
    if len(positions) and not (positions.min() >= 0 and positions.max() < len(numbers)):
        raise ValueError(
            f"the calculator must number {len(numbers)} systems from 0, got "
            f"{positions.min()} to {positions.max()}"
        )
    table = table.copy()
    table[:, column] = numbers[positions]
    return table
