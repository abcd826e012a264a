"""Numbers of the system calls that the filter names, as "name=x86_64/aarch64", from the kernel's headers."""

ARCHES = {"x86_64": 0, "aarch64": 1}
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LAST = 450
"""The last call that both tables know; later ones answer "not implemented"."""

_ALWAYS = """
acct=163/89 add_key=248/217 adjtimex=159/171 bpf=321/280 clock_adjtime=305/266 clock_settime=227/112
create_module=174/- delete_module=176/106 fanotify_init=300/262 fanotify_mark=301/263 finit_module=313/273
get_kernel_syms=177/- init_module=175/105 io_uring_enter=426/426 io_uring_register=427/427
io_uring_setup=425/425 ioperm=173/- iopl=172/- ioprio_set=251/30 kcmp=312/272 kexec_file_load=320/294
kexec_load=246/104 keyctl=250/219 lookup_dcookie=212/18 mbind=237/235 memfd_create=319/279 memfd_secret=447/447
migrate_pages=256/238 modify_ldt=154/- mount=165/40 mount_setattr=442/442 move_mount=429/429 move_pages=279/239
name_to_handle_at=303/264 nfsservctl=180/42 open_by_handle_at=304/265 open_tree=428/428 fsopen=430/430
fsconfig=431/431 fsmount=432/432 fspick=433/433 perf_event_open=298/241 personality=135/92 pidfd_getfd=438/438
pivot_root=155/41 chroot=161/51 process_vm_readv=310/270 process_vm_writev=311/271 process_madvise=440/440
process_mrelease=448/448 ptrace=101/117 query_module=178/- quotactl=179/60 quotactl_fd=443/443 reboot=169/142
request_key=249/218 sched_setaffinity=203/122 sched_setattr=314/274 sched_setparam=142/118
sched_setscheduler=144/119 set_mempolicy=238/237 set_mempolicy_home_node=450/450 setdomainname=171/162
sethostname=170/161 setns=308/268 setpriority=141/140 settimeofday=164/170 swapoff=168/225 swapon=167/224
_sysctl=156/- sysfs=139/- syslog=103/116 umount2=166/39 unshare=272/97 uselib=134/- userfaultfd=323/282
ustat=136/- vhangup=153/58 shmget=29/194 shmat=30/196 shmctl=31/195 msgget=68/186 msgctl=71/187 msgsnd=69/189
msgrcv=70/188 semget=64/190 semctl=66/191 semop=65/193 semtimedop=220/192 mq_open=240/180 mq_unlink=241/181
mq_timedsend=242/182 mq_timedreceive=243/183 mq_notify=244/184 mq_getsetattr=245/185
"""
"""Nothing that a program needs: kernel administration, other processes, key rings, memory outside its limits."""

_PROGRAM = """
socket=41/198 connect=42/203 bind=49/200 listen=50/201 accept=43/202 accept4=288/242 setsid=112/157
setpgid=109/154
"""
"""What only the zygote may do: sockets, and leaving the process group that is killed with a call."""

_METADATA = """
chmod=90/- fchmod=91/52 fchmodat=268/53 chown=92/- fchown=93/55 lchown=94/- fchownat=260/54 utime=132/-
utimes=235/- futimesat=261/- utimensat=280/88 setxattr=188/5 lsetxattr=189/6 fsetxattr=190/7 removexattr=197/14
lremovexattr=198/15 fremovexattr=199/16
"""
"""What Landlock does not see: owners, modes, times and attributes of files by path."""

_SPECIAL = """
clone=56/220 clone3=435/435 ioctl=16/29 prctl=157/167 prlimit64=302/261 landlock_create_ruleset=444/444
landlock_add_rule=445/445 landlock_restrict_self=446/446 seccomp=317/277
"""
"""Allowed by their arguments, or used by the sandbox itself."""


def _table(text: str, arch: str) -> dict[str, int]:
    column = ARCHES[arch]
    found = {}
    for item in text.split():
        name, _, numbers = item.partition("=")
        number = numbers.split("/")[column]
        if number != "-":
            found[name] = int(number)
    return found


def always(arch: str) -> dict[str, int]:
    """Return name -> number of what nobody inside may call."""
    return _table(_ALWAYS, arch)


def program(arch: str) -> dict[str, int]:
    """Return name -> number of what a program may not call, in addition."""
    return _table(_PROGRAM, arch)


def metadata(arch: str) -> dict[str, int]:
    """Return name -> number of what a program may not call where it sees the host's files."""
    return _table(_METADATA, arch)


def special(arch: str) -> dict[str, int]:
    """Return name -> number of what the filter judges by arguments and of what confinement itself calls."""
    return _table(_SPECIAL, arch)
