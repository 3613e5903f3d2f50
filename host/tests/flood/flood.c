/* flood: a plugin that in fit says more than anybody reads, by every way out of its process.
 * As a quantizer it is honest: it keeps each vector as it is. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vq_plugin.h"

#define TEXT(literal) {literal, sizeof(literal) - 1}
#define MEGABYTE (1u << 20)

struct vq_instance {
  size_t dim;
  char act[64];
};

static char block[MEGABYTE];

/* Megabytes to a descriptor; what it does not take is not insisted on. */
static void write_to(int fd, const char *from, size_t bytes, size_t times) {
  for (size_t i = 0; i < times; i++)
    if (write(fd, from, bytes) < 0) return;
}

/* The same, to whatever else is open and is no file: the host's own pipes. */
static void write_to_pipes(const char *from, size_t bytes, size_t times) {
  struct stat of;
  for (int fd = 3; fd < 64; fd++)
    if (fstat(fd, &of) == 0 && S_ISFIFO(of.st_mode)) write_to(fd, from, bytes, times);
}

static void act(const char *act, const vq_ctx *ctx) {
  static const char line[] = "{\"Progress\":{\"stage\":\"fit\",\"fraction\":0.5}}\n";
  static const char log[] = "{\"Log\":{\"level\":\"Info\",\"text\":\"again and again and again\"}}\n";
  static const char empty[] = "{\"Proposed\":{\"request\":0,\"proposals\":[[],[],[],[],[],[],[]";
  static const char skips[] = "{\"Skip\":{\"config\":{\"a\":{\"Bool\":true}},\"reason\":\"\"}}";
  memset(block, 'x', sizeof block);
  if (!strcmp(act, "log"))
    for (int i = 0; i < 200; i++) ctx->log(ctx->host, VQ_LOG_INFO, (vq_str){block, sizeof block});
  if (!strcmp(act, "print")) write_to(1, block, sizeof block, 100), write_to(2, block, sizeof block, 100);
  if (!strcmp(act, "progress"))
    for (int i = 0; i < 30000; i++) {
      char stage[32];
      int len = snprintf(stage, sizeof stage, "\x1b[2J%d", i);
      ctx->progress(ctx->host, (float)i / 30000, (vq_str){stage, (size_t)len});
    }
  if (!strcmp(act, "garbage")) write_to_pipes(block, sizeof block, 20);
  if (!strcmp(act, "lines")) write_to_pipes(line, sizeof line - 1, 30000);
  if (!strcmp(act, "logs")) write_to_pipes(log, sizeof log - 1, 30000);
  if (!strcmp(act, "proposed")) {
    size_t len = (size_t)sprintf(block, "{\"Proposed\":{\"request\":0,\"proposals\":[%s", skips);
    for (int i = 0; i < 1000; i++) len += (size_t)sprintf(block + len, ",%s", skips);
    len += (size_t)sprintf(block + len, "]}}\n");
    write_to_pipes(block, len, 400);
  }
  if (!strcmp(act, "nested")) write_to_pipes(empty, sizeof empty - 1, 1), write_to_pipes(",[]", 3, 30000);
}

static vq_rc create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  (void)err;
  *out = calloc(1, sizeof **out);
  if (!*out) return VQ_ERROR;
  (*out)->dim = space->dim;
  for (size_t i = 0; i < config->n_entries; i++) {
    vq_str value = config->entries[i].value.s;
    snprintf((*out)->act, sizeof (*out)->act, "%.*s", (int)value.len, value.len ? value.ptr : "");
  }
  return VQ_OK;
}

static void destroy(vq_instance *self) { free(self); }

static vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  (void)train, (void)err;
  act(self->act, ctx);
  return VQ_OK;
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

/* Before anybody asked. */
__attribute__((constructor)) static void at_load(void) {
  const char *hangs = getenv("VQ_TEST_HANGS"), *flood = getenv("VQ_TEST_FLOOD");
  while (hangs && !strcmp(hangs, "computing")) (void)getppid();
  while (hangs) pause();
  if (flood) act(flood, NULL);
}

static const vq_param params[] = {
    {.struct_size = sizeof(vq_param), .kind = VQ_KIND_STRING, .name = TEXT("act"), .help = TEXT("What to say."),
     .default_value = {.kind = VQ_KIND_STRING, .s = TEXT("nothing")}}};
static const vq_method method = {
    .struct_size = sizeof(vq_method), .flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC | VQ_THREAD_SAFE,
    .id = TEXT("flood"), .name = TEXT("flood"), .version = TEXT("1"),
    .description = TEXT("Says more than anybody reads"), .license = TEXT("MIT OR Apache-2.0"),
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
