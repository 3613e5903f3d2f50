/* attack: a plugin that tries everything that would hurt others, outlive its cell, or evade its
 * limits, and reports what got through. As a quantizer it is honest: it keeps each vector as it is.
 *
 * Attempts change nothing where they succeed: they set what is so already, or undo it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "vq_plugin.h"

#define TEXT(literal) {literal, sizeof(literal) - 1}
/* Of linux/fs.h, which does not go together with sys/mount.h everywhere. */
#define GET_FLAGS _IOR('f', 1, long)
#define SET_FLAGS _IOW('f', 2, long)

struct vq_instance {
  size_t dim;
  char when[64];
};

/* Others: the parent and all of this user. */
static int affinity(void) {
  cpu_set_t set;
  return sched_getaffinity(getppid(), sizeof set, &set) ? 0 : sched_setaffinity(getppid(), sizeof set, &set);
}
static int affinity_raw(void) {
  uint64_t set[16] = {0};
  long n = syscall(SYS_sched_getaffinity, getppid(), sizeof set, set);
  return n < 0 ? 0 : (int)syscall(SYS_sched_setaffinity, getppid(), sizeof set, set);
}
static int nice_of_parent(void) { return setpriority(PRIO_PROCESS, (id_t)getppid(), getpriority(PRIO_PROCESS, (id_t)getppid())); }
static int nice_of_group(void) { return setpriority(PRIO_PGRP, (id_t)getpgid(getppid()), getpriority(PRIO_PROCESS, (id_t)getppid())); }
static int policy(void) { return sched_setscheduler(getppid(), SCHED_OTHER, &(struct sched_param){0}); }
static int policy_param(void) { return sched_setparam(getppid(), &(struct sched_param){0}); }
static int policy_attr(void) {
  char attr[48] = {0};
  return syscall(SYS_sched_getattr, getppid(), attr, sizeof attr, 0) ? 0 : (int)syscall(SYS_sched_setattr, getppid(), attr, 0);
}
static int io_priority(void) { return (int)syscall(SYS_ioprio_set, 1, getppid(), syscall(SYS_ioprio_get, 1, getppid())); }
static int shm_sysv(void) {
  int id = shmget(IPC_PRIVATE, 4096, 0600);
  return id < 0 ? -1 : shmctl(id, IPC_RMID, NULL);
}
static int shm_others(void) { return shmctl(0, SHM_STAT, &(struct shmid_ds){0}) < 0 && errno != EINVAL && errno != EIDRM ? -1 : 0; }
static int message_queue(void) {
  int id = msgget(IPC_PRIVATE, 0600);
  return id < 0 ? -1 : msgctl(id, IPC_RMID, NULL);
}
static int semaphores(void) {
  int id = semget(IPC_PRIVATE, 1, 0600);
  return id < 0 ? -1 : semctl(id, 0, IPC_RMID);
}
static int posix_queue(void) {
  mqd_t queue = mq_open("/vq-attack", O_CREAT | O_RDWR, 0600, NULL);
  return queue < 0 ? -1 : (mq_close(queue), mq_unlink("/vq-attack"));
}
static int pidfd(void) { return (int)syscall(434, getppid(), 0); }
static int reads_memory(void) {
  char here, *there = &here;
  struct iovec to = {&here, 1}, from = {there, 1};
  /* That nothing is mapped at this address of the parent's would be an answer, too. */
  return process_vm_readv(getppid(), &to, 1, &from, 1, 0) < 0 && errno != EFAULT ? -1 : 0;
}
static int limits_of_parent(void) { return prlimit(getppid(), RLIMIT_CORE, NULL, &(struct rlimit){0, 0}); }
static int owner_of_signals(void) {
  int ends[2];
  return pipe(ends) ? 0 : fcntl(ends[0], F_SETOWN, getppid());
}

