/* linger: a plugin that does not want to go: in each call it blocks every signal, gives up the wish to die with its
 * parent, forks, and heaps up folders that are hard to remove. As a quantizer it is honest: it keeps each vector as it
 * is.
 *
 * Where it is stands in its scratch folder as a file, `at-fit` or, for the fifth call, `at-compress-5`. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vq_plugin.h"

#define TEXT(literal) {literal, sizeof(literal) - 1}

struct vq_instance {
  size_t dim;
};

static void touch(const char *name) {
  int fd = open(name, O_CREAT | O_WRONLY, 0600);
  if (fd >= 0) close(fd);
}

/* Folders in folders, and one that its owner cannot read, with something in it. */
static void heaps(int number) {
  char path[128];
  int len = snprintf(path, sizeof path, "nest-%d", number);
  for (int depth = 0; depth < 40; depth++) {
    if (mkdir(path, 0700)) break;
    len += snprintf(path + len, sizeof path - (size_t)len, "/n");
    touch(path);
    path[len - 1] = 'm';
  }
  snprintf(path, sizeof path, "closed-%d", number);
  if (mkdir(path, 0300)) return;
  snprintf(path, sizeof path, "closed-%d/in", number);
  if (mkdir(path, 0300) == 0) strcat(path, "/file"), touch(path);
}

static void *heaps_on(void *unused) {
  (void)unused;
  for (int number = 1000; number < 1010; number++) heaps(number), usleep(20000);
  return NULL;
}

static void lingers(const char *where) {
  static int calls, threads;
  static struct { const char *where; int times; } seen[16];
  char mark[64];
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  for (int number = 1; number < 32; number++) signal(number, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, 0);
  syscall(SYS_setfsuid, 65534), syscall(SYS_setfsuid, 0), setfsuid(getuid() ? 0 : 1);
  setsid(), setpgid(0, 0);
  if (fork() == 0) {
    setsid();
    if (fork() == 0)
      for (int number = 2000;; number++) heaps(number % 3000), usleep(20000);
    _exit(0);
  }
  pthread_t thread;
  if (!threads++) pthread_create(&thread, NULL, heaps_on, NULL);
  if (calls < 6) heaps(calls++);
  size_t i = 0;
  while (i < 15 && seen[i].where && strcmp(seen[i].where, where)) i++;
  seen[i].where = where;
  int times = ++seen[i].times;
  snprintf(mark, sizeof mark, times == 1 ? "at-%s" : "at-%s-%d", where, times);
  touch(mark);
  usleep(8000);
}

static vq_rc create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  (void)config, (void)err;
  *out = calloc(1, sizeof **out);
  if (!*out) return VQ_ERROR;
  (*out)->dim = space->dim;
  lingers("create");
  return VQ_OK;
}

static void destroy(vq_instance *self) {
  lingers("destroy");
  free(self);
}

static vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  (void)self, (void)ctx, (void)train, (void)err;
  lingers("fit");
  return VQ_OK;
}

static size_t code_bytes(const vq_instance *self) { return self->dim * sizeof(float); }

static vq_rc compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  (void)ctx, (void)err;
  for (size_t i = 0; i < x.rows; i++)
    memcpy(codes.data + i * codes.row_stride, x.data + i * x.row_stride, code_bytes(self));
  lingers("compress");
  return VQ_OK;
}

static vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
  (void)ctx, (void)err;
  for (size_t i = 0; i < x.rows; i++)
    memcpy(x.data + i * x.row_stride, codes.data + i * codes.row_stride, code_bytes(self));
  lingers("decompress");
  return VQ_OK;
}

static vq_rc save(const vq_instance *self, vq_buf *model, vq_buf *err) {
  (void)self, (void)err;
  model->len = 1;
  if (model->cap < 1) return VQ_SHORT_BUFFER;
  model->ptr[0] = 1;
  lingers("save");
  return VQ_OK;
}

static vq_rc load(vq_instance *self, vq_str model, vq_buf *err) {
  (void)self, (void)model, (void)err;
  lingers("load");
  return VQ_OK;
}

/* Before anybody asked. */
__attribute__((constructor)) static void at_load(void) {
  if (getenv("VQ_TEST_LINGERS")) lingers("open");
}

static const vq_method method = {
    .struct_size = sizeof(vq_method), .flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC | VQ_THREAD_SAFE,
    .id = TEXT("linger"), .name = TEXT("linger"), .version = TEXT("1"),
    .description = TEXT("Does not want to go"), .license = TEXT("MIT OR Apache-2.0"),
    .create = create, .destroy = destroy, .fit = fit, .code_bytes = code_bytes, .compress = compress,
    .decompress = decompress, .save = save, .load = load,
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
