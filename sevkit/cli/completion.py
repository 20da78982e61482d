"""``sevkit completion``: the shell's completion of sevkit's commands and options."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    r"""Print the completion script of a shell.

    \b
    bash: sevkit completion bash >~/.local/share/bash-completion/completions/sevkit
    zsh:  sevkit completion zsh >"${fpath[1]}/_sevkit"
    fish: sevkit completion fish >~/.config/fish/completions/sevkit.fish
    """
    from click.shell_completion import get_completion_class

    from sevkit.cli.tree import root

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(root, {}, "sevkit", "_SEVKIT_COMPLETE").source())
