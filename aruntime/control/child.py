"""How a process of ours begins: `python -m aruntime.control.child PARENT_PID MODULE ARGUMENTS…`.

It asks the kernel to be killed when its parent dies, makes sure that the parent has not died meanwhile, and becomes
MODULE. So nothing outlives the supervisor, not even one that is killed.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> None:
    """Bind this life to the parent's, then run the module that the arguments name."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
