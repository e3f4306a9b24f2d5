"""Testing an application against a recording: fixtures for pytest, which finds them by itself.

===========  ===================================================================
plugin       the fixtures, and ``--dgrec-update``
differences  how results differ from those of a recording, and pictures of it
===========  ===================================================================
"""
