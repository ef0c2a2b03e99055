/*
 * What DLPack 1 lays out in memory, to hand arrays to metatensor and to every
 * other library of Python that takes DLPack, without a copy. It needs nothing
 * but C99 or C++11, and no library.
 *
 * Where dlpack.h itself is used, include it before this file, which then
 * defines nothing.
 *
 * The rule for `__dlpack__`: obey `max_version`. Without it, or when it is
 * (0, x), the consumer knows only the legacy structure: give a capsule named
 * "dltensor" with a DLManagedTensor. From (1, 0) on, give one named
 * "dltensor_versioned" with a DLManagedTensorVersioned, whose major version is
 * not larger. Some consumers (jax up to at least 0.10) refuse all but what they
 * asked for. Memory that must not be written to can only be given with flags.
 *
 * Who takes the tensor out of the capsule renames it to "used_dltensor", or
 * "used_dltensor_versioned", and calls the deleter once, at the end, from any
 * thread. A capsule that goes away with its first name was not used: its
 * destructor calls the deleter.
 */
#ifndef METATENSOR_DLPACK_H
#define METATENSOR_DLPACK_H

#if !defined(DLPACK_DLPACK_H_)

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* the version described here */
#define DLPACK_MAJOR_VERSION 1
#define DLPACK_MINOR_VERSION 0

/* flags of versioned tensors */
#define DLPACK_FLAG_BITMASK_READ_ONLY ((uint64_t)1 << 0)
#define DLPACK_FLAG_BITMASK_IS_COPIED ((uint64_t)1 << 1)

/* kinds of memory */
enum {
    kDLCPU = 1,
    kDLCUDA = 2,
    kDLCUDAHost = 3,
    kDLROCM = 10,
    kDLROCMHost = 11,
    kDLCUDAManaged = 13
};

/* kinds of numbers */
enum {
    kDLInt = 0,
    kDLUInt = 1,
    kDLFloat = 2,
    kDLBfloat = 4,
    kDLComplex = 5,
    kDLBool = 6
};

typedef struct {
    int32_t device_type;
    int32_t device_id; /* 0 in main memory */
} DLDevice;

typedef struct {
    uint8_t code;
    uint8_t bits;   /* of one number: 64 for a double, 128 for a pair of them */
    uint16_t lanes; /* 1 */
} DLDataType;

typedef struct {
    void *data; /* consumers like it to start at a multiple of 64 bytes, better of 256 */
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape;
    int64_t *strides; /* in numbers, not in bytes; never leave it NULL */
    uint64_t byte_offset;
} DLTensor;

/* what a capsule "dltensor" points to */
typedef struct DLManagedTensor {
    DLTensor dl_tensor;
    void *manager_ctx; /* yours: what the deleter needs */
    void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

typedef struct {
    uint32_t major;
    uint32_t minor;
} DLPackVersion;

/* what a capsule "dltensor_versioned" points to */
typedef struct DLManagedTensorVersioned {
    DLPackVersion version;
    void *manager_ctx; /* yours: what the deleter needs */
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    DLTensor dl_tensor;
} DLManagedTensorVersioned;

#ifdef __cplusplus
}
#endif

#endif /* DLPACK_DLPACK_H_ */

#endif /* METATENSOR_DLPACK_H */
