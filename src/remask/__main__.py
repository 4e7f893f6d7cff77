"""`python -m remask`, for torchrun and the like."""

from remask.cli import main

main()
