# cove.bash - completion of cove's command line for bash: verbs, options, segments, objects.
# SPDX-License-Identifier: Apache-2.0 OR MIT

# Names of segments, and with a '/' typed, of the segment's objects.
_cove_names()
{
    local current=$1
    if [[ $current == */* ]]; then
        cove ls "${current%%/*}" 2>/dev/null | awk 'NR > 1 { print $1 }'
    else
        cove ls 2>/dev/null | awk 'NR > 1 { print $1 }'
    fi
}

_cove()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]}
    local verbs="write read create ls stat rm gc doctor demo help version"
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$verbs --help --version" -- "$current")
        return
    fi
    case $previous in
    --type) mapfile -t COMPREPLY < <(compgen -W "segment stream" -- "$current"); return ;;
    --lifetime) mapfile -t COMPREPLY < <(compgen -W "keep last-out" -- "$current"); return ;;
    --group) mapfile -t COMPREPLY < <(compgen -g -- "$current"); return ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(cove help "$verb" 2>/dev/null | grep -oE -- '--[a-z-]+')" -- "$current")
        return
    fi
    case $verb in
    help) mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$current") ;;
    write | read)
        if ((COMP_CWORD > 2)); then
            [[ $verb == write ]] && mapfile -t COMPREPLY < <(compgen -f -- "$current")
        elif [[ $current == */* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$(_cove_names "$current")" -- "$current")
        else # a stream is wanted: the segment is half of its name
            mapfile -t COMPREPLY < <(compgen -S / -W "$(_cove_names "$current")" -- "$current")
            [[ $(type -t compopt) ]] && compopt -o nospace 2>/dev/null
        fi
        ;;
    ls | stat | rm | doctor | create)
        mapfile -t COMPREPLY < <(compgen -W "$(_cove_names "$current")" -- "$current")
        ;;
    esac
}

complete -F _cove cove