/* Signals to the parent by other calls than kill. */
static int signal_thread(void) { return (int)syscall(SYS_tgkill, getppid(), getppid(), 0); }
static int signal_any_thread(void) { return (int)syscall(SYS_tkill, getppid(), 0); }
static int signal_queued(void) { return sigqueue(getppid(), 0, (union sigval){0}); }
static int signal_by_pidfd(void) { return (int)syscall(424, (int)syscall(434, getppid(), 0), 0, NULL, 0); }
static int signals_of_file(void) {
  int ends[2];
  return pipe(ends) ? 0 : fcntl(ends[0], F_SETSIG, SIGIO);
}
static int owner_extended(void) {
  int ends[2];
  struct { int type, pid; } owner = {1 /* F_OWNER_PID */, getppid()};
  return pipe(ends) ? 0 : fcntl(ends[0], 15 /* F_SETOWN_EX */, &owner);
}
static int asynchronous(void) {
  int ends[2];
  return pipe(ends) ? 0 : ioctl(ends[0], FIOASYNC, &(int){1});
}
static int notices(void) {
  int fd = open(".", O_RDONLY);
  return fcntl(fd, F_NOTIFY, DN_CREATE) < 0 ? -1 : fcntl(fd, F_NOTIFY, 0);
}
static int timer_of_parent(void) {
  timer_t timer;
  struct sigevent event = {.sigev_notify = 4 /* SIGEV_THREAD_ID */, .sigev_signo = SIGALRM};
  event._sigev_un._tid = getppid();
  return timer_create(CLOCK_MONOTONIC, &event, &timer);
}
static int types_on_terminal(void) { return ioctl(0, TIOCSTI, "x"); }

/* The cell's other processes: their numbers are near. */
static int neighbours(int (*attempt)(pid_t)) {
  for (pid_t pid = getpid() - 8; pid < getpid() + 8; pid++) {
    char thread[64];
    snprintf(thread, sizeof thread, "/proc/self/task/%d", (int)pid);
    if (access(thread, F_OK) && attempt(pid) >= 0) return 0;
  }
  return -1;
}
static int signals_it(pid_t pid) { return kill(pid, 0); }
static int pins_it(pid_t pid) {
  cpu_set_t set;
  return sched_getaffinity(pid, sizeof set, &set) ? -1 : sched_setaffinity(pid, sizeof set, &set);
}
static int slows_it(pid_t pid) {
  errno = 0;
  int now = getpriority(PRIO_PROCESS, (id_t)pid);
  return errno ? -1 : setpriority(PRIO_PROCESS, (id_t)pid, now);
}
static int opens_of(pid_t pid, const char *name, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
  int fd = open(path, flags);
  return fd < 0 ? -1 : close(fd);
}
static int reads_its_memory(pid_t pid) { return opens_of(pid, "mem", O_RDONLY); }
static int reads_its_maps(pid_t pid) { return opens_of(pid, "maps", O_RDONLY); }
static int reads_its_environment(pid_t pid) { return opens_of(pid, "environ", O_RDONLY); }
static int reads_its_line(pid_t pid) { return opens_of(pid, "cmdline", O_RDONLY); }
static int lists_its_files(pid_t pid) { return opens_of(pid, "fd", O_RDONLY | O_DIRECTORY); }
static int enters_its_folder(pid_t pid) { return opens_of(pid, "cwd", O_RDONLY | O_DIRECTORY); }
static int spares_it(pid_t pid) { return opens_of(pid, "oom_score_adj", O_WRONLY); }
static int neighbours_signalled(void) { return neighbours(signals_it); }
static int neighbours_pinned(void) { return neighbours(pins_it); }
static int neighbours_slowed(void) { return neighbours(slows_it); }
static int neighbours_memory(void) { return neighbours(reads_its_memory); }
static int neighbours_maps(void) { return neighbours(reads_its_maps); }
static int neighbours_environment(void) { return neighbours(reads_its_environment); }
static int neighbours_lines(void) { return neighbours(reads_its_line); }
static int neighbours_files(void) { return neighbours(lists_its_files); }
static int neighbours_folders(void) { return neighbours(enters_its_folder); }
static int neighbours_spared(void) { return neighbours(spares_it); }
static int parents_memory(void) { return reads_its_memory(getppid()); }
static int parents_maps(void) { return reads_its_maps(getppid()); }
static int parents_environment(void) { return reads_its_environment(getppid()); }
static int parents_files(void) { return lists_its_files(getppid()); }
static int parents_descriptor(void) { return (int)syscall(438, (int)syscall(434, getppid(), 0), 0, 0); }
static int traces_parent(void) { return ptrace(PTRACE_SEIZE, getppid(), NULL, NULL) ? -1 : 0; }
static int is_traced(void) { return ptrace(PTRACE_TRACEME, 0, NULL, NULL) ? -1 : 0; }

