"""The tests: a package for each of the collector's, and `system` for the whole program."""

import pytest

pytest.register_assert_rewrite("tests.support")  # before anything imports from it
