"""``python -m spice_select`` is ``spice-select``."""

from spice_select.cli import main

main()
