"""Positions of the rows of an int32 table."""
from os import urandom

cimport numpy as cnp
from cpython.long cimport PyLong_AsLongLongAndOverflow

from metatensor._core.addresses cimport BLOCK, Box, hash_rows, measure, place, set_keys
from metatensor._core.tables cimport (
    compare, equal, holds_int32, increasing, new_positions, new_table, same_bytes, sequence,
    start_of, view
)
from metatensor._core.typedefs cimport Table, int32_t, prefetch, uint32_t, uint64_t

cnp.import_array()

cdef enum:
    CROWDED = -2
    LONGEST_PROBE = 256
    FEW_COLUMNS = 64
    BISECTION = 16


def strictly_sorted(cnp.ndarray table not None):
    """Tell whether each row is larger than the one before it, hence unique."""
    cdef Table rows = view(table)
    cdef bint answer
    with nogil:
        answer = increasing(rows)
    return answer


def same_rows(cnp.ndarray a not None, cnp.ndarray b not None):
    """Tell whether two tables have the same rows in the same order."""
    return same_bytes(view(a), view(b))


def first_duplicate(cnp.ndarray table not None):
    """Smallest position of a row that equals an earlier row, -1 if all rows are unique."""
    cdef Table rows = view(table)
    cdef Box box
    cdef bint ascending, boxed = False
    cdef cnp.ndarray bits
    cdef Py_ssize_t answer
    with nogil:
        ascending = rows.rows < 2 or increasing(rows)
        if not ascending:
            boxed = measure(&box, rows, 32 * rows.rows)
    if ascending:
        return -1
    if not boxed:
        return Slots(table).fill(NULL)
    bits = new_zeros(box.size // 64 + 1, cnp.NPY_UINT64)
    with nogil:
        answer = first_repeated_place(&box, rows, <uint64_t*> cnp.PyArray_DATA(bits))
    return answer


cdef Py_ssize_t first_repeated_place(const Box* box, Table table, uint64_t* bits) noexcept nogil:
    cdef Py_ssize_t i, count, first = 0
    cdef uint64_t[BLOCK] places
    cdef uint64_t bit
    while first < table.rows:
        count = min(BLOCK, table.rows - first)
        place(box, table.start + first * table.columns, count, table.columns, places)
        for i in range(count):
            bit = <uint64_t> 1 << (places[i] % 64)
            if bits[places[i] // 64] & bit:
                return first + i
            bits[places[i] // 64] |= bit
        first += BLOCK
    return -1


cdef cnp.ndarray new_zeros(uint64_t size, int kind):
    cdef cnp.npy_intp length = size
    return cnp.PyArray_ZEROS(1, &length, kind, 0)


# ------------------------------------------------------------------------------------------ slots

cdef inline uint64_t home(uint64_t code, uint64_t capacity) noexcept nogil:
    return ((code >> 32) * capacity) >> 32


cdef inline bint is_other(uint32_t slot, uint32_t tag, uint32_t tags) noexcept nogil:
    """Tell whether a slot is taken by a row with another tag."""
    return (slot != 0) & (((slot ^ tag) & tags) != 0)


cdef inline uint64_t candidate(
    const uint32_t* slots, uint64_t at, uint32_t tag, uint32_t tags
) noexcept nogil:
    """Pass slots of other rows, a few at most, without branches: few searches go further."""
    at += is_other(slots[at], tag, tags)
    at += is_other(slots[at], tag, tags)
    at += is_other(slots[at], tag, tags)
    return at + is_other(slots[at], tag, tags)


cdef inline const int32_t* owner_of(uint32_t slot, Table table, uint32_t tags) noexcept nogil:
    """The row that took a slot; any row for a free slot."""
    return table.start + (<Py_ssize_t> (slot & ~tags) - (slot != 0)) * table.columns


cdef inline uint64_t seek(
    const uint32_t* slots, Table table, const int32_t* row,
    uint32_t tag, uint32_t tags, uint64_t at, uint64_t end,
) noexcept nogil:
    """The slot of a row, or a free one, from `at` on; `end` if there is neither."""
    while at < end and slots[at] and (
        is_other(slots[at], tag, tags)
        or not equal(row, owner_of(slots[at], table, tags), table.columns)
    ):
        at += 1
    return at


cdef class Slots:
    """One slot for each distinct row of a table: its position plus one, 0 if free.

    The slot of a row is its place in the box of the table if the box is not much larger than the
    table. Otherwise it is the first free one from its hash on, and the bits that the position
    does not need hold a tag, so that other rows are rarely looked at. Rows that crowd together
    under one hash function are spread by another, so that no search is longer than LONGEST_PROBE.
    """

    def __cinit__(self, cnp.ndarray array not None, uint64_t largest_box=0):
        self.array = array
        self.table = view(array)
        cdef uint64_t rows = self.table.rows
        self.capacity = 2 * rows + 1
        self.boxed = rows > 0 and measure(&self.box, self.table, max(self.capacity, largest_box))
        self.tags = 0xFFFFFFFF
        while self.tags & rows:
            self.tags <<= 1

    cdef Py_ssize_t fill(self, Py_ssize_t* owners) except -2:
        """Give each distinct row a slot; note in `owners`, if any, the first row equal to each.

        Return the first row that equals an earlier one, -1 if all are unique.
        """
        set_keys(&self.hash, 0)
        cdef Py_ssize_t answer = self.try_to_fill(owners)
        while answer == CROWDED:
            set_keys(&self.hash, int.from_bytes(urandom(8), "little"))
            answer = self.try_to_fill(owners)
        return answer

    cdef Py_ssize_t try_to_fill(self, Py_ssize_t* owners) except? -2:
        cdef uint64_t size = self.box.size + 1 if self.boxed else self.capacity + LONGEST_PROBE
        self.memory = new_zeros(size, cnp.NPY_UINT32)
        self.slots = <uint32_t*> cnp.PyArray_DATA(self.memory)
        with nogil:
            return self.fill_places(owners) if self.boxed else self.fill_probes(owners)

    cdef Py_ssize_t fill_places(self, Py_ssize_t* owners) noexcept nogil:
        cdef Table table = self.table
        cdef uint32_t* slots = self.slots
        cdef Py_ssize_t i, count, first = 0, repeated = -1
        cdef uint64_t[BLOCK] places
        while first < table.rows:
            count = min(BLOCK, table.rows - first)
            place(&self.box, table.start + first * table.columns, count, table.columns, places)
            for i in range(count):
                if slots[places[i]] == 0:
                    slots[places[i]] = first + i + 1
                elif repeated < 0:
                    repeated = first + i
                if owners:
                    owners[first + i] = <Py_ssize_t> slots[places[i]] - 1
            first += BLOCK
        return repeated

    cdef Py_ssize_t fill_probes(self, Py_ssize_t* owners) noexcept nogil:
        cdef Table table = self.table
        cdef uint32_t* slots = self.slots
        cdef const int32_t* row = table.start
        cdef Py_ssize_t i, count, first = 0, repeated = -1
        cdef uint64_t[BLOCK] codes
        cdef uint64_t at, end
        while first < table.rows:
            count = min(BLOCK, table.rows - first)
            hash_rows(&self.hash, row, count, table.columns, codes)
            for i in range(count):
                prefetch(&slots[home(codes[i], self.capacity)])
            for i in range(count):
                at = home(codes[i], self.capacity)
                end = at + LONGEST_PROBE
                at += is_other(slots[at], codes[i], self.tags)  # without a branch to predict
                at = seek(slots, table, row, codes[i], self.tags, at, end)
                if at == end:
                    return CROWDED
                if slots[at] == 0:
                    slots[at] = (<uint32_t> codes[i] & self.tags) | <uint32_t> (first + i + 1)
                elif repeated < 0:
                    repeated = first + i
                if owners:
                    owners[first + i] = <Py_ssize_t> (slots[at] & ~self.tags) - 1
                row += table.columns
            first += BLOCK
        return repeated

    cdef void find(self, Table rows, Py_ssize_t* found) noexcept nogil:
        """Position of the first row equal to each of some rows, -1 if there is none."""
        cdef Py_ssize_t i
        if self.table.rows == 0:
            for i in range(rows.rows):
                found[i] = -1
        elif self.boxed:
            self.find_places(rows, found)
        else:
            self.find_probes(rows, found)

    cdef void find_places(self, Table rows, Py_ssize_t* found) noexcept nogil:
        cdef Py_ssize_t i, count, first = 0
        cdef uint64_t[BLOCK] places
        while first < rows.rows:
            count = min(BLOCK, rows.rows - first)
            place(&self.box, rows.start + first * rows.columns, count, rows.columns, places)
            for i in range(count):
                found[first + i] = <Py_ssize_t> self.slots[places[i]] - 1
            first += BLOCK

    cdef void find_probes(self, Table rows, Py_ssize_t* found) noexcept nogil:
        cdef Table table = self.table
        cdef const uint32_t* slots = self.slots
        cdef const int32_t* row = rows.start
        cdef Py_ssize_t i, count, first = 0
        cdef uint64_t[BLOCK] codes
        cdef uint64_t[BLOCK] ats
        cdef uint32_t slot
        cdef uint64_t at, end
        while first < rows.rows:
            count = min(BLOCK, rows.rows - first)
            hash_rows(&self.hash, row, count, rows.columns, codes)
            for i in range(count):
                ats[i] = home(codes[i], self.capacity)
                prefetch(&slots[ats[i]])
            for i in range(count):
                ats[i] = candidate(slots, ats[i], codes[i], self.tags)
                prefetch(owner_of(slots[ats[i]], table, self.tags))
            for i in range(count):
                slot = slots[ats[i]]
                if (slot != 0) & (
                    is_other(slot, codes[i], self.tags)
                    | (not equal(row, owner_of(slot, table, self.tags), table.columns))
                ):
                    end = home(codes[i], self.capacity) + LONGEST_PROBE
                    at = seek(slots, table, row, codes[i], self.tags, ats[i], end)
                    slot = slots[at] if at < end else 0
                found[first + i] = <Py_ssize_t> (slot & ~self.tags) - 1
                row += rows.columns
            first += BLOCK


# ------------------------------------------------------------------------------------------ index

cdef class RowIndex:
    """Positions of the unique rows of a table.

    A sorted table is searched by bisection, or merged with other sorted rows. Otherwise, and for
    many rows in any order, slots are filled at the first search, and kept.
    """

    def __cinit__(self, cnp.ndarray table not None, is_sorted=None):
        self.rows = view(table)
        self.table = table
        self.order = -1 if is_sorted is None else bool(is_sorted)

    @property
    def is_sorted(self):
        """Whether each row is larger than the one before it."""
        return bool(self.ascending())

    @property
    def nbytes(self):
        """Memory of the slots."""
        return 0 if self.slots is None else self.slots.memory.nbytes

    cdef bint ascending(self) noexcept:
        if self.order < 0:
            with nogil:
                self.order = increasing(self.rows)
        return self.order

    cdef Slots filled(self):
        if self.slots is None:
            slots = Slots(self.table)
            slots.fill(NULL)
            self.slots = slots
        return self.slots

    cpdef Py_ssize_t find(self, row) except -2:
        """Position of one row, a sequence of integers; -1 if the table does not have it."""
        cdef int32_t[FEW_COLUMNS] few
        cdef int32_t* buffer = few
        cdef const int32_t* entries
        cdef cnp.ndarray many
        if self.rows.columns > FEW_COLUMNS:
            many = new_table(1, self.rows.columns)
            buffer = <int32_t*> cnp.PyArray_DATA(many)
        entries = entries_of(row, self.rows.columns, buffer)
        return -1 if entries == NULL else self.find_entries(entries)

    cdef Py_ssize_t find_entries(self, const int32_t* entries) except -2:
        """Position of the row with these entries, one for each column, or -1."""
        cdef Table one
        cdef Py_ssize_t found
        if self.ascending():
            return bisect(self.rows, entries)
        one.start, one.rows, one.columns = entries, 1, self.rows.columns
        self.filled().find(one, &found)
        return found

    def find_many(self, cnp.ndarray table not None):
        """Position of each row of another table; -1 where this table does not have it."""
        cdef Table others = view(table)
        check_entries(others.columns, self.rows.columns)
        if same_bytes(self.rows, others):
            return sequence(others.rows)
        found = new_positions(others.rows)
        self.locate(others, self.ascending() and increasing(others), start_of(found))
        return found

    cdef int locate(self, Table others, bint both_sorted, Py_ssize_t* found) except -1:
        """Position of other rows, -1 where there is none; `both_sorted` if they are and these."""
        cdef Py_ssize_t i
        cdef Slots slots
        if self.ascending() and others.rows < self.rows.rows // BISECTION:
            with nogil:
                for i in range(others.rows):
                    found[i] = bisect(self.rows, others.start + i * others.columns)
        elif both_sorted:
            with nogil:
                align(self.rows, others, found)
        else:
            slots = self.filled()
            with nogil:
                slots.find(others, found)
        return 0


cdef const int32_t* entries_of(object row, Py_ssize_t columns, int32_t* buffer) except? NULL:
    """The entries of a row, copied to the buffer unless it is an array of int32.

    NULL if one of them is beyond int32.
    """
    cdef cnp.ndarray array
    cdef tuple items
    if cnp.PyArray_Check(row):
        array = row
        if cnp.PyArray_NDIM(array) == 1 and holds_int32(array):
            check_entries(cnp.PyArray_DIM(array, 0), columns)
            return <const int32_t*> cnp.PyArray_DATA(array)
        row = array.tolist()
    try:
        items = row if type(row) is tuple else tuple(row)
        check_entries(len(items), columns)
        return buffer if copy_entries(items, buffer) else NULL
    except TypeError as error:
        raise TypeError(f"a row must be a sequence of integers, got {row!r}") from error


cdef int check_entries(Py_ssize_t size, Py_ssize_t columns) except -1:
    if size != columns:
        raise ValueError(f"rows of this table must have {columns} entries, got {size}")
    return 0


cdef bint copy_entries(tuple items, int32_t* buffer) except -1:
    """Copy the entries of a row; False if one is beyond int32."""
    cdef long long entry
    cdef int overflow = 0
    cdef bint fits = True
    cdef Py_ssize_t j
    for j in range(len(items)):
        entry = PyLong_AsLongLongAndOverflow(items[j], &overflow)
        buffer[j] = <int32_t> entry
        fits &= entry == buffer[j] and not overflow
    return fits


cdef Py_ssize_t bisect(Table table, const int32_t* row) noexcept nogil:
    """Position of a row in a sorted table, -1 if it does not have it."""
    cdef Py_ssize_t low = 0, high = table.rows, middle
    cdef int order
    while low < high:
        middle = (low + high) // 2
        order = compare(table.start + middle * table.columns, row, table.columns)
        if order == 0:
            return middle
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return -1


cdef void align(Table table, Table others, Py_ssize_t* found) noexcept nogil:
    """Position in a sorted table of other sorted rows, -1 where it does not have them."""
    if table.columns == 2:
        align_columns(table, others, 2, found)
    elif table.columns == 3:
        align_columns(table, others, 3, found)
    else:
        align_columns(table, others, table.columns, found)


cdef inline void align_columns(
    Table table, Table others, Py_ssize_t columns, Py_ssize_t* found
) noexcept nogil:
    cdef Py_ssize_t i, position = 0
    cdef int order
    for i in range(others.rows):
        order = -1
        while position < table.rows:
            order = compare(table.start + position * columns, others.start + i * columns, columns)
            if order >= 0:
                break
            position += 1
        found[i] = -1 if order else position
