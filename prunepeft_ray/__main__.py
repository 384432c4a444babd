"""``python -m prunepeft_ray``: the ``prunepeft`` command."""

from prunepeft_ray.cli.main import main

main()
