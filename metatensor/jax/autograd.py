"""Gradients that maps store and those that jax computes: one turned into the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.custom_derivatives import SymbolicZero

from metatensor import _arrays, _checks
from metatensor._array_groups import segment_sum
from metatensor._arrays import Array
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.operations import _parameters
from metatensor.operations._blockwise import Tensor, on_blocks, require_tensor
from metatensor.operations._parameters import Link, Parameters, Positions
from metatensor.tensor import TensorMap

__all__ = ["attach_gradients", "store_gradients"]


@operation
def attach_gradients(tensor: Tensor, parameters: Parameters) -> Tensor:
    r"""Make values functions of parameters, whose derivatives are the stored gradients.

    Gradients: those with the names of the parameters are what jax follows from here on. The result
    stores none, others are left out: how they depend on the parameters is not known. For values
    :math:`A_{icp}` with the gradient :math:`G_{(i,e)dcp} = \partial A_{icp} / \partial x_{ed}`,
    tangents :math:`t` of the parameters push forward to

    .. math::

        \dot A_{icp} = \sum_{ed} G_{(i,e)dcp}\, t_{ed}

    exact as the stored gradient is, and cotangents pull back by the transpose of this, the
    vector-Jacobian product (Griewank & Walther, chapter 3). Both can be differentiated again with
    respect to all but the parameters: a loss on forces gives exact derivatives with respect to
    weights, those before `tensor` too. Second derivatives with respect to parameters would need
    :math:`\partial G / \partial x`, which is not stored: asking for them raises.

    Blocks with components have gradients whose own components come first, and nothing changes.
    The time is that of one product with each stored gradient in each pass.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        of real floating point arrays, with gradients
    parameters : dict of str to TensorBlock or TensorMap of one block
        what each gradient to be attached is with respect to: samples say what each row is, the
        components are the gradient's own, there is one property; the dtype is that of `tensor`.
        The row of a parameter that belongs to a row of the gradient is the one that agrees in all
        of the parameter's sample names. These are looked up in the samples of the gradient first,
        then in the sample that it belongs to. Names that the parameter has not are shared:
        :meth:`~metatensor.Labels.single` is one row for all.

    Returns
    -------
    TensorMap or TensorBlock
        with the same values

    Raises
    ------
    TypeError
        if values are no arrays of jax with real floating point numbers
    ValueError
        if a block has no such gradient; if a parameter has other components or another dtype, a
        sample name that is found nowhere, or no row for a row of the gradient
    NotImplementedError
        for gradients of gradients; and when the second derivatives with respect to parameters are
        asked for

    See Also
    --------
    store_gradients : the other way round
    metatensor.torch.attach_gradients : the same for torch

    References
    ----------
    A. Griewank, A. Walther, "Evaluating Derivatives", 2nd ed., SIAM (2008), chapter 3

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.jax import attach_gradients
    >>> systems, one = Labels.range("system", 2), Labels.single()
    >>> block = TensorBlock(jnp.array([[4.0], [9.0]]), systems, [], one)
    >>> gradient = TensorBlock(jnp.array([[4.0], [6.0]]), Labels.range("sample", 2), [], one)
    >>> block.add_gradient("length", gradient)
    >>> def logarithm(lengths):
    ...     parameters = {"length": TensorBlock(lengths, systems, [], one)}
    ...     return jnp.log(attach_gradients(block, parameters).values).sum()
    >>> print(jax.grad(logarithm)(jnp.array([[2.0], [3.0]])))  # d log(l^2) / dl
    [[1.       ]
     [0.666...]]

    """
    blocks = _parameters.parameter_blocks(parameters, "jax")
    return _parameters.attach(tensor, blocks, _attach)


def _attach(values: Array, links: list[Link]) -> Array:
    """Return values whose derivatives are those of A + G (x - x_0) at x = x_0."""

    @jax.custom_jvp
    def attached(values: Array, gradients: list[Array], parameters: list[Array]) -> Array:
        return values

    def push(primals: Any, tangents: Any) -> tuple[Array, Array]:
        values, gradients, parameters = primals
        of_values, of_gradients, of_parameters = tangents
        result = jnp.zeros_like(values) if _is_zero(of_values) else of_values
        for position, link in enumerate(links):
            parameter = parameters[position]
            if not _is_zero(of_parameters[position]):
                # tangents are linear, and have no rules: what they are multiplied with is tied
                known = _tie(gradients[position], parameters)
                result = result + _product(of_parameters[position], known, link, values.shape)
            if not _is_zero(of_gradients[position]):  # zero, but not its derivatives
                distance = parameter - jax.lax.stop_gradient(parameter)
                result = result + _product(distance, of_gradients[position], link, values.shape)
        return attached(*primals), result

    attached.defjvp(push, symbolic_zeros=True)
    return attached(values, [link.gradient for link in links], [link.parameter for link in links])


def _product(parameter: Array, gradient: Array, link: Link, shape: tuple[int, ...]) -> Array:
    """Sum gradients times what is there for the rows of the parameter, over the rows of samples."""
    n_rows, n_entries = len(link.rows), math.prod(shape[1:])
    n_own = math.prod(parameter.shape[1:])
    factors = jnp.take(parameter, link.rows, axis=0).reshape(n_rows, 1, n_own)
    terms = factors @ gradient.reshape(n_rows, n_own, n_entries)
    return segment_sum(terms.reshape(n_rows, *shape[1:]), link.samples, shape[0])


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


@jax.custom_jvp
def _tie(array: Array, parameters: list[Array]) -> Array:
    """Make an array depend on parameters in a way that is not known."""
    return array


def _push_tied(primals: Any, tangents: Any) -> tuple[Array, Array]:
    of_array, of_parameters = tangents
    if not all(map(_is_zero, of_parameters)):
        raise NotImplementedError(_parameters.NOT_STORED)
    return _tie(*primals), jnp.zeros_like(primals[0]) if _is_zero(of_array) else of_array


_tie.defjvp(_push_tied, symbolic_zeros=True)


def store_gradients(
    function: Callable[[dict[str, TensorBlock]], Tensor],
    parameters: Parameters,
    *,
    within: str | Iterable[str] = "system",
    drop_zeros: bool = False,
) -> Tensor:
    r"""Store the derivatives of values with respect to parameters as gradients.

    Gradients: those with respect to the parameters,

    .. math::

        G_{(i,e)dcp} = \frac{\partial A_{icp}}{\partial x_{ed}}

    are added, exact as jax differentiates: there is one row for each pair of a sample *i* and a
    row *e* of the parameter that agree in the names `within`. Gradients that are there stay. What
    is stored can be differentiated further, and all this can be compiled.

    Samples that depend on different rows of the parameters go into one pass backwards, which is a
    colouring of the Jacobian (Curtis, Powell & Reid): the time is that of ``max(samples of one
    system) * components * properties`` passes for each block, and all passes of a block run at the
    same time, as in :func:`jax.jacrev`.

    Parameters
    ----------
    function : callable
        given a dict of blocks like `parameters`, returns a TensorMap or TensorBlock
    parameters : dict of str to TensorBlock or TensorMap of one block
        for each gradient what it is with respect to: samples say what each row is, the components
        are those that the gradient gets in front of those of the values, there is one property
    within : str or sequence of str, default="system"
        sample names that limit what a sample can depend on: only on rows of a parameter that have
        the same value there, if both have the name: derivatives of others would be added to those
        of a wrong sample. One more pass for each block tells whether samples of every second group
        depend on the groups in between, and raises; **not while jax traces**, so call what is to be
        compiled once without. With ``()``, every sample can depend on every row, for one pass for
        each number.
    drop_zeros : bool, default=False
        leave out rows of zeros, which mean the same; this looks at numbers, and can be neither
        compiled nor differentiated

    Returns
    -------
    TensorMap or TensorBlock
        The samples of a gradient are ``sample`` and those of the parameter; or ``sample`` alone,
        if `within` tells the row of the parameter, or it is :meth:`~metatensor.Labels.single`.

    Raises
    ------
    TypeError
        if values are no arrays of jax with real floating point numbers
    ValueError
        if the result has a gradient with the name of a parameter already, or samples depend on what
        `within` excludes

    See Also
    --------
    attach_gradients : the other way round
    jax.jacrev : derivatives of all with respect to all

    References
    ----------
    A. R. Curtis, M. J. D. Powell, J. K. Reid, "On the estimation of sparse Jacobian matrices", IMA
    J. Appl. Math. 13, 117 (1974)

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.jax import store_gradients
    >>> systems, one = Labels.range("system", 2), Labels.single()
    >>> lengths = TensorBlock(jnp.array([[2.0], [3.0]]), systems, [], one)
    >>> def areas(parameters):
    ...     return TensorBlock(parameters["length"].values ** 2, systems, [], one)
    >>> print(store_gradients(areas, {"length": lengths}).gradient("length").values)
    [[4.]
     [6.]]

    """
    names = _parameters.names_within(within)
    blocks = _parameters.parameter_blocks(parameters, "jax")
    if not callable(function):
        raise TypeError(f"`function` must be callable, got {_checks.kind(function)}")
    found, passes = _run(function, blocks)
    return _parameters.store_gradients(found, blocks, names, passes, drop_zeros)


def _run(
    function: Callable[[dict[str, TensorBlock]], Tensor], blocks: dict[str, TensorBlock]
) -> tuple[Tensor, _Passes]:
    """Return what a function gives, and what differentiates the values of its blocks."""
    results = []

    def arrays_of(parameters: list[Array]) -> tuple[list[Array], list[Array]]:
        given = {
            name: TensorBlock._of(array, block._samples, block._components, block._properties)
            for array, (name, block) in zip(parameters, blocks.items(), strict=True)
        }
        result = function(given)
        require_tensor(result, "the result of `function`")
        results.append(result)
        every: list[Array] = []
        on_blocks(lambda block: block._map(every.append), result)
        return [block._values for block in _blocks_of(result)], every

    parameters = [block._values for block in blocks.values()]
    values, pull, arrays = jax.vjp(arrays_of, parameters, has_aux=True)
    known = iter(arrays)
    found = on_blocks(lambda block: block._map(lambda _: next(known)), results[0])
    if isinstance(found, TensorMap):
        found._info = results[0].info()
    return found, _Passes(found, blocks, pull)


class _Passes:
    """Differentiates values backwards, all entries at the same time."""

    def __init__(
        self,
        found: Tensor,
        blocks: dict[str, TensorBlock],
        pull: Callable[[list[Array]], tuple[list[Array]]],
    ) -> None:
        self.arrays = {name: block._values for name, block in blocks.items()}
        self.values = [block._values for block in _blocks_of(found)]
        self.outputs = {id(block): position for position, block in enumerate(_blocks_of(found))}
        self.function = pull

    def passes(
        self, block: TensorBlock, names: list[str], colours: Positions, n_colours: int
    ) -> list[Array]:
        """Return the derivatives of the entries of samples of one colour, summed over these."""
        like = block._values
        n_entries = math.prod(like.shape[1:])

        def run(colour: Array, entry: Array) -> list[Array]:
            """Pull back a one for an entry of all samples of one colour."""
            rows, columns = colours == colour, jnp.arange(n_entries) == entry
            ones = (rows[:, None] & columns).reshape(like.shape).astype(like.dtype)
            return self._pull(block, names, ones)

        if n_colours * n_entries == 0:
            given = [self.arrays[name] for name in names]
            return [jnp.zeros_like(one, shape=(0,) + one.shape) for one in given]
        passes = jnp.arange(n_colours * n_entries)
        derivatives: list[Array] = jax.vmap(run)(passes // n_entries, passes % n_entries)
        return derivatives

    def pull(
        self, block: TensorBlock, names: list[str], cotangent: npt.NDArray[np.float64]
    ) -> list[Array]:
        """Return the sums of derivatives times numbers."""
        like = block._values
        if any(map(_arrays.is_traced, [like, *self.arrays.values()])):
            return []  # numbers are not known
        return self._pull(block, names, jnp.asarray(cotangent, dtype=like.dtype))

    def _pull(self, block: TensorBlock, names: list[str], cotangent: Array) -> list[Array]:
        cotangents = [jnp.zeros_like(other) for other in self.values]
        cotangents[self.outputs[id(block)]] = cotangent
        pulled = dict(zip(self.arrays, self.function(cotangents)[0], strict=True))
        return [pulled[name] for name in names]


def _blocks_of(tensor: Tensor) -> list[TensorBlock]:
    return tensor._blocks if isinstance(tensor, TensorMap) else [tensor]
