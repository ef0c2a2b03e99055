"""What `torch.compile` and strict export know about Labels, operations and methods.

Labels are constants of compiled code: they are guarded by value, and their methods run while a
function is traced. Operations are called instead of being traced by Dynamo; the tensors that they
work with are traced inside them, by AOTAutograd. All this relies on private names of torch: where
one is missing, importing this module fails, and maps are pytrees without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NoReturn

import array_api_compat as compat
import numpy as np
import torch
from torch._C._dynamo.eval_frame import (
    _FrameAction,
    _FrameExecStrategy,
    set_code_exec_strategy,
)
from torch._dynamo import nonstrict_trace, trace_rules
from torch._dynamo.exc import Unsupported, unimplemented
from torch._dynamo.output_graph import OutputGraph
from torch._dynamo.variables.base import VariableTracker
from torch._dynamo.variables.constant import ConstantVariable
from torch._dynamo.variables.lists import BaseListVariable, TupleVariable
from torch._dynamo.variables.misc import LambdaVariable
from torch._dynamo.variables.script_object import (
    OpaqueObjectClassVariable,
    TorchScriptObjectVariable,
)
from torch._dynamo.variables.tensor import NumpyNdarrayVariable, SymNodeVariable, TensorVariable
from torch._dynamo.variables.torch import AllowInGraphKind, TorchInGraphFunctionVariable
from torch._library.opaque_object import MemberType, is_opaque_type, register_opaque_type
from torch.compiler import substitute_in_graph
from torch.utils._pytree import TreeSpec

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.learn.nn import chain_rule
from metatensor.operations import checks, comparison, creation
from metatensor.tensor import TensorMap
from metatensor.torch import operations
from metatensor.torch._labels import Labels as TorchLabels
from metatensor.torch.autograd import attach_gradients

_CONSTANTS: tuple[Any, ...] = (Labels, LabelsEntry)

#: functions that neither take nor return maps, blocks or Labels
_OTHERS = {*checks.__all__, "record_history"}

#: functions that return maps, blocks or Labels, or look at the numbers in Labels
_FUNCTIONS = (
    *(
        getattr(operations, name)
        for name in operations.__all__
        if name not in _OTHERS and not name.endswith("_raise")
    ),
    creation.block_from_array,
    TensorMap.keys_to_samples,
    TensorMap.keys_to_properties,
    TensorMap.components_to_properties,
    TensorMap.copy,
    TensorMap.to,
    TensorBlock.copy,
    TensorBlock.to,
    Labels.single,
    Labels.empty,
    Labels.range,
    TorchLabels.single,
    TorchLabels.empty,
    TorchLabels.range,
    attach_gradients,
    _checks.first_column_range,
    chain_rule.with_chain_rule,
)

_AS_IT_IS = _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP)

#: functions that return nothing, or raise errors
_CHECKS = (comparison.allclose_raise, comparison.equal_metadata_raise, comparison.equal_raise)


def register() -> None:
    """Tell torch's compilers about Labels and functions; twice does no harm."""
    for function in _FUNCTIONS:
        trace_rules._allowed_callable_ids.add(id(function))
        trace_rules._nonstrict_trace_callable_ids.add(id(function))
        # where it runs as it is, so does what it calls
        set_code_exec_strategy(function.__code__, _AS_IT_IS)
    if is_opaque_type(Labels):
        return
    # array_api_compat remembers types, which Dynamo warns of
    substitute_in_graph(compat.device, skip_signature_check=True)(_device)
    substitute_in_graph(compat.is_array_api_obj, skip_signature_check=True)(_is_array)
    substitute_in_graph(_arrays.namespace)(_namespace)
    substitute_in_graph(_arrays.library)(_library)
    substitute_in_graph(_arrays.as_values)(_as_values)
    for check in _CHECKS:
        _let_pass(check)
    for owner, name, method in (
        (TorchScriptObjectVariable, "create", staticmethod(_create)),
        (OpaqueObjectClassVariable, "call_function", _call),
        (TorchInGraphFunctionVariable, "_call_nonstrict_traceable_function", _call_function),
        (OutputGraph, "register_static_attr_and_return_proxy", _register_and_note),
        (Labels, "__fx_repr__", _name_in_code),
        (LabelsEntry, "__fx_repr__", _name_in_code),
    ):
        setattr(owner, name, method)
    for cls in _CONSTANTS:
        members = {name for base in cls.__mro__[:-1] for name in vars(base)}
        register_opaque_type(cls, typ="value", members=dict.fromkeys(members, MemberType.USE_REAL))


