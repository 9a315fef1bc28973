"""`python -m sonicscan_train.cli`, for `accelerate launch -m`."""

from sonicscan_train.cli.program import main

if __name__ == "__main__":
    main()
