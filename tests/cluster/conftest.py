"""A Ray cluster on this machine, for all tests of this folder that need one."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sharded_collection
from engine.collection import shard

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # whatever the system, Ray then listens on the loopback address alone
    "RAY_worker_niceness": "0",
}


@pytest.fixture(scope="session")
def ray_environment() -> Iterator[pytest.MonkeyPatch]:
    """The environment in which Ray is imported: what imports it needs this fixture."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the package ray is not installed (extra `cluster`)")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in RAY_SETTINGS.items():
            environment.setenv(name, value)
        yield environment


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, ray_environment: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a plain collection, `plain`, and its two shards on two machines, `a` and `b`; Ray runs."""
    folder = tmp_path_factory.mktemp("cluster")
    shard(sharded_collection.write(folder / "plain"), folder / "a", 2)
    shutil.copytree(folder / "a", folder / "b")
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    ray_environment.setenv("SCOREFIND_SHARDS", f"{folder / 'a'}{os.pathsep}{folder / 'b'}")
    ray_environment.setenv("PYTHONPATH", path.rstrip(os.pathsep))
    ray = _started()
    yield folder
    ray.shutdown()


def _started() -> Any:
    """Starts Ray in this process, reachable from this machine alone, without dashboard and statistics."""
    import ray

    ray.init(
        num_cpus=2,
        object_store_memory=100_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        namespace="scorefind",
    )
    return ray
