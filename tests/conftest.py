"""What all tests share: one thread, the same property tests each time, and the circuits if they are there."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

# Their tensors are tiny, and threads that wait for each other would cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
torch.set_num_threads(1)

# The F1 circuits are no part of the project. Where a copy lies beside the repository, tests use it. Where there is none
# and the variable is not set, those that need them are skipped: no test fetches anything.
CIRCUITS = Path(__file__).parents[2] / "shared" / "data" / "f1-circuits"
os.environ.setdefault("CLUTR_TRACKS", str(CIRCUITS))

# The same examples in every run, so that a failure is the change's. HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("steady", derandomize=True)
hypothesis.settings.register_profile("explore", max_examples=500, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(autouse=True, scope="session")
def _manifold_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Manifolds that tests pretrain are shared among them and, like unpacked models, stay out of the user's cache."""
    os.environ["CLUTR_MANIFOLDS"] = str(tmp_path_factory.mktemp("manifold-cache"))
    os.environ["CLUTR_MODELS"] = str(tmp_path_factory.mktemp("models-cache"))
