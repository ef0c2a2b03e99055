"""Labels with torch values by default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from metatensor import labels
from metatensor._array_conversion import Target
from metatensor.io import mts

if TYPE_CHECKING:
    from metatensor.labels import Labels as Labels
else:

    class _Kind(type):
        """Kind of class whose instances are those of ``metatensor.Labels``."""

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, labels.Labels)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, labels.Labels)

    class Labels(labels.Labels, metaclass=_Kind):
        """The class :class:`metatensor.Labels`, which here makes Labels with torch values.

        What is made is of that class itself, so that ``isinstance`` with both is the same. Labels
        that are derived from others follow these.

        Parameters
        ----------
        names : str or iterable of str
            name of each dimension
        values : array of int or bool, (n_entries, n_dimensions)
            the rows; those of torch stay on their device, others become tensors in main memory
        assume_unique : bool, default=False
            skip the check that rows are unique

        Raises
        ------
        MetatensorError, ValueError, TypeError
            as for :class:`metatensor.Labels`

        See Also
        --------
        metatensor.Labels : which has the methods

        Examples
        --------
        >>> import torch
        >>> import metatensor.torch as mts
        >>> mts.Labels(["system"], torch.tensor([[3], [5]])).column("system")
        tensor([3, 5], dtype=torch.int32)
        >>> mts.Labels.range("atom", 2).values
        tensor([[0],
                [1]], dtype=torch.int32)

        """

        __slots__ = ()
        __module__ = "metatensor.torch"

        def __new__(
            cls, names: str | Iterable[str], values: Any, assume_unique: bool = False
        ) -> labels.Labels:
            """Make Labels of the one class."""
            if isinstance(values, torch.Tensor) and values.dtype is torch.bool:
                values = values.to(torch.int32)
            return in_torch(labels.Labels(names, values, assume_unique))

        def __init_subclass__(cls) -> NoReturn:
            raise TypeError("`metatensor.torch.Labels` has no classes of its own")

        @staticmethod
        def single() -> labels.Labels:
            """Return :meth:`metatensor.Labels.single` with torch values."""
            return in_torch(labels.Labels.single())

        @staticmethod
        def empty(names: str | Iterable[str]) -> labels.Labels:
            """Return :meth:`metatensor.Labels.empty` with torch values."""
            return in_torch(labels.Labels.empty(names))

        @staticmethod
        def range(name: str, end: int) -> labels.Labels:
            """Return :meth:`metatensor.Labels.range` with torch values."""
            return in_torch(labels.Labels.range(name, end))

        @staticmethod
        def load(file: Any) -> labels.Labels:
            """Read Labels with torch values; see :func:`metatensor.torch.load_labels`."""
            return in_torch(mts.load_labels(file))

        @staticmethod
        def load_buffer(buffer: Any) -> labels.Labels:
            """Read Labels with torch values; see :func:`metatensor.torch.load_labels_buffer`."""
            return in_torch(mts.load_labels_buffer(buffer))


def in_torch(made: labels.Labels) -> labels.Labels:
    """Return Labels with torch values."""
    return made._to(Target(arrays="torch"))
