"""The tests, a folder for each kind of promise."""

import pytest

pytest.register_assert_rewrite("tests.support")
