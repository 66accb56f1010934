"""What tests of the artifact share."""

from __future__ import annotations

import pytest
from artifact.small import NETWORKS


@pytest.fixture(scope="session", params=NETWORKS, ids=lambda pair: "-".join(pair))
def family(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Name and normalization of a network; every family once."""
    return request.param
