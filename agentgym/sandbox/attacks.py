"""Programs that try to get out, or to take more than they may. The probe runs some of them, the table all.

A program prints ESCAPED where it saw itself succeed; `Stage` looks at the host's side afterwards. {names} in
braces are filled in by the stage: paths, ports and processes of the host that a program must not reach.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack."""

    name: str
    """Short name, the row of the table."""
    about: str
    """What it tries."""
    program: str
    """Python code; the standard library only."""
    before: str = ""
    """A program run before it in the same way, by another caller."""
    wall_s: float = 3.0
    """Wall limit of the call."""
    ends: tuple[str, ...] = ()
    """If not empty, the call must have been ended by one of these limits."""
    probe: bool = False
    """Whether `available()` runs it."""
    tags: tuple[str, ...] = field(default=())
    """"slow" where it takes seconds by nature."""


KNOWN: dict[tuple[str, str], str] = {
    ("process", "stat of host files"): "names and sizes of the host's files can be tried out; no filter sees paths",
}
"""(backend, attack) -> what is known not to be held there. Everything else must be."""

_TRY = "import os, sys, socket, ctypes, time\nlibc = ctypes.CDLL(None, use_errno=True)\n"

ATTACKS: tuple[Attack, ...] = (
    # ---- time
    Attack("infinite loop", "runs for ever", "while True: pass", wall_s=0.5, ends=("wall", "cpu")),
    Attack(
        "busy children", "six children that run for ever while the parent returns",
        "import os\nfor _ in range(6):\n    if os.fork() == 0:\n        os.setsid() if False else None\n        while True: pass\n",
    ),
    Attack("cpu after signals", "catches the signals that end it", """
import signal
for number in (signal.SIGXCPU, signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
while True: pass
""", wall_s=0.5, ends=("wall", "cpu")),
    # ---- memory
    Attack("2 GiB in one process", "allocates 2 GiB", "b = bytearray(2 << 30)\nprint('ESCAPED', len(b))", probe=True),
    Attack("8 x 180 MiB", "eight children that each hold 180 MiB", """
import os, time
r, w = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        try:
            b = bytearray(180 << 20)
            for i in range(0, len(b), 4096): b[i] = 1
            os.write(w, b'x')
            time.sleep(30)
        finally:
            os._exit(0)
os.close(w)
n = 0
while n < 6 and os.read(r, 1): n += 1
if n >= 6: print('ESCAPED', n)
""", wall_s=8.0, tags=("slow",)),
    Attack("memfd", "memory outside the address-space limit, by memfd_create", """
import os
total = 0
try:
    fds = [os.memfd_create(str(i)) for i in range(24)]
    for fd in fds:
        for _ in range(32): total += os.write(fd, bytes(1 << 20))
except OSError as error: print(error)
if total > 400 << 20: print('ESCAPED', total)
"""),
    Attack("shared memory", "System V segments and /dev/shm", _TRY + """
total = 0
for i in range(16):
    n = libc.shmget(0, 64 << 20, 0o1600)
    if n >= 0:
        libc.shmat.restype = ctypes.c_void_p
        p = libc.shmat(n, None, 0)
        if p not in (None, ctypes.c_void_p(-1).value):
            ctypes.memset(p, 1, 64 << 20); total += 64
for place in ('/dev/shm', '/dev', '/run', '/'):
    try:
        with open(place + '/agentgym-fill', 'wb') as f:
            for _ in range(32): f.write(bytes(1 << 20)); total += 1
    except OSError as error: print(place, error)
if total > 64: print('ESCAPED', total)
"""),
    # ---- processes
    Attack("fork bomb", "forks 400 times", """
import os, time
n = 0
for _ in range(400):
    try:
        if os.fork() == 0:
            time.sleep(20); os._exit(0)
        n += 1
    except OSError: break
print(n)
if n > {processes} + 8: print('ESCAPED')
""", probe=True),
    Attack("fork and exec storm", "every child forks two more, for ever", """
import os
while True:
    try: os.fork(); os.fork()
    except OSError: pass
""", wall_s=1.0, ends=("wall", "cpu", "memory")),
    Attack("daemon", "a double fork, a session of its own, all signals ignored", """
import os, signal, time
if os.fork() == 0:
    try: os.setsid()
    except OSError: pass
    if os.fork() == 0:
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        os.execv('/bin/sleep', ['sleep', '{marker}'])
    os._exit(0)
time.sleep(0.2)
""", probe=True),
    Attack("thread bomb", "threads without end", """
import threading, time
n = 0
try:
    for _ in range(600):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start(); n += 1
except RuntimeError: pass
print(n)
if n > {processes} + 8: print('ESCAPED')
"""),
    # ---- output and disk
    Attack("1 GiB to stdout", "prints without end", """
import os
block = b'x' * 65536
while True: os.write(1, block)
""", wall_s=4.0, ends=("output", "wall")),
    Attack("one large file", "writes 640 MiB into one file", """
import os
n = 0
try:
    with open('large', 'wb') as f:
        for _ in range(640): n += f.write(bytes(1 << 20)); f.flush()
except OSError as error: print(error)
if n > {file_bytes} + (2 << 20): print('ESCAPED', n)
"""),
    Attack("many large files", "fills the disk with files of 8 MiB", """
n = 0
try:
    for i in range(128):
        with open(f'f{i}', 'wb') as f:
            for _ in range(8): n += f.write(bytes(1 << 20))
except OSError as error: print(error)
if n > 2 * {disk_bytes} + (8 << 20): print('ESCAPED', n)
""", wall_s=8.0),
    Attack("many empty files", "makes files without end", """
n = 0
try:
    for i in range(1_000_000):
        open(f'f{i}', 'wb').close(); n += 1
except OSError as error: print(error)
if n > 900_000: print('ESCAPED', n)
""", wall_s=20.0, ends=("disk", "wall"), tags=("slow",)),
    Attack("endless folders", "a folder in a folder in a folder, without rights", """
import os
for i in range(3000):
    os.mkdir('d'); os.chdir('d')
os.mkdir('locked')
try: os.chmod('locked', 0)
except OSError: pass
"""),
    # ---- files of the host
    Attack("password file", "reads the host's password file", """
import hashlib
try: print('HASH', hashlib.sha256(open('/etc/passwd', 'rb').read()).hexdigest())
except OSError as error: print(error)
"""),
    Attack("planted secret", "reads a file that everybody on the host may read",
           "try: print('ESCAPED', open('{secret}').read())\nexcept OSError as error: print(error)", probe=True),
    Attack("stat of host files", "learns name and size of a host's file",
           "import os\ntry: print('ESCAPED', os.stat('{secret}').st_size)\nexcept OSError as error: print(error)"),
    Attack("links to a secret", "reads through a symbolic and a hard link", """
import os
for make in (os.symlink, os.link):
    try:
        make('{secret}', make.__name__); print('ESCAPED', open(make.__name__).read())
    except OSError as error: print(error)
"""),
    Attack("write outside", "writes where everybody on the host may write", """
import os
for place in ('{outside}', '/etc', '/usr', '/var/tmp', '/home', '/root', '/opt'):
    try:
        with open(os.path.join(place, 'agentgym-{tag}'), 'w') as f: f.write('x')
        print('wrote', place)
    except OSError as error: print(error)
""", probe=True),
    Attack("chmod and utime", "changes mode and times of a host's file of the same user", """
import os
for act in (lambda: os.chmod('{owned}', 0o777), lambda: os.utime('{owned}', (1, 1)), lambda: os.truncate('{owned}', 0)):
    try: act()
    except OSError as error: print(error)
""", probe=True),
    Attack("inherited descriptor", "reads every open descriptor", """
import os
for fd in range(3, 2048):
    try:
        if b'{canary}' in os.pread(fd, 4096, 0): print('ESCAPED', fd)
    except OSError: pass
"""),
    Attack("environment", "looks for the host's environment", """
import os
found = dict(os.environ)
text = repr(found)
try:
    for name in os.listdir('/proc'):
        if name.isdigit():
            try: text += open(f'/proc/{name}/environ').read()
            except OSError: pass
except OSError: pass
if '{canary}' in text: print('ESCAPED')
"""),
    # ---- network
    Attack("TCP to the host", "connects to a port of the host", _TRY + """
try:
    with socket.create_connection(('127.0.0.1', {port}), timeout=1): print('ESCAPED')
except OSError as error: print(error)
""", probe=True),
    Attack("UDP to the host", "sends a datagram to the host", _TRY + """
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))
except OSError as error: print(error)
"""),
    Attack("abstract socket", "connects to an abstract Unix socket of the host", _TRY + """
try:
    s = socket.socket(socket.AF_UNIX); s.settimeout(1); s.connect('\\0{abstract}'); print('ESCAPED')
except OSError as error: print(error)
"""),
    Attack("socket by path", "connects to a Unix socket of the host (think of an engine's)", _TRY + """
try:
    s = socket.socket(socket.AF_UNIX); s.settimeout(1); s.connect('{socket}'); print('ESCAPED')
except OSError as error: print(error)
""", probe=True),
    # ---- other processes
    Attack("kill the parent", "signals the process that started it", """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGSTOP, signal.SIGKILL):
    try: os.kill(os.getppid(), number)
    except OSError as error: print(error)
time.sleep(0.05)
""", probe=True),
    Attack("kill everybody", "signals everything it may", """
import os, signal
for number in (signal.SIGSTOP, signal.SIGKILL):
    for target in (1, {victim}, -1):
        try: os.kill(target, number)
        except OSError as error: print(error)
""", probe=True),
    Attack("renice", "lowers the priority of a host's process, pins it to a core", """
import os
for act in (lambda: os.setpriority(os.PRIO_PROCESS, {victim}, 15), lambda: os.sched_setaffinity({victim}, {0}),
            lambda: os.setpriority(os.PRIO_USER, 0, 15)):
    try: act()
    except OSError as error: print(error)
"""),
    Attack("prlimit", "sets a limit of a host's process", """
import resource
try: resource.prlimit({victim}, resource.RLIMIT_NOFILE, (9, 9))
except OSError as error: print(error)
"""),
    Attack("list processes", "finds the host's processes and reads what they were started with", """
import os
try:
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                if '{victim_mark}' in open(f'/proc/{name}/cmdline').read(): print('ESCAPED', name)
            except OSError: pass
except OSError as error: print(error)
"""),
    Attack("ptrace", "attaches to the parent and to a host's process", _TRY + """
for target in (os.getppid(), {victim}):
    if libc.ptrace(16, target, 0, 0) == 0: print('ESCAPED', target)
""", probe=True),
    Attack("the zygote's memory", "opens memory and descriptors of its parent", """
import os
parent = os.getppid()
for act in (lambda: open(f'/proc/{parent}/mem', 'rb'), lambda: os.listdir(f'/proc/{parent}/fd'),
            lambda: open(f'/proc/{parent}/environ').read()):
    try: act(); print('ESCAPED')
    except OSError as error: print(error)
"""),
    # ---- the kernel
    Attack("new namespaces", "makes a user namespace, in which it would be root", _TRY + """
for flags in (0x10000000, 0x10020000, 0x40000000, 0x00020000):
    if libc.unshare(flags) == 0: print('ESCAPED', hex(flags))
""", probe=True),
    Attack("rare system calls", "bpf, io_uring, userfaultfd, keyctl, perf, mount, kcmp, setns", _TRY + """
import platform
numbers = {'x86_64': (321, 425, 323, 250, 298, 165, 312, 308, 175, 310, 438, 447),
           'aarch64': (280, 425, 282, 219, 241, 40, 272, 268, 105, 270, 438, 447)}[platform.machine()]
for number in numbers:
    if libc.syscall(number, 0, 0, 0, 0, 0) >= 0: print('ESCAPED', number)
""", probe=True),
    Attack("devices", "opens devices, makes one, types into the terminal", _TRY + """
for path in ('/dev/kvm', '/dev/mem', '/dev/sda', '/dev/vda', '/dev/fuse', '/dev/net/tun'):
    try: os.open(path, os.O_RDWR); print('ESCAPED', path)
    except OSError as error: print(error)
try:
    os.mknod('disk', 0o60666, os.makedev(254, 0)); os.open('disk', os.O_RDONLY); print('ESCAPED')
except OSError as error: print(error)
import fcntl
try: fcntl.ioctl(0, 0x5412, b'x'); print('ESCAPED')
except OSError as error: print(error)
"""),
    Attack("privileges", "becomes root, changes its root folder, runs set-user-id programs", _TRY + """
for act in (lambda: os.setuid(0), lambda: os.chroot('.')):
    try:
        before = os.getuid(); act()
        if os.getuid() == 0 and before != 0: print('ESCAPED')
    except OSError as error: print(error)
if libc.prctl(39, 0, 0, 0, 0) != 1: print('ESCAPED no_new_privs')
""", probe=True),
    # ---- the sandbox itself
    Attack("forged reports", "writes reports and garbage to the sandbox's own line", """
import os, json
for body in (json.dumps({'exit': 0, 'value': 'forged', 'error': 7}).encode(), b'[' * 100_000, b'\\xff' * 64):
    os.write(3, len(body).to_bytes(4, 'big') + body)
os.write(3, (1 << 31).to_bytes(4, 'big'))
"""),
    Attack("all descriptors closed", "closes the sandbox's own line and goes on", "import os\nos.closerange(0, 256)"),
    Attack("memory of others", "looks for what an earlier caller's program held", """
import ctypes
needle, found = bytes(reversed(b'{yranac}')), False
for line in open('/proc/self/maps'):
    span, rights = line.split()[:2]
    if not rights.startswith('rw') or '[v' in line: continue
    low, high = (int(part, 16) for part in span.split('-'))
    if high - low < 64 << 20 and needle in ctypes.string_at(low, high - low): found = True
# the needle itself lies in this program's memory: look for what only the other program held beside it
other = needle + b'-' + b'held'
for line in open('/proc/self/maps'):
    span, rights = line.split()[:2]
    if not rights.startswith('rw') or '[v' in line: continue
    low, high = (int(part, 16) for part in span.split('-'))
    if high - low < 64 << 20 and ctypes.string_at(low, high - low).count(other) > 1: print('ESCAPED')
""", before="secret = '{canary}' + '-' + 'held'\nkept = [secret * 3 for _ in range(100)]\nprint(secret)"),
    Attack("files of others", "looks for what an earlier caller's program left", """
import os
found = [p for place in ('.', '..', '/tmp', os.environ['TMPDIR']) for p in (os.listdir(place) if os.access(place, os.R_OK) else [])]
if any('agentgym-left' in p for p in found): print('ESCAPED', found)
""", before="import os\nfor place in ('.', '/tmp', os.environ['TMPDIR']):\n    try: open(place + '/agentgym-left', 'w').close()\n    except OSError: pass"),
)  # fmt: skip