/* What a run keeps: prepared rows, the store, the plugins. */
static const char *kept(const char *name) {
  static char path[4096];
  snprintf(path, sizeof path, "%s/%s", getenv("VQ_TEST_PLACE"), name);
  return path;
}
static int opens_path(const char *path, int flags) {
  int fd = open(path, flags, 0600);
  return fd < 0 ? -1 : close(fd);
}
static int lists_cache(void) { return opens_path(kept("cache"), O_RDONLY | O_DIRECTORY); }
static int lists_scratches(void) { return opens_path(kept("scratches"), O_RDONLY | O_DIRECTORY); }
static int writes_plugin(void) { return opens_path(kept("plugins/libattack.so"), O_RDWR); }
static int reads_other_plugin(void) { return opens_path(kept("plugins/libtrespass.so"), O_RDONLY); }
static int reads_sweep(void) { return opens_path(kept("sweep.toml"), O_RDONLY); }
static int reads_store(void) { return opens_path(kept("results/s.db"), O_RDONLY); }
static int reads_by_root(void) {
  char path[4200];
  snprintf(path, sizeof path, "/proc/self/root%s", kept("sweep.toml"));
  return opens_path(path, O_RDONLY);
}
static int reads_by_link(void) {
  unlink("link");
  return symlink(kept("sweep.toml"), "link") ? -1 : opens_path("link", O_RDONLY);
}
static int reads_by_name(void) {
  unlink("name");
  return link(kept("sweep.toml"), "name") ? -1 : opens_path("name", O_RDONLY);
}
static int reads_by_openat2(void) {
  uint64_t how[3] = {O_RDONLY, 0, 0};
  return (int)syscall(437, AT_FDCWD, kept("sweep.toml"), how, sizeof how);
}
static int reads_by_handle(void) {
  union { struct file_handle of; char bytes[256]; } handle = {.of.handle_bytes = 128};
  int mount, fd;
  if (name_to_handle_at(AT_FDCWD, kept("sweep.toml"), &handle.of, &mount, 0)) return -1;
  fd = open("/", O_RDONLY | O_DIRECTORY);
  return open_by_handle_at(fd, &handle.of, O_RDONLY);
}
static int enters_place(void) { return chdir(kept("")) ? -1 : opens_path("sweep.toml", O_RDONLY); }

/* The areas and the socket of the exchange. */
static int areas(int (*attempt)(char *, size_t, int)) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512], rights[8];
  unsigned long from, to;
  int got = -1;
  while (maps && fgets(line, sizeof line, maps))
    if (strstr(line, "memfd:") && sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3 &&
        attempt((char *)from, to - from, rights[1] == 'w') >= 0)
      got = 0;
  if (maps) fclose(maps);
  return got;
}
static int makes_writable(char *at, size_t len, int writable) { return writable ? -1 : mprotect(at, len, PROT_READ | PROT_WRITE); }
static int maps_again(char *at, size_t len, int writable) {
  void *again = writable ? MAP_FAILED : mremap(at, 0, len, MREMAP_MAYMOVE);
  return again == MAP_FAILED ? -1 : mprotect(again, len, PROT_READ | PROT_WRITE);
}
static int punches(char *at, size_t len, int writable) { return writable ? -1 : madvise(at, len, MADV_REMOVE); }
static int opens_area(char *at, size_t len, int writable) {
  char path[96];
  (void)writable;
  snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (unsigned long)at, (unsigned long)(at + len));
  return opens_path(path, O_RDWR);
}
static int area_writable(void) { return areas(makes_writable); }
static int area_again(void) { return areas(maps_again); }
static int area_punched(void) { return areas(punches); }
static int area_opened(void) { return areas(opens_area); }
static int area_truncated(void) {
  struct stat of;
  for (int fd = 3; fd < 64; fd++)
    if (fstat(fd, &of) == 0 && S_ISREG(of.st_mode) && of.st_nlink == 0 && ftruncate(fd, 1) == 0) return 0;
  return -1;
}
static int socket_of_cell(void) {
  struct stat of;
  for (int fd = 3; fd < 64; fd++)
    if (fstat(fd, &of) == 0 && S_ISSOCK(of.st_mode)) return fd;
  return -1;
}
static int sends_descriptors(void) {
  union { struct cmsghdr head; char bytes[CMSG_SPACE(sizeof(int))]; } control = {
      .head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  struct iovec nothing = {"", 0};
  struct msghdr message = {.msg_iov = &nothing, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  return (int)sendmsg(socket_of_cell(), &message, MSG_DONTWAIT);
}
static int takes_descriptors(void) {
  char byte;
  struct iovec one = {&byte, 1};
  struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1};
  ssize_t got = recvmsg(socket_of_cell(), &message, MSG_DONTWAIT | MSG_PEEK);
  return got < 0 && errno == EAGAIN ? 0 : (int)got;
}
static int sets_socket(void) { return setsockopt(socket_of_cell(), SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)); }

