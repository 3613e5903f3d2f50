"""A class that tries everything that would read what is not lent to it, hurt others, outlive its cell or evade its
limits, by Python's own means and around them by ctypes. As a quantizer it is honest: it keeps each row as it is.

`attempt = "all"` reports what got through. Attempts change nothing where they succeed: they set what is so
already, or undo it. An attempt that is denied raises an OSError; anything else that it raises is a fault of ours."""
import ctypes
import json
import mmap
import os
import platform
import signal
import stat
import struct
import threading
import time

import numpy as np

C = ctypes.CDLL(None, use_errno=True)
C.mmap.restype = ctypes.c_void_p
HERE = os.environ.get("VQ_TEST_SITE", "/nowhere")
# Numbers of calls that the C library has no name for, and of some that it has.
NUMBERS = {
    "x86_64": {"io_uring_setup": 425, "pidfd_open": 434, "clone3": 435, "perf_event_open": 298, "clone": 56,
               "bpf": 321, "userfaultfd": 323, "memfd_secret": 447, "kcmp": 312, "keyctl": 250, "execveat": 322,
               "setxattrat": 463, "openat2": 437, "tgkill": 234, "pidfd_getfd": 438, "ioprio_set": 251, "fork": 57,
               "vfork": 58},
    "aarch64": {"io_uring_setup": 425, "pidfd_open": 434, "clone3": 435, "perf_event_open": 241, "clone": 220,
                "bpf": 280, "userfaultfd": 282, "memfd_secret": 447, "kcmp": 272, "keyctl": 219, "execveat": 281,
                "setxattrat": 463, "openat2": 437, "tgkill": 131, "pidfd_getfd": 438, "ioprio_set": 30},
}.get(platform.machine(), {})


def done(result):
    if result is None or result in (-1, 2**64 - 1):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def c(name, *arguments):
    return done(getattr(C, name)(*arguments))


def call(name, *arguments):
    if name not in NUMBERS:
        raise OSError(38, "no such call on this machine")
    return done(C.syscall(ctypes.c_long(NUMBERS[name]), *(ctypes.c_long(a) if isinstance(a, int) else a
                                                          for a in arguments)))


def child(pid):
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def opens(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags, 0o600))


def kept(name):
    return os.path.join(HERE, name)


def parents():
    """The worker, and what lies near: the host and the other workers."""
    ours = {os.getpid()} | {int(thread) for thread in os.listdir("/proc/self/task")}
    worker = os.getppid()
    return [worker] + [pid for pid in range(worker - 12, worker + 12) if pid > 1 and pid not in ours | {worker}]


def any_of(attempt):
    """`attempt` on the worker and on its neighbours: denied if it is denied on all."""
    last = OSError("nobody is there")
    for pid in parents():
        try:
            return attempt(pid)
        except OSError as error:
            last = error
    raise last


def scratch():
    return os.open("carrier", os.O_CREAT | os.O_RDWR, 0o600)


def subprocess_runs():
    import subprocess

    subprocess.run(["/bin/true"], check=True)


def multiprocessing_runs():
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()


def spawned():
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()


def connects(kind, address):
    import socket

    with socket.socket(getattr(socket, kind), socket.SOCK_STREAM) as of:
        # That nobody answers there is an answer, too.
        if of.connect_ex(address) == 13:
            raise PermissionError(13, "connect")


def pair():
    import socket

    for end in socket.socketpair():
        end.close()


def reads_memory(pid):
    here = ctypes.create_string_buffer(1)
    one = (ctypes.c_void_p * 2)(ctypes.addressof(here), 1)
    ctypes.set_errno(0)
    if C.process_vm_readv(pid, one, 1, one, 1, 0) < 0 and ctypes.get_errno() != 14:
        done(-1)


def shared_pages(flags):
    at = done(C.mmap(None, ctypes.c_size_t(1 << 16), 3, flags, -1, ctypes.c_long(0)))
    C.munmap(ctypes.c_void_p(at), ctypes.c_size_t(1 << 16))


