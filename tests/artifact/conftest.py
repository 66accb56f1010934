"""What tests of the artifact share."""

from __future__ import annotations

import pytest
from artifact.small import NETWORKS

# Of networks that differ little, one is enough to be quick.
QUICK = [("fcn", "none"), ("conv2", "none")]


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(pair, id="-".join(pair), marks=[] if pair in QUICK else pytest.mark.slow)
        for pair in NETWORKS
    ],
)
def family(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Name and normalization of a network; every family once."""
    return request.param
