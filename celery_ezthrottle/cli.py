"""What the command runs."""
import click


@click.group(name="ezthrottle")
def ezthrottle() -> None:
    """EZThrottle: receiver and gateway."""