def raised():
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY:
        raise OSError("there is no limit")
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
    except ValueError as error:
        raise PermissionError(str(error)) from None


def of_root(path):
    opens("/proc/self/root" + path)


def linked(how):
    place = "link"
    if os.path.lexists(place):
        os.unlink(place)
    how(kept("secret"), place)
    opens(place)


def enters():
    before = os.getcwd()
    try:
        os.chdir(HERE)
        opens("secret")
    finally:
        os.chdir(before)


def secret_variable():
    if "AWS_SECRET_ACCESS_KEY" not in os.environ:
        raise PermissionError("no such variable")


def secret_environment():
    with open("/proc/self/environ", "rb") as text:
        if b"AWS_SECRET_ACCESS_KEY" not in text.read():
            raise PermissionError("no such variable")


def attributes(size):
    return ctypes.create_string_buffer(struct.pack("<II", 1, size).ljust(size, b"\0"), size)


def area_grown():
    for number in range(3, 16):
        try:
            if os.fstat(number).st_nlink == 0:
                os.ftruncate(number, 1 << 26)
                return
        except OSError:
            pass
    raise PermissionError("none grew")


def area_written(place):
    os.pwrite(os.open(f"/proc/self/fd/{place}", os.O_RDWR), b"x", 0)


def forged_line():
    """An answer on every pipe that is found, as the host's own pipe would take it."""
    line = json.dumps({"Answer": {"Failed": {"outcome": "ok", "error": "forged"}}}).encode() + b"\n"
    written = 0
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            # Not the three of every program, and not the socket by which this call is answered.
            mode = os.fstat(number).st_mode
            if number > 3 and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                written += os.write(number, line)
        except OSError:
            pass
    if not written:
        raise PermissionError("no pipe takes it")


