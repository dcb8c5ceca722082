"""The `stemforge` command: registers the commands, turns errors into one line and an exit code.

0  done, or already there           5  a checkpoint is not there, damaged or refused
1  unexpected                       6  a device is not there or out of memory
2  impossible request               7  a result cannot be written
3  some inputs failed               8  training cannot go on: not finite
4  all inputs failed         130, 143  interrupted, terminated
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer

from stemforge import __version__
from stemforge.cli import console
from stemforge.cli.checkpoints import app as checkpoints
from stemforge.cli.common import applied, hoisted, versions
from stemforge.cli.data import app as data
from stemforge.cli.doctor import doctor
from stemforge.cli.edit import app as edit
from stemforge.cli.evaluate import evaluate
from stemforge.cli.generate import generate
from stemforge.cli.impute import impute
from stemforge.cli.separate import separate
from stemforge.cli.train import train
from stemforge.cli.ui import ui
from stemforge.errors import StemforgeError

INTERRUPTED, TERMINATED, CLOSED_PIPE = 130, 143, 141

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Take songs apart and put new ones together.",
)
app.command()(separate)
app.command()(generate)
app.command()(impute)
app.command()(evaluate)
app.command()(train)
app.command()(ui)
app.command()(doctor)
app.add_typer(checkpoints, name="checkpoints")
app.add_typer(edit, name="edit")
app.add_typer(data, name="data")


class Terminated(BaseException):
    """SIGTERM came: everything unwinds as after Ctrl-C."""


def _version(wanted: bool) -> None:
    if wanted:
        console.result(f"stemforge {__version__}")
        for name, found in versions().items():
            console.result(f"{name} {found}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_version, is_eager=True, help="Show the versions that matter, and exit."
        ),
    ] = False,
    log_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Add every line of the run, and of what went wrong, to FILE; anywhere."),
    ] = None,
    color: Annotated[
        str, typer.Option(help="auto, always or never; anywhere. NO_COLOR and FORCE_COLOR are honoured.")
    ] = "auto",
) -> None:
    """Take songs apart and put new ones together."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line, without the name of the program; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        arguments, common = hoisted(given)
        with applied(common, given):
            code = _main(arguments)
            console.log.info("exit code %d", code)
            return code
    except StemforgeError as error:
        console.error(str(error))
        return error.exit_code


def _main(arguments: list[str]) -> int:
    try:
        code = app(args=arguments, prog_name="stemforge", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except StemforgeError as error:
        console.error(str(error))
        return error.exit_code
    except (KeyboardInterrupt, Terminated) as error:
        console.error("stopped: what was finished is kept, nothing half-written is. The same command goes on.")
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE
    except Exception as error:
        return _other(error, verbose=any(a in ("-v", "-vv", "--verbose") for a in arguments))


def _other(error: Exception, *, verbose: bool) -> int:
    """Errors of the parser, which know how to say what is wrong, and those that nobody expected."""
    say = getattr(error, "format_message", None)
    if say is None:
        text = "".join(traceback.format_exception(error)).rstrip()
        logged = console.logged(text)
        if verbose:
            print(text, file=sys.stderr)
        place = "" if verbose else f" See {logged} for the place" if logged else " Run it again with -v for the place"
        console.error(f"unexpected {type(error).__name__}: {error}.{place}{', and report it.' if place else ''}")
        return 1
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "stemforge"
    if type(error).__name__ == "NoArgsIsHelpError":
        print(say(), file=sys.stderr)
    else:
        message = say().rstrip(".")
        console.error(f"{message}{'' if message.endswith('?') else '.'} See {command} --help.")
    return 2


def run() -> None:
    """Entry point of the program."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    with suppress(ValueError):
        signal.signal(signal.SIGTERM, terminate)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")
    code = main()
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.exit(code)