_TORCH, _NUMPY = _arrays.namespace(torch.empty(0)), _arrays.namespace(np.empty(0))


def _namespace(*arrays: Any) -> ModuleType:
    return _TORCH if isinstance(arrays[0], torch.Tensor) else _NUMPY


def _device(array: Any) -> Any:
    return array.device if isinstance(array, torch.Tensor) else "cpu"


def _is_array(x: object) -> bool:
    return isinstance(x, (torch.Tensor, np.ndarray))


def _library(array: Any) -> str:
    return "torch" if isinstance(array, torch.Tensor) else "numpy"


def _as_values(array: Any, copy: bool | None = None) -> Any:
    return array


def _let_pass(check: Callable[..., None]) -> None:
    """Register a function that raises errors and returns nothing, as no function in a graph can."""

    @nonstrict_trace
    def passed(*args: Any, **kwargs: Any) -> bool:
        check(*args, **kwargs)
        return True

    @substitute_in_graph(check, skip_signature_check=True)
    def run(*args: Any, **kwargs: Any) -> None:
        passed(*args, **kwargs)


def _name_in_code(constant: Labels | LabelsEntry) -> tuple[str, dict[str, Any]]:
    """Return the name of a constant in code that torch writes, the same for equal ones."""
    labels = constant if isinstance(constant, Labels) else constant._labels
    values = labels.values
    content = [labels._names, labels._table.shape, _arrays.library(values), str(labels.device)]
    if isinstance(constant, LabelsEntry):
        content.append(constant._row)
    digest = hashlib.sha256(repr(content).encode() + labels._table.tobytes()).hexdigest()
    name = f"{type(constant).__name__}_{digest[:16]}"
    return name, {name: constant}


_create_before = TorchScriptObjectVariable.create


def _create(proxy: Any, value: Any, *args: Any, tx: Any = None, **options: Any) -> Any:
    if isinstance(value, _CONSTANTS):
        return LabelsVariable(proxy, value, *args, **options)
    return _create_before(proxy, value, *args, tx=tx, **options)


_call_function_before = TorchInGraphFunctionVariable._call_nonstrict_traceable_function


def _call_function(variable: Any, tx: Any, args: Any, kwargs: Any) -> Any:
    """Call a function, and say why it failed if it did."""
    try:
        return _call_function_before(variable, tx, args, kwargs)
    except Unsupported as error:
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
        if cause is error or not variable.value.__module__.startswith("metatensor."):
            raise
        unimplemented(
            gb_type="a function of metatensor that failed",
            context=variable.value.__name__,
            explanation=f"{type(cause).__name__}: {cause}",
            hints=["Numbers that decide what is done are not known while a function is traced."],
            from_exc=cause,
        )


_call_before = OpaqueObjectClassVariable.call_function


def _call(variable: Any, tx: Any, args: Any, kwargs: Any) -> Any:
    if not issubclass(variable.value, _CONSTANTS):
        return _call_before(variable, tx, args, kwargs)
    given = [_known(tx, arg) for arg in args]
    named = {name: _known(tx, arg) for name, arg in kwargs.items()}
    return VariableTracker.build(tx, variable.value(*given, **named))


_register_before = OutputGraph.register_static_attr_and_return_proxy


def _register_and_note(graph: Any, prefix: str, value: Any) -> Any:
    """Note the structure of arguments of functions, which strict export takes for a tensor else."""
    proxy = _register_before(graph, prefix, value)
    if isinstance(value, TreeSpec):
        proxy.node.meta["val"] = value
    return proxy


