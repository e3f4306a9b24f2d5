"""A recording in the place of the model: its results through PySDK's own calls.

=============  ==================================================================
zoo            sessions as a model zoo of PySDK, ``inference_host_address="@dgrec"``
session_model  the model object: PySDK's, with recorded results
frames         the recorded frames, by position
matching       which recorded frame a picture is
settings       thresholds and limits, applied to recorded results
results        PySDK's result objects from recorded results
=============  ==================================================================

PySDK is imported with `zoo`, `session_model` and `results`, and not before.
"""

from dgrec.stand_in import settings
from dgrec.stand_in.door import model, register_zoo

__all__ = ["model", "register_zoo", "settings"]
