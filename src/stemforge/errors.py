"""Every error that a user can cause or meet, one class for each exit code of the command line.

    StemforgeError          1  unexpected, a bug
    ├── UsageError          2  impossible combination of options, unknown stem or checkpoint name
    ├── InputError          4  an input is missing, unreadable, empty or not usable
    ├── CheckpointError     5  a checkpoint is not there, does not match its sha256, or is refused
    ├── DeviceError         6  the device is not there or is out of memory
    ├── OutputError         7  a result cannot be written
    │   └── SpaceError      7  the disk is full: no later result can be written either
    └── TrainingError       8  training cannot go on: its loss or its weights are not finite

The message of an error is one line that says what happened and what to do.
"""


class StemforgeError(Exception):
    """Root of all errors of stemforge; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(StemforgeError):
    """The request itself is impossible: options that exclude each other, an unknown name."""

    exit_code = 2


class InputError(StemforgeError):
    """An input is missing, unreadable, empty, or holds samples that cannot be used."""

    exit_code = 4


class CheckpointError(StemforgeError):
    """A checkpoint is unknown to the cache, does not match its sha256, or has a format that is refused."""

    exit_code = 5


class DeviceError(StemforgeError):
    """The requested device does not exist here, or its memory is exhausted."""

    exit_code = 6


class OutputError(StemforgeError):
    """A result cannot be written: no space, no permission, or something is already there."""

    exit_code = 7


class SpaceError(OutputError):
    """There is no space left for a result, so a batch stops here."""


class TrainingError(StemforgeError):
    """Training cannot go on: its loss or its weights are no longer finite."""

    exit_code = 8
