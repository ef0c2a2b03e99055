"""The switch of checks: what it says, and that it changes nothing."""

import os
import subprocess
import sys

import numpy as np
import pytest

import metatensor
from metatensor import NotEqualError


@pytest.fixture(autouse=True)
def enabled():
    metatensor.unsafe_enable_checks()
    yield
    metatensor.unsafe_enable_checks()


def test_plain_calls():
    assert metatensor.checks_enabled() is True
    assert repr(metatensor.unsafe_disable_checks()) == "checks disabled"
    assert metatensor.checks_enabled() is False
    assert repr(metatensor.unsafe_enable_checks()) == "checks enabled"
    assert metatensor.checks_enabled() is True


def test_context_managers_restore_the_state():
    with metatensor.unsafe_disable_checks():
        assert not metatensor.checks_enabled()
        with metatensor.unsafe_enable_checks():
            assert metatensor.checks_enabled()
        assert not metatensor.checks_enabled()
        with metatensor.unsafe_disable_checks():
            assert not metatensor.checks_enabled()
        assert not metatensor.checks_enabled()
    assert metatensor.checks_enabled()


def test_the_state_is_restored_after_an_error():
    with pytest.raises(RuntimeError), metatensor.unsafe_disable_checks():
        raise RuntimeError
    assert metatensor.checks_enabled()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, True),
        ("", True),
        ("0", True),
        ("false", True),
        ("true", False),
        ("TRUE", False),
        ("1", False),
        ("Yes", False),
        ("on", False),
    ],
)
def test_environment_variable(value, expected):
    environment = {**os.environ, "METATENSOR_UNSAFE_DISABLE_CHECKS": value or ""}
    if value is None:
        del environment["METATENSOR_UNSAFE_DISABLE_CHECKS"]
    code = "import metatensor; print(metatensor.checks_enabled())"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert run.stdout.strip() == str(expected)


def test_checks_are_always_done():
    first, second = (metatensor.block_from_array(np.zeros((size, 1))) for size in (2, 3))
    with metatensor.unsafe_disable_checks(), pytest.raises(NotEqualError):
        metatensor.equal_metadata_raise(first, second)
    with metatensor.unsafe_disable_checks(), pytest.raises(ValueError, match="at least 2"):
        metatensor.block_from_array(np.zeros(3))
