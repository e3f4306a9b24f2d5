"""Other processes that run a part of dgrec."""

from __future__ import annotations

import errno
import sys

__all__ = ["module_command"]

#: After it: the number of folders for modules, these folders, the module and its arguments.
_RUN = (
    "import sys; end = 2 + int(sys.argv[1]); sys.path[:] = sys.argv[2:end]; del sys.argv[1:end]; "
    "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this process's Python.

    It has the same folders for modules as this process, without the current one.

    Raises:
        OSError: There is no Python to start. A frozen program (PyInstaller) would start itself
            again, with all that it does.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        raise OSError(errno.ENOEXEC, "a frozen or embedded Python has no program to run modules by")
    return [sys.executable, "-c", _RUN, str(len(sys.path)), *sys.path, module, *arguments]
