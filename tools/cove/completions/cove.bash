# cove.bash - completion of cove's command line for bash: verbs, options, names of regions, segments and objects.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# bash breaks words at ':', so a name such as posix:/robot is three of them. The words are put together again before
# anything is completed, and what stands before the last ':' is taken off the answers, as bash wants to put only the
# last piece in its place.

# What is shared here, or a segment's objects.
_cove_list()
{
    cove ls "$@" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

# What the beginning of a name may become.
_cove_names()
{
    case $1 in
    *:*//*) _cove_list "${1%%//*}" ;;
    file:*) compgen -f -P file: -- "${1#file:}" ;;
    *:/*) _cove_list ;;
    */*) _cove_list "${1%%/*}" ;;
    *) _cove_list ;;
    esac
}

# compgen -W, without expanding what stands in names.
_cove_offer()
{
    local current=$1 word
    shift
    while IFS= read -r word; do
        [[ -n $word && $word == "$current"* ]] && COMPREPLY+=("$word")
    done < <(printf '%s\n' "$@")
}

_cove_complete()
{
    local current=$1 previous=$2 verb=$3 count=$4 word
    local verbs="write read lock signal wait count cat replace create ls stat rm gc doctor demo help version"
    local prefixes="posix: file: sysv: huge: hugetry:"
    # shellcheck disable=SC2086 # lists of words
    case $previous in
    --type)
        _cove_offer "$current" segment region stream mutex rwlock semaphore event condition barrier once counter
        return ;;
    --lifetime) _cove_offer "$current" keep last-out; return ;;
    --group) mapfile -t COMPREPLY < <(compgen -g -- "$current"); return ;;
    cove) _cove_offer "$current" $verbs --help --version; return ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(cove help "$verb" 2>/dev/null | grep -oE -- '--[a-z-]+')" -- "$current")
        return
    fi
    # shellcheck disable=SC2086
    case $verb in
    help) _cove_offer "$current" $verbs names ;;
    write | replace | read | lock | signal | wait | count)
        if ((count > 2)); then
            [[ $verb == write || $verb == replace ]] && mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
        fi
        ;;&
    write | read | lock | signal | wait | count)
        mapfile -t names < <(_cove_names "$current")
        _cove_offer "$current" "${names[@]}"
        if [[ $current != */* ]]; then # an object is wanted: the segment is half of its name
            for word in "${!COMPREPLY[@]}"; do
                COMPREPLY[word]+=/
            done
            compopt -o nospace 2>/dev/null
        fi
        ;;
    ls | stat | rm | doctor | create | cat | replace)
        mapfile -t names < <(_cove_names "$current")
        _cove_offer "$current" "${names[@]}"
        if [[ ${#COMPREPLY[@]} == 0 && -n $current ]]; then
            _cove_offer "$current" $prefixes
            [[ ${#COMPREPLY[@]} == 1 ]] && compopt -o nospace 2>/dev/null
        fi
        ;;
    esac
}

# The command that cove lock runs, and its words: _cove_command PLACE WORD..., where PLACE is the command's among them.
_cove_command()
{
    local place=$1
    shift
    if declare -F _command_offset >/dev/null && ((${#COMP_WORDS[@]} == $#)); then
        _command_offset "$place"
    elif ((place == $# - 1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "${!#}" | sort -u)
    else
        mapfile -t COMPREPLY < <(compgen -f -- "${!#}")
    fi
}

_cove()
{
    local words=() names=() glue=no piece i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        if [[ ($piece == :* || $glue == yes) && ${#words[@]} -gt 2 ]]; then
            words[-1]+=$piece
        else
            words+=("$piece")
        fi
        glue=no
        [[ $piece == *: ]] && glue=yes
    done
    COMPREPLY=()
    if [[ ${words[1]} == lock ]]; then # behind "--" stands a command, with its own words
        for ((i = 2; i < ${#words[@]} - 1; i++)); do
            if [[ ${words[i]} == -- ]]; then
                _cove_command $((i + 1)) "${words[@]}"
                return
            fi
        done
    fi
    _cove_complete "${words[-1]}" "${words[-2]}" "${words[1]}" $((${#words[@]} - 1))
    if [[ ${words[-1]} == *:* && ${COMP_WORDBREAKS-:} == *:* ]]; then
        piece=${words[-1]%"${words[-1]##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$piece"}")
    fi
}

complete -F _cove cove
