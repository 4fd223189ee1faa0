"""Where the weights of the neural detectors are: Pipecat's package ships both, and no code of it is used.

`smart-turn` (BSD 2-clause, Daily) and Silero VAD (MIT, Silero Team) come as ONNX files; `onnxruntime` runs them.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import onnxruntime

SMART_TURN: Final = "audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
SILERO: Final = "audio/vad/data/silero_vad.onnx"

INSTALL: Final = "pip install 'sidetone[onnx]'"


class WeightsError(Exception):
    """A neural detector cannot be had here; the message says what is missing and how to get it."""


def find(name: str) -> Path:
    """Find a file in Pipecat's package, without importing it: that takes seconds and logs.

    Raises:
        WeightsError: the package, or the file in it, is not there.

    """
    spec = importlib.util.find_spec("pipecat")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / name
        if path.is_file():
            return path
    what = "has no such file" if spec else "is not installed"
    raise WeightsError(f"{Path(name).name} comes with the package pipecat-ai, which {what}; {INSTALL}")


@functools.cache
def session(name: str) -> onnxruntime.InferenceSession:
    """Load a model, to run on one core; once per process, for a session may be used by several at a time.

    Raises:
        WeightsError: its file, or the runtime, is not there.

    """
    path = find(name)
    try:
        import onnxruntime  # noqa: PLC0415 - an optional extra, and 20 MB of memory for those who do not use it
    except ImportError:
        raise WeightsError(f"onnxruntime, which runs {path.name}, is not installed; {INSTALL}") from None
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
