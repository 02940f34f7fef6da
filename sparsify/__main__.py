"""Runs the command line: `python -m sparsify`."""

if __name__ == "__main__":
    from sparsify.cli.main import main

    main()
