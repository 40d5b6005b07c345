"""`python -m olladist`."""

from olladist.cli.app import main

if __name__ == "__main__":
    main()
