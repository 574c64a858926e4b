"""A browser for the tests that look at pages."""

import pytest

from tests.unit.chromium import started

browser = pytest.fixture(scope="module")(started)
