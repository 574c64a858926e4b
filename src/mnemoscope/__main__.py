"""`python -m mnemoscope VERB ...`, for launchers such as torchrun that start a module."""

from mnemoscope.cli import main

if __name__ == "__main__":
    main()
