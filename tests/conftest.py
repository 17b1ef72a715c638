"""Without a GPU, Triton kernels run in Triton's interpreter; it must be chosen before triton is first imported."""

import os
from pathlib import Path

ON_GPU = Path("/dev/nvidia0").exists()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"
