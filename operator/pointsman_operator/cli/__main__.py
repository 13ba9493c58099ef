"""``python -m pointsman_operator.cli``: the `pointsman` command where it is not on the path."""

from pointsman_operator.cli.main import main

if __name__ == "__main__":
    main()
