/* trespass: a plugin that does in fit what a sandbox must deny, and reports how it was denied.
 * As a quantizer it is honest: it keeps each vector as it is. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vq_plugin.h"

#define TEXT(literal) {literal, sizeof(literal) - 1}

struct vq_instance {
  size_t dim;
  char act[64], target[4096];
};

static vq_rc fail(vq_buf *err, const char *what, const char *target) {
  int len = snprintf((char *)err->ptr, err->cap, "%s %s: %s", what, target, strerror(errno));
  err->len = (size_t)len < err->cap ? (size_t)len : err->cap - 1;
  return VQ_ERROR;
}

static int opens(const char *path, int flags) {
  int fd = open(path, flags, 0600);
  return fd < 0 ? -1 : close(fd);
}

static int connects(int type, const char *port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, type, 0);
  return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to);
}

static int runs(const char *program) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    execl(program, program, (char *)NULL);
    _exit(errno);
  }
  if (child < 0 || waitpid(child, &status, 0) < 0) return -1;
  errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
  return errno == 0 ? 0 : -1;
}

static int lives_in_scratch(void) {
  char path[4096];
  snprintf(path, sizeof path, "%s/folder", getenv("TMPDIR") ? getenv("TMPDIR") : ".");
  if (mkdir(path, 0700) || chdir(path)) return -1;
  if (opens("a", O_CREAT | O_RDWR | O_TRUNC) || rename("a", "../b") || chdir("..")) return -1;
  if (truncate("b", 100) || symlink("b", "c") || opens("c", O_RDONLY)) return -1;
  if (unlink("c") || unlink("b") || rmdir("folder")) return -1;
  return 0;
}

/* A child may leave its group: it does not lead one. */
static int leaves_group(void) {
  int status;
  pid_t child = fork();
  if (child == 0) _exit(setsid() < 0 ? errno : 0);
  if (child < 0 || waitpid(child, &status, 0) < 0) return -1;
  errno = WEXITSTATUS(status);
  return errno == 0 ? 0 : -1;
}

/* Sockets without a system call for each; a kernel without them counts as one that lets us. */
static int makes_ring(void) {
  char params[120] = {0};
  return syscall(SYS_io_uring_setup, 1, params) < 0 && errno == EACCES ? -1 : 0;
}

/* Leaves its number in the scratch folder and never returns. */
static int stays(void) {
  FILE *file = fopen("pid", "w");
  if (!file || fprintf(file, "%d\n", (int)getpid()) < 0 || fclose(file)) return -1;
  for (;;) pause();
}

/* What libraries do; none of it may fail. */
static int asks_the_system(void) {
  static const char *const files[] = {"/dev/null", "/dev/urandom", "/proc/self/maps", "/proc/cpuinfo",
                                      "/proc/self/status", "/proc/meminfo", "/sys/devices/system/cpu/online"};
  struct rlimit limit;
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    if (opens(files[i], O_RDONLY)) return -1;
  if (opens("/dev/null", O_WRONLY) || getrlimit(RLIMIT_STACK, &limit)) return -1;
  if (sysconf(_SC_NPROCESSORS_ONLN) < 1) return -1;
  return kill(getpid(), 0);
}

/* As libraries ask programs, and go on without an answer. */
static int asks_program(const char *program) {
  FILE *pipe = popen(program, "r");
  if (pipe) pclose(pipe);
  return 0;
}

static void *waits(void *barrier) { return pthread_barrier_wait(barrier), NULL; }

/* So many threads at once. */
static int starts_threads(const char *count) {
  pthread_t threads[256];
  pthread_barrier_t barrier;
  int n = atoi(count);
  if (pthread_barrier_init(&barrier, NULL, (unsigned)n + 1)) return -1;
  for (int i = 0; i < n; i++)
    if ((errno = pthread_create(&threads[i], NULL, waits, &barrier))) return -1;
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
  return 0;
}

/* With as many threads as were promised. */
static int runs_openmp(const char *count) {
  int threads = 1;
#ifdef WITH_OPENMP
#pragma omp parallel reduction(+ : threads)
  threads++;
  threads--;
#endif
  errno = EAGAIN;
  return threads == atoi(count) ? 0 : -1;
}

