"""`python -m helpers.rehearsal` is `rehearse`."""

from helpers.rehearsal.cli import main

main()
