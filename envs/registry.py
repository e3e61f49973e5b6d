"""A registry: one decorator adds an implementation, and the command line and the contract tests pick it up."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Generic, TypeVar

T = TypeVar("T")


def no_such(kind: str, name: object, known: Iterable[str]) -> str:
    """An error's text: nothing of this kind is called `name`; what may have been meant; what there is."""
    known = list(known)
    meant = get_close_matches(str(name), known, n=1, cutoff=0.75)
    hint = f"did you mean {meant[0]}? There are" if meant else "there are"
    return f"no {kind} is called {name!r}; {hint}: {', '.join(known) or 'none'}"


class Registry(Generic[T]):
    """Named implementations of one protocol.

    Args:
        kind: what is registered, as a person would call it ("domain", "curriculum"); used in errors.
        modules: where implementations live, as a dotted path with one `*`: "clutr.curricula.*" is every module of
            that package, "clutr.envs.*.domain" the module `domain` of every package inside `envs`. They are imported
            when the registry is first asked, so a new file is found without being named anywhere.
    """

    def __init__(self, kind: str, modules: str) -> None:
        self.kind = kind
        self._modules = modules
        self._loaded = False
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds its argument under `name`."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        before, _, after = self._modules.partition(".*")
        for module in pkgutil.iter_modules(importlib.import_module(before).__path__, f"{before}."):
            name = module.name + after
            if (not after or module.ispkg) and importlib.util.find_spec(name) is not None:
                importlib.import_module(name)

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            raise KeyError(no_such(self.kind, name, self)) from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def name_of(self, entry: T) -> str:
        """The name under which `entry` was registered. Raises `KeyError` if it was not."""
        self._load()
        for name, known in self._entries.items():
            if known is entry:
                return name
        raise KeyError(f"{entry!r} is not a registered {self.kind}")
