"""`python -m collector` is the command `collector`."""

from collector.cli import main

raise SystemExit(main())
