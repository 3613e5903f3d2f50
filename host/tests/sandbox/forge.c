/* forge: a plugin that says what only vq-host may say, on every way out of its process, or makes its time look
 * short. As a quantizer it is honest, except where a cell is to fail: it keeps each vector as it is.
 *
 * What is to be said on the host's own pipe, a line, stands in VQ_TEST_LINE: the test knows the format. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vq_plugin.h"

#define TEXT(literal) {literal, sizeof(literal) - 1}

struct vq_instance {
  size_t dim;
  char act[64];
};

static vq_rc fail(vq_buf *err, const char *why) {
  err->len = strlen(why) < err->cap ? strlen(why) : err->cap;
  memcpy(err->ptr, why, err->len);
  return VQ_ERROR;
}

static int is(const vq_instance *self, const char *act) { return !strcmp(self->act, act); }

/* ---- the host's own pipe and socket ------------------------------------------------------------------------ */

static void to_all(int kind, const void *bytes, size_t len) {
  struct stat of;
  for (int fd = 3; fd < 64; fd++)
    if (fstat(fd, &of) == 0 && (of.st_mode & S_IFMT) == (unsigned)kind && write(fd, bytes, len) < 0) continue;
}

static void says(void) {
  const char *line = getenv("VQ_TEST_LINE");
  if (!line) return;
  char *text = malloc(strlen(line) + 2);
  size_t len = (size_t)sprintf(text, "%s\n", line);
  to_all(S_IFIFO, text, len);
  free(text);
}

static void *says_later(void *unused) {
  (void)unused;
  for (int i = 0; i < 100; i++) usleep(5000), says();
  return NULL;
}

/* Whether this is a process of a cell: they have a socket. */
static int in_run(void) {
  struct stat of;
  for (int fd = 3; fd < 64; fd++)
    if (fstat(fd, &of) == 0 && S_ISSOCK(of.st_mode)) return 1;
  return 0;
}

/* A frame: its length and JSON. */
static void replies(const char *json, uint32_t claimed, size_t sent) {
  char frame[1 << 17] = {0};
  memcpy(frame, &claimed, 4);
  memcpy(frame + 4, json, strlen(json));
  to_all(S_IFSOCK, frame, sent);
}

static void misbehaves_on_the_socket(const vq_instance *self) {
  static const char done[] = "{\"number\":1,\"of\":\"Done\"}";
  char text[64];
  if (is(self, "reply_of_before")) replies(done, sizeof done - 1, 4 + sizeof done - 1);
  if (is(self, "reply_for_each"))
    for (int number = 1; number < 2000; number++) {
      int len = snprintf(text, sizeof text, "{\"number\":%d,\"of\":\"Done\"}", number);
      replies(text, (uint32_t)len, 4 + (size_t)len);
    }
  if (is(self, "reply_half")) replies(done, sizeof done - 1, 12);
  if (is(self, "reply_giant")) replies(done, 1u << 31, 1 << 17);
  if (is(self, "reply_large")) replies(done, 1u << 16, 4 + (1 << 16));
  struct stat of;
  if (is(self, "reply_never"))
    for (int fd = 3; fd < 64; fd++)
      if (fstat(fd, &of) == 0 && S_ISSOCK(of.st_mode)) close(fd);
}

/* ---- what lies in this process's memory --------------------------------------------------------------------- */

/* Whether a text stands in memory that can be written: results, if there were any. In two parts, so as not to
 * be found itself. */
static int finds(const char *head, const char *tail) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  size_t len = strlen(head) + strlen(tail);
  int found = 0;
  unsigned long from, to;
  while (maps && fgets(line, sizeof line, maps)) {
    char rights[8];
    if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3 || strncmp(rights, "rw", 2)) continue;
    if (strstr(line, "[stack]") || strstr(line, "memfd")) continue;
    for (const char *at = (const char *)from; at + len < (const char *)to; at++) {
      at = memchr(at, head[0], (size_t)((const char *)to - at - (ptrdiff_t)len));
      if (!at) break;
      if (!memcmp(at, head, strlen(head)) && !memcmp(at + strlen(head), tail, strlen(tail))) found = 1;
    }
  }
  if (maps) fclose(maps);
  return found;
}

