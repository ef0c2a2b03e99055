"""Import, and everything Labels do."""

import pickle
import subprocess
import sys

import numpy as np

from metatensor import Labels
from workloads.data import NAMES, ROWS, TABLES, shuffled_table, sorted_table
from workloads.registry import Case, workload

LOOPS = 1_000


@workload("import", S=7)
def import_(size: str) -> Case:
    """In a fresh process, without the start of the interpreter."""
    code = (
        "import time; start = time.process_time()\n"
        "import metatensor; print(time.process_time() - start)"
    )

    def call() -> float:
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return float(run.stdout)

    return Case(call, result=lambda seconds: None, measures=True)


def creation(kind: str):
    def prepare(size: str) -> Case:
        table = TABLES[kind](ROWS[size])
        # without a copy one of the packages would keep and freeze the array of the first call
        return Case(lambda values: Labels(NAMES, values), fresh=lambda: (table.copy(),))

    return prepare


workload("labels.create.sorted", S=10, M=4.5, L=5)(creation("sorted"))
workload("labels.create.shuffled", S=4.8, M=14, L=16)(creation("shuffled"))
workload("labels.create.random", S=None, M=5, L=6)(creation("random"))


@workload("labels.create.tiny", S=26)
def labels_create_tiny(size: str) -> Case:
    values = np.array([[0, 1], [0, 2], [1, 0], [1, 1], [2, 5]], dtype=np.int32)
    return Case(lambda array: Labels(["a", "b"], array), fresh=lambda: (values.copy(),))


@workload("labels.create.assume_unique", L=17)
def labels_create_assume_unique(size: str) -> Case:
    table = sorted_table(ROWS[size])
    return Case(
        lambda values: Labels(NAMES, values, assume_unique=True), fresh=lambda: (table.copy(),)
    )


@workload("labels.create.int64", M=2.6, L=2.0)
def labels_create_int64(size: str) -> Case:
    table = sorted_table(ROWS[size]).astype(np.int64)
    return Case(lambda: Labels(NAMES, table))


@workload("labels.range", S=14, M=24, L=29)
def labels_range(size: str) -> Case:
    return Case(lambda: Labels.range("n", ROWS[size]))


