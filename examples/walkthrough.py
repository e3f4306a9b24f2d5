# %% [markdown]
# # A recording, from all sides
#
# This file is a notebook in cells: VS Code, PyCharm and Spyder run it cell by cell, Jupyter opens
# it with jupytext, and `python examples/walkthrough.py` runs it from top to bottom.

# %%
from pathlib import Path

import cv2
import numpy as np

import dgrec
from replay.footage.pixels import Pixels, find_footage

session = dgrec.open(Path(__file__).parent.parent / "sample_data" / "session.parquet")
session  # noqa: B018 - in a notebook: a table that says what was recorded

# %% [markdown]
# ## What a frame holds
#
# `result(i)` is what `predict_stream` had yielded: the same keys, order and values.

# %%
result = session.result(200)
print(result.results[0] if result.results else "nothing was found")
print(result.timing)

# %% [markdown]
# ## Why this rate?
#
# Little's law: the frames on their way at a time are the rate times the latency. A pipeline that
# works on several frames at once is faster than one over its latency.

# %%
((fps, latency_ms, in_flight, alone),) = session.sql(
    "SELECT fps, latency_ms, in_flight, one_at_a_time_fps FROM pipeline"
).fetchall()
print(f"{fps:.1f} frames/s, {latency_ms:.0f} ms each: {in_flight:.1f} frames are on their way")
print(f"one at a time, it would be {alone:.1f} frames/s")
assert np.isclose(in_flight, fps * latency_ms / 1000)

# %% [markdown]
# ## Which stage is the limit?

# %%
for stage, busy in session.sql(
    "SELECT stage, busy FROM stage_load WHERE busy IS NOT NULL ORDER BY busy DESC"
).fetchall():
    print(f"{stage:12} busy {busy:4.0%} of the time")

# %% [markdown]
# ## Which frames were late, and whose fault was it?

# %%
late = session.sql("SELECT frame, late_by_ms, blame FROM late_frames() LIMIT 5").fetchall()
for frame, late_by_ms, blame in late:
    print(f"frame {frame}: {late_by_ms:.0f} ms late, because of {blame}")

# %% [markdown]
# ## The pictures again
#
# The pixels come from the clip that was recorded, which must be unchanged; PySDK's own overlay is
# drawn on them, pixel for pixel what was seen live.

# %%
with Pixels(find_footage(session)) as pixels:
    image = pixels.frame(result.row)
    assert image is not None
    drawn = result.overlay(image)
cv2.imwrite("frame-200.png", drawn)
print(f"frame-200.png: {drawn.shape[1]}x{drawn.shape[0]}")

# %% [markdown]
# ## As tables
#
# Everything is Arrow: pandas, Polars and DuckDB take it as it is.

# %%
table = session.detections
print(table.num_rows, "detections with", ", ".join(table.column_names[:6]), "...")
session.close()