/* ---- clocks -------------------------------------------------------------------------------------------------- */

static const char *clock_fault = NULL;

/* Makes the code at `place` answer one and the same time. */
static int patches(void *place) {
#ifdef __x86_64__
  /* mov rax, 1000000000; mov [rsi], rax; mov qword [rsi + 8], 0; xor eax, eax; ret */
  static const uint8_t code[] = {0x48, 0xB8, 0x00, 0xCA, 0x9A, 0x3B, 0, 0, 0, 0, 0x48, 0x89, 0x06,
                                 0x48, 0xC7, 0x46, 0x08, 0, 0, 0, 0, 0x31, 0xC0, 0xC3};
  uintptr_t page = (uintptr_t)place & ~(uintptr_t)4095;
  if (mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC) &&
      mprotect((void *)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC))
    return -1;
  memcpy(place, code, sizeof code);
  return 0;
#else
  (void)place;
  return -1;
#endif
}

static void *in_vdso(const char *name) {
  const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);
  if (!base) return NULL;
  const Elf64_Ehdr *head = (const Elf64_Ehdr *)base;
  const Elf64_Shdr *sections = (const Elf64_Shdr *)(base + head->e_shoff);
  for (size_t i = 0; i < head->e_shnum; i++) {
    if (sections[i].sh_type != SHT_DYNSYM) continue;
    const Elf64_Sym *symbols = (const Elf64_Sym *)(base + sections[i].sh_offset);
    const char *names = base + sections[sections[i].sh_link].sh_offset;
    for (size_t j = 0; j < sections[i].sh_size / sizeof *symbols; j++)
      if (!strcmp(names + symbols[j].st_name, name)) return (void *)(uintptr_t)(base + symbols[j].st_value);
  }
  return NULL;
}

/* Called through a pointer that the compiler does not see through. */
static int (*volatile tells_time)(clockid_t, struct timespec *) = clock_gettime;

static void meddles_with_clocks(const vq_instance *self) {
  struct timespec before, after;
  if (is(self, "clock_libc") && patches((void *)(uintptr_t)tells_time)) return;
  if (is(self, "clock_vdso")) {
    void *place = in_vdso("__vdso_clock_gettime");
    if (!place || patches(place)) return;
  }
  if (!is(self, "clock_libc") && !is(self, "clock_vdso")) return;
  tells_time(CLOCK_MONOTONIC, &before);
  usleep(2000);
  tells_time(CLOCK_MONOTONIC, &after);
  int stands = before.tv_sec == after.tv_sec && before.tv_nsec == after.tv_nsec;
  clock_fault = stands ? "the clock stands still" : NULL;
}

/* As long as a call takes; the system's own clock ends it. */
static void takes_a_while(const vq_instance *self) {
  if (!strncmp(self->act, "clock_", 6)) nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
}

/* ---- answers from memory ------------------------------------------------------------------------------------- */

/* Numbers of what was given to this process: it works long on what is not among them. */
static uint64_t given[1 << 16];

static uint64_t number(const void *data, size_t bytes) {
  uint64_t sum = 0xCBF29CE484222325;
  for (size_t i = 0; i < bytes; i++) sum = (sum ^ ((const uint8_t *)data)[i]) * 0x100000001B3;
  return sum | 1;
}

static int is_new(const void *data, size_t bytes) {
  uint64_t of = number(data, bytes), *at = &given[(of >> 20) % (sizeof given / sizeof *given)];
  int known = *at == of;
  *at = of;
  return !known;
}

/* It knows each row again, or all rows of a call. */
static void thinks_of_what_is_new(const vq_instance *self, const char *data, size_t rows, size_t bytes) {
  size_t new = 0;
  if (is(self, "remembers_rows"))
    for (size_t i = 0; i < rows; i++) new += (size_t)is_new(data + i * bytes, bytes);
  if (is(self, "remembers_calls") && is_new(data, rows * bytes)) new = rows;
  struct timespec from, now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
  do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  while ((now.tv_sec - from.tv_sec) * 1000000000 + now.tv_nsec - from.tv_nsec < 10000 * (long)new);
}

