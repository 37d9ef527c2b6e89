# Run inside the instance by `sh -s`: removes the files $2… of the directory $1.
set -eu
cd -- "$1"
shift
for name; do
    case $name in
        volbak-*.sql.gz) rm -f -- "$name" ;;
    esac
done
