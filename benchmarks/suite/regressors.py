"""Regressors on values and gradients, as in ``estimators.py``."""

import estimators
from metatensor.sklearn import as_rows


class Ridge:
    timeout = 300
    param_names = ("systems", "atoms", "features")
    params = ([500], [13], [100, 400])

    def setup(self, n_systems: int, n_atoms: int, n_features: int) -> None:
        self.data = estimators.make(n_systems, n_atoms, n_features)

    def time_fit(self, *size: int) -> None:
        estimators.fit_ours(*self.data)

    def peakmem_fit(self, *size: int) -> None:
        estimators.fit_ours(*self.data)


class RidgeCV:
    timeout = 300
    param_names = ("systems", "atoms", "features")
    params = ([40], [10], [64, 256])

    def setup(self, n_systems: int, n_atoms: int, n_features: int) -> None:
        self.data = as_rows(*estimators.make(n_systems, n_atoms, n_features))

    def time_fit(self, *size: int) -> None:
        estimators.search(*self.data)
