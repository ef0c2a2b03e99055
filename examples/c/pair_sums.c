/*
 * A descriptor in C whose numbers become the values of a block without a copy.
 *
 * It is a module of Python with one function: `pair_sums(positions, n_powers)`
 * takes n x 3 doubles and gives an object for the n x n_powers numbers
 *
 *     sum over the other atoms j of r_ij ** -(k + 1),     k = 0, 1, ...
 *
 * All that this object can do is to export the memory that they are in, by
 * `__dlpack__` and `__dlpack_device__`. This is enough:
 *
 *     >>> from pair_sums import pair_sums
 *     >>> numbers = pair_sums(positions, 4)
 *     >>> block = TensorBlock(numbers, samples, [], properties)
 *
 * or `metatensor.asarray(numbers, "torch")`. To write your own, replace the
 * function `sums_of_pairs`, and the shape and dtype in `fill_tensor`.
 *
 * To compile it (on macOS also with `-undefined dynamic_lookup`):
 *
 *     package=$(python -c "import metatensor, os; print(os.path.dirname(metatensor.__file__))")
 *     cc -std=c11 -O2 -fPIC -shared $(python3-config --includes) -I$package/include \
 *         pair_sums.c -o pair_sums.so -lm
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "metatensor_dlpack.h"

/* ---- the numbers: nothing here knows Python */

/* Memory with as many owners as there are exports of it, and the object itself. */
typedef struct {
    double *numbers;
    int64_t shape[2];
    int64_t strides[2];
    atomic_int n_owners;
} Memory;

/* for the curious: deleters that ran, pieces of memory there are */
static atomic_int n_deleted, n_pieces;

static Memory *new_memory(int64_t n_rows, int64_t n_columns)
{
    /* DLPack asks for memory that starts at a multiple of 256 bytes, jax shares it from 64 on */
    size_t size = (size_t)(n_rows * n_columns) * sizeof(double);
    Memory *memory = malloc(sizeof(Memory));
    if (memory == NULL)
        return NULL;
    memory->numbers = aligned_alloc(256, (size / 256 + 1) * 256);
    if (memory->numbers == NULL) {
        free(memory);
        return NULL;
    }
    memory->shape[0] = n_rows;
    memory->shape[1] = memory->strides[0] = n_columns;
    memory->strides[1] = 1;
    memory->n_owners = 1;
    n_pieces += 1;
    return memory;
}

/* One owner less; the last one frees it. Consumers call this from any thread. */
static void release(Memory *memory)
{
    if (atomic_fetch_sub(&memory->n_owners, 1) == 1) {
        free(memory->numbers);
        free(memory);
        n_pieces -= 1;
    }
}

static void sums_of_pairs(const double *positions, Memory *memory)
{
    int64_t n_atoms = memory->shape[0], n_powers = memory->shape[1];
    memset(memory->numbers, 0, (size_t)(n_atoms * n_powers) * sizeof(double));
    for (int64_t i = 0; i < n_atoms; i++) {
        for (int64_t j = 0; j < n_atoms; j++) {
            double square = 0.0;
            for (int axis = 0; axis < 3; axis++) {
                double difference = positions[3 * j + axis] - positions[3 * i + axis];
                square += difference * difference;
            }
            double inverse = 1.0 / sqrt(square), power = 1.0;
            for (int64_t k = 0; k < n_powers && j != i; k++) {
                power *= inverse;
                memory->numbers[i * n_powers + k] += power;
            }
        }
    }
}

/* ---- DLPack: one structure for those who ask for versions, the legacy one for the others */

static void fill_tensor(DLTensor *tensor, Memory *memory)
{
    tensor->data = memory->numbers;
    tensor->device.device_type = kDLCPU;
    tensor->device.device_id = 0;
    tensor->ndim = 2;
    tensor->dtype.code = kDLFloat;
    tensor->dtype.bits = 64;
    tensor->dtype.lanes = 1;
    tensor->shape = memory->shape;
    tensor->strides = memory->strides;
    tensor->byte_offset = 0;
}

static void delete_legacy(DLManagedTensor *self)
{
    release(self->manager_ctx);
    free(self);
    n_deleted += 1;
}

static void delete_versioned(DLManagedTensorVersioned *self)
{
    release(self->manager_ctx);
    free(self);
    n_deleted += 1;
}

/* A capsule that nobody took the tensor out of still has its first name. */
static void destroy_legacy(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        DLManagedTensor *tensor = PyCapsule_GetPointer(capsule, "dltensor");
        tensor->deleter(tensor);
    }
}

static void destroy_versioned(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        DLManagedTensorVersioned *tensor = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        tensor->deleter(tensor);
    }
}