/* Carrying over to the next cell. */
static int scratch_file(void) { return open("carrier", O_CREAT | O_RDWR, 0600); }
static int attribute(void) { return scratch_file(), setxattr("carrier", "user.vq", "1", 1, 0); }
static int attribute_fd(void) { return fsetxattr(scratch_file(), "user.vq", "1", 1, 0); }
static int attribute_at(void) {
  struct { uint64_t value; uint32_t size, flags; } of = {(uintptr_t) "1", 1, 0};
  return scratch_file(), (int)syscall(463, AT_FDCWD, "carrier", 0, "user.vq", &of, sizeof of);
}
static int attribute_read(void) {
  char value[8];
  return scratch_file(), getxattr("carrier", "user.vq", value, sizeof value) < 0 && errno != ENODATA ? -1 : 0;
}
static int flags_by_ioctl(void) {
  int fd = scratch_file();
  long flags = 0;
  return ioctl(fd, GET_FLAGS, &flags) ? -1 : ioctl(fd, SET_FLAGS, &flags);
}
static int flags_by_call(void) {
  uint64_t attr[4] = {0};
  scratch_file();
  return syscall(468, AT_FDCWD, "carrier", attr, sizeof attr, 0) ? -1 : (int)syscall(469, AT_FDCWD, "carrier", attr, sizeof attr, 0);
}
static int times_of_file(void) { return futimens(scratch_file(), NULL); }
static int lease(void) {
  int fd = open("/proc/self/exe", O_RDONLY);
  return fcntl(scratch_file(), F_SETLEASE, F_RDLCK) < 0 && errno != EAGAIN ? (close(fd), -1) : 0;
}

/* Locks on a file that all cells may read tell each other numbers, and take memory that nobody counts. */
static int shared_file(void) { return open("/etc/ld.so.cache", O_RDONLY); }
static int locks(void) { return flock(shared_file(), LOCK_SH | LOCK_NB); }
static int locks_bytes(void) { return fcntl(shared_file(), F_SETLK, &(struct flock){.l_type = F_RDLCK, .l_start = 42, .l_len = 1}); }
static int locks_bytes_of_file(void) {
  return fcntl(shared_file(), F_OFD_SETLK, &(struct flock){.l_type = F_RDLCK, .l_start = 42, .l_len = 1});
}
static int sees_locks(void) { return fcntl(shared_file(), F_GETLK, &(struct flock){.l_type = F_RDLCK, .l_len = 1}); }
/* So do pages that are dropped from memory, or found there. */
static int drops_pages(void) { return (errno = posix_fadvise(shared_file(), 0, 0, POSIX_FADV_DONTNEED)) ? -1 : 0; }
static int finds_pages(void) {
  char byte;
  struct iovec one = {&byte, 1};
  return (int)preadv2(shared_file(), &one, 1, 0, 8 /* RWF_NOWAIT */) < 0 && errno != EAGAIN ? -1 : 0;
}
static int pages_out(void) {
  void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, shared_file(), 0);
  return page == MAP_FAILED ? -1 : madvise(page, 4096, 21 /* MADV_PAGEOUT */);
}
static int merges_pages(void) {
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return page == MAP_FAILED ? -1 : madvise(page, 4096, MADV_MERGEABLE);
}
static int counts_pages(void) {
  uint64_t range[2] = {0, 4096}, found[5];
  return (int)syscall(451, shared_file(), range, found, 0);
}
static int adds_key(void) { return (int)syscall(SYS_add_key, "user", "vq", "1", 1, -2) < 0 ? -1 : 0; }
static int requests_key(void) { return (int)syscall(SYS_request_key, "user", "vq", NULL, -2) < 0 && errno != ENOKEY ? -1 : 0; }
static int of_family(int family, int type) {
  int fd = socket(family, type, 0);
  return fd < 0 ? -1 : close(fd);
}
static int abstract_socket(void) { return of_family(AF_UNIX, SOCK_DGRAM); }
static int kernel_socket(void) { return of_family(AF_NETLINK, SOCK_RAW); }
static int machine_socket(void) { return of_family(40 /* AF_VSOCK */, SOCK_STREAM); }
static int cipher_socket(void) { return of_family(38 /* AF_ALG */, SOCK_SEQPACKET); }
static int times_of_library(void) { return utimensat(AT_FDCWD, kept("plugins/libattack.so"), NULL, 0); }
static int node(void) { return mkfifo("fifo", 0600); }

