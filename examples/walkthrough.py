# %% [markdown]
# # A recording, from all sides
#
# This file is a notebook in cells: VS Code, PyCharm and Spyder run it cell by cell, Jupyter opens
# it with jupytext, and `python examples/walkthrough.py [session.parquet]` runs all of it.

# %%
import sys
from pathlib import Path

import cv2
import numpy as np

import dgrec

path = Path(__file__).parent.parent / "sample_data" / "session.parquet"
if "ipykernel" not in sys.modules and len(sys.argv) > 1:
    path = Path(sys.argv[1])  # in a notebook: whatever you write here
try:
    session = dgrec.open(path)
except dgrec.DgrecError as error:
    sys.exit(f"Error: {error}")
session  # noqa: B018 - in a notebook: a table that says what was recorded

# %% [markdown]
# ## What a frame holds
#
# `result(i)` is what `predict_stream` had yielded: the same keys, order and values. Here it is that
# of the frame in the middle.

# %%
if not len(session):
    sys.exit("no frames were recorded, so there is nothing to show")
result = session.result(len(session) // 2)
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
if None in (fps, in_flight, alone):
    print("too few frames to tell a rate")
else:
    print(f"{fps:.1f} frames/s, {latency_ms:.0f} ms each: {in_flight:.1f} frames are on their way")
    print(f"1/latency is {alone:.1f} frames/s")
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
# The pixels come from the clip that was recorded, which must be unchanged, or from the video of the
# camera; PySDK's own overlay is drawn on them, pixel for pixel what was seen live.

# %%
with session.pixels() as pixels:
    image = pixels.frame(result.row)
if image is None:
    print(f"frame {result.frame} is not in the video")
else:
    picture = f"frame-{result.frame}.png"
    drawn = result.overlay(image)
    cv2.imwrite(picture, drawn)
    print(f"{picture}: {drawn.shape[1]}x{drawn.shape[0]}")

# %% [markdown]
# ## As tables
#
# Everything is Arrow: pandas, Polars and DuckDB take it as it is.

# %%
table = session.detections
print(table.num_rows, "detections with", ", ".join(table.column_names[:6]), "...")
session.close()