static PyObject *export_legacy(Memory *memory)
{
    DLManagedTensor *tensor = malloc(sizeof(DLManagedTensor));
    if (tensor == NULL)
        return PyErr_NoMemory();
    fill_tensor(&tensor->dl_tensor, memory);
    tensor->manager_ctx = memory;
    tensor->deleter = delete_legacy;
    memory->n_owners += 1;
    PyObject *capsule = PyCapsule_New(tensor, "dltensor", destroy_legacy);
    if (capsule == NULL)
        delete_legacy(tensor);
    return capsule;
}

static PyObject *export_versioned(Memory *memory)
{
    DLManagedTensorVersioned *tensor = malloc(sizeof(DLManagedTensorVersioned));
    if (tensor == NULL)
        return PyErr_NoMemory();
    tensor->version.major = DLPACK_MAJOR_VERSION;
    tensor->version.minor = DLPACK_MINOR_VERSION;
    tensor->flags = 0; /* DLPACK_FLAG_BITMASK_READ_ONLY for memory nobody may write to */
    fill_tensor(&tensor->dl_tensor, memory);
    tensor->manager_ctx = memory;
    tensor->deleter = delete_versioned;
    memory->n_owners += 1;
    PyObject *capsule = PyCapsule_New(tensor, "dltensor_versioned", destroy_versioned);
    if (capsule == NULL)
        delete_versioned(tensor);
    return capsule;
}

/* ---- the object of Python */

typedef struct {
    PyObject_HEAD
    Memory *memory;
} Numbers;

static void numbers_dealloc(PyObject *self)
{
    release(((Numbers *)self)->memory);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *numbers_dlpack(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None, *max_version = Py_None, *device = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|$OOOO:__dlpack__", names, &stream,
                                     &max_version, &device, &copy))
        return NULL;
    int major = 0, minor = 0, type = kDLCPU, number = 0;
    if (max_version != Py_None && !PyArg_Parse(max_version, "(ii)", &major, &minor))
        return NULL;
    if (device != Py_None && !PyArg_Parse(device, "(ii)", &type, &number))
        return NULL;
    if (stream != Py_None || type != kDLCPU || copy == Py_True) {
        PyErr_SetString(PyExc_BufferError, "these numbers are in main memory, and not copied");
        return NULL;
    }
    Memory *memory = ((Numbers *)self)->memory;
    return major >= 1 ? export_versioned(memory) : export_legacy(memory);
}

static PyObject *numbers_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return Py_BuildValue("(ii)", kDLCPU, 0);
}

static PyMethodDef numbers_methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))numbers_dlpack, METH_VARARGS | METH_KEYWORDS, NULL},
    {"__dlpack_device__", numbers_dlpack_device, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject NumbersType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "pair_sums.Numbers",
    .tp_doc = "Numbers in memory of C, exported by DLPack.",
    .tp_basicsize = sizeof(Numbers),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = numbers_dealloc,
    .tp_methods = numbers_methods,
};

static PyObject *numbers_of(const Py_buffer *positions, int64_t n_powers)
{
    Memory *memory = new_memory(positions->shape[0], n_powers);
    if (memory == NULL)
        return PyErr_NoMemory();
    sums_of_pairs(positions->buf, memory);
    Numbers *numbers = PyObject_New(Numbers, &NumbersType);
    if (numbers == NULL)
        release(memory);
    else
        numbers->memory = memory;
    return (PyObject *)numbers;
}

static PyObject *pair_sums(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *array, *numbers = NULL;
    int n_powers;
    Py_buffer positions;
    if (!PyArg_ParseTuple(args, "Oi:pair_sums", &array, &n_powers))
        return NULL;
    if (PyObject_GetBuffer(array, &positions, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return NULL;
    if (positions.ndim != 2 || positions.shape[1] != 3 || strcmp(positions.format, "d") != 0)
        PyErr_SetString(PyExc_ValueError, "`positions` must be n x 3 doubles");
    else if (n_powers < 0)
        PyErr_SetString(PyExc_ValueError, "`n_powers` must not be negative");
    else
        numbers = numbers_of(&positions, n_powers);
    PyBuffer_Release(&positions);
    return numbers;
}

static PyObject *counts(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return Py_BuildValue("(ii)", (int)n_deleted, (int)n_pieces);
}

static PyMethodDef functions[] = {
    {"pair_sums", pair_sums, METH_VARARGS, "Return sums of powers of inverse distances."},
    {"counts", counts, METH_NOARGS, "Return how many deleters ran, and how many pieces there are."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "pair_sums", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_pair_sums(void)
{
    return PyType_Ready(&NumbersType) < 0 ? NULL : PyModule_Create(&definition);
}
