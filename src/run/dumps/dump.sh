# Run inside the instance by `sh -s`: makes a dump under a temporary name, and gives it its own name only when it is
# complete and synced. $1 kind, $2 directory, $3 file name, $4 defaults file (may be empty), $5 what our names begin
# with. Prints the names of all dumps that are there.
set -eu
umask 077
kind=$1 directory=$2 name=$3 defaults=$4 prefix=$5
mkdir -p -- "$directory"
cd -- "$directory"
for left in ".volbak-tmp.$prefix"*.sql.gz; do
    [ ! -f "$left" ] || rm -f -- "$left"
done
temporary=".volbak-tmp.$name"
trap 'rm -f -- "$temporary"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
dump() {
    case $kind in
        postgresql)
            [ -z "$defaults" ] || export PGPASSFILE="$defaults"
            pg_dumpall --no-password ;;
        *)
            program=mysqldump
            [ "$kind" != mariadb ] || program=mariadb-dump
            # The file with the password has to be the first argument, and is all of it that anybody sees.
            set -- --single-transaction --quick --routines --events --triggers --all-databases
            [ -z "$defaults" ] || set -- "--defaults-file=$defaults" "$@"
            "$program" "$@" ;;
    esac
}
status=$({ { dump 3>&- </dev/null && echo 0 >&3 || echo "$?" >&3; } | gzip -c >"$temporary"; } 3>&1)
[ "$status" = 0 ] || { echo "the dump failed with status $status" >&2; exit 1; }
gzip -t "$temporary"
mv -- "$temporary" "$name"
# The snapshot that comes next shows what is on the disk.
sync
for there in "$prefix"*.sql.gz; do
    [ ! -f "$there" ] || printf '%s\n' "$there"
done
