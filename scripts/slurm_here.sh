#!/bin/sh
# A real SLURM of one node on this machine, for the tests marked `slurm`: slurmctld, slurmd and munge from Debian's
# packages, without systemd. As root:
#
#   scripts/slurm_here.sh          start it (again: nothing changes)
#   scripts/slurm_here.sh stop     end it; jobs that run are killed
#
# Its node has as many CPUs as this machine, at most two; its files are /etc/slurm/slurm.conf, /var/spool/slurm*,
# /var/log/slurm*. A slurm.conf that is not ours is left alone, and nothing is started.
set -eu

CONF=/etc/slurm/slurm.conf
MARK="# by scripts/slurm_here.sh of mbtrain"

pid_of() { cat /run/$1.pid /run/munge/$1.pid 2>/dev/null || true; }
is_up() { pid=$(pid_of $1) && [ -n "$pid" ] && [ "$(cat /proc/$pid/comm 2>/dev/null)" = $1 ]; }

if [ "${1:-start}" = stop ]; then
    if is_up slurmctld; then scancel --user="$(id -un)"; fi
    for name in slurmd slurmctld munged; do
        if is_up $name; then kill "$(pid_of $name)"; fi
    done
    exit 0
fi

if [ "$(id -u)" != 0 ]; then
    echo "slurm_here.sh: needs root" >&2
    exit 1
fi
if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
fi
if [ -e $CONF ] && ! grep -qF "$MARK" $CONF; then
    echo "slurm_here.sh: $CONF is there and not ours: left as it is" >&2
    exit 1
fi

CPUS=$(nproc)
if [ "$CPUS" -gt 2 ]; then CPUS=2; fi
HOST=$(hostname -s)
mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /run/munge
chown munge: /run/munge
cat >$CONF <<END
$MARK
ClusterName=here
SlurmctldHost=$HOST(127.0.0.1)
AuthType=auth/munge
SlurmUser=root
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=2
KillWait=10
ReturnToService=2
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS State=UNKNOWN
PartitionName=here Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END

if ! is_up munged; then runuser -u munge -- munged; fi
if ! is_up slurmctld; then slurmctld; fi
if ! is_up slurmd; then slurmd; fi
for _ in $(seq 60); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -Eq 'idle|mixed|allocated'; then
        sinfo
        exit 0
    fi
    sleep 0.5
done
echo "slurm_here.sh: the node does not come up: see /var/log/slurmctld.log, /var/log/slurmd.log" >&2
exit 1