/* Outliving the cell. */
static int ends_child(long child) {
  if (child == 0) _exit(0);
  return child < 0 ? -1 : waitpid((pid_t)child, NULL, 0) < 0 ? -1 : 0;
}
static int forks(void) { return ends_child(fork()); }
static int clones(void) { return ends_child(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }
static int clones_3(void) {
  uint64_t args[8] = {[4] = SIGCHLD};
  return ends_child(syscall(435, args, sizeof args));
}
static int clones_away(void) { return ends_child(syscall(SYS_clone, SIGCHLD | CLONE_PARENT, 0, 0, 0, 0)); }
static int opens_pipe(void) {
  FILE *pipe = popen("true", "r");
  return pipe ? pclose(pipe) : -1;
}
static int survives(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL); }
static int user_of_files(void) { return (int)syscall(SYS_setfsuid, -1) < 0 ? -1 : 0; }
static int user(void) { return setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1); }
static int group(void) { return setpgid(0, 0); }
static int reaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 0); }

static int session(void) { return setsid(); }
static int spares_itself(void) { return opens_path("/proc/self/oom_score_adj", O_WRONLY); }
static int sets_groups(void) { return opens_path("/proc/self/setgroups", O_WRONLY); }
static int maps_users(void) { return opens_path("/proc/self/uid_map", O_WRONLY); }
static int fills_core(void) { return opens_path("/proc/self/coredump_filter", O_WRONLY); }
static int writes_itself(void) { return opens_path("/proc/self/mem", O_RDWR); }
static int hides(void) { return prctl(PR_SET_DUMPABLE, 0); }
static int personal(void) { return syscall(SYS_personality, 0x0040000) < 0 ? -1 : 0; }
static int enters_namespace(void) { return setns(open("/proc/self/ns/uts", O_RDONLY), 0); }
static int new_root(void) { return chroot("."); }

/* Evading limits. */
static int maps(int fd, int flags) { return mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED ? -1 : 0; }
static int memory_file(void) { return memfd_create("vq", 0) < 0 ? -1 : 0; }
static int memory_file_raw(void) { return syscall(SYS_memfd_create, "vq", 1) < 0 ? -1 : 0; }
static int memory_secret(void) { return syscall(447, 0) < 0 ? -1 : 0; }
static int memory_shared(void) { return maps(-1, MAP_SHARED | MAP_ANONYMOUS); }
static int memory_validated(void) { return maps(-1, MAP_SHARED_VALIDATE | MAP_ANONYMOUS); }
static int memory_of_zero(void) {
  int fd = open("/dev/zero", O_RDWR);
  return fd < 0 ? -1 : maps(fd, MAP_SHARED);
}
static int memory_downwards(void) { return maps(-1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN); }
static int large_pipe(void) {
  int ends[2];
  return pipe(ends) ? 0 : fcntl(ends[0], F_SETPIPE_SZ, 1 << 17) < 0 ? -1 : 0;
}
static int raises_limit(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_DATA, &limit);
  limit.rlim_max = RLIM_INFINITY;
  return setrlimit(RLIMIT_DATA, &limit);
}

static int ring(void) {
  char setup[120] = {0};
  return (int)syscall(425, 1, setup) < 0 ? -1 : 0;
}
static int own_faults(void) { return (int)syscall(SYS_userfaultfd, 1) < 0 ? -1 : 0; }
static int kernel_program(void) {
  uint32_t map[18] = {2 /* an array */, 4, 4, 1};
  return (int)syscall(SYS_bpf, 0, map, sizeof map) < 0 ? -1 : 0;
}
static int fills_home(void) { return opens_path(kept("home/filler"), O_CREAT | O_RDWR); }