def first_position(kind: str):
    def prepare(size: str) -> Case:
        table = TABLES[kind](ROWS[size])
        row = tuple(table[len(table) // 3].tolist())
        return Case(
            lambda values: Labels(NAMES, values).position(row), fresh=lambda: (table.copy(),)
        )

    return prepare


workload("labels.first_position.shuffled", S=16, M=13, L=23)(first_position("shuffled"))
workload("labels.first_position.sorted", S=67, M=120, L=380)(first_position("sorted"))


@workload("labels.position_loop.tuple", S=24, M=15, L=10)
def labels_position_loop_tuple(size: str) -> Case:
    """A thousand scalar look-ups."""
    table = shuffled_table(ROWS[size])
    labels = Labels(NAMES, table.copy())
    wanted = np.random.default_rng(1).integers(0, len(table), LOOPS)
    rows = [tuple(row) for row in table[wanted].tolist()]
    return Case(lambda: [labels.position(row) for row in rows])


@workload("labels.position_loop.entry", S=33)
def labels_position_loop_entry(size: str) -> Case:
    labels = Labels(NAMES, shuffled_table(ROWS[size]))
    entries = [labels[i] for i in range(LOOPS)]
    return Case(lambda: [labels.position(entry) for entry in entries])


def set_operation(method: str, kind: str):
    def prepare(size: str) -> Case:
        rows = ROWS[size]
        # two columns, half of the rows in both
        ours = np.ascontiguousarray(TABLES[kind](rows)[:, :2])
        theirs = np.ascontiguousarray(TABLES[kind](rows, rows // 2)[:, :2])
        names = NAMES[:2]
        return Case(
            lambda a, b: getattr(a, method)(b),
            fresh=lambda: (Labels(names, ours.copy()), Labels(names, theirs.copy())),
        )

    return prepare


for _method, _kind, _targets in [
    ("union", "shuffled", {"S": None, "M": None, "L": None}),
    ("union", "sorted", {"S": None, "M": None, "L": None}),
    ("union_and_mapping", "shuffled", {"S": 4.7, "M": 16, "L": 30}),
    ("union_and_mapping", "sorted", {"S": 11, "M": 78, "L": 160}),
    ("intersection", "shuffled", {"S": None, "M": None, "L": None}),
    ("intersection", "sorted", {"S": None, "M": None, "L": None}),
    ("intersection_and_mapping", "shuffled", {"S": None, "M": 6, "L": 14}),
    ("intersection_and_mapping", "sorted", {"S": None, "M": 35, "L": 73}),
    ("difference", "shuffled", {"S": None, "M": 6, "L": 12}),
    ("difference", "sorted", {"S": None, "M": 42, "L": 86}),
    ("difference_and_mapping", "shuffled", {"S": None, "M": None, "L": None}),
    ("difference_and_mapping", "sorted", {"S": None, "M": None, "L": None}),
]:
    workload(f"labels.{_method}.{_kind}", **_targets)(set_operation(_method, _kind))


@workload("labels.union.identical", S=240, M=450, L=830)
def labels_union_identical(size: str) -> Case:
    table = shuffled_table(ROWS[size])
    return Case(
        lambda a, b: a.union(b),
        fresh=lambda: (Labels(NAMES, table.copy()), Labels(NAMES, table.copy())),
    )


@workload("labels.select.full", S=None, M=2.0, L=3.3)
def labels_select_full(size: str) -> Case:
    """The batch look-up: a tenth of the rows, in another order."""
    labels = Labels(NAMES, shuffled_table(ROWS[size]))
    wanted = np.random.default_rng(2).permutation(ROWS[size])[: ROWS[size] // 10]
    selection = Labels(NAMES, sorted_table(ROWS[size])[wanted])
    return Case(lambda: labels.select(selection))


@workload("labels.select.subset", S=None, M=3.2, L=3.2)
def labels_select_subset(size: str) -> Case:
    """All atoms of a tenth of the systems."""
    labels = Labels(NAMES, shuffled_table(ROWS[size]))
    systems = np.arange(0, ROWS[size] // 20, 10, dtype=np.int32)[:, None]
    selection = Labels(["system"], systems)
    return Case(lambda: labels.select(selection))


@workload("labels.eq", S=34, M=1.3, L=1.3)
def labels_eq(size: str) -> Case:
    table = shuffled_table(ROWS[size])
    first, second = Labels(NAMES, table.copy()), Labels(NAMES, table.copy())
    return Case(lambda: first == second)


@workload("labels.eq.same_object", L=4600)
def labels_eq_same_object(size: str) -> Case:
    labels = Labels(NAMES, shuffled_table(ROWS[size]))
    return Case(lambda: labels == labels)  # noqa: PLR0124


@workload("labels.iterate", S=21, M=25)
def labels_iterate(size: str) -> Case:
    labels = Labels(NAMES, sorted_table(ROWS[size]))

    def call() -> int:
        count = 0
        for _ in labels:
            count += 1
        return count

    return Case(call)


@workload("labels.iterate.use", S=7)
def labels_iterate_use(size: str) -> Case:
    labels = Labels(NAMES, sorted_table(ROWS[size]))
    return Case(lambda: [int(entry["atom"]) for entry in labels])


for _what, _target, _access in [
    ("column", 1.3, lambda labels: labels["atom"]),
    ("entry", 10, lambda labels: labels[7]),
    ("len", 3.2, len),
    ("values", 1.6, lambda labels: labels.values),
]:

    def _prepare(size: str, access=_access) -> Case:
        labels = Labels(NAMES, sorted_table(ROWS[size]))
        return Case(lambda: access(labels))

    workload(f"labels.access.{_what}", S=_target)(_prepare)


def changed(change):
    def prepare(size: str) -> Case:
        table = shuffled_table(ROWS[size])
        # fresh labels: what one package remembers of them must not be paid for by an earlier call
        return Case(change, fresh=lambda: (Labels(NAMES, table.copy()),))

    return prepare


def insert_column(size: str) -> Case:
    table = shuffled_table(ROWS[size])
    column = np.arange(ROWS[size], dtype=np.int32)
    return Case(
        lambda labels: labels.insert(0, "row", column), fresh=lambda: (Labels(NAMES, table.copy()),)
    )


workload("labels.change.insert", S=None, M=7, L=3.2)(insert_column)
workload("labels.change.rename", S=27, M=480, L=5600)(
    changed(lambda labels: labels.rename("atom", "center"))
)
workload("labels.change.permute", S=None, M=41, L=25)(
    changed(lambda labels: labels.permute([2, 1, 0]))
)
workload("labels.change.remove", S=None, M=3.5, L=2.5)(
    changed(lambda labels: labels.remove("type"))
)


@workload("labels.pickle", L=6)
def labels_pickle(size: str) -> Case:
    labels = Labels(NAMES, shuffled_table(ROWS[size]))
    return Case(lambda: pickle.loads(pickle.dumps(labels, protocol=5)))
