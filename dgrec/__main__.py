"""``python -m dgrec``."""

from dgrec.cli import main

main()
