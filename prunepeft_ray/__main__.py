"""``prunepeft`` and ``python -m prunepeft_ray``: signals are heard before anything that is slow is imported."""

from prunepeft_ray.ending import ENDING


def main() -> None:
    """Run the command line."""
    ENDING.install()
    from prunepeft_ray.cli.main import main as run_command

    run_command()


if __name__ == "__main__":
    main()
