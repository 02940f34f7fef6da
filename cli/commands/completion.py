"""`sparsify completion`: the script with which a shell completes what is typed."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from sparsify.cli.display import emit_json
from sparsify.cli.options import common_options

_VARIABLE = "_SPARSIFY_COMPLETE"


class _Bash(BashComplete):
    """As click's, for `--option=value`, and without a space behind what has to go on."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value word words=("$1")
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        # Bash has taken --option=value apart.
        if [[ ${words[-1]} == --*= || ( ${words[-1]} == --* && $word == = ) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \\
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


class _Zsh(ZshComplete):
    """As click's, for `--option=value`, and without a space behind what has to go on."""

    source_template = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a response plain described unfinished before
    (( $+commands[%(prog_name)s] )) || return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete %(prog_name)s)}")
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    before=(-i "$IPREFIX")
    for type key description in $response; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            plain)
                if [[ $description != _ ]]; then
                    described+=("$key:$description")
                elif [[ $key == *[=.-] ]]; then
                    unfinished+=("$key")
                else
                    plain+=("$key")
                fi ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U "${before[@]}"
    (( $#unfinished )) && compadd -U "${before[@]}" -S '' -V unsorted -a unfinished
    (( $#plain )) && compadd -U "${before[@]}" -V unsorted -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Fish(FishComplete):
    """As click's, for values that have commas, and for `--option=value`."""

    source_template = """\
function %(complete_func)s
    set -l token (commandline -t)
    set -l option (string match -r -- '^--[^=]+=' $token)
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) \\
        COMP_CWORD=$token %(prog_name)s)
    for completion in $response
        set -l metadata (string split -m1 "," -- $completion)
        switch $metadata[1]
            case dir
                set metadata (__fish_complete_directories $metadata[2])
            case file
                set metadata (__fish_complete_path $metadata[2])
            case plain
                set -e metadata[1]
        end
        for each in $metadata
            echo "$option$each"
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


_SHELLS: dict[str, type[ShellComplete]] = {
    "bash": _Bash,
    "zsh": _Zsh,
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
