# shellcheck shell=bash
# A RADOS gateway in $DIR: one monitor, and one OSD that keeps everything in memory. Read by scripts/objects.
[ ! -e "$DIR/mon" ] || die "$DIR: its objects were in memory and are gone; take a new directory"
mkdir -p "$DIR"/{mon,osd,log,run,rgw}
port=${OBJECTS_PORT:-$(free_ports 1)} mon=$(free_ports 1) fsid=$(cat /proc/sys/kernel/random/uuid)
conf=$DIR/ceph.conf
ceph=(ceph -c "$conf" --connect-timeout 20)
cat >"$conf" <<E
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$mon/0]
ms bind msgr1 = false
public addr = 127.0.0.1
keyring = $DIR/keyring
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon max pg per osd = 1000
run dir = $DIR/run
admin socket = $DIR/run/\$name.asok
log file = $DIR/log/\$name.log
mon data = $DIR/mon
osd data = $DIR/osd
rgw data = $DIR/rgw
osd objectstore = memstore
memstore device bytes = ${OBJECTS_BYTES:-3221225472}
osd memory target = 939524096
osd max object name len = 1024
mon data avail warn = 1
mon data avail crit = 0
osd scrub load threshold = 2000
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:$port
rgw thread pool size = 64
rgw lifecycle work time = 00:00-23:59
rgw lc debug interval = 10
rgw multipart min part size = 5242880
E
: >"$DIR/pids"
{
    monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon/0]" "$DIR/monmap"
    ceph-authtool -C "$DIR/keyring" --gen-key -n mon. --cap mon 'allow *'
    for who in client.admin client.rgw.a osd.0; do
        ceph-authtool "$DIR/keyring" --gen-key -n $who --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    done
    ceph-mon -c "$conf" -i a --keyring "$DIR/keyring" --mkfs --monmap "$DIR/monmap"
} >>"$DIR/log/made" 2>&1 || { cat "$DIR/log/made" >&2; die "the monitor cannot be made"; }
begin "$DIR/log/out" ceph-mon -c "$conf" -i a -f
wait_for 60 "the monitor" timeout 10 "${ceph[@]}" -s
uuid=$(cat /proc/sys/kernel/random/uuid)
"${ceph[@]}" osd new "$uuid" >/dev/null
ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$uuid" >>"$DIR/log/made" 2>&1 || { cat "$DIR/log/made" >&2; stop "$DIR"; die "the OSD cannot be made"; }
begin "$DIR/log/out" ceph-osd -c "$conf" -i 0 -f
osd_is_up() { "${ceph[@]}" osd stat | grep -q '1 up'; }
wait_for 60 "the OSD" osd_is_up
begin "$DIR/log/out" radosgw -c "$conf" -n client.rgw.a -f
wait_for 120 "the gateway" curl -fsS -o /dev/null "http://127.0.0.1:$port/"
secret=$(random_hex 20) writersecret=$(random_hex 20)
admin() { radosgw-admin -c "$conf" -n client.rgw.a "$@" >>"$DIR/log/users" 2>&1; }
admin user create --uid owner --display-name owner --access-key OWNER --secret-key "$secret"
admin subuser create --uid owner --subuser owner:swift --access full --secret "$secret"
admin user create --uid writer --display-name writer --access-key WRITER --secret-key "$writersecret"
(umask 077; cat >"$DIR/env" <<E
export AWS_ENDPOINT_URL=http://127.0.0.1:$port
export AWS_ACCESS_KEY_ID=OWNER
export AWS_SECRET_ACCESS_KEY=$secret
export AWS_REGION=us-east-1
export WRITER_ACCESS_KEY_ID=WRITER
export WRITER_SECRET_ACCESS_KEY=$writersecret
export ST_AUTH=http://127.0.0.1:$port/auth/v1.0
export ST_USER=owner:swift
export ST_KEY=$secret
E
)
