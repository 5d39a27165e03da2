"""`python -m aiaas_async` is `aiaas`."""

from aiaas_async.cli.main import main

main()
