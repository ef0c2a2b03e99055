"""The numbers of the zip format, and of the archives that we write."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    LOCAL_SIGNATURE = 0x04034B50
    CENTRAL_SIGNATURE = 0x02014B50
    END_SIGNATURE = 0x06054B50
    END64_SIGNATURE = 0x06064B50
    LOCATOR_SIGNATURE = 0x07064B50
    ZIP64_FIELD = 0x0001
    ALIGNMENT_FIELD = 0x746D  # "mt": CRC-32 of the .npy header, then zeros
    DEFLATED = 8
    DESCRIPTOR_FLAG = 0x0008  # sizes and check sum follow the data
    UTF8_FLAG = 0x0800
    FULL16 = 0xFFFF  # stands, as does FULL32, for a number that is in a 64-bit field
    PIECE = 1 << 20  # bytes that are read or written at a time

cdef extern from *:
    """
    #define FULL32 0xFFFFFFFFu
    """
    const uint32_t FULL32


cdef inline void put(uint8_t* at, uint64_t number, int size) noexcept:
    cdef int i
    for i in range(size):
        at[i] = (number >> (8 * i)) & 0xFF


cdef inline uint64_t get(const uint8_t* at, int size) noexcept:
    cdef uint64_t number = 0
    cdef int i
    for i in range(size):
        number |= <uint64_t> at[i] << (8 * i)
    return number