class LabelsVariable(TorchScriptObjectVariable):
    """Labels, or one of their entries, in code that Dynamo traces: a constant, as are its parts.

    What other opaque objects of torch can not do is here: `len`, `in`, iteration, and arrays.
    """

    value: Any

    def len_impl(self, tx: Any) -> VariableTracker:
        return ConstantVariable.create(len(self.value))

    def tp_iter_impl(self, tx: Any) -> Any:
        return _constant(tx, tuple(self.value)).tp_iter_impl(tx)

    def sq_contains(self, tx: Any, item: VariableTracker) -> Any:
        return self.call_method(tx, "__contains__", [item], {})

    def mp_subscript_impl(self, tx: Any, key: VariableTracker) -> Any:
        return self.call_method(tx, "__getitem__", [key], {})

    def var_getattr(self, tx: Any, name: str) -> Any:
        value = getattr(self.value, name)
        if callable(value):
            return LambdaVariable(lambda *args, **named: self.call_method(tx, name, args, named))
        return _constant(tx, value)

    def call_method(
        self,
        tx: Any,
        name: str,
        args: Iterable[VariableTracker],
        kwargs: dict[str, VariableTracker],
    ) -> Any:
        given = [_known(tx, arg) for arg in args]
        named = {name: _known(tx, value) for name, value in kwargs.items()}
        return _constant(tx, getattr(self.value, name)(*given, **named))


def _known(tx: Any, variable: VariableTracker) -> Any:
    """Return the value of what must be known while a function is traced, and make it so."""
    if isinstance(variable, SymNodeVariable):
        return variable.evaluate_expr()
    if isinstance(variable, BaseListVariable):
        return variable.python_type()([_known(tx, item) for item in variable.items])
    if isinstance(variable, TensorVariable):
        tensor = _computed(tx, variable.proxy.node)
        return tensor.numpy() if isinstance(variable, NumpyNdarrayVariable) else tensor
    return variable.as_python_constant()


def _computed(tx: Any, node: torch.fx.Node) -> Any:
    """Compute what follows from constants alone, such as an array that is written out."""
    example: Any = node.meta.get("example_value")
    if isinstance(example, torch.SymInt):
        return int(example)
    held = tx.output.nn_modules.get(node.target) if node.op == "get_attr" else None
    if held is not None and not isinstance(held, (torch.Tensor, torch.nn.Module)):
        return held
    if node.op not in ("call_function", "call_method"):
        _refuse_numbers(node, "they are computed from values of blocks or other tensors")
    if isinstance(example, torch.Tensor) and example._version:
        _refuse_numbers(node, "they are changed in place")
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda part: _computed(tx, part))
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        target: Any = node.target
        if node.op == "call_method":
            value = getattr(args[0], target)(*args[1:], **kwargs)
        else:
            value = target(*args, **kwargs)
        if not torch.equal(before, torch.get_rng_state()):
            _refuse_numbers(node, "they are random")
    return value


def _refuse_numbers(node: torch.fx.Node, why: str) -> NoReturn:
    unimplemented(
        gb_type="numbers of Labels that are not known",
        context=str(node),
        explanation="Labels are constants of compiled code; the numbers in these, or those that "
        f"select from them, are not constant: {why}",
        hints=["Make the Labels outside of the compiled function, as argument or attribute."],
    )


def _constant(tx: Any, value: Any) -> Any:
    """Return what stands for a part of Labels in the code that is traced."""
    if isinstance(value, np.integer) or (isinstance(value, torch.Tensor) and value.ndim == 0):
        return ConstantVariable.create(int(value))
    if isinstance(value, tuple):
        return TupleVariable([_constant(tx, part) for part in value])
    if not isinstance(value, (np.ndarray, torch.Tensor)):
        return VariableTracker.build(tx, value)

    host = np.array(_arrays.to_host(value))
    device = value.device if isinstance(value, torch.Tensor) else None

    def constant() -> torch.Tensor:
        return torch.as_tensor(host, device=device)

    tensor = TorchInGraphFunctionVariable(
        nonstrict_trace(constant), kind=AllowInGraphKind.NONSTRICT_TRACE
    ).call_function(tx, [], {})
    return tensor if isinstance(value, torch.Tensor) else tensor.call_method(tx, "numpy", [], {})


register()