/* As the OpenMP runtimes of Intel and LLVM register. */
static int registers(void) {
  char name[100];
  snprintf(name, sizeof name, "/__KMP_REGISTERED_LIB_%d_%d", (int)getpid(), (int)getuid());
  int fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600), made = fd >= 0;
  if (!made && errno == EEXIST && getenv("KMP_DUPLICATE_LIB_OK")) fd = shm_open(name, O_RDWR, 0600);
  if (fd < 0 || (made && ftruncate(fd, 1024))) return -1;
  char *text = mmap(NULL, 1024, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (text == MAP_FAILED) return -1;
  strcpy(text, "registered");
  return close(fd); /* it is left behind: not every runtime ends well */
}

/* Writes so many MiB into shared memory. */
static int fills(const char *megabytes) {
  static char block[1 << 20];
  int fd = shm_open("/vq-trespass-fills", O_CREAT | O_RDWR, 0600);
  if (fd < 0) return -1;
  for (int i = 0; i < atoi(megabytes); i++)
    if (write(fd, block, sizeof block) != sizeof block) return -1;
  return 0;
}

static void *sleeps(void *unused) { return sleep(5), unused; }

/* Passes a limit, and stays there for a while: who looks has time to see it. */
static int exceeds(const char *limit) {
  static char block[1 << 20];
  char path[4096];
  signal(SIGXFSZ, SIG_IGN);
  if (!strcmp(limit, "memory"))
    for (int i = 0; i < 1500; i++) {
      char *more = malloc(sizeof block);
      if (!more) return -1;
      memset(more, 1, sizeof block);
    }
  /* Pages that are only read are one page of zeros, and have tables all the same. */
  if (!strcmp(limit, "tables")) {
    size_t all = (size_t)1 << 40, step = (size_t)1 << 21;
    volatile char *at = mmap(NULL, all, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return -1;
    madvise((void *)at, all, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < all; i += step) (void)at[i];
  }
  if (!strcmp(limit, "threads"))
    for (int i = 0; i < 3000; i++) {
      pthread_t thread;
      pthread_attr_t small;
      pthread_attr_init(&small), pthread_attr_setstacksize(&small, 1 << 16);
      if ((errno = pthread_create(&thread, &small, sleeps, NULL))) return sleep(1), errno = EAGAIN, -1;
    }
  if (!strcmp(limit, "file")) {
    int fd = open("large", O_CREAT | O_RDWR, 0600);
    for (int i = 0; i < 2048; i++)
      if (write(fd, block, sizeof block) != sizeof block) return -1;
  }
  memset(block, 1, sizeof block);
  if (!strcmp(limit, "files"))
    for (int i = 0; i < 500; i++) {
      snprintf(path, sizeof path, "file-%d", i);
      int fd = open(path, O_CREAT | O_RDWR, 0600);
      if (fd < 0 || write(fd, block, sizeof block) != sizeof block || close(fd)) return -1;
      usleep(2000);
    }
  if (!strcmp(limit, "unlinked"))
    for (int i = 0; i < 500; i++) {
      int fd = open("file", O_CREAT | O_RDWR, 0600);
      if (fd < 0 || unlink("file") || write(fd, block, sizeof block) != sizeof block) return -1;
      usleep(2000);
    }
  if (!strcmp(limit, "number"))
    for (int i = 0; i < 120000; i++) {
      snprintf(path, sizeof path, "file-%d", i);
      if (opens(path, O_CREAT | O_WRONLY)) return -1;
    }
  if (!strcmp(limit, "depth"))
    for (int i = 0; i < 2000; i++)
      if (mkdir("in", 0700) || chdir("in")) return -1;
  return sleep(60), 0;
}

/* What a library leaves behind in the thread that called it. */
static int leaves_changed(const char *what) {
  if (!strcmp(what, "rounding")) return fesetround(FE_UPWARD);
#ifdef __SSE2__
  if (!strcmp(what, "flushing")) return __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040), 0;
#endif
  if (!strcmp(what, "pinning")) {
    cpu_set_t set, one;
    if (sched_getaffinity(0, sizeof set, &set)) return -1;
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++)
      if (CPU_ISSET(i, &set)) {
        CPU_SET(i, &one);
        return sched_setaffinity(0, sizeof one, &one);
      }
  }
  return 0;
}

