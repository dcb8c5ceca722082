"""The work of `stemforge separate`: check everything that can be checked, then song by song."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from stemforge.audio.io import Source
from stemforge.cli import console, ledger, lists, prompted
from stemforge.cli.inputs import Gathered, Item, check_writable, gather
from stemforge.cli.layout import DEFAULT, Layout
from stemforge.cli.layout import check as check_layout
from stemforge.cli.separate_each import is_far, opened, separate_one, use_temporary
from stemforge.cli.separate_flow import Flow
from stemforge.cli.separate_request import Request
from stemforge.cli.separate_song import separate_song
from stemforge.cli.separate_state import Run
from stemforge.cli.separate_vocals import stages
from stemforge.errors import StemforgeError, UsageError
from stemforge.storage import located


def run(request: Request) -> int:
    """Separate all songs of a request; the exit code. Raises StemforgeError for what concerns no single song."""
    request = replace(request, out=located(request.out))
    request.check()
    if request.wish is not None:
        request = replace(request, checkpoint=prompted.named(request.checkpoint))
    chosen = stages(request)
    prompted.check(request.wish, chosen.main, fetched=not request.dry_run)
    if chosen.stems is not None:
        request.selection.check(chosen.stems)
    layout = Layout(request.out, chosen.name, request.seed, DEFAULT if request.filename is None else request.filename)
    gathered = _gathered(request)
    far = is_far(request, gathered.items)
    if far and request.dry_run:
        raise UsageError("--dry-run: would have to fetch every song from object storage. Leave it out.")
    kept = None if chosen.stems is None else request.selection.names(chosen.stems)
    check_layout(layout, gathered.items, kept, request.encoding.container)
    if request.to_stdout:
        _check_stdout(gathered)
    which, count = request.part
    if count > 1:
        gathered.items = lists.part_of(gathered.items, which, count)
        gathered.failed = gathered.failed if which == 1 else []
    with ExitStack() as stack:
        report = stack.enter_context(console.Report(request.progress, -1 if request.quiet else request.verbose))
        flow = stack.enter_context(Flow(request.jobs, sanitize=request.sanitize))
        work = Run(request, chosen, report, layout, flow)
        if far or request.to_stdout or any(item.path == lists.STDIN for item in gathered.items):
            use_temporary(work, Path(stack.enter_context(lists.temporary())))
        if request.to_stdout:
            work.layout = replace(layout, top=work.temporary)
        if request.report is not None and not request.dry_run:
            work.ledger = stack.enter_context(closing(ledger.Ledger(request.report)))
        return _all_songs(work, gathered)


def _check_stdout(gathered: Gathered) -> None:
    """Raises UsageError unless one song can go to stdout."""
    if len(gathered.items) != 1:
        raise UsageError(f"-o -: {len(gathered.items)} songs, but only one can go to stdout. Name one.")
    if sys.stdout.isatty():
        raise UsageError("-o -: stdout is a terminal. Write into a pipe or a file, or choose another --out.")


def _gathered(request: Request) -> Gathered:
    """All songs that the request names, in whatever way."""
    paths = lists.expanded(request.inputs or [], null=request.null)
    if request.files_from is not None:
        paths += lists.listed(request.files_from, null=request.null)
    again = ledger.failed_in(request.retry_failed) if request.retry_failed is not None else []
    paths += [item.path for item in again if item.path.is_dir()]
    known = [replace(item, path=located(item.path)) for item in again if not item.path.is_dir()]
    paths = [located(path) for path in paths]
    return gather(paths, request.out, request.extensions, recursive=request.recursive, known=known)


def _all_songs(run: Run, gathered: Gathered) -> int:
    """Every song, then the summary."""
    begun = time.monotonic()
    if gathered.ignored:
        run.report.note(f"{gathered.ignored} files with other endings ignored", level=1)
    if not gathered.items and not gathered.failed:
        run.report.note("nothing to do")
    for path, error in gathered.failed:
        run.failed(Item(path, Path(path.name or "folder")), error)
    if run.request.engine == "ray" and not run.request.dry_run:
        _on_ray(run, gathered.items)
    elif is_far(run.request, gathered.items):
        _one_by_one(run, gathered.items)
    else:
        _in_turn(run, gathered.items)
    run.flow.settle(wait=True)
    if run.full is not None:
        run.report.note(f"stopped; {run.done} finished songs are kept")
        return run.full.exit_code
    if run.request.json:
        counts = {"ok": run.done, "skipped": run.skipped, "failed": len(run.codes)}
        elapsed = round(time.monotonic() - begun, 3)
        console.result_json("summary", **counts, exit_code=run.exit_code(), elapsed_s=elapsed)
    elif len(gathered.items) + len(gathered.failed) > 1:
        run.report.note(f"{run.done} separated, {run.skipped} already there, {len(run.codes)} failed")
    return run.exit_code()


def _in_turn(run: Run, items: list[Item]) -> None:
    """Songs of this machine: all are opened first, and each is read while the one before is computed."""
    sources = _probed(run, items)
    run.report.begin(len(sources), sum(source.seconds for _, source in sources))
    if sources and not run.request.dry_run:
        check_writable(run.layout.top)
    following = [source for _, source in sources[1:]]
    for (item, source), after in zip_longest(sources, following):
        if run.request.fail_fast:
            run.flow.settle(wait=True)
            if run.codes:
                break
        separate_song(run, item, source, after)
        if run.full is not None:
            break


def _one_by_one(run: Run, items: list[Item]) -> None:
    """Songs from or to object storage: each is fetched when its turn comes."""
    if items:
        _check_out(run)
    for item in items:
        separate_one(run, item)
        if run.full is not None or (run.request.fail_fast and run.codes):
            break


def _on_ray(run: Run, items: list[Item]) -> None:
    """Songs on the workers of a cluster."""
    from stemforge.cli.separate_ray import separate_all

    run.report.begin(len(items), len(items))
    if items and not (run.request.fail_fast and run.codes):
        _check_out(run)
        separate_all(run, items)


def _check_out(run: Run) -> None:
    """Raises OutputError unless stems can be written where they shall go."""
    if run.mirror is not None:
        run.mirror.check()
    else:
        check_writable(run.layout.top)


def _probed(run: Run, items: list[Item]) -> list[tuple[Item, Source]]:
    """The songs that can be opened, with what their headers say; the others are told."""
    sources = []
    for item in items:
        run.current = item.path
        try:
            contents = lists.spooled(run.temporary) if item.path == lists.STDIN else None
            sources.append((item, opened(run.request, item.path, contents)))
            run.sort_warnings()
        except StemforgeError as error:
            run.failed(item, error)
    return sources
