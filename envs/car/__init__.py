"""CarRacing: tracks as tasks, played by a compiled engine that is true to Gymnasium's and Box2D's."""

from pathlib import Path

from clutr.envs.car.numba_cache import forget_stale_kernels

# before any of them is loaded
forget_stale_kernels(Path(__file__).parent)
