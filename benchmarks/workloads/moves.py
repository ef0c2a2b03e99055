"""Joins of blocks: keys to samples, keys to properties, components to properties.

At size S what is asked is a third of what compiled objects would reach.
"""

from metatensor import Labels, TensorMap
from workloads.data import atoms, column, make_block, make_map
from workloads.registry import Case, workload


def move_keys(method: str, kind: str = "dense", gradient_rows: int = 0):
    def prepare(size: str) -> Case:
        tensor = make_map(size, kind, gradient_rows)
        return Case(lambda: getattr(tensor, method)("neighbor"))

    return prepare


workload("move.keys_to_properties.dense", S=13, M=9, L=2.4)(move_keys("keys_to_properties"))
workload("move.keys_to_properties.half_samples", S=10, M=13, L=3.8)(
    move_keys("keys_to_properties", "half_samples")
)
workload("move.keys_to_properties.half_props", M=8, L=2.3)(
    move_keys("keys_to_properties", "half_properties")
)
workload("move.keys_to_properties.gradients", S=11, M=5, L=2.2)(
    move_keys("keys_to_properties", gradient_rows=2)
)
workload("move.keys_to_samples.dense", S=13, M=12, L=3.0)(move_keys("keys_to_samples"))
workload("move.keys_to_samples.gradients", S=12, M=8, L=2.5)(
    move_keys("keys_to_samples", gradient_rows=2)
)


@workload("move.components_to_properties", S=3, M=1.3, L=2.0)
def components_to_properties(size: str) -> Case:
    samples, properties = {"S": (5, 3), "M": (6_500, 64), "L": (65_000, 64)}[size]
    block = make_block(atoms(samples), column(properties), components=True)
    tensor = TensorMap(Labels.single(), [block])
    return Case(lambda: tensor.components_to_properties("xyz"))
