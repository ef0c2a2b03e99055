"""Functions of maps as programs of torch that need neither the function nor this package."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any

import torch
from torch.utils import _pytree as pytree

from metatensor import _checks
from metatensor.torch import _replay
from metatensor.torch._calls import Call, name_of, result_of
from metatensor.torch._recording import Recording

#: name of the description in a file of a program
DESCRIPTION = "metatensor.json"


def export(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> ExportedFunction:
    """Export what a function of maps does to arrays, as one program for maps with any Labels.

    As in :func:`compile`, the function runs with arrays that have no numbers, and what comes from
    Labels (index arrays, sizes) is an input of the program, next to the arrays of the maps.
    Parameters of modules, and tensors around the function, become part of it and may be changed in
    place. Programs are files that torch runs without this package. Those without sizes among their
    inputs run from C++, too, after `torch._inductor.aoti_compile_and_package`, which can not make
    arrays of sizes that are inputs.

    Gradients: stored gradients are arrays as values are, in the arguments and in the result.

    Parameters
    ----------
    function : callable
        as for :func:`compile`; often a module in `eval` mode
    args : tuple
        arguments of an example. Lengths of its arrays, and sizes, that are larger than one may be
        others when the program runs
    kwargs : dict, optional
        arguments by name of the example

    Returns
    -------
    ExportedFunction

    Raises
    ------
    TypeError, RuntimeError
        as for :func:`compile`

    See Also
    --------
    torch.export.export : works on modules of maps as well, for maps with the very same Labels

    Examples
    --------
    >>> import torch
    >>> import metatensor.torch as mts
    >>> def batch(n_atoms):
    ...     samples, one = mts.Labels.range("atom", n_atoms), mts.Labels.single()
    ...     return mts.TensorMap(one, [mts.TensorBlock(torch.ones(n_atoms, 2), samples, [], one2)])
    >>> one2 = mts.Labels.range("n", 2)
    >>> exported = mts.export(lambda tensor: mts.sum_over_samples(tensor, "atom"), (batch(3),))
    >>> exported(batch(5)).block().values
    tensor([[5., 5.]])
    >>> [array["name"] for array in exported.description["inputs"]]
    ['input_0', 'plan_0', 'size_0']

    """
    if not isinstance(args, tuple):
        raise TypeError(f"`args` must be a tuple of the arguments, got {_checks.kind(args)}")
    return ExportedFunction(function, args, kwargs or {})


class ExportedFunction:
    """A function of maps as a program of torch, see :func:`export`.

    Attributes
    ----------
    function : callable
        the function as it was given
    program : torch.export.ExportedProgram
        takes the arrays of the arguments, then index arrays, then sizes, as :meth:`inputs` gives
        them; returns the list of the arrays that are made
    description : dict
        of "inputs" and "outputs" of the program: names, and for arrays their path in the arguments
        or in the result, their dtype and their shape, in which "n" is any length above one; and
        the structures of the "arguments" and of the "result" of the example, as JSON of torch's
        pytrees

    """

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.function = function
        self._name = name_of(function)
        call = Call.of(args, kwargs, self._name)
        self._recording = self._record(call)
        self._constants = {id(tensor): name for name, tensor in _constants(self._recording)}
        inputs = self._inputs(call, self._recording)
        self._example = [_shape(value) for value in inputs]
        self._dtypes = [array.dtype for array in call.arrays]
        dynamic = [
            {axis: torch.export.Dim.AUTO for axis, length in enumerate(shape) if length == "n"}
            if isinstance(shape, tuple)
            else torch.export.Dim.AUTO
            for shape in self._example
        ]
        program = _Program(self._recording, self._constants)
        with _replay.free_lengths():
            self.program = torch.export.export(
                program, tuple(inputs), dynamic_shapes=(tuple(dynamic),), strict=False
            )
        self.description = self._described(call, inputs)

    def __repr__(self) -> str:
        inputs, outputs = (len(self.description[name]) for name in ("inputs", "outputs"))
        return f"ExportedFunction({self._name}: {inputs} inputs, {outputs} outputs)"

    def inputs(self, *args: Any, **kwargs: Any) -> list[torch.Tensor | int]:
        """Return the inputs of the program for other arguments of the function.

        Parameters
        ----------
        *args, **kwargs
            of the function

        Returns
        -------
        list of Tensor or int

        Raises
        ------
        ValueError
            if the function does something else to them than to the example, or the program can not
            have their lengths: those of 0 and 1 in the example can not vary

        """
        call = Call.of(args, kwargs, self._name)
        recording = self._record(call)
        return self._checked(call, recording)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns; the program does all work on arrays."""
        call = Call.of(args, kwargs, self._name)
        recording = self._record(call)
        made = self.program.module()(*self._checked(call, recording))
        return result_of(recording, call.arrays, made)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the program to a file, with the description as ``metatensor.json`` in it.

        Parameters
        ----------
        path : str or path
            by custom with the extension ``.pt2``; `torch.export.load` reads it

        """
        files = {DESCRIPTION: json.dumps(self.description, indent=1)}
        torch.export.save(self.program, path, extra_files=files)

    def _record(self, call: Call) -> Recording:
        with torch.enable_grad():  # so that programs can be used without
            return call.record(self.function)

    def _n_plans(self, recording: Recording) -> int:
        return sum(id(tensor) not in self._constants for tensor in recording.captured)

    def _inputs(self, call: Call, recording: Recording) -> list[torch.Tensor | int]:
        plans = [tensor for tensor in recording.captured if id(tensor) not in self._constants]
        return [*call.arrays, *plans, *[int(recording.sizes[n]) for n in recording.free]]

    def _checked(self, call: Call, recording: Recording) -> list[torch.Tensor | int]:
        dtypes = [array.dtype for array in call.arrays]
        if set(dtypes) != set(self._dtypes):
            raise ValueError(
                f"`{self._name}` was exported for arrays of {_texts(self._dtypes)}, got "
                f"{_texts(dtypes)}; use `.to(...)`, or export it again"
            )
        if recording.recipe != self._recording.recipe:
            raise ValueError(
                f"`{self._name}` does other things to the arrays of these arguments than to those "
                "of the example that it was exported with; export it again"
            )
        inputs = self._inputs(call, recording)
        if self._n_plans(recording) != self._n_plans(self._recording):
            raise ValueError(
                f"`{self._name}` uses other parameters, or other arrays around it, than when it "
                "was exported; change them in place, or export it again"
            )
        if recording.free != self._recording.free or [*map(_shape, inputs)] != self._example:
            raise ValueError(
                f"`{self._name}` was exported with an example in which other lengths, or numbers "
                "of groups, are 0 or 1 than in these arguments, and only those above one can vary; "
                "export it again with an example in which all that varies is larger"
            )
        for n, (size, first) in enumerate(zip(recording.sizes, self._recording.sizes, strict=True)):
            if size != first and n not in recording.free:
                raise ValueError(
                    f"`{self._name}` was exported with the number {first} where these arguments "
                    f"give {size}; numbers that vary must be in arrays, such as "
                    "`torch.tensor(len(samples))`"
                )
        return inputs

    def _described(self, call: Call, inputs: list[torch.Tensor | int]) -> dict[str, Any]:
        paths = _paths(call.leaves, call.structure)
        recipe = self._recording.recipe
        n_plans = self._n_plans(self._recording)
        names = [f"input_{n}" for n in range(recipe.n_inputs)]
        names += [f"plan_{n}" for n in range(n_plans)]
        names += [f"size_{n}" for n in range(len(inputs) - len(names))]
        described = [
            {"name": name, **_array(value)} for name, value in zip(names, inputs, strict=True)
        ]
        for position, path in zip(call.positions, paths, strict=True):
            described[position].setdefault("path", path)  # an array may be given twice
        outputs = [
            {"path": path}
            for path, output in zip(
                _paths(self._recording.constants, self._recording.structure, everything=True),
                recipe.outputs,
                strict=True,
            )
            if recipe.makes(output)
        ]
        return {
            "inputs": described,
            "outputs": outputs,
            "arguments": pytree.treespec_dumps(call.structure),
            "result": pytree.treespec_dumps(self._recording.structure),
        }


class _Program(torch.nn.Module):
    """A recipe that has its parameters, and takes arrays, plans and sizes."""

    def __init__(self, recording: Recording, constants: dict[int, str]) -> None:
        super().__init__()
        self.graph = _replay.as_graph(recording.recipe, recording.sizes, recording.free)
        self._n_inputs = recording.recipe.n_inputs
        self._names = [constants.get(id(tensor)) for tensor in recording.captured]
        for name, tensor in zip(self._names, recording.captured, strict=True):
            if isinstance(tensor, torch.nn.Parameter) and name is not None:
                self.register_parameter(name, tensor)
            elif name is not None:
                self.register_buffer(name, tensor)

    def forward(self, *inputs: Any) -> list[torch.Tensor]:
        arrays = inputs[: self._n_inputs]
        rest = iter(inputs[self._n_inputs :])
        captured = [next(rest) if name is None else getattr(self, name) for name in self._names]
        made: list[torch.Tensor] = self.graph(*arrays, *captured, *rest)
        return made


def _constants(recording: Recording) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and buffers of modules, and other arrays around, by a flat name."""
    seen = set()
    for number, module in enumerate(recording.surroundings.modules):
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"module_{number}_{name.replace('.', '_')}", tensor
    for number, tensor in enumerate(recording.captured):
        if id(tensor) not in seen and number not in recording.made:
            yield f"array_{number}", tensor


def _texts(dtypes: list[torch.dtype]) -> str:
    return ", ".join(sorted({str(dtype) for dtype in dtypes}))


def _shape(value: torch.Tensor | int) -> tuple[int | str, ...] | str:
    if isinstance(value, int):
        return "n"
    return tuple(["n" if length > 1 else length for length in value.shape])


def _array(value: torch.Tensor | int) -> dict[str, Any]:
    if isinstance(value, int):
        return {"dtype": "int", "shape": []}
    return {"dtype": str(value.dtype), "shape": list(_shape(value))}


def _paths(leaves: list[Any], structure: pytree.TreeSpec, everything: bool = False) -> list[str]:
    """Return where the arrays, or all leaves, are in a tree."""
    tree = pytree.tree_unflatten(leaves, structure)
    return [
        pytree.keystr(path)
        for path, leaf in pytree.tree_flatten_with_path(tree)[0]
        if everything or isinstance(leaf, torch.Tensor)
    ]
