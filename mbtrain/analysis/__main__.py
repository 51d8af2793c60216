"""`mbtrain-report FOLDER...`: a report of runs and sweeps; with --live on a page that follows them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mbtrain.plan.refused import Refused


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report, or serve it. 0: done; 2: refused, with one line that says why."""
    options = _parser().parse_args(argv)
    folders = list(dict.fromkeys(options.folders))
    try:
        if not folders:
            raise Refused("give the folder of a run, of a sweep, or one that holds some: mbtrain-report FOLDER...")
        if options.live:
            return _serve(folders, by=options.by, port=options.port)
        path = _written(folders, by=options.by)
    except Refused as error:
        print(f"mbtrain-report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"mbtrain-report: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(path)
    return 0


def _written(folders: Sequence[Path], *, by: str | None) -> Path:
    """The report; of a study's folder, its page again: `runs.json` is enough where the runs themselves are gone."""
    if len(folders) == 1 and (folders[0] / "study.json").is_file():
        from mbtrain.analysis.study import write_study

        return write_study(folders[0])[0]
    from mbtrain.analysis.report import write_report

    return write_report(folders, by=by)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mbtrain-report", description=__doc__)
    parser.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="a run, a sweep, a study, or a folder of some"
    )
    parser.add_argument("--by", metavar="SCORE", help="the score that compares runs, such as val/accuracy")
    parser.add_argument("--live", action="store_true", help="serve the page on this machine while runs go on")
    parser.add_argument("--port", type=int, default=8765, help="of --live (default 8765; 0: any)")
    return parser


def _serve(folders: Sequence[Path], *, by: str | None, port: int) -> int:
    from mbtrain.analysis.live import HOST, LivePage, server

    page = LivePage(folders, by=by)
    page()  # what is wrong with the folders is told before a server starts
    with server(page, port) as served:
        print(f"http://{HOST}:{served.server_port} (Ctrl-C ends it)", flush=True)
        try:
            served.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
