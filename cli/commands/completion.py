"""`sparsify completion`: the script with which a shell completes what is typed."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from sparsify.cli.display import emit_json
from sparsify.cli.options import common_options

_VARIABLE = "_SPARSIFY_COMPLETE"


class _Bash(BashComplete):
    """As click's, without a space behind what has to go on: a key and its `=`."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        %(complete_var)s=bash_complete "$1")
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("$value"); [[ $value != *[=.-] ]] || compopt -o nospace ;;
        esac
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Fish(FishComplete):
    """As click's, for values that have commas."""

    source_template = FishComplete.source_template.replace("split ", "split -m1 ")


_SHELLS: dict[str, type[ShellComplete]] = {
    "bash": _Bash,
    "zsh": ZshComplete,
    "fish": _Fish,
}


@click.command(
    "completion",
    epilog="""\b
    Examples:
      echo 'eval "$(sparsify completion bash)"' >> ~/.bashrc
      echo 'eval "$(sparsify completion zsh)"' >> ~/.zshrc       # after compinit
      sparsify completion fish > ~/.config/fish/completions/sparsify.fish
    """,
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@common_options
def completion_command(shell: str, *, as_json: bool) -> None:
    """Print the script that makes TAB complete.

    What is completed are commands, options, files and the names of recipes, models, methods,
    formats and recipe keys. New shells do so once the script is where the examples put it.
    """
    group = click.get_current_context().find_root().command
    completes = _SHELLS[shell](group, {}, "sparsify", _VARIABLE)
    script = completes.source_template % completes.source_vars()
    emit_json({"shell": shell, "script": script}) if as_json else click.echo(script, nl=False)
