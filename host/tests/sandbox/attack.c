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

/* `who` could do it on commit 6a0abff: `u` any user, `r` root; `-` nobody, or on some machines. */
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
    if (attempts[i].who == 'u' || (attempts[i].who == 'r' && getuid() == 0))
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

static const vq_param params[] = {{.struct_size = sizeof(vq_param), .kind = VQ_KIND_STRING, .name = TEXT("when"),
                                   .help = TEXT("In which call to try."),
                                   .default_value = {.kind = VQ_KIND_STRING, .s = TEXT("never")}}};
static const vq_method method = {
    .struct_size = sizeof(vq_method), .flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC,
    .id = TEXT("attack"), .name = TEXT("attack"), .version = TEXT("1"),
    .description = TEXT("Tries what a sandbox denies"), .license = TEXT("MIT OR Apache-2.0"),
    .params = params, .n_params = 1, .create = create, .destroy = destroy, .fit = fit,
    .code_bytes = code_bytes, .compress = compress, .decompress = decompress,
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