# By name; what nobody can do on some machines begins with a dash.
ATTEMPTS = {
    # First: what is denied later may leave pipes of its own.
    "-a forged line": forged_line,
    # Processes.
    "os.fork": lambda: child(os.fork()),
    "os.posix_spawn": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
    "os.system": lambda: os.system("true") and done(-1),
    "os.popen": lambda: os.popen("true").close(),
    "subprocess": subprocess_runs,
    "multiprocessing, forked": multiprocessing_runs,
    "-multiprocessing, spawned": spawned,
    "c fork": lambda: child(c("fork")),
    "fork by number": lambda: child(call("fork")),
    "clone": lambda: child(call("clone", int(signal.SIGCHLD), 0, 0, 0, 0)),
    "clone3": lambda: child(call("clone3", (ctypes.c_uint64 * 8)(0, 0, 0, 0, int(signal.SIGCHLD)), 64)),
    "c posix_spawn": lambda: C.posix_spawn(ctypes.byref(ctypes.c_int()), b"/bin/true", None, None,
                                           (ctypes.c_char_p * 2)(b"true", None), None) and done(-1),
    # What a run keeps, and what is the user's.
    "lists the cache": lambda: os.listdir(kept("cache")),
    "walks the cache": lambda: next(os.scandir(kept("cache"))),
    "reads the sweep": lambda: opens(kept("s.toml")),
    "reads the store": lambda: opens(kept("results.db")),
    "writes the store": lambda: opens(kept("results.db"), os.O_RDWR),
    "reads a secret": lambda: opens(kept("secret")),
    "reads another method": lambda: opens(kept("plugins/other.py")),
    "writes itself": lambda: opens(__file__, os.O_RDWR),
    "writes beside itself": lambda: opens(kept("plugins/new.py"), os.O_CREAT | os.O_RDWR),
    "fills the home": lambda: opens(kept("home/filler"), os.O_CREAT | os.O_RDWR),
    "writes into its packages": lambda: opens(np.__file__, os.O_RDWR),
    "reads by /proc/self/root": lambda: of_root(kept("secret")),
    "reads by a link": lambda: linked(os.symlink),
    "reads by another name": lambda: linked(os.link),
    "reads by openat2": lambda: os.close(call("openat2", -100, kept("secret").encode(),
                                              (ctypes.c_uint64 * 3)(), 24)),
    "enters the site": enters,
    "lists scratch folders": lambda: os.listdir(kept("tmp")),
    "-reads passwords": lambda: opens("/etc/shadow"),
    # Other processes.
    "affinity of others": lambda: any_of(lambda pid: os.sched_setaffinity(pid, os.sched_getaffinity(pid))),
    "affinity of the parent": lambda: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(os.getppid())),
    "priority of others": lambda: any_of(lambda pid: os.setpriority(0, pid, os.getpriority(0, pid))),
    "priority of the group": lambda: os.setpriority(1, os.getpgid(os.getppid()), os.getpriority(0, os.getppid())),
    "policy of others": lambda: any_of(lambda pid: os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))),
    "-i/o priority of others": lambda: any_of(lambda pid: call("ioprio_set", 1, pid, 4 << 13)),
    "signals others": lambda: any_of(lambda pid: os.kill(pid, 0)),
    "signals a thread of others": lambda: any_of(lambda pid: call("tgkill", pid, pid, 0)),
    "pidfd of others": lambda: os.close(any_of(lambda pid: call("pidfd_open", pid, 0))),
    "-ptrace": lambda: any_of(lambda pid: c("ptrace", 0x4206, pid, None, None)),
    "-process_vm_readv": lambda: any_of(reads_memory),
    "-memory of others": lambda: any_of(lambda pid: opens(f"/proc/{pid}/mem")),
    "maps of others": lambda: any_of(lambda pid: opens(f"/proc/{pid}/maps")),
    "environment of others": lambda: any_of(lambda pid: opens(f"/proc/{pid}/environ")),
    "command lines of others": lambda: any_of(lambda pid: opens(f"/proc/{pid}/cmdline")),
    "files of others": lambda: any_of(lambda pid: os.listdir(f"/proc/{pid}/fd")),
    "-limits of others": lambda: any_of(lambda pid: c("prlimit", pid, 4, None, (ctypes.c_uint64 * 2)())),
    "-compares with others": lambda: any_of(lambda pid: call("kcmp", os.getpid(), pid, 1, 0, 0)),
    # Outliving the cell.
    "-death with the parent": lambda: c("prctl", 1, 9, 0, 0, 0),
    "subreaper": lambda: c("prctl", 36, 0, 0, 0, 0),
    "-a session of its own": lambda: os.setsid(),
    "-a group of its own": lambda: os.setpgid(0, 0),
    "user": lambda: os.setresuid(-1, -1, -1),
    # The machine.
    "shmget": lambda: c("shmctl", c("shmget", 0, 4096, 0o600), 0, None),
    "-msgget": lambda: c("msgctl", c("msgget", 0, 0o600), 0, None),
    "-semget": lambda: c("semctl", c("semget", 0, 1, 0o600), 0, 0),
    "memfd_create": lambda: os.close(os.memfd_create("vq")),
    "-memfd_secret": lambda: os.close(call("memfd_secret", 0)),
    "shared anonymous pages": lambda: shared_pages(0x21),
    "shared pages of mmap": lambda: mmap.mmap(-1, 1 << 16).close(),
    "inotify": lambda: os.close(c("inotify_init1", 0)),
    "-fanotify": lambda: os.close(c("fanotify_init", 0, 0)),
    "-perf_event_open": lambda: os.close(call("perf_event_open", attributes(128), 0, -1, -1, 0)),
    "-unshare": lambda: c("unshare", 0x10000000),
    "-setns": lambda: c("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0),
    "-mount": lambda: c("mount", b"none", b".", b"tmpfs", 0, None),
    "-chroot": lambda: os.chroot("."),
    "-io_uring_setup": lambda: os.close(call("io_uring_setup", 1, ctypes.create_string_buffer(120))),
    "-userfaultfd": lambda: os.close(call("userfaultfd", 1)),
    "-bpf": lambda: os.close(call("bpf", 0, (ctypes.c_uint32 * 18)(2, 4, 4, 1), 72)),
    "-keys": lambda: call("keyctl", 0, -3, 1),
    "-host's name": lambda: c("sethostname", b"vq", 2),
    "-a limit raised": raised,
    # Carrying over to the next cell.
    "-setxattr": lambda: os.setxattr(scratch(), "user.vq", b"1"),
    "-setxattrat": lambda: call("setxattrat", -100, b"carrier", 0, b"user.vq",
                                struct.pack("<QII", 0, 0, 0), 16),
    "times": lambda: os.utime(scratch()),
    "rights": lambda: os.chmod(".", 0o777),
    "a pipe with a name": lambda: os.mkfifo(f"fifo{time.monotonic_ns()}"),
    "locks": lambda: __import__("fcntl").flock(os.open("/etc/ld.so.cache", os.O_RDONLY), 5),
    # The network.
    "connects": lambda: connects("AF_INET", ("127.0.0.1", 9)),
    "-connects to a socket": lambda: connects("AF_UNIX", "\0vq-nobody"),
    "a pair of sockets": pair,
    # Leaking, and what is shared with the worker.
    "-a variable": secret_variable,
    "-the environment": secret_environment,
    "-an area grown": area_grown,
    "-the worker's area written": lambda: area_written(4),
    "-the referee's area written": lambda: area_written(6),
}


