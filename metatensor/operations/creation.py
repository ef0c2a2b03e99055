"""New blocks and maps: from arrays, with the Labels of others, from Labels alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from metatensor import _arrays, _checks
from metatensor._core import sets
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import Tensor, on_blocks, require_tensor
from metatensor.tensor import TensorMap

__all__ = [
    "block_from_array",
    "empty_like",
    "empty_like_block",
    "one_hot",
    "ones_like",
    "ones_like_block",
    "random_uniform_like",
    "random_uniform_like_block",
    "unique_metadata",
    "unique_metadata_block",
    "zeros_like",
    "zeros_like_block",
]

# ---- arrays that get Labels


@operation
def block_from_array(
    array: _arrays.Array,
    sample_names: str | Sequence[str] | None = None,
    component_names: str | Sequence[str] | None = None,
    property_names: str | Sequence[str] | None = None,
) -> TensorBlock:
    """Make a block of an array, with Labels that count the entries of each axis.

    Gradients: the block has none.

    Parameters
    ----------
    array : array, (..., ..., ...)
        of any library, with at least two dimensions; kept as it is unless it must be reshaped
    sample_names : str or sequence of str, optional
        names of the leading axes, which together are the samples; one axis "sample" by default
    component_names : str or sequence of str, optional
        names of the axes in between, "component_1", "component_2"... by default
    property_names : str or sequence of str, optional
        names of the trailing axes, which together are the properties; one axis "property" by
        default

    Returns
    -------
    TensorBlock
        where several axes are samples, or properties, they are flattened, the last one varying
        fastest

    Raises
    ------
    ValueError
        if `array` is no array, has fewer than two dimensions, or there is not one name for each
    MetatensorError
        if a name is not valid or repeated, or a component has no entry

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> metatensor.block_from_array(np.zeros((4, 3, 2)))
    TensorBlock with shape (4, 3, 2)
        samples: [sample]
        components: [component_1]
        properties: [property]
    >>> block = metatensor.block_from_array(
    ...     np.zeros((2, 3, 2)), sample_names=["system", "atom"], property_names="n"
    ... )
    >>> block
    TensorBlock with shape (6, 2)
        samples: [system, atom]
        properties: [n]
    >>> block.samples[4]
    LabelsEntry(system=1, atom=1)

    """
    array = _arrays.as_values(array)
    shape = tuple(array.shape)
    if len(shape) < 2:
        raise ValueError(f"`array` must have at least 2 dimensions, got shape {shape}")
    samples = _axis_names(sample_names, "sample_names", "sample")
    properties = _axis_names(property_names, "property_names", "property")
    first, last = len(samples), len(shape) - len(properties)
    if component_names is None:
        components = tuple([f"component_{position}" for position in range(1, last - first + 1)])
    else:
        components = _checks.names_tuple(component_names, "component_names")
    if first + len(components) != last:
        raise ValueError(
            f"`array` must have one dimension for each of the sample names {list(samples)}, "
            f"component names {list(components)} and property names {list(properties)}, "
            f"got shape {shape}"
        )
    axes = (
        _grid(samples, shape[:first]),
        [Labels.range(*pair) for pair in zip(components, shape[first:last], strict=True)],
        _grid(properties, shape[last:]),
    )
    if len(samples) > 1 or len(properties) > 1:
        whole = (len(axes[0]), *shape[first:last], len(axes[2]))
        array = _arrays.namespace(array).reshape(array, whole)
    return TensorBlock(array, *axes)


def _axis_names(names: str | Sequence[str] | None, what: str, default: str) -> tuple[str, ...]:
    found = (default,) if names is None else _checks.names_tuple(names, what)
    if not found:
        raise ValueError(f"`{what}` must have at least one name, got none")
    return found


def _grid(names: tuple[str, ...], shape: tuple[int, ...]) -> Labels:
    """Return one entry for each place of an array, the last axis varying fastest."""
    if len(names) == 1:
        return Labels.range(names[0], shape[0])
    rows = np.indices(shape, dtype=np.int32).reshape(len(shape), -1).T
    return Labels._of(Labels._checked(names), np.ascontiguousarray(rows))


# ---- the same Labels, other values


@operation
def empty_like(
    tensor: Tensor, gradients: str | Sequence[str] | None = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor with the Labels, dtype and device of another, and arbitrary values.

    Gradients: as arbitrary as the values; gradients of gradients are kept with them.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to take all but the values from
    gradients : str or sequence of str, optional
        names of the gradients to keep: all of them by default, none for ``[]``
    requires_grad : bool, default=False
        make torch record what is done with the values; ignored for other libraries

    Returns
    -------
    TensorMap or TensorBlock

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if there is no such gradient

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.ones((4, 3), dtype=np.float32))
    >>> metatensor.empty_like(block).dtype
    dtype('float32')

    """
    return _on_kept(tensor, gradients, requires_grad, _arrays.empty)


