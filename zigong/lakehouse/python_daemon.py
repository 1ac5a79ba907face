"""The process that forks Spark's Python workers on this machine, with what they need imported before it forks.

Spark's own daemon imports little, and each worker then imports pandas and PySpark again, from a zip that has no
compiled modules: seconds of every worker, of which a step starts several. See docs/adr/0033-python-workers.md.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import PathFinder


def leave_out_zips() -> None:
    """Removes Spark's zips from the path where the same PySpark is installed as files, which Python compiles once.

    Every task makes Python read the directories of all zips in the path again.
    """
    zips = [entry for entry in sys.path if entry.endswith(".zip") and "/pyspark" in entry]
    others = [entry for entry in sys.path if entry not in zips]
    if PathFinder.find_spec("pyspark", others) and PathFinder.find_spec("py4j", others):
        sys.path[:] = others
        for entry in zips:
            sys.path_importer_cache.pop(entry, None)


def main() -> None:
    """Imports, and serves as Spark's daemon does; its argument is the module of the workers."""
    leave_out_zips()
    from pyspark.daemon import manager

    for module in ("pandas", "pyarrow.compute", "pyspark.sql.functions"):
        import_module(module)
    manager()


if __name__ == "__main__":
    main()
