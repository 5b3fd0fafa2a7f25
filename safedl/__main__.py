"""`python -m safedl` is the same as `safedl`."""

from safedl.cli import main

if __name__ == "__main__":
    main()
