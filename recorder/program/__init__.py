"""Recording from a user's own program: what it adds, and what its models yield."""

from dgrec.recorder.model import lead_path_to_this_python
from dgrec.recorder.program.recorder import Recorder
from dgrec.recorder.program.run import run_program
from dgrec.recorder.program.stream import predict_stream

__all__ = ["Recorder", "predict_stream", "run_program"]

# Before the program loads a model; the function's docstring says why.
lead_path_to_this_python()
