"""Compiled kernels on disk, thrown away when any of their sources has changed.

Numba keeps compiled functions beside their source and looks at the time of that one file only. But a compiled function
holds what it calls, from other files too, and would go on with the old code after they were edited or updated.
"""

import contextlib
import hashlib
from pathlib import Path

STAMP = "kernels.stamp"


def forget_stale_kernels(package: Path) -> bool:
    """Remove the compiled functions of a package's folder unless they were made from its present sources.

    Where nothing can be written there is nothing to remove: Numba keeps its files elsewhere then.

    Returns:
        Whether they were (or may have been) stale.
    """
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode())
        digest.update(source.read_bytes())
    cache, now = package / "__pycache__", digest.hexdigest()
    with contextlib.suppress(OSError):
        if (cache / STAMP).read_text() == now:
            return False
    with contextlib.suppress(OSError):
        for index in package.rglob("*.nbi"):
            index.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        (cache / STAMP).write_text(now)
    return True