/* ---- the quantizer --------------------------------------------------------------------------------------------- */

static vq_rc create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  *out = calloc(1, sizeof **out);
  if (!*out) return fail(err, "no memory");
  (*out)->dim = space->dim;
  for (size_t i = 0; i < config->n_entries; i++) {
    vq_str value = config->entries[i].value.s;
    snprintf((*out)->act, sizeof (*out)->act, "%.*s", (int)value.len, value.len ? value.ptr : "");
  }
  return VQ_OK;
}

static void destroy(vq_instance *self) {
  if (is(self, "in_destroy") && in_run()) says();
  if (is(self, "leaves_in_destroy") && in_run()) says(), _exit(0);
  free(self);
}

static vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  (void)train;
  pthread_t thread;
  meddles_with_clocks(self);
  if (clock_fault) ctx->log(ctx->host, VQ_LOG_INFO, (vq_str){clock_fault, strlen(clock_fault)});
  if (is(self, "in_fit")) says();
  if (is(self, "later") && pthread_create(&thread, NULL, says_later, NULL)) return fail(err, "no thread");
  if (is(self, "leaves_in_fit")) says(), _exit(0);
  if (is(self, "fails")) return says(), fail(err, "it does not want to");
  return VQ_OK;
}

static size_t code_bytes(const vq_instance *self) { return self->dim * sizeof(float); }

static vq_rc compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  (void)ctx, (void)err;
  for (size_t i = 0; i < x.rows; i++)
    memcpy(codes.data + i * codes.row_stride, x.data + i * x.row_stride, code_bytes(self));
  if (is(self, "in_compress")) says();
  if (is(self, "leaves_in_compress")) says(), _exit(0);
  if (is(self, "check_leaves") && !in_run()) says(), _exit(0);
  if (is(self, "check_waits") && !in_run())
    for (says();;) pause();
  misbehaves_on_the_socket(self);
  takes_a_while(self);
  thinks_of_what_is_new(self, (const char *)x.data, x.rows, x.row_stride * sizeof *x.data);
  return VQ_OK;
}

static vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
  (void)ctx;
  static int calls;
  calls++;
  thinks_of_what_is_new(self, (const char *)codes.data, codes.rows, codes.row_stride);
  for (size_t i = 0; i < x.rows; i++) {
    memcpy(x.data + i * x.row_stride, codes.data + i * codes.row_stride, code_bytes(self));
    /* What a check would find, if its answer were its own. */
    if (!strncmp(self->act, "check_", 6)) x.data[i * x.row_stride] += (float)calls;
  }
  if (is(self, "in_decompress")) says();
  if (is(self, "leaves_in_decompress")) says(), _exit(0);
  if (is(self, "heap_names") && finds("recall", "@1")) return fail(err, "results lie in this process");
  if (is(self, "heap_files") && finds("prepared", "-rows")) return fail(err, "names of data lie in this process");
  return VQ_OK;
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
  if (model.len != 1) return fail(err, "no such model");
  if (is(self, "in_load")) says();
  if (is(self, "leaves_in_load")) says(), _exit(0);
  return VQ_OK;
}

/* Before anybody asked. */
__attribute__((constructor)) static void at_load(void) {
  const char *when = getenv("VQ_TEST_FORGE_AT_LOAD");
  if (when) says();
  if (when && !strcmp(when, "leaves")) _exit(0);
}

static const vq_param params[] = {{.struct_size = sizeof(vq_param), .kind = VQ_KIND_STRING, .name = TEXT("act"),
                                   .help = TEXT("What to forge, and where."),
                                   .default_value = {.kind = VQ_KIND_STRING, .s = TEXT("nothing")}}};
static const vq_method method = {
    .struct_size = sizeof(vq_method), .flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC | VQ_THREAD_SAFE,
    .id = TEXT("forge"), .name = TEXT("forge"), .version = TEXT("1"),
    .description = TEXT("Says what only the host may say"), .license = TEXT("MIT OR Apache-2.0"),
    .params = params, .n_params = 1, .create = create, .destroy = destroy, .fit = fit,
    .code_bytes = code_bytes, .compress = compress, .decompress = decompress, .save = save, .load = load,
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