static int act(const char *act, const char *target) {
  if (!strcmp(act, "nothing")) return 0;
  if (!strcmp(act, "scratch")) return lives_in_scratch();
  if (!strcmp(act, "system")) return asks_the_system();
  if (!strcmp(act, "read")) return opens(target, O_RDONLY);
  if (!strcmp(act, "write")) return opens(target, O_CREAT | O_EXCL | O_WRONLY);
  if (!strcmp(act, "truncate")) return truncate(target, 0);
  if (!strcmp(act, "chmod")) return chmod(target, 0604);
  if (!strcmp(act, "inherit")) return fcntl(atoi(target), F_GETFD) < 0 ? -1 : 0;
  if (!strcmp(act, "connect")) return connects(SOCK_STREAM, target);
  if (!strcmp(act, "send")) return connects(SOCK_DGRAM, target);
  if (!strcmp(act, "ring")) return makes_ring();
  if (!strcmp(act, "run")) return runs(target);
  if (!strcmp(act, "signal")) return kill(getppid(), 0);
  if (!strcmp(act, "limit")) return prlimit(getppid(), RLIMIT_CORE, NULL, &(struct rlimit){0});
  if (!strcmp(act, "survive")) return prctl(PR_SET_PDEATHSIG, 0);
  if (!strcmp(act, "stay")) return stays();
  if (!strcmp(act, "leave")) return leaves_group();
  if (!strcmp(act, "asks")) return asks_program(target);
  if (!strcmp(act, "threads")) return starts_threads(target);
  if (!strcmp(act, "openmp")) return runs_openmp(target);
  if (!strcmp(act, "register")) return registers();
  if (!strcmp(act, "fill")) return fills(target);
  if (!strcmp(act, "exceed")) return exceeds(target);
  if (!strcmp(act, "change")) return leaves_changed(target);
  if (!strcmp(act, "environment")) return errno = ENOENT, getenv(target) ? 0 : -1;
  errno = EINVAL;
  return -1;
}

/* Before anybody asked: what the loader runs, the sandbox must hold as well. */
__attribute__((constructor)) static void at_load(void) {
  const char *path = getenv("VQ_TEST_AT_LOAD"), *change = getenv("VQ_TEST_CHANGES");
  if (path) opens(path, O_CREAT | O_WRONLY);
  if (change) leaves_changed(change);
}

static vq_rc create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  *out = calloc(1, sizeof **out);
  if (!*out) return fail(err, "create", "");
  (*out)->dim = space->dim;
  for (size_t i = 0; i < config->n_entries; i++) {
    vq_str key = config->entries[i].name, value = config->entries[i].value.s;
    char *into = key.len == 3 ? (*out)->act : (*out)->target;
    size_t cap = key.len == 3 ? sizeof (*out)->act : sizeof (*out)->target;
    snprintf(into, cap, "%.*s", (int)value.len, value.len ? value.ptr : "");
  }
  return VQ_OK;
}

static void destroy(vq_instance *self) { free(self); }

static vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  (void)ctx, (void)train;
  return act(self->act, self->target) ? fail(err, self->act, self->target) : VQ_OK;
}

static size_t code_bytes(const vq_instance *self) { return self->dim * sizeof(float); }

static vq_rc compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  (void)ctx, (void)err;
  for (size_t i = 0; i < x.rows; i++)
    memcpy(codes.data + i * codes.row_stride, x.data + i * x.row_stride, code_bytes(self));
  return VQ_OK;
}

static vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
  (void)ctx, (void)err;
  for (size_t i = 0; i < x.rows; i++)
    memcpy(x.data + i * x.row_stride, codes.data + i * codes.row_stride, code_bytes(self));
  return VQ_OK;
}

#define STRING(id, what, text) \
  {.struct_size = sizeof(vq_param), .kind = VQ_KIND_STRING, .name = TEXT(id), .help = TEXT(what), \
   .default_value = {.kind = VQ_KIND_STRING, .s = TEXT(text)}}
static const vq_param params[] = {STRING("act", "What to try in fit.", "nothing"),
                                  STRING("target", "The path or port to try it on.", "")};
static const vq_method method = {
    .struct_size = sizeof(vq_method), .flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC | VQ_THREAD_SAFE,
    .id = TEXT("trespass"), .name = TEXT("trespass"), .version = TEXT("1"),
    .description = TEXT("Tries what a sandbox denies"), .license = TEXT("MIT OR Apache-2.0"),
    .params = params, .n_params = 2, .create = create, .destroy = destroy, .fit = fit,
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
