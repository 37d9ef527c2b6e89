
# Volumes and the dates of their backups come from the program; everything else is completed by the function above.
functions[_volbak_of_arguments]=$functions[_volbak]
_volbak() {
    local -a found open closed
    found=("${(@f)$("${(Q)words[1]}" complete-words -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    if [[ -z $found[1] ]]; then
        _volbak_of_arguments "$@"
        return
    fi
    # A space follows those that are complete.
    closed=(${${(M)found:#* }% })
    open=(${found:#* })
    compadd -Q -V volbak-names -S '' -- $open
    compadd -Q -V volbak-dates -- $closed
}

