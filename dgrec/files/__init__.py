"""Writing files safely: checks beforehand, locks, and files that get their name once complete."""

from dgrec.files.checks import (
    check_new_file,
    check_new_folder,
    check_not_special,
    check_parent,
    check_session_name,
    exists_already,
    is_file,
    output_error,
    output_errors,
    placed,
    read_small_text,
    resolved,
    sync_folder,
    write_error,
)
from dgrec.files.locks import is_locked, lock
from dgrec.files.renaming import exchange
from dgrec.files.temporary import TemporaryFolder
from dgrec.files.unfinished import NewFile, NewFolder, Unfinished

__all__ = [
    "NewFile",
    "NewFolder",
    "TemporaryFolder",
    "Unfinished",
    "check_new_file",
    "check_new_folder",
    "check_not_special",
    "check_parent",
    "check_session_name",
    "exchange",
    "exists_already",
    "is_file",
    "is_locked",
    "lock",
    "output_error",
    "output_errors",
    "placed",
    "read_small_text",
    "resolved",
    "sync_folder",
    "write_error",
]
