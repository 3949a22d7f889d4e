"""python -m regsuite.cli"""

from regsuite.cli import main

if __name__ == "__main__":
    main()