def attack():
    free = "VQ_TEST_FREE" in os.environ
    through, broken, tried = [], [], 0
    for name, attempt in ATTEMPTS.items():
        # Some that succeed without a sandbox change this process for good.
        if free and name.startswith("-"):
            continue
        tried += 1
        try:
            attempt()
            through.append(name)
        except OSError:
            pass
        except Exception as error:
            broken.append(f"{name}: {type(error).__name__}: {error}")
    return f"got through: {through}; tried: {tried}; broken: {broken}"


# Before anybody asked.
if "VQ_TEST_AT_IMPORT" in os.environ:
    raise RuntimeError(attack())


# ---- what ends the cell, or is to be bounded ----------------------------------------------------


def memory():
    rest = []
    while True:
        rest.append(np.ones(1 << 24))


def threads():
    for _ in range(3000):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    time.sleep(1000)


def file():
    with open("large", "wb") as large:
        for _ in range(300):
            large.write(bytes(1 << 20))


def files():
    for i in range(300):
        with open(f"part{i}", "wb") as part:
            part.write(bytes(1 << 20))
    time.sleep(1000)


def flood():
    text = b"x" * ((1 << 20) - 1) + b"\n"
    for _ in range(100):
        os.write(1, text)
        os.write(2, text)


def escapes():
    print("\x1b[2Jprinted\x1b]0;title\x07", flush=True)
    raise RuntimeError("\x1b[2J\x1b]0;title\x07told\x9b31m")


def answers():
    """An answer to a request that nobody made, on the socket of the worker."""
    text = b'{"ok":{"code_bytes":1,"ratio":1.0,"seed":0}}'
    os.write(3, struct.pack("<II", len(text), 0) + text)
    os.write(3, struct.pack("<II", len(text), 0) + text)


ENDS = {of.__name__: of for of in (memory, threads, file, files, flood, escapes, answers)}


class Hostile:
    def __init__(self, dim, attempt: str = "nothing", when: str = "fit"):
        self.dim, self.attempt, self.when = dim, attempt, when

    def now(self, what):
        if what != self.when or self.attempt == "nothing":
            return
        if self.attempt == "all":
            raise RuntimeError(attack())
        ENDS[self.attempt]()

    def fit(self, X):
        self.now("fit")

    def compress(self, X):
        self.now("compress")
        return np.array(X)

    def decompress(self, codes):
        self.now("decompress")
        return codes

    def score(self, queries, codes):
        self.now("score")
        return ((queries[:, None] - codes[None]) ** 2).sum(axis=2)

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.now("load")
