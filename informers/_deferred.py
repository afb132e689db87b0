"""Packages of the official client whose __init__ runs only when it is needed.

`kubernetes/__init__.py` imports the whole client and all ways to authenticate, and `kubernetes/utils/__init__.py` a
reader of YAML files: OAuth, websockets, models, an informer. This package needs only a few modules. The others cost
18 MiB and 0.17 s of CPU at each start.

A deferred package is the real package. Its modules can be imported at once. Its own __init__ runs when an attribute is
read that it does not have yet, for example `kubernetes.config`. So other code in the process sees no difference. A
package that is imported already is not changed.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from typing import Any


def defer(name: str) -> None:
    """Make a package importable without running its __init__. Its parent must be deferred or imported already."""
    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    _register(name, spec)


def _register(name: str, spec: ModuleSpec) -> None:
    package = module_from_spec(spec)

    def run_init(attribute: str) -> Any:
        del package.__dict__["__getattr__"]  # before the __init__ runs, which may ask for attributes, too
        assert spec.loader is not None
        spec.loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = run_init  # PEP 562
    sys.modules[name] = package


defer("kubernetes")
defer("kubernetes.utils")
