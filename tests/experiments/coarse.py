"""Maps of relevance in large squares and few stages: as every map of a report, in a fraction of its time."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from clutr.probes import faithfulness, pixel_attribution, sanity_checks


@contextmanager
def coarse_maps() -> Iterator[None]:
    """While it lasts, occlusion hides quarters of pictures, and checks take fewer stages and draws.

    For tests of reports: what maps and their checks say of a model is tested with the code that makes them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_attribution, "BLOCK", 32)
        patch.setattr(faithfulness, "deletion", partial(faithfulness.deletion, steps=4))
        patch.setattr(sanity_checks, "infidelity", partial(faithfulness.infidelity, draws=4))
        yield
