/* c_sq8 - scalar quantization to 8 bits per dimension: a vq-host plugin in plain C.
 *
 *   fit     lo, hi = c - clip h, c + clip h: centre and half-width of the dimension's training range
 *   code    round(255 (x - lo) / (hi - lo)), within 0..255
 *   decode  lo + (hi - lo) code / 255, in double so that no finite range overflows */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vq_plugin.h"

#define TEXT(literal) {literal, sizeof(literal) - 1}
#define ROWS_PER_TASK 256 /* a task costs microseconds to start: give it more than that */

struct vq_instance {
  size_t dim;
  double clip;
  int ready;     /* fit or load has succeeded */
  float range[]; /* lo of each dimension, then hi of each: also what save writes */
};

static vq_rc fail(vq_buf *err, vq_rc rc, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int len = vsnprintf((char *)err->ptr, err->cap, format, args); /* its NUL costs us one byte */
  va_end(args);
  err->len = len < 0 || err->cap == 0 ? 0 : (size_t)len < err->cap ? (size_t)len : err->cap - 1;
  return rc;
}

static size_t code_bytes(const vq_instance *self) { return self->dim; }
static uint64_t model_bytes(const vq_instance *self) { return 2 * self->dim * sizeof(float); }
static double ratio(const vq_instance *self) { return 4.0 * (double)self->dim / (double)code_bytes(self); }

/* Whether a call that needs a fitted model may go on. */
static vq_rc check_call(const vq_instance *self, size_t dim, size_t code_bytes, int same_rows, vq_buf *err) {
  if (!self->ready) return fail(err, VQ_ERROR, "called before fit or load");
  if (dim == self->dim && code_bytes == self->dim && same_rows) return VQ_OK;
  return fail(err, VQ_ERROR, "rows or codes of another shape");
}

static vq_rc create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  double clip = 1.0;
  for (size_t i = 0; i < config->n_entries; i++) {
    vq_str name = config->entries[i].name;
    vq_value value = config->entries[i].value;
    if (name.len != 4 || memcmp(name.ptr, "clip", 4) != 0)
      return fail(err, VQ_BAD_CONFIG, "%.*s: unknown parameter; known are: clip",
                  (int)(name.len < 128 ? name.len : 128), name.len ? name.ptr : "");
    if (value.kind != VQ_KIND_FLOAT && value.kind != VQ_KIND_INT)
      return fail(err, VQ_BAD_CONFIG, "clip: expected a number");
    clip = value.kind == VQ_KIND_INT ? (double)value.i : value.f;
    if (!(clip >= 0.5 && clip <= 1.0)) /* NaN fails too */
      return fail(err, VQ_BAD_CONFIG, "clip: %g is not within 0.5 and 1", clip);
  }
  *out = calloc(1, sizeof **out + 2 * space->dim * sizeof(float));
  if (!*out) return fail(err, VQ_ERROR, "out of memory");
  (*out)->dim = space->dim, (*out)->clip = clip;
  return VQ_OK;
}

static void destroy(vq_instance *self) { free(self); }

static vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  const vq_str stage = TEXT("ranges");
  const size_t d = self->dim;
  float *lo = self->range, *hi = lo + d;
  if (train.dim != d) return fail(err, VQ_ERROR, "rows have %zu dimensions, expected %zu", train.dim, d);
  for (size_t j = 0; j < d; j++) lo[j] = INFINITY, hi[j] = -INFINITY;
  for (size_t i = 0; i < train.rows; i++) {
    if (i % 4096 == 0 && ctx->progress(ctx->host, (float)i / (float)train.rows, stage))
      return fail(err, VQ_CANCELLED, "cancelled");
    const float *x = train.data + i * train.row_stride;
    for (size_t j = 0; j < d; j++)
      lo[j] = x[j] < lo[j] ? x[j] : lo[j], hi[j] = x[j] > hi[j] ? x[j] : hi[j];
  }
  for (size_t j = 0; j < d; j++) {
    if (!isfinite(lo[j]) || !isfinite(hi[j])) return fail(err, VQ_ERROR, "dimension %zu has no range", j);
    double centre = ((double)lo[j] + hi[j]) / 2, half = self->clip * ((double)hi[j] - lo[j]) / 2;
    lo[j] = (float)(centre - half), hi[j] = (float)(centre + half);
  }
  self->ready = 1;
  return VQ_OK;
}