/* Leaking. */
static int watches(void) { return inotify_init() < 0 ? -1 : 0; }
static int watches_1(void) { return (int)syscall(SYS_inotify_init1, IN_CLOEXEC) < 0 ? -1 : 0; }
static int watches_all(void) { return fanotify_init(FAN_CLASS_NOTIF, O_RDONLY) < 0 ? -1 : 0; }
static int secret(void) { return getenv("AWS_SECRET_ACCESS_KEY") ? 0 : -1; }
static int compares(void) { return (int)syscall(SYS_kcmp, getpid(), getppid(), 1, 0, 0) < 0 ? -1 : 0; }

/* The machine, and ways out. */
static int performance(void) {
  uint64_t attr[16] = {1 | (uint64_t)sizeof(uint64_t[16]) << 32, 0, [5] = 1 << 5};
  return syscall(SYS_perf_event_open, attr, 0, -1, -1, 0) < 0 ? -1 : 0;
}
static int host_name(void) {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return sethostname(name, strlen(name));
}
static int clock_of_all(void) {
  struct timex by = {.modes = ADJ_STATUS};
  return adjtimex(&(struct timex){0}) < 0 ? -1 : (adjtimex(&by) < 0 ? -1 : 0);
}
static int clock_raw(void) {
  struct timex by = {.modes = ADJ_FREQUENCY};
  struct timex now = {0};
  if (syscall(SYS_adjtimex, &now) < 0) return -1;
  by.freq = now.freq;
  return syscall(SYS_clock_adjtime, CLOCK_REALTIME, &by) < 0 ? -1 : 0;
}
static int real_time(void) {
  if (sched_setscheduler(0, SCHED_RR, &(struct sched_param){1})) return -1;
  return sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
}
static int hurries(void) {
  int now = getpriority(PRIO_PROCESS, 0);
  return setpriority(PRIO_PROCESS, 0, now - 1) ? -1 : setpriority(PRIO_PROCESS, 0, now);
}
static int keys(void) { return (int)syscall(SYS_keyctl, 0, -3, 1) < 0 ? -1 : 0; }
static int leaves(void) { return unshare(CLONE_NEWUSER) && unshare(CLONE_NEWNS) ? -1 : 0; }
static int mounts(void) { return mount("none", ".", "tmpfs", 0, NULL) ? -1 : umount("."); }
static int sockets(void) {
  int ends[2];
  return socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
}

/* `who` could do it on commit 6a0abff: `u` any user, `r` root; `f` any user whom no sandbox holds, found later;
 * `-` nobody, or on some machines. */
