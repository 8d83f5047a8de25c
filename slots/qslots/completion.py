"""The ``completion`` command of our programs: prints what makes Tab complete their words. It starts nothing."""

import click
from click.shell_completion import get_completion_class

HOW = {
    "bash": """put  eval "$({program} completion bash)"  into ~/.bashrc""",
    "zsh": """put  eval "$({program} completion zsh)"  into ~/.zshrc, behind compinit""",
    "fish": "{program} completion fish > ~/.config/fish/completions/{program}.fish",
}


def completion_of(main: click.Group, program: str) -> click.Command:
    """The command for a program."""
    to_use = {shell: how.format(program=program) for shell, how in HOW.items()}

    @click.command(
        help="Print the script that Tab needs in this SHELL.",
        epilog="; ".join(f"{shell}: {how}" for shell, how in to_use.items()),
    )
    @click.argument("shell", type=click.Choice(list(HOW)))
    def completion(shell: str) -> None:
        kind = get_completion_class(shell)
        assert kind is not None
        script = kind(main, {}, program, f"_{program.upper()}_COMPLETE").source()
        first, line, rest = script.partition("\n") if script.startswith("#") else ("", "", script)  # zsh: #compdef
        click.echo(f"{first}{line}# To use this: {to_use[shell]}\n{rest}")

    return completion
