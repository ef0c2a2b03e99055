"""Gradients that maps store and those that torch follows: one turned into the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metatensor import _arrays
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.operations import _parameters
from metatensor.operations._blockwise import Tensor, require_tensor
from metatensor.operations._parameters import Link, Parameters, Positions
from metatensor.operations.gradients import detach

__all__ = ["attach_gradients", "store_gradients"]

_HINT = (
    "; for derivatives with respect to weights alone use "
    "`loss.backward(inputs=list(model.parameters()))` or `torch.autograd.grad(loss, weights)`"
)


@operation
def attach_gradients(tensor: Tensor, parameters: Parameters) -> Tensor:
    r"""Make values functions of parameters, whose derivatives are the stored gradients.

    Gradients: those with the names of the parameters are what torch follows from here on. The
    result stores none, others are left out: how they depend on the parameters is not known. For
    values :math:`A_{icp}` with the gradient
    :math:`G_{(i,e)dcp} = \partial A_{icp} / \partial x_{ed}`, a function :math:`L(A)` has the
    derivatives, exact as the stored gradient is,

    .. math::

        \frac{\partial L}{\partial x_{ed}}
        = \sum_{i\,:\,(i,e)} \sum_{cp} G_{(i,e)dcp} \frac{\partial L}{\partial A_{icp}}

    and in forward mode a displacement :math:`t` of the parameters displaces the values by
    :math:`\sum_{ed} G_{(i,e)dcp}\, t_{ed}`. These are vector-Jacobian and Jacobian-vector products
    (Griewank & Walther, chapter 3), to be differentiated again with respect to all but the
    parameters: a loss on forces gives exact derivatives with respect to weights, those before
    `tensor` too. Second derivatives with respect to parameters would need
    :math:`\partial G / \partial x`, which is not stored: asking for them raises.
    ``loss.backward()`` asks for the derivatives with respect to all that requires them; where
    `loss` has forces, say ``loss.backward(inputs=list(model.parameters()))``.

    Blocks with components have gradients whose own components come first, and nothing changes.
    The time is that of one product with each stored gradient in each pass.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        of real floating point tensors, with gradients
    parameters : dict of str to TensorBlock or TensorMap of one block
        what each gradient to be attached is with respect to: samples say what each row is, the
        components are the gradient's own, there is one property; dtype and device are those of
        `tensor`. The row of a parameter that belongs to a row of the gradient is the one that
        agrees in all of the parameter's sample names. These are looked up in the samples of the
        gradient first, then in the sample that it belongs to. Names that the parameter has not are
        shared: :meth:`~metatensor.Labels.single` is one row for all.

    Returns
    -------
    TensorMap or TensorBlock
        with the same values, copied

    Raises
    ------
    TypeError
        if values are no tensors of real floating point numbers
    ValueError
        if a block has no such gradient; if a parameter has other components, dtype or device, a
        sample name that is found nowhere, or no row for a row of the gradient
    NotImplementedError
        for gradients of gradients; and when the second derivatives with respect to parameters are
        asked for

    See Also
    --------
    store_gradients : the other way round
    metatensor.learn.nn.ChainRule : stored gradients through a module, to stored gradients
    metatensor.jax.attach_gradients : the same for jax

    References
    ----------
    A. Griewank, A. Walther, "Evaluating Derivatives", 2nd ed., SIAM (2008), chapter 3

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.torch import attach_gradients
    >>> systems, one = Labels.range("system", 2), Labels.single()
    >>> block = TensorBlock(torch.tensor([[4.0], [9.0]]), systems, [], one)
    >>> gradient = TensorBlock(
    ...     torch.tensor([[4.0], [6.0]]), Labels.range("sample", 2), [], one
    ... )
    >>> block.add_gradient("length", gradient)
    >>> lengths = TensorBlock(torch.tensor([[2.0], [3.0]], requires_grad=True), systems, [], one)
    >>> areas = attach_gradients(block, {"length": lengths})
    >>> areas.values.log().sum().backward()
    >>> lengths.values.grad  # d log(l^2) / dl
    tensor([[1.0000],
            [0.6667]])

    """
    blocks = _parameters.parameter_blocks(parameters, "torch")
    return _parameters.attach(tensor, blocks, _attach)


def _attach(values: torch.Tensor, links: list[Link]) -> torch.Tensor:
    # there compilers would take the zero derivative of the forward function, and not ask for ours
    if torch.compiler.is_compiling() and torch._C._functorch.get_dynamic_layer_stack_depth():
        raise NotImplementedError(
            "attached gradients can not be differentiated by `torch.func` inside `torch.compile`; "
            "use `torch.autograd.grad` outside of what is compiled"
        )
    function: Any = _Attached if torch.compiler.is_compiling() else _AttachedForward
    marks = _marks([link.parameter for link in links])
    for link in links:
        samples, rows = _positions(link.samples, values), _positions(link.rows, values)
        values = function.apply(values, link.gradient, samples, rows, link.parameter, marks)
    return values


def _positions(positions: Positions, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(positions).to(like.device)


def _marks(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return a few numbers that depend on all parameters."""
    return torch.cat([parameter.reshape(-1)[:1] for parameter in parameters])


