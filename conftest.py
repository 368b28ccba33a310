"""What pytest leaves out where it cannot be imported; what else cannot be is a failure."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("triton") else ["quantcore/kernels/*_triton.py"]
