"""What pickle does not do by itself: errors whose class asks for other arguments than it keeps,
functions and classes that no worker can import, and what `ForkingPickler` knows of."""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any, cast

from . import _sharing

_HEAP_TYPE = 1 << 9
_PLAIN = (int, float, complex, str, bytes, tuple, frozenset, type(None), FunctionType, type, ModuleType)
_MISSING: Any = object()


def _builtin_base(kind: type) -> Any:
    """The class of Python's own that an exception class derives from."""
    return next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)


def _reduce_error(error: BaseException) -> Any:
    """How an error travels whose class has a constructor or slots of its own, and no other way to be
    pickled: as what it is, since nobody knows what the constructor was given."""
    kind = type(error)
    base = _builtin_base(kind)
    ways = ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__")
    if any(getattr(kind, way, None) is not getattr(base, way, None) for way in ways):
        return NotImplemented
    slots = [name for name in copyreg._slotnames(kind) if hasattr(error, name)]  # type: ignore[attr-defined]
    has_own = isinstance(kind.__init__, FunctionType) or isinstance(kind.__new__, FunctionType)
    if not has_own and not slots:
        return NotImplemented
    _, arguments, *state = base.__reduce__(error)
    attributes = {name: getattr(error, name) for name in slots}
    return _error, (kind, arguments, (state or [None])[0], attributes)


def _error(kind: Any, arguments: tuple[Any, ...], state: Any, slots: dict[str, Any]) -> BaseException:
    base = _builtin_base(kind)
    error: BaseException = base.__new__(kind, *arguments)
    try:
        base.__init__(error, *arguments)
    except Exception:
        # Its own constructor has given its base something else.
        error.args = arguments
    for name, value in [*(state or {}).items(), *slots.items()]:
        # Not by its own `__setattr__`, which may refuse.
        BaseException.__setattr__(error, name, value)
    return error


class Pickler(pickle.Pickler):
    """Pickle's own, with errors as they are and the reducers of `ForkingPickler`."""

    def __init__(self, file: Any, callback: Any) -> None:
        super().__init__(file, 5, buffer_callback=callback)
        known = cast("dict[type, Any]", copyreg.dispatch_table)
        tables: Any = ChainMap(_sharing.reducers(), known)
        self.dispatch_table = tables

    def reducer_override(self, obj: Any) -> Any:
        _sharing.check(obj)
        return _reduce_error(obj) if isinstance(obj, BaseException) else NotImplemented


def dumps(value: Any, callback: Any = None) -> bytes:
    """The pickle of `value`, by `Pickler`."""
    file = io.BytesIO()
    Pickler(file, callback).dump(value)
    return file.getvalue()


def dumps_by_value(value: Any, callback: Any = None, back: bool = False) -> bytes:
    """The pickle of `value` by cloudpickle, with all that `dumps` does; ImportError without it.

    What goes `back` to the host leaves the host's classes as they are.
    """
    import cloudpickle  # type: ignore[import-not-found,import-untyped,unused-ignore]

    known: Any = cloudpickle.Pickler.dispatch_table

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc,name-defined,unused-ignore]
        # Looked up when a pickler is made.
        dispatch_table = ChainMap({}, known, _sharing.reducers())

        def reducer_override(self, obj: Any) -> Any:
            _sharing.check(obj)
            if isinstance(obj, BaseException):
                reduced = _reduce_error(obj)
                if reduced is not NotImplemented:
                    return reduced
            reduced = super().reducer_override(obj)
            if not isinstance(reduced, tuple) or len(reduced) != 6:
                return reduced
            make, arguments, state, _, _, set_state = reduced
            if type(obj) is FunctionType:
                if obj.__globals__ is getattr(sys.modules.get("__main__"), "__dict__", None):
                    return make, arguments, (set_state, state), None, None, _of_main
            elif back and isinstance(obj, type):
                return _class_at_home, (make, arguments), (set_state, state), None, None, _complete
            return reduced

    file = io.BytesIO()
    ByValue(file, protocol=5, buffer_callback=callback).dump(value)
    return file.getvalue()


# Classes that are not to be completed: those that were here before.
_whole: weakref.WeakSet[type] = weakref.WeakSet()


def _class_at_home(make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """The host's own class, if it is one; cloudpickle gives each class a number."""
    from cloudpickle import cloudpickle  # type: ignore[import-not-found,import-untyped,unused-ignore]

    known: type | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(arguments[-2])
    if known is not None:
        _whole.add(known)
        return known
    return make(*arguments)


def _complete(kind: type, state: tuple[Callable[[Any, Any], Any], Any]) -> None:
    set_state, own = state
    if kind not in _whole:
        set_state(kind, own)


# In a worker: the globals that functions of the host's main module came with, while it is made ready;
# and the names that the initializer has set or changed in them, which later functions have too.
_seen: dict[int, dict[str, Any]] | None = None
_kept: dict[str, Any] = {}


def _of_main(function: Any, state: tuple[Callable[[Any, Any], Any], Any]) -> None:
    """Completes a function of the host's main module, which came by value."""
    set_state, own = state
    set_state(function, own)
    if _seen is not None:
        _seen[id(function.__globals__)] = function.__globals__
    function.__globals__.update(_kept)


@contextmanager
def collecting() -> Iterator[None]:
    """Sees which functions come by value in this block, for `keeping`."""
    global _seen
    _seen = {}
    yield


@contextmanager
def keeping() -> Iterator[None]:
    """Has what this block sets in the globals of the main module be there for all its functions that
    come by value: each of them has globals of its own."""
    global _seen
    by_name = _of_imported_main()
    spaces = [*(_seen or {}).values(), by_name]
    _seen = None
    before = [dict(space) for space in spaces]
    yield
    for space, old in zip(spaces, before):
        for name, value in space.items():
            # An object that was there may have been changed; that of an imported module is the
            # host's at the time of each call, as it always is by value.
            changed = value is not old.get(name, _MISSING)
            changed = changed or (by_name is not space and not isinstance(value, _PLAIN))
            if changed and not name.startswith("__"):
                _kept[name] = value


def _of_imported_main() -> dict[str, Any]:
    """The globals of the functions of the main module, if this worker has imported it."""
    module = sys.modules["__main__"]
    functions = [value for value in vars(module).values() if isinstance(value, FunctionType)]
    spaces = (one.__globals__ for one in functions if one.__module__ == "__mp_main__")
    return next(spaces, {})
