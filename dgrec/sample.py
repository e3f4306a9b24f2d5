"""The sample data: a small face detection model, a clip, and a session recorded from it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CLIP", "MODEL_NAME", "ROOT", "SESSION", "ZOO"]

ROOT = Path(__file__).resolve().parent / "sample_data"
ZOO = ROOT / "zoo"
MODEL_NAME = "blazeface_short_range--128x128_float_tflite_cpu_1"
CLIP = ROOT / "faces.mp4"
SESSION = ROOT / "session.parquet"
