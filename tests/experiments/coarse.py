"""Maps of relevance in large squares: as every map of a report, in a fraction of its time."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clutr.probes import pixel_attribution


@contextmanager
def coarse_maps() -> Iterator[None]:
    """While it lasts, occlusion hides quarters of pictures.

    For tests of reports: what maps and their checks say of a model is tested with the code that makes them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_attribution, "BLOCK", 32)
        yield
