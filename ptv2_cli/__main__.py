"""`python -m ptv2_cli`: the `ptv2` command where it is not on the PATH."""

from ptv2_cli.cli.app import main

if __name__ == "__main__":
    main()
