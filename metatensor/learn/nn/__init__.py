"""Modules of torch whose data, inputs and outputs have labels."""

from metatensor.learn.nn.activation import (
    InvariantReLU,
    InvariantSiLU,
    InvariantTanh,
    ReLU,
    SiLU,
    Tanh,
)
from metatensor.learn.nn.chain_rule import ChainRule
from metatensor.learn.nn.composition import Add, EquivariantTransformation, Sequential
from metatensor.learn.nn.dropout import Dropout
from metatensor.learn.nn.embedding import Embedding
from metatensor.learn.nn.linear import EquivariantLinear, Linear
from metatensor.learn.nn.module import Buffer, Module
from metatensor.learn.nn.module_map import ModuleMap
from metatensor.learn.nn.normalization import EquivariantRMSNorm, InvariantLayerNorm, LayerNorm

__all__ = [
    "Add",
    "Buffer",
    "ChainRule",
    "Dropout",
    "Embedding",
    "EquivariantLinear",
    "EquivariantRMSNorm",
    "EquivariantTransformation",
    "InvariantLayerNorm",
    "InvariantReLU",
    "InvariantSiLU",
    "InvariantTanh",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleMap",
    "ReLU",
    "Sequential",
    "SiLU",
    "Tanh",
]
