"""What tests of the graph share with those of the artifact."""

from __future__ import annotations

from artifact.conftest import family as family
