"""``python -m fleeting``."""

from fleeting.cli import main

if __name__ == "__main__":
    main()
