from libc.stdint cimport uint8_t, uint32_t


cdef uint32_t crc32_of(const uint8_t* start, size_t size, uint32_t value) except? 0
