"""One small Ray for the tests of a module."""

import tempfile
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def ray_here() -> Iterator[Any]:
    """Yield Ray, started on this host with two CPUs; where it is not installed, skip."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'reperio[ray]'")
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a FutureWarning, which is an error here
    # Its sockets have paths of at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="rr", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=100 << 20,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=folder,
        )
        try:
            yield ray
        finally:
            ray.shutdown()
            patch.undo()
