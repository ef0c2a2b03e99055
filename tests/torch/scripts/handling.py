"""Handles labelled tensors of torch: selections, moves of keys, operations, files and copies."""

import copy
import os
import pickle
import tempfile

import torch

import metatensor.torch as mts
from metatensor.torch import Labels, TensorBlock, TensorMap

torch.set_printoptions(precision=4, sci_mode=False)


def show(tensor):
    print(tensor)
    for key, block in tensor.items():
        print(key, list(block.shape), mts.dtype_name(block.dtype), str(block.device))
        print(block.samples.values.tolist(), block.properties.names, block.values.tolist())
        for parameter, gradient in block.gradients():
            print(parameter, gradient.samples.values.tolist(), gradient.values.sum().item())


# ---- Labels

samples = Labels(["system", "atom"], torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]))
print(samples, len(samples), samples.names, samples.device)
print(samples.values[:, 0], samples.column("atom"), samples["system"])
entry = samples[3]
print(entry, entry["system"], entry[1], entry.values, [value for value in entry])
charges = {0: "first", 1: "second"}
print([charges[key["system"]] for key in samples], {tuple(key): i for i, key in enumerate(samples)})
print(samples.position([1, 1]), samples.position(torch.tensor([4, 4])), entry in samples)
chosen = samples.select(Labels("system", torch.tensor([[1]])))
print(chosen, chosen.dtype, torch.arange(5.0)[chosen])
other = Labels(["system", "atom"], torch.tensor([[1, 2], [7, 7]]))
union, first, second = samples.union_and_mapping(other)
print(union.values[-1], first, second, torch.zeros(6)[second])
print(samples.intersection(other).values, samples.difference(other).column("system"))
both, left, right = samples.intersection_and_mapping(other)
print(left, right, len(both), samples.difference_and_mapping(other)[1])
wider = samples.append("type", torch.tensor([1, 8, 1, 1, 8])).permute([2, 0, 1])
print(wider.insert(0, "half", torch.tensor([0, 0, 1, 1, 1])), wider.remove("type").names)
print(wider.rename("type", "species").names, Labels.range("n", 3).values.T, Labels.single())
print(Labels.empty(["a", "b"]).values.shape, samples.to("cpu", True) == samples)
print(Labels("flag", torch.tensor([[False], [True]])).values.T)

# ---- blocks and maps

properties = Labels.range("n", 2)
blocks = []
for rows in ([0, 2, 3], [1, 4]):
    selected = Labels(["system", "atom"], samples.values[rows])
    values = torch.tensor(rows, dtype=torch.float64)[:, None] + torch.tensor([[0.5, -1.0]])
    block = TensorBlock(values=values, samples=selected, components=[], properties=properties)
    block.add_gradient(
        "positions",
        TensorBlock(
            values=torch.arange(len(rows) * 6, dtype=torch.float64).reshape(-1, 3, 2),
            samples=Labels(["sample", "atom"], torch.tensor([[i, i] for i in range(len(rows))])),
            components=[Labels.range("xyz", 3)],
            properties=properties,
        ),
    )
    blocks.append(block)
keys = Labels(["center_type", "spin"], torch.tensor([[1, 0], [8, 0]]))
tensor = TensorMap(keys, blocks)
show(tensor)
print(len(tensor.blocks([1, 0])), len(tensor.blocks({"spin": 0})), tensor.block({"center_type": 8}))
print(tensor.block(keys[1]), tensor[0].gradients_list(), tensor.block_by_id(1).has_gradient("cell"))
print(tensor.block(Labels("center_type", torch.tensor([[1]]))).samples.column("atom"))
show(tensor.keys_to_samples("center_type"))
show(tensor.keys_to_samples("center_type", 0.0, False))
show(tensor.keys_to_properties(["center_type"], -1.0))
show(tensor.keys_to_properties(Labels("center_type", torch.tensor([[1], [6], [8]]))))
show(tensor.keys_to_properties("center_type").keys_to_samples("spin"))
tensor.set_info("unit", "eV")
print(tensor.info(), tensor.get_info("unit"), tensor.get_info("nothing"))

# ---- operations

total = mts.sum_over_samples(tensor, ["atom"])
show(total)
show(mts.mean_over_samples(mts.remove_gradients(tensor), "atom"))
show(mts.sum_over_samples(tensor, ["system", "atom"]))
show(mts.add(mts.multiply(total, 2.0), mts.pow(total, 2)))
show(mts.slice(tensor, "samples", Labels("system", torch.tensor([[1]]))))
for part in mts.split(tensor, "samples", [Labels("system", torch.tensor([[i]])) for i in range(2)]):
    show(part)
show(mts.join([tensor, tensor], "properties", add_dimension="copy"))
show(mts.sort(tensor, "samples", descending=True))
print(mts.unique_metadata(tensor, "samples", "system"))
print(mts.unique_metadata_block(tensor.block(0), "samples", ["atom"], "positions"))
print(mts.one_hot(wider, Labels("type", torch.tensor([[1], [8]]))))
plain = mts.remove_gradients(tensor)
print(mts.equal(tensor, plain), mts.equal_metadata(plain, mts.zeros_like(plain)))
print(mts.allclose(plain, mts.divide(mts.multiply(plain, 3.0), 3.0)))
show(mts.rename_dimension(plain, "samples", "atom", "center"))
show(mts.append_dimension(plain, "properties", "l", torch.tensor([0, 1])))
array = mts.block_from_array(torch.arange(12.0).reshape(2, 3, 2))
print(array, array.samples.values.T, array.components[0].column("component_1"))
try:
    mts.equal_raise(tensor, plain)
except Exception as error:
    print("not equal:", "gradient" in str(error))

# ---- files, buffers and copies

folder = tempfile.mkdtemp()
for name in ("tensor.mts", "tensor"):
    path = os.path.join(folder, name)
    mts.save(path, tensor)
    loaded = mts.load(path)
    print(mts.equal(loaded, tensor), loaded.get_info("unit"), type(loaded[0].values).__name__)
print(sorted(os.listdir(folder)))
mts.save(os.path.join(folder, "block.mts"), tensor.block(0))
mts.save(os.path.join(folder, "labels.mts"), samples)
print(mts.equal_block(mts.load_block(os.path.join(folder, "block.mts")), tensor.block(0)))
print(mts.load_labels(os.path.join(folder, "labels.mts")).values.sum())
learned = TensorMap(
    keys,
    [
        TensorBlock(block.values.clone().requires_grad_(), block.samples, [], block.properties)
        for block in tensor.blocks()
    ],
)
buffer = mts.save_buffer(mts.multiply(learned, 2.0))
print(buffer.dtype, buffer.dim(), str(buffer.device), mts.load_buffer(buffer)[1].values.sum())
print(mts.load_labels_buffer(mts.save_buffer(samples)) == samples)
print(mts.equal_block(mts.load_block_buffer(mts.save_buffer(tensor.block(1))), tensor.block(1)))
copies = [tensor.copy(), copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))]
print([mts.equal(each, tensor) for each in copies])
single = tensor.to(torch.float32)
print([mts.dtype_name(block.dtype) for block in single.blocks()], single[0].values.sum())
moved = tensor.to("cpu", torch.float64).to(dtype=torch.float32, device=torch.device("cpu"))
print(mts.dtype_name(moved[0].gradient("positions").dtype), mts.version() == mts.__version__)
