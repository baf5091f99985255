"""python -m helpers.training_data audit my.csv --target label --html report.html

Exit status: 0 nothing severe, 1 severe findings, 2 the file or an argument cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

EXAMPLE = """\
example:
  python -m helpers.training_data audit my.csv --target label --group patient --html report.html

exit status: 0 nothing severe was found, 1 something severe was, 2 the file or an argument cannot be used
"""


def parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    top = argparse.ArgumentParser(
        prog="python -m helpers.training_data", description="Look for what is wrong with training data.",
        epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = top.add_subparsers(dest="command", required=True, metavar="audit")
    one = commands.add_parser(
        "audit", help="audit a CSV, TSV or Parquet file", epilog=EXAMPLE,
        description="Audit a table: leakage, duplicates, accuracy, consistency, imbalance, diversity.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("path", help="CSV, TSV or Parquet file, also .gz .bz2 .xz .zip")
    one.add_argument("--target", metavar="COLUMN", help="the column to be predicted")
    one.add_argument("--group", metavar="COLUMN", help="rows of one value belong together (patient, user, device)")
    one.add_argument("--time", metavar="COLUMN", help="dates or numbers that order the rows")
    one.add_argument("--html", metavar="FILE", help="write the report with its pictures as one HTML file")
    one.add_argument("--json", metavar="FILE", help="write the findings as JSON")
    one.add_argument("--delimiter", metavar="CHAR", help="found out unless given; \\t is a tab")
    one.add_argument("--encoding", metavar="NAME", help="found out unless given")
    one.add_argument("--seed", type=int, default=0, help="of the samples that expensive checks use (default 0)")
    one.add_argument("--quiet", action="store_true", help="no text on standard output, only the exit status")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = parser().parse_args(arguments)
    # imported only now, so that --help and typing errors answer at once
    from helpers.training_data.audit import audit
    from helpers.training_data.report import check_writable
    from helpers.training_data.tables import load_table

    try:
        for file in (given.html, given.json):
            if file is not None:
                check_writable(file)
        table = load_table(given.path, target=given.target, delimiter=given.delimiter, encoding=given.encoding)
        report = audit(table, given.target, given.group, given.time, seed=given.seed, progress=sys.stderr.isatty())
        if given.html is not None:
            report.to_html(given.html)
        if given.json is not None:
            report.to_json(given.json)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    if not given.quiet:
        show(report)
    return 1 if report.select(severity="severe") else 0


def show(report: object) -> None:
    """Print the report; a terminal that cannot show a letter gets a question mark, a closed pipe is no error."""
    text = f"{report!r}\n"
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # somebody read the first lines and left (| head): keep Python from complaining at exit
        sys.stdout = None


if __name__ == "__main__":
    sys.exit(main())