empty_like_block = empty_like


@operation
def zeros_like(
    tensor: Tensor, gradients: str | Sequence[str] | None = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor with the Labels, dtype and device of another, and values of zero.

    Gradients: zero too, which is what the gradient of a constant is; gradients of gradients are
    kept with them.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to take all but the values from
    gradients : str or sequence of str, optional
        names of the gradients to keep: all of them by default, none for ``[]``
    requires_grad : bool, default=False
        make torch record what is done with the values; ignored for other libraries

    Returns
    -------
    TensorMap or TensorBlock

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if there is no such gradient

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.array([[1.0, 2.0]]))
    >>> metatensor.zeros_like(block).values
    array([[0., 0.]])

    """
    return _on_kept(tensor, gradients, requires_grad, _zeros)


zeros_like_block = zeros_like


@operation
def ones_like(
    tensor: Tensor, gradients: str | Sequence[str] | None = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor with the Labels, dtype and device of another, and values of one.

    Gradients: one as well, so that the result is not a constant; use ``gradients=[]`` for that.
    Gradients of gradients are kept with them.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to take all but the values from
    gradients : str or sequence of str, optional
        names of the gradients to keep: all of them by default, none for ``[]``
    requires_grad : bool, default=False
        make torch record what is done with the values; ignored for other libraries

    Returns
    -------
    TensorMap or TensorBlock

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if there is no such gradient

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.array([[3.0, 2.0]]))
    >>> metatensor.ones_like(block).values
    array([[1., 1.]])

    """
    return _on_kept(tensor, gradients, requires_grad, _ones)


ones_like_block = ones_like