static const struct {
  const char *name;
  char who;
  int (*try)(void);
} attempts[] = {
    {"affinity", 'u', affinity}, {"affinity_raw", 'u', affinity_raw}, {"nice_of_parent", 'u', nice_of_parent},
    {"nice_of_group", 'u', nice_of_group}, {"policy", 'u', policy}, {"policy_param", 'u', policy_param},
    {"policy_attr", 'u', policy_attr}, {"io_priority", 'u', io_priority}, {"shm_sysv", '-', shm_sysv},
    {"shm_others", 'u', shm_others}, {"message_queue", '-', message_queue}, {"semaphores", '-', semaphores},
    {"posix_queue", '-', posix_queue}, {"pidfd", 'u', pidfd}, {"reads_memory", '-', reads_memory},
    {"limits_of_parent", '-', limits_of_parent}, {"owner_of_signals", 'u', owner_of_signals},
    {"attribute", '-', attribute}, {"attribute_fd", '-', attribute_fd}, {"attribute_at", '-', attribute_at},
    {"attribute_read", '-', attribute_read}, {"flags_by_ioctl", '-', flags_by_ioctl},
    {"flags_by_call", '-', flags_by_call}, {"times_of_file", '-', times_of_file}, {"lease", 'u', lease},
    {"forks", 'u', forks}, {"clones", 'u', clones}, {"clones_3", 'u', clones_3}, {"clones_away", '-', clones_away},
    {"opens_pipe", '-', opens_pipe}, {"survives", '-', survives}, {"user_of_files", 'u', user_of_files},
    {"user", 'u', user}, {"group", '-', group}, {"reaper", 'u', reaper}, {"memory_file", 'u', memory_file},
    {"memory_file_raw", 'u', memory_file_raw}, {"memory_secret", '-', memory_secret},
    {"memory_shared", 'u', memory_shared}, {"memory_validated", '-', memory_validated},
    {"memory_of_zero", 'u', memory_of_zero}, {"memory_downwards", 'u', memory_downwards},
    {"large_pipe", 'u', large_pipe}, {"raises_limit", 'r', raises_limit}, {"watches", 'u', watches},
    {"watches_1", 'u', watches_1}, {"watches_all", '-', watches_all}, {"secret", '-', secret},
    {"compares", '-', compares}, {"performance", '-', performance}, {"host_name", 'r', host_name},
    {"clock_of_all", '-', clock_of_all}, {"clock_raw", '-', clock_raw}, {"real_time", 'r', real_time},
    {"hurries", 'r', hurries}, {"keys", '-', keys}, {"leaves", '-', leaves}, {"mounts", '-', mounts},
    {"sockets", '-', sockets},
    {"signal_thread", 'f', signal_thread}, {"signal_any_thread", 'f', signal_any_thread},
    {"signal_queued", 'f', signal_queued}, {"signals_of_file", 'f', signals_of_file},
    {"owner_extended", 'f', owner_extended}, {"asynchronous", 'f', asynchronous}, {"notices", 'f', notices},
    {"neighbours_signalled", 'f', neighbours_signalled}, {"neighbours_pinned", 'f', neighbours_pinned},
    {"neighbours_slowed", 'f', neighbours_slowed}, {"neighbours_maps", 'f', neighbours_maps},
    {"neighbours_environment", 'f', neighbours_environment}, {"neighbours_lines", 'f', neighbours_lines},
    {"neighbours_files", 'f', neighbours_files}, {"neighbours_folders", 'f', neighbours_folders},
    {"neighbours_spared", 'f', neighbours_spared}, {"parents_maps", 'f', parents_maps},
    {"parents_environment", 'f', parents_environment}, {"parents_files", 'f', parents_files},
    {"lists_cache", 'f', lists_cache}, {"lists_scratches", 'f', lists_scratches},
    {"writes_plugin", 'f', writes_plugin}, {"reads_other_plugin", 'f', reads_other_plugin},
    {"reads_sweep", 'f', reads_sweep}, {"reads_store", 'f', reads_store}, {"reads_by_root", 'f', reads_by_root},
    {"reads_by_link", 'f', reads_by_link}, {"reads_by_name", 'f', reads_by_name},
    {"reads_by_openat2", 'f', reads_by_openat2}, {"sends_descriptors", 'f', sends_descriptors},
    {"takes_descriptors", 'f', takes_descriptors}, {"sets_socket", 'f', sets_socket}, {"locks", 'f', locks},
    {"pages_out", 'f', pages_out}, {"merges_pages", '-', merges_pages},
   
    {"locks_bytes", 'f', locks_bytes}, {"locks_bytes_of_file", 'f', locks_bytes_of_file},
    {"sees_locks", 'f', sees_locks}, {"drops_pages", 'f', drops_pages}, {"finds_pages", 'f', finds_pages},
    {"adds_key", 'f', adds_key}, {"requests_key", 'f', requests_key}, {"abstract_socket", 'f', abstract_socket},
    {"kernel_socket", 'f', kernel_socket}, {"times_of_library", 'f', times_of_library}, {"node", 'f', node},
    {"spares_itself", 'f', spares_itself}, {"fills_core", 'f', fills_core}, {"writes_itself", 'f', writes_itself},
    {"fills_home", 'f', fills_home}, {"signal_by_pidfd", '-', signal_by_pidfd},
    {"timer_of_parent", '-', timer_of_parent}, {"types_on_terminal", '-', types_on_terminal},
    {"neighbours_memory", '-', neighbours_memory}, {"parents_memory", '-', parents_memory},
    {"parents_descriptor", '-', parents_descriptor}, {"traces_parent", '-', traces_parent},
    {"is_traced", '-', is_traced}, {"reads_by_handle", '-', reads_by_handle}, {"enters_place", '-', enters_place},
    {"area_writable", '-', area_writable}, {"area_again", '-', area_again}, {"area_punched", '-', area_punched},
    {"area_opened", '-', area_opened}, {"area_truncated", '-', area_truncated}, {"counts_pages", '-', counts_pages},
    {"machine_socket", '-', machine_socket}, {"cipher_socket", '-', cipher_socket}, {"session", '-', session},
    {"sets_groups", '-', sets_groups}, {"maps_users", '-', maps_users}, {"hides", '-', hides},
    {"personal", '-', personal}, {"enters_namespace", '-', enters_namespace}, {"new_root", '-', new_root},
    {"ring", '-', ring}, {"own_faults", '-', own_faults}, {"kernel_program", '-', kernel_program},
};

