"""Labels, blocks and maps survive pickling, and the pickler sees their arrays."""

import io
import multiprocessing
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings

from metatensor import Labels, TensorBlock, TensorMap, testing
from metatensor.testing import assert_equal

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def tensor(xp=np, n_samples=4):
    """A map with gradients of gradients, on the arrays that `xp` makes."""

    def block(names, rows, n_components):
        shape = (len(rows), *[2] * n_components, 3)
        values = xp.asarray(np.arange(np.prod(shape), dtype="f8").reshape(shape))
        components = [Labels.range(f"c{i}", 2) for i in range(n_components)][::-1]
        return TensorBlock(values, Labels(names, np.array(rows)), components, properties)

    properties = Labels.range("p", 3)
    samples = [[i, -i] for i in range(n_samples)]
    whole, gradient = block(["s", "t"], samples, 1), block(["sample", "a"], [[1, 5], [0, 2]], 2)
    gradient.add_gradient("cell", block(["sample"], [[1]], 2))
    whole.add_gradient("positions", gradient)
    data = TensorMap(Labels(["a", "b"], np.array([[1, 2], [-3, 4]])), [whole, whole.copy()])
    data.set_info("author", "ä")
    return data


def again(data, protocol):
    return pickle.loads(pickle.dumps(data, protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_everything_comes_back(protocol, xp):
    if xp.array_library == "array_api_strict" and protocol < 2:
        pytest.skip("arrays of array_api_strict can not be pickled with protocols 0 and 1")
    data = tensor(xp)
    loaded = again(data, protocol)
    assert_equal(loaded, data)
    assert type(loaded[0].values) is type(data[0].values)
    assert type(loaded[0].gradient("positions").values) is type(data[0].values)
    assert loaded.keys.values.dtype == np.int32
    for part in (data.keys, data[0], data[0].samples, data[1].gradient("positions")):
        assert_equal(again(part, protocol), part)
    assert again(data.keys[1], protocol) == data.keys[1]


@given(testing.tensors())
@settings(max_examples=30, deadline=None)
def test_maps_come_back(data):
    for protocol in (2, 5):
        assert_equal(again(data, protocol), data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gradients_can_be_added_to_blocks_that_come_back(protocol):
    block = again(tensor()[0], protocol)
    inner = block.gradient("positions")
    assert not block.is_view
    assert inner.is_view
    assert "gradient for 'positions/cell'" in repr(inner.gradient("cell"))
    gradient = TensorBlock(
        np.zeros((0, 2, 3)), Labels.empty("sample"), block.components, block.properties
    )
    block.add_gradient("other", gradient)
    assert again(block, protocol).gradients_list() == ["positions", "other"]
    assert again(tensor(), protocol)[0].is_view


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_labels_stay_shared_and_read_only(protocol):
    loaded = again(tensor(n_samples=2000), protocol)
    assert loaded[0].properties is loaded[1].properties
    assert loaded[0].gradient("positions").properties is loaded[0].properties
    for labels in (loaded.keys, loaded[0].samples):
        assert not labels.values.flags.writeable
        assert labels.position(tuple(labels[1])) == 1


def test_arrays_go_out_of_band():
    data = tensor(n_samples=5000)
    buffers = []
    content = pickle.dumps(data, 5, buffer_callback=buffers.append)
    assert len(content) < 5000
    sizes = [buffer.raw().nbytes for buffer in buffers]
    assert sizes.count(data[0].values.nbytes) == 2
    assert sizes.count(data[0].samples.values.nbytes) == 1
    loaded = pickle.loads(content, buffers=buffers)
    assert np.shares_memory(loaded[1].values, data[1].values)
    copies = [bytes(buffer.raw()) for buffer in buffers]
    loaded = pickle.loads(content, buffers=copies)
    assert_equal(loaded, data)
    assert not loaded[0].values.flags.writeable


def test_little_is_stored_beside_the_arrays():
    data = TensorBlock(np.zeros((1000, 1000)), Labels.range("s", 1000), [], Labels.range("p", 1000))
    for protocol in PROTOCOLS[2:]:
        stored = len(pickle.dumps(data, protocol))
        assert data.values.nbytes < stored < data.values.nbytes + 10_000


def test_joblib_maps_the_values_of_its_arguments(tmp_path):
    joblib = pytest.importorskip("joblib")
    data = tensor(n_samples=50_000)
    joblib.dump(data, tmp_path / "data")
    loaded = joblib.load(tmp_path / "data", mmap_mode="r")
    assert isinstance(loaded[0].values, np.memmap)
    assert type(loaded[0].samples.values) is np.ndarray
    assert_equal(loaded, data)
    assert joblib.hash(data) == joblib.hash(tensor(n_samples=50_000))
    assert joblib.hash(data) != joblib.hash(tensor(n_samples=50_001))


# ---- torch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def of(values, labels=None):
    return TensorBlock(values, labels or Labels.single(), [], Labels.single())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tensors_of_every_kind(protocol, torch):
    one = torch.ones((1, 1))
    for values in (one.to(torch.bfloat16), one.to(torch.float16), one.to(torch.complex64).conj()):
        loaded = again(of(values), protocol).values
        assert loaded.dtype == values.dtype
        assert torch.equal(loaded, values)
    loaded = again(of(one.clone().requires_grad_()), protocol).values
    assert loaded.requires_grad
    assert type(again(of(torch.nn.Parameter(one)), protocol).values) is torch.nn.Parameter
    assert again(of(one.to("meta")), protocol).values.device.type == "meta"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_labels_of_torch(protocol, torch):
    labels = Labels(["a"], torch.arange(3000).reshape(-1, 1))
    loaded = again(labels, protocol)
    assert_equal(loaded, labels)
    assert isinstance(loaded.values, torch.Tensor)


def test_tensors_go_out_of_band_and_are_never_read_only(torch):
    data = of(torch.arange(2000.0).reshape(-1, 1), Labels.range("s", 2000))
    buffers = []
    content = pickle.dumps(data, 5, buffer_callback=buffers.append)
    assert data.values.nbytes in [buffer.raw().nbytes for buffer in buffers]
    loaded = pickle.loads(content, buffers=[bytes(buffer.raw()) for buffer in buffers])
    loaded.values[0] = 5.0  # writing to read-only memory would end the process
    assert data.values[0] == 0.0
    assert torch.equal(loaded.values[1:], data.values[1:])


def test_torch_saves_tensors_as_its_own(torch):
    values = torch.ones((1000, 1))
    data = [of(values, Labels.range("s", 1000)), values]
    stream = io.BytesIO()
    torch.save(data, stream)
    assert stream.tell() < 2 * values.nbytes + 6000
    stream.seek(0)
    block, tensor_again = torch.load(stream, weights_only=False)
    assert block.values.data_ptr() == tensor_again.data_ptr()


@pytest.mark.skipif(sys.platform != "linux", reason="one platform is enough")
def test_other_processes():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert_equal(pool.apply(TensorMap.copy, [tensor()]), tensor())
