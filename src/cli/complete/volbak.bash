
# Volumes and the dates of their backups come from the program; everything else is completed by the function above.
_volbak_with_names() {
    local line=${COMP_LINE:0:COMP_POINT} words=() word found i
    # bash also cuts words at @, : and =; the pieces of one word have no space between them.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $line == [[:space:]]* || $i -eq 0 ]]; then
            line=${line#"${line%%[![:space:]]*}"}
            words+=("")
        fi
        [[ $i -lt $COMP_CWORD && $line == "$word"* ]] || word=$line
        line=${line#"$word"}
        words[-1]+=$word
    done
    words=("${words[@]//[\"\'\\]/}")
    word=${words[-1]}
    if found=$("$1" complete-words -- "${words[@]}" 2>/dev/null) && [[ $found ]]; then
        local IFS=$'\n'
        COMPREPLY=($found)
        # bash replaces only the last piece, which it gives as the second argument.
        COMPREPLY=("${COMPREPLY[@]#"${word%"$2"}"}")
        compopt -o nospace 2>/dev/null
        return
    fi
    _volbak "$@"
    # The names of values stand for what is to be typed, and no option follows the begin of another word.
    for i in "${!COMPREPLY[@]}"; do
        [[ ${COMPREPLY[i]} != [\<\[]* && (! $word || $word == -* || ${COMPREPLY[i]} != -*) ]] || unset "COMPREPLY[i]"
    done
    COMPREPLY=("${COMPREPLY[@]}")
}

if [[ ${BASH_VERSINFO[0]} -gt 4 || ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 4 ]]; then
    complete -F _volbak_with_names -o nosort -o bashdefault -o default volbak
else
    complete -F _volbak_with_names -o bashdefault -o default volbak
fi
