"""One small Ray for the tests of a module."""

import fcntl
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def only_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let no other process of this test run have a Ray meanwhile: two at a time start actors for minutes."""
    shared = tmp_path_factory.getbasetemp()
    with open((shared.parent if shared.name.startswith("popen-") else shared) / "ray.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def ray_here(only_ray: None) -> Iterator[Any]:  # noqa: ARG001  # held
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
