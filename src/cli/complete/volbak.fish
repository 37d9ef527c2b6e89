
# Volumes and the dates of their backups come from the program.
function __volbak_find_names
    set -l words (commandline -opc) (commandline -ct)
    set -g __volbak_names ($words[1] complete-words -- $words 2>/dev/null)
    or return
    set -g __volbak_names (string trim --right -- $__volbak_names)
    return 0
end
function __volbak_values
    __volbak_find_names
    and string replace --regex '^--[^=]*=' '' -- $__volbak_names
end
complete -c volbak -k -f -n __volbak_find_names -a '$__volbak_names'