def _tie(array: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    """Make an array depend on parameters in a way that is not known."""
    function: Any = _Unknown if torch.compiler.is_compiling() else _UnknownForward
    tied: torch.Tensor = array + function.apply(marks)
    return tied


class _Attached(torch.autograd.Function):
    """Values, as functions of a parameter and of others, by the gradient with respect to it.

    What is differentiated is :math:`A + G (x - x_0)` at :math:`x = x_0`.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        values: torch.Tensor,
        gradient: torch.Tensor,
        samples: torch.Tensor,
        rows: torch.Tensor,
        parameter: torch.Tensor,
        marks: torch.Tensor,
    ) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        (cotangent,) = cotangents
        gradient, samples, rows, parameter, marks = ctx.saved_tensors
        n_rows, n_own, n_entries = _sizes(gradient, cotangent)
        to_gradient = to_parameter = None
        if ctx.needs_input_grad[4]:
            known = _tie(cotangent, marks) if torch.is_grad_enabled() else cotangent
            factors = known[samples].reshape(n_rows, n_entries, 1)
            with torch.autocast(gradient.device.type, enabled=False):
                products = gradient.reshape(n_rows, n_own, n_entries) @ factors
            zeros = torch.zeros_like(parameter)
            to_parameter = zeros.index_add(0, rows, products.reshape(n_rows, *parameter.shape[1:]))
        if ctx.needs_input_grad[1] and torch.is_grad_enabled():  # zero, but not its derivatives
            factors = cotangent[samples].reshape(n_rows, 1, n_entries)
            to_gradient = (_distance(parameter, rows, n_own) * factors).reshape(gradient.shape)
        return cotangent, to_gradient, None, None, to_parameter, None


class _AttachedForward(_Attached):
    """The same with a forward mode, which compilers do not know."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _Attached.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> torch.Tensor:
        of_values, of_gradient, _, _, of_parameter, _ = tangents
        values, gradient, samples, rows, parameter, marks = ctx.saved_tensors
        n_rows, n_own, n_entries = _sizes(gradient, values)
        result = torch.zeros_like(values) if of_values is None else of_values
        terms = []
        if of_parameter is not None:
            factors = _tie(of_parameter, marks)[rows].reshape(n_rows, 1, n_own)
            terms.append((factors, gradient.reshape(n_rows, n_own, n_entries)))
        if of_gradient is not None:
            factors = _distance(parameter, rows, n_own).reshape(n_rows, 1, n_own)
            terms.append((factors, of_gradient.reshape(n_rows, n_own, n_entries)))
        for factors, array in terms:
            with torch.autocast(array.device.type, enabled=False):
                term = factors @ array
            result = result.index_add(0, samples, term.reshape(n_rows, *values.shape[1:]))
        return result


def _sizes(gradient: torch.Tensor, values: torch.Tensor) -> tuple[int, int, int]:
    n_own = math.prod(gradient.shape[1 : 1 + gradient.ndim - values.ndim])
    return len(gradient), n_own, math.prod(values.shape[1:])


def _distance(parameter: torch.Tensor, rows: torch.Tensor, n_own: int) -> torch.Tensor:
    """Return the zeros that parameters are away from where they are, (n_rows, n_own, 1)."""
    return (parameter - parameter.detach())[rows].reshape(len(rows), n_own, 1)


class _Unknown(torch.autograd.Function):
    """A zero that depends on parameters in a way that is not known."""

    @staticmethod
    def forward(marks: torch.Tensor) -> torch.Tensor:
        return marks.new_zeros(())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, marks: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _UnknownForward.apply(marks), None  # type: ignore[no-untyped-call]

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise NotImplementedError(_parameters.NOT_STORED + _HINT)


class _UnknownForward(_Unknown):
    """The same with a forward mode, which compilers do not know."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(_parameters.NOT_STORED)


def store_gradients(
    tensor: Tensor | Callable[[dict[str, TensorBlock]], Tensor],
    parameters: Parameters,
    *,
    within: str | Iterable[str] = "system",
    differentiable: bool = False,
    drop_zeros: bool = False,
) -> Tensor:
    r"""Store the derivatives of values with respect to parameters as gradients.

    Gradients: those with respect to the parameters,

    .. math::

        G_{(i,e)dcp} = \frac{\partial A_{icp}}{\partial x_{ed}}

    are added, exact as torch differentiates: there is one row for each pair of a sample *i* and a
    row *e* of the parameter that agree in the names `within`. Gradients that are there stay.

    Torch gives the derivatives of one number in one pass backwards. Samples that depend on
    different rows of the parameters go into one pass, which is a colouring of the Jacobian (Curtis,
    Powell & Reid): the time is that of ``max(samples of one system) * components * properties``
    passes for each block; one for the energies of systems, one for each atom for those of atoms.

    Parameters
    ----------
    tensor : TensorMap, TensorBlock or callable
        what torch followed from the values of `parameters`; or a function that returns it, given a
        dict of blocks like `parameters`
    parameters : dict of str to TensorBlock or TensorMap of one block
        for each gradient what it is with respect to: samples say what each row is, the components
        are those that the gradient gets in front of those of the values, there is one property
    within : str or sequence of str, default="system"
        sample names that limit what a sample can depend on: only on rows of a parameter that have
        the same value there, if both have the name: derivatives of others would be added to those
        of a wrong sample. One more pass for each block tells whether samples of every second group
        depend on the groups in between, and raises. With ``()``, every sample can depend on every
        row, for one pass for each number.
    differentiable : bool, default=False
        let torch follow the gradients, so that a loss can have them; else values and gradients are
        constants. Values that torch still follows from the parameters must not be attached to them
        again: derivatives would count twice.
    drop_zeros : bool, default=False
        leave out rows of zeros, which mean the same

    Returns
    -------
    TensorMap or TensorBlock
        The samples of a gradient are ``sample`` and those of the parameter; or ``sample`` alone,
        if `within` tells the row of the parameter, or it is :meth:`~metatensor.Labels.single`.

    Raises
    ------
    TypeError
        if values are no tensors of real floating point numbers
    ValueError
        if a parameter does not require grad, or a map does not depend on it; if there is a gradient
        with its name already; if samples depend on what `within` excludes; for `drop_zeros` with
        `differentiable`, since derivatives of what is zero need not be

    See Also
    --------
    attach_gradients : the other way round

    References
    ----------
    A. R. Curtis, M. J. D. Powell, J. K. Reid, "On the estimation of sparse Jacobian matrices", IMA
    J. Appl. Math. 13, 117 (1974)

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.torch import store_gradients
    >>> systems, one = Labels.range("system", 2), Labels.single()
    >>> lengths = TensorBlock(torch.tensor([[2.0], [3.0]]), systems, [], one)
    >>> def areas(parameters):
    ...     return TensorBlock(parameters["length"].values ** 2, systems, [], one)
    >>> store_gradients(areas, {"length": lengths}).gradient("length").values
    tensor([[4.],
            [6.]])

    """
    names = _parameters.names_within(within)
    blocks = _parameters.parameter_blocks(parameters, "torch")
    if drop_zeros and differentiable:
        raise ValueError(
            "`drop_zeros` can not be used with `differentiable`: a row that is zero can have "
            "derivatives; leave one out"
        )
    with torch.enable_grad():
        if callable(tensor):
            blocks = {name: _followed(block) for name, block in blocks.items()}
            found = tensor(dict(blocks))
            require_tensor(found, "the result of `tensor`")
        else:
            require_tensor(tensor)
            _require_followed(blocks)
            found = tensor
        passes = _Passes(blocks, differentiable)
        result = _parameters.store_gradients(found, blocks, names, passes, drop_zeros)
    if not callable(tensor):
        passes.require_dependence()
    return result if differentiable else detach(result)


def _require_followed(blocks: dict[str, TensorBlock]) -> None:
    for name, block in blocks.items():
        if not block._values.requires_grad:
            raise ValueError(
                f"the values of the parameter {name!r} must require grad before `tensor` is "
                "computed from them; use `.requires_grad_()`, or give a function"
            )


def _followed(block: TensorBlock) -> TensorBlock:
    values = block._values
    if not values.requires_grad:
        values = values.detach().requires_grad_()
    return TensorBlock._of(values, block._samples, block._components, block._properties)


class _Passes:
    """Differentiates values backwards, some entries at a time, and knows what they depend on."""

    def __init__(self, blocks: dict[str, TensorBlock], differentiable: bool) -> None:
        self.arrays = {name: block._values for name, block in blocks.items()}
        self.differentiable = differentiable
        self.n_passes = 0
        self.reached: set[str] = set()

    def passes(
        self, block: TensorBlock, names: list[str], colours: Positions, n_colours: int
    ) -> list[torch.Tensor]:
        """Return the derivatives of the entries of samples of one colour, summed over these."""
        values: torch.Tensor = block._values
        n_entries = math.prod(values.shape[1:])
        which = torch.from_numpy(colours).to(values.device)
        found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        for colour in range(n_colours if values.requires_grad else 0):
            chosen = (which == colour).to(values.dtype)
            for entry in range(n_entries):
                cotangent = values.new_zeros(len(values), n_entries)
                cotangent[:, entry] = chosen
                for name, derivative in self._pass(values, names, cotangent, self.differentiable):
                    found[name].append(derivative)
        arrays, n_passes = [self.arrays[name] for name in names], n_colours * n_entries
        return [
            torch.stack(parts) if parts else array.new_zeros(n_passes, *array.shape)
            for parts, array in zip(found.values(), arrays, strict=True)
        ]

    def pull(
        self, block: TensorBlock, names: list[str], cotangent: npt.NDArray[np.float64]
    ) -> list[torch.Tensor]:
        """Return the sums of derivatives times numbers."""
        values: torch.Tensor = block._values
        if (
            not values.requires_grad
            or torch.compiler.is_compiling()
            or not _arrays.is_plain_tensor(values)
        ):
            return []
        factors = torch.from_numpy(cotangent).to(values)
        return [derivative for _, derivative in self._pass(values, names, factors, False)]

    def _pass(
        self, values: torch.Tensor, names: list[str], cotangent: torch.Tensor, followed: bool
    ) -> Iterator[tuple[str, torch.Tensor]]:
        self.n_passes += 1
        derivatives = torch.autograd.grad(
            values,
            [self.arrays[name] for name in names],
            cotangent.reshape(values.shape),
            retain_graph=True,
            create_graph=followed,
            allow_unused=True,
        )
        for name, derivative in zip(names, derivatives, strict=True):
            if derivative is not None:
                self.reached.add(name)
            yield name, torch.zeros_like(self.arrays[name]) if derivative is None else derivative

    def require_dependence(self) -> None:
        left = [name for name in self.arrays if name not in self.reached]
        if self.n_passes and left:
            raise ValueError(
                f"`tensor` does not depend on the values of the parameter {left[0]!r}: it must be "
                "computed from this very tensor, no copy of it; or give a function"
            )
