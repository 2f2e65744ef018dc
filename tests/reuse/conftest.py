"""A vault whose functions count their calls."""

from pathlib import Path

import pytest
from counted_desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)
