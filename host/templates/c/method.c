/* {{id}} - a vq-host plugin in C99: a step per dimension, one byte per coordinate.
 *
 *   fit     m, s = mean, step * standard deviation of the dimension's training values
 *   code    round((x - m) / s), within -128..127
 *   decode  m + s * code
 *   score   the space's metric between a raw query and a code, which is not decoded into a row */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vq_plugin.h"

#define TEXT(literal) {literal, sizeof(literal) - 1}
#define ROWS_PER_TASK 256 /* a task costs microseconds to start: give it more than that */

typedef struct { float m, s; } scale;

struct vq_instance {
  size_t dim;
  uint32_t metric;
  double step;
  int ready;      /* fit or load has succeeded */
  scale scales[]; /* one per dimension: what save writes */
};

/* Error text goes into the caller's buffer, cut to its size. */
static vq_rc fail(vq_buf *err, vq_rc rc, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int len = vsnprintf((char *)err->ptr, err->cap, format, args); /* its NUL costs one byte */
  va_end(args);
  err->len = len < 0 || err->cap == 0 ? 0 : (size_t)len < err->cap ? (size_t)len : err->cap - 1;
  return rc;
}

static size_t code_bytes(const vq_instance *self) { return self->dim; }
static uint64_t model_bytes(const vq_instance *self) { return self->dim * sizeof(scale); }
static double ratio(const vq_instance *self) { return 4.0 * (double)self->dim / (double)code_bytes(self); }

static vq_rc create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  double step = 0.05;
  for (size_t i = 0; i < config->n_entries; i++) {
    const vq_entry *entry = &config->entries[i];
    if (entry->name.len != 4 || memcmp(entry->name.ptr, "step", 4) != 0)
      return fail(err, VQ_BAD_CONFIG, "%.*s: unknown parameter; known are: step",
                  (int)(entry->name.len < 128 ? entry->name.len : 128), entry->name.len ? entry->name.ptr : "");
    if (entry->value.kind != VQ_KIND_FLOAT) return fail(err, VQ_BAD_CONFIG, "step: expected a float");
    step = entry->value.f;
    if (!(step >= 1e-6 && step <= 1e6)) /* NaN fails too */
      return fail(err, VQ_BAD_CONFIG, "step: %g is not within 1e-6 and 1e6", step);
  }
  *out = calloc(1, sizeof **out + space->dim * sizeof(scale));
  if (!*out) return fail(err, VQ_ERROR, "out of memory");
  (*out)->dim = space->dim;
  (*out)->metric = space->metric;
  (*out)->step = step;
  return VQ_OK;
}

static void destroy(vq_instance *self) { free(self); }

static vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  const vq_str stage = TEXT("steps");
  if (train.dim != self->dim) return fail(err, VQ_ERROR, "rows of %zu dimensions", train.dim);
  if (train.rows == 0) return fail(err, VQ_ERROR, "no rows");
  for (size_t j = 0; j < self->dim; j++) {
    double sum = 0, squares = 0;
    if (ctx->progress(ctx->host, (float)j / (float)self->dim, stage))
      return fail(err, VQ_CANCELLED, "cancelled");
    for (size_t i = 0; i < train.rows; i++) sum += train.data[i * train.row_stride + j];
    double mean = sum / (double)train.rows;
    for (size_t i = 0; i < train.rows; i++) {
      double x = train.data[i * train.row_stride + j] - mean;
      squares += x * x;
    }
    double s = self->step * sqrt(squares / (double)train.rows);
    if (!isfinite(s)) return fail(err, VQ_ERROR, "dimension %zu is not finite", j);
    self->scales[j].m = (float)fmax(-1e38, fmin(mean, 1e38)); /* decoded rows are finite */
    self->scales[j].s = (float)fmax(1e-12, fmin(s, 1e30));
  }
  self->ready = 1;
  return VQ_OK;
}

/* Whether a call that needs a fitted model may go on. */
static vq_rc may_run(const vq_instance *self, size_t dim, size_t code_bytes, vq_buf *err) {
  if (!self->ready) return fail(err, VQ_ERROR, "called before fit or load");
  if (dim != self->dim || code_bytes != self->dim) return fail(err, VQ_ERROR, "rows of another width");
  return VQ_OK;
}

struct compress_call { const vq_instance *self; vq_mat x; vq_codes_mut codes; };

static void compress_rows(void *shared, size_t task) {
  const struct compress_call *call = shared;
  size_t first = task * ROWS_PER_TASK, left = call->x.rows - first;
  for (size_t i = first; i < first + (left < ROWS_PER_TASK ? left : ROWS_PER_TASK); i++)
    for (size_t j = 0; j < call->self->dim; j++) {
      scale at = call->self->scales[j];
      double code = round(((double)call->x.data[i * call->x.row_stride + j] - at.m) / at.s);
      code = fmax(-128, fmin(code, 127)); /* NaN becomes 127 */
      call->codes.data[i * call->codes.row_stride + j] = (uint8_t)(int8_t)code;
    }
}

static vq_rc compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  struct compress_call call = {self, x, codes};
  vq_rc rc = may_run(self, x.dim, codes.code_bytes, err);
  if (rc == VQ_OK)
    ctx->parallel_for(ctx->host, (x.rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK, compress_rows, &call);
  return rc;
}

static vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
  (void)ctx; /* on one thread, to stay short: compress shows how to use them all */
  vq_rc rc = may_run(self, x.dim, codes.code_bytes, err);
  for (size_t i = 0; rc == VQ_OK && i < x.rows; i++)
    for (size_t j = 0; j < self->dim; j++) {
      int8_t code = (int8_t)codes.data[i * codes.row_stride + j];
      x.data[i * x.row_stride + j] = self->scales[j].m + self->scales[j].s * (float)code;
    }
  return rc;
}

/* All that decoding needs: a sweep decodes in another process, which has these bytes alone. */
static vq_rc save(const vq_instance *self, vq_buf *model, vq_buf *err) {
  if (!self->ready) return fail(err, VQ_ERROR, "called before fit or load");
  model->len = model_bytes(self);
  if (model->cap < model->len) return fail(err, VQ_SHORT_BUFFER, "the model has %zu bytes", model->len);
  memcpy(model->ptr, self->scales, model->len);
  return VQ_OK;
}

static vq_rc load(vq_instance *self, vq_str model, vq_buf *err) {
  if (model.len != model_bytes(self)) return fail(err, VQ_ERROR, "%zu bytes are no such model", model.len);
  memcpy(self->scales, model.ptr, model.len);
  for (size_t j = 0; j < self->dim; j++)
    if (!isfinite(self->scales[j].m) || !isfinite(self->scales[j].s))
      return fail(err, VQ_ERROR, "dimension %zu of the model is not finite", j);
  self->ready = 1;
  return VQ_OK;
}

struct score_call { const vq_instance *self; vq_mat queries; const uint8_t *codes; size_t n; vq_mat_mut estimates; };

static void score_query(void *shared, size_t q) {
  const struct score_call *call = shared;
  const size_t d = call->self->dim;
  const float *query = call->queries.data + q * call->queries.row_stride;
  for (size_t i = 0; i < call->n; i++) {
    double sum = 0;
    for (size_t j = 0; j < d; j++) {
      scale at = call->self->scales[j];
      double x = at.m + (double)at.s * (int8_t)call->codes[i * d + j], apart = query[j] - x;
      sum += call->self->metric == VQ_METRIC_L2 ? apart * apart : query[j] * x;
    }
    call->estimates.data[q * call->estimates.row_stride + i] = (float)sum;
  }
}

/* Estimates of all pairs; the headline recall is of these. Packs nothing and claims no bounds. */
static vq_rc score(const vq_instance *self, const vq_ctx *ctx, vq_mat queries, const uint8_t *codes,
                   size_t codes_len, size_t n, vq_mat_mut estimates, vq_mat_mut bounds, vq_buf *err) {
  struct score_call call = {self, queries, codes, n, estimates};
  vq_rc rc = may_run(self, queries.dim, self->dim, err);
  (void)bounds;
  if (rc == VQ_OK && codes_len != n * self->dim) rc = fail(err, VQ_ERROR, "codes of another width");
  if (rc == VQ_OK) ctx->parallel_for(ctx->host, queries.rows, score_query, &call);
  return rc;
}

static const vq_scorer_v1 scorer = {.struct_size = sizeof(vq_scorer_v1), .score = score};

static const void *get_extension(vq_str id) {
  int same = id.len == sizeof VQ_SCORER_V1 - 1 && memcmp(id.ptr, VQ_SCORER_V1, id.len) == 0;
  return same ? &scorer : NULL;
}

#define FLOAT(number) {.kind = VQ_KIND_FLOAT, .f = number}
static const vq_value step_grid[] = {FLOAT(0.025), FLOAT(0.05), FLOAT(0.1)};
static const vq_param params[] = {{
    .struct_size = sizeof(vq_param), .kind = VQ_KIND_FLOAT, .name = TEXT("step"),
    .help = TEXT("Standard deviations of a dimension that one step spans."),
    .default_value = FLOAT(0.05), .min = FLOAT(1e-6), .max = FLOAT(1e6),
    .grid = {.kind = VQ_KIND_LIST, .items = step_grid, .n_items = 3},
}};
static const vq_method method = {
    .struct_size = sizeof(vq_method), .flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC | VQ_THREAD_SAFE,
    .id = TEXT("{{id}}"), .name = TEXT("{{title}}"), .version = TEXT("0.1.0"),
    .description = TEXT("{{title}}: a vq-host plugin in C"), .license = TEXT("MIT OR Apache-2.0"),
    .params = params, .n_params = 1, .create = create, .destroy = destroy, .fit = fit,
    .code_bytes = code_bytes, .model_bytes = model_bytes, .ratio = ratio,
    .compress = compress, .decompress = decompress, .save = save, .load = load,
    .get_extension = get_extension,
};
static const vq_method *const methods[] = {&method};
static const vq_plugin plugin = {
    .magic = VQ_MAGIC, .abi_major = VQ_ABI_MAJOR, .abi_minor = VQ_ABI_MINOR,
    .struct_size = sizeof(vq_plugin), .sdk = TEXT("c"), .methods = methods, .n_methods = 1,
};

const vq_plugin *vq_plugin_entry_v1(uint32_t host_major, uint32_t host_minor) {
  (void)host_minor;
  return host_major == VQ_ABI_MAJOR ? &plugin : NULL;
}