struct compress_call { const vq_instance *self; vq_mat x; vq_codes_mut codes; };

static void compress_rows(void *shared, size_t task) {
  const struct compress_call *call = shared;
  const float *lo = call->self->range, *hi = lo + call->self->dim;
  size_t first = task * ROWS_PER_TASK, left = call->x.rows - first;
  for (size_t i = first; i < first + (left < ROWS_PER_TASK ? left : ROWS_PER_TASK); i++) {
    const float *x = call->x.data + i * call->x.row_stride;
    uint8_t *code = call->codes.data + i * call->codes.row_stride;
    for (size_t j = 0; j < call->self->dim; j++) {
      double level = 255.0 * ((double)x[j] - lo[j]) / ((double)hi[j] - lo[j]) + 0.5;
      code[j] = level >= 255.0 ? 255 : level > 0.0 ? (uint8_t)level : 0; /* NaN becomes 0 */
    }
  }
}

static vq_rc compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  struct compress_call call = {self, x, codes};
  vq_rc rc = check_call(self, x.dim, codes.code_bytes, x.rows == codes.rows, err);
  if (rc == VQ_OK)
    ctx->parallel_for(ctx->host, (x.rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK, compress_rows, &call);
  return rc;
}

static vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x,
                        vq_buf *err) {
  const float *lo = self->range, *hi = lo + self->dim;
  (void)ctx; /* on one thread, to stay short: compress shows how to use them all */
  vq_rc rc = check_call(self, x.dim, codes.code_bytes, x.rows == codes.rows, err);
  for (size_t i = 0; rc == VQ_OK && i < x.rows; i++)
    for (size_t j = 0; j < self->dim; j++)
      x.data[i * x.row_stride + j] =
          (float)(lo[j] + ((double)hi[j] - lo[j]) * codes.data[i * codes.row_stride + j] / 255.0);
  return rc;
}

static vq_rc save(const vq_instance *self, vq_buf *model, vq_buf *err) {
  if (!self->ready) return fail(err, VQ_ERROR, "save was called before fit or load");
  model->len = model_bytes(self);
  if (model->cap < model->len) return fail(err, VQ_SHORT_BUFFER, "the model has %zu bytes", model->len);
  memcpy(model->ptr, self->range, model->len);
  return VQ_OK;
}

static vq_rc load(vq_instance *self, vq_str model, vq_buf *err) {
  if (model.len != model_bytes(self)) return fail(err, VQ_ERROR, "%zu bytes are no such model", model.len);
  memcpy(self->range, model.ptr, model.len);
  for (size_t j = 0; j < 2 * self->dim; j++)
    if (!isfinite(self->range[j])) return fail(err, VQ_ERROR, "number %zu of the model is not finite", j);
  self->ready = 1;
  return VQ_OK;
}

#define FLOAT(number) {.kind = VQ_KIND_FLOAT, .f = number}
static const vq_param clip = {
    .struct_size = sizeof(vq_param), .kind = VQ_KIND_FLOAT, .name = TEXT("clip"),
    .help = TEXT("Part of each dimension's training range that the 256 levels span."),
    .default_value = FLOAT(1.0), .min = FLOAT(0.5), .max = FLOAT(1.0),
    .grid = {.kind = VQ_KIND_LIST, .items = (const vq_value[]){FLOAT(0.9), FLOAT(1.0)}, .n_items = 2},
};
static const vq_method method = {
    .struct_size = sizeof(vq_method), .flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC | VQ_THREAD_SAFE,
    .id = TEXT("c_sq8"), .name = TEXT("SQ8 in C"), .version = TEXT("0.1.0"),
    .description = TEXT("8-bit scalar quantization per dimension, an example in C"),
    .license = TEXT("MIT OR Apache-2.0"), .tags = TEXT("scalar, example"),
    .params = &clip, .n_params = 1, .create = create, .destroy = destroy, .fit = fit,
    .code_bytes = code_bytes, .model_bytes = model_bytes, .ratio = ratio,
    .compress = compress, .decompress = decompress, .save = save, .load = load,
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
