"""`python -m home`, which is `groundwork`."""

from home.command_line.program import main

if __name__ == "__main__":
    main()