@operation
def random_uniform_like(
    tensor: Tensor, gradients: str | Sequence[str] | None = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor with the Labels, dtype and device of another, and random values.

    Gradients: random as well, and not those of the values; gradients of gradients are kept with
    them.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to take all but the values from, with real or complex floating-point values
    gradients : str or sequence of str, optional
        names of the gradients to keep: all of them by default, none for ``[]``
    requires_grad : bool, default=False
        make torch record what is done with the values and gradients; ignored for other libraries

    Returns
    -------
    TensorMap or TensorBlock
        with values that are uniform in [0, 1), as are both parts of complex ones. Those of torch
        follow ``torch.manual_seed``. Under ``jax.jit`` they are drawn once, while the function is
        traced; for others in each call, use ``jax.random``.

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if there is no such gradient, or values are integers: all of them would be 0

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((100, 100)))
    >>> values = metatensor.random_uniform_like(block).values
    >>> bool((values >= 0).all() and (values < 1).all())
    True

    """
    rng = np.random.default_rng()

    def draw(values: _arrays.Array) -> _arrays.Array:
        drawn = _arrays.random_uniform(values, rng)
        return _arrays.requires_grad(drawn) if requires_grad else drawn

    return _on_kept(tensor, gradients, False, draw)


random_uniform_like_block = random_uniform_like


def _zeros(values: _arrays.Array) -> _arrays.Array:
    return _arrays.full(tuple(values.shape), 0, values)


def _ones(values: _arrays.Array) -> _arrays.Array:
    return _arrays.full(tuple(values.shape), 1, values)


def _on_kept(
    tensor: Tensor,
    gradients: str | Sequence[str] | None,
    requires_grad: bool,
    make: Callable[[_arrays.Array], _arrays.Array],
) -> Tensor:
    names = None if gradients is None else _checks.names_tuple(gradients, "gradients")
    return on_blocks(_fill_block, tensor, make, names, requires_grad)


def _fill_block(
    block: TensorBlock,
    make: Callable[[_arrays.Array], _arrays.Array],
    names: tuple[str, ...] | None = None,
    requires_grad: bool = False,
) -> TensorBlock:
    gradients = {}
    for name in block._gradients if names is None else names:
        if name not in block._gradients:
            raise ValueError(
                f"`gradients` must be among those of this block, {block.gradients_list()}, "
                f"got {name!r}"
            )
        gradients[name] = _fill_block(block._gradients[name], make)
    values = make(block._values)
    if requires_grad:
        values = _arrays.requires_grad(values)
    return TensorBlock._of(values, block._samples, block._components, block._properties, gradients)


# ---- from Labels


@operation
def one_hot(labels: Labels, dimension: Labels) -> Any:
    """Return a row for each entry of Labels, which has a 1 where its value of a dimension is.

    Gradients: there are none, the result is an array.

    Parameters
    ----------
    labels : Labels
        with the dimension
    dimension : Labels
        the values that the dimension can have, as Labels with that one name

    Returns
    -------
    array of int32, (len(labels), len(dimension))
        in the library of the values of `labels`

    Raises
    ------
    TypeError
        if the arguments are not Labels
    ValueError
        if `dimension` has not one name, `labels` have no such name, or values that `dimension`
        has not

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> from metatensor import Labels
    >>> atoms = Labels(["atom", "type"], np.array([[0, 8], [1, 1], [2, 1]]))
    >>> metatensor.one_hot(atoms, Labels("type", np.array([[1], [6], [8]])))
    array([[0, 0, 1],
           [1, 0, 0],
           [1, 0, 0]], dtype=int32)

    """
    _checks.require_type(labels, Labels, "labels")
    _checks.require_type(dimension, Labels, "dimension")
    if len(dimension._names) != 1:
        raise ValueError(f"`dimension` must have exactly one name, got {dimension.names}")
    column = labels._position_of_name(dimension._names[0])
    table = np.ascontiguousarray(labels._table[:, column : column + 1])
    positions = dimension._index.find_many(table)
    if positions.size and positions.min() < 0:
        absent = table[np.argmax(positions < 0), 0]
        raise ValueError(
            f"`dimension` must have every value of {dimension._names[0]!r} in `labels`, "
            f"got {absent}, which it has not"
        )
    rows = np.zeros((len(labels), len(dimension)), dtype=np.int32)
    rows[np.arange(len(labels)), positions] = 1
    return _arrays.from_host(rows, labels.values)


@operation
def unique_metadata(
    tensor: TensorMap | TensorBlock,
    axis: Literal["samples", "properties"],
    names: str | Sequence[str],
    gradient: str | None = None,
) -> Labels:
    """Return the distinct rows that some dimensions have in any block.

    Gradients: not used, unless their samples or properties are asked for with ``gradient``.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        where to look
    axis : {"samples", "properties"}
        where the dimensions are
    names : str or sequence of str
        names of the dimensions
    gradient : str, optional
        look at the gradients of this name instead of the blocks

    Returns
    -------
    Labels
        sorted, with the dimensions in the order of `names`; empty if the blocks are

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock, or `axis` no str
    ValueError
        if `axis` is another one, there is no such dimension, or a map has no blocks and so no
        dimensions at all
    MetatensorError
        if there is no such gradient

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> from metatensor import Labels, TensorBlock
    >>> block = TensorBlock(
    ...     np.zeros((3, 1)),
    ...     Labels(["system", "atom"], np.array([[4, 0], [2, 0], [2, 1]])),
    ...     [],
    ...     Labels.range("n", 1),
    ... )
    >>> metatensor.unique_metadata(block, "samples", "system")
    Labels
        system
          2
          4

    """
    if not isinstance(axis, str):
        raise TypeError(f"`axis` must be a str, got {_checks.kind(axis)}")
    if axis not in ("samples", "properties"):
        raise ValueError(f"`axis` must be 'samples' or 'properties', got {axis!r}")
    checked = Labels._checked(_checks.names_tuple(names, "names"))
    if not checked:
        raise ValueError("`names` must have at least one name, got none")
    require_tensor(tensor)
    blocks = [tensor] if isinstance(tensor, TensorBlock) else tensor._blocks
    if not blocks:
        raise ValueError(f"a map without blocks has no {axis}, and no {list(checked)} in them")
    if gradient is not None:
        blocks = [block.gradient(gradient) for block in blocks]
    every = [block._samples if axis == "samples" else block._properties for block in blocks]
    first = every[0]
    columns = [first._position_of_name(name) for name in checked]
    tables = list({id(labels): labels._table for labels in every}.values())
    if len(columns) == 1:
        table = np.concatenate([table[:, columns[0] : columns[0] + 1] for table in tables])
    else:
        table = np.take(np.concatenate(tables), columns, axis=1)
    return first._like(sets.unique(table)[0], checked)


unique_metadata_block = unique_metadata