static char through[4096];

/* Tries all; `through` says which got through, and which could have. */
static void attack(void) {
  size_t used = (size_t)snprintf(through, sizeof through, "got through:");
  for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++)
    /* Some that succeed without a sandbox change this process for good; those it may skip there. */
    if ((attempts[i].who != '-' || !getenv("VQ_TEST_FREE")) && attempts[i].try() >= 0)
      used += (size_t)snprintf(through + used, sizeof through - used, " %s", attempts[i].name);
  used += (size_t)snprintf(through + used, sizeof through - used, "; expected:");
  for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++)
    if (attempts[i].who == 'u' || attempts[i].who == 'f' || (attempts[i].who == 'r' && getuid() == 0))
      used += (size_t)snprintf(through + used, sizeof through - used, " %s", attempts[i].name);
}

/* Before anybody asked. */
__attribute__((constructor)) static void at_load(void) {
  if (getenv("VQ_TEST_ATTACK_AT_LOAD")) attack();
}

static vq_rc tells(const char *when, const char *now, vq_buf *err) {
  if (strcmp(when, now)) return VQ_OK;
  if (!getenv("VQ_TEST_ATTACK_AT_LOAD")) attack();
  int len = snprintf((char *)err->ptr, err->cap, "%s", through);
  err->len = (size_t)len < err->cap ? (size_t)len : err->cap - 1;
  return VQ_ERROR;
}

static vq_rc create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  (void)err;
  *out = calloc(1, sizeof **out);
  if (!*out) return VQ_ERROR;
  (*out)->dim = space->dim;
  for (size_t i = 0; i < config->n_entries; i++) {
    vq_str value = config->entries[i].value.s;
    snprintf((*out)->when, sizeof (*out)->when, "%.*s", (int)value.len, value.len ? value.ptr : "");
  }
  return VQ_OK;
}

static void destroy(vq_instance *self) { free(self); }

static vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  (void)ctx, (void)train;
  return tells(self->when, "fit", err);
}

static size_t code_bytes(const vq_instance *self) { return self->dim * sizeof(float); }

static vq_rc compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  (void)ctx;
  for (size_t i = 0; i < x.rows; i++)
    memcpy(codes.data + i * codes.row_stride, x.data + i * x.row_stride, code_bytes(self));
  return tells(self->when, "compress", err);
}

static vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
  (void)ctx;
  for (size_t i = 0; i < x.rows; i++)
    memcpy(x.data + i * x.row_stride, codes.data + i * codes.row_stride, code_bytes(self));
  return tells(self->when, "decompress", err);
}

/* A byte, so that another process can take over. */
static vq_rc save(const vq_instance *self, vq_buf *model, vq_buf *err) {
  (void)self, (void)err;
  model->len = 1;
  if (model->cap < 1) return VQ_SHORT_BUFFER;
  model->ptr[0] = 1;
  return VQ_OK;
}

static vq_rc load(vq_instance *self, vq_str model, vq_buf *err) {
  (void)model;
  return tells(self->when, "load", err);
}

static const vq_param params[] = {{.struct_size = sizeof(vq_param), .kind = VQ_KIND_STRING, .name = TEXT("when"),
                                   .help = TEXT("In which call to try."),
                                   .default_value = {.kind = VQ_KIND_STRING, .s = TEXT("never")}}};
static const vq_method method = {
    .struct_size = sizeof(vq_method), .flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC,
    .id = TEXT("attack"), .name = TEXT("attack"), .version = TEXT("1"),
    .description = TEXT("Tries what a sandbox denies"), .license = TEXT("MIT OR Apache-2.0"),
    .params = params, .n_params = 1, .create = create, .destroy = destroy, .fit = fit,
    .code_bytes = code_bytes, .compress = compress, .decompress = decompress,
    .save = save, .load = load,
};
static const vq_plugin plugin = {
    .magic = VQ_MAGIC, .abi_major = VQ_ABI_MAJOR, .abi_minor = VQ_ABI_MINOR,
    .struct_size = sizeof(vq_plugin), .sdk = TEXT("c"),
    .methods = (const vq_method *const[]){&method}, .n_methods = 1,
};

const vq_plugin *vq_plugin_entry_v1(uint32_t host_major, uint32_t host_minor) {
  (void)host_minor;
  return host_major == VQ_ABI_MAJOR ? &plugin : NULL;
}
