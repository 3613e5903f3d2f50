/* c_sq8 - scalar quantization to 8 bits per dimension: a vq-host plugin in plain C.
 *
 *   fit     lo, hi = c - clip h, c + clip h: centre and half-width of the dimension's training range
 *   code    round(255 (x - lo) / (hi - lo)), within 0..255
 *   decode  lo + (hi - lo) code / 255, in double so that no finite range overflows */
#include <float.h>
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
  uint32_t metric;
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
  (*out)->dim = space->dim, (*out)->metric = space->metric, (*out)->clip = clip;
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

/* Coordinate j of a decoded row. */
static double decoded(const vq_instance *self, const uint8_t *code, size_t j) {
  double lo = self->range[j], hi = self->range[self->dim + j];
  return lo + (hi - lo) * code[j] / 255.0;
}

static vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x,
                        vq_buf *err) {
  (void)ctx; /* on one thread, to stay short: compress shows how to use them all */
  vq_rc rc = check_call(self, x.dim, codes.code_bytes, x.rows == codes.rows, err);
  for (size_t i = 0; rc == VQ_OK && i < x.rows; i++)
    for (size_t j = 0; j < self->dim; j++)
      x.data[i * x.row_stride + j] = (float)decoded(self, codes.data + i * codes.row_stride, j);
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

/* The space's metric between a raw query and a code, without writing the decoded row. */
static float estimate(const vq_instance *self, const float *query, const uint8_t *code) {
  double sum = 0;
  for (size_t j = 0; j < self->dim; j++) {
    double x = decoded(self, code, j), apart = query[j] - x;
    sum += self->metric == VQ_METRIC_L2 ? apart * apart : query[j] * x;
  }
  return (float)fmax(-FLT_MAX, fmin(sum, FLT_MAX));
}

/* One query against n codes; score fills estimates, search ids too. */
struct ask { const vq_instance *self; vq_mat queries; const uint8_t *codes; size_t n, k; uint64_t *ids; vq_mat_mut out; };

static void score_query(void *shared, size_t q) {
  const struct ask *ask = shared;
  for (size_t i = 0; i < ask->n; i++)
    ask->out.data[q * ask->out.row_stride + i] =
        estimate(ask->self, ask->queries.data + q * ask->queries.row_stride, ask->codes + i * ask->self->dim);
}

static vq_rc score(const vq_instance *self, const vq_ctx *ctx, vq_mat queries, const uint8_t *codes,
                   size_t codes_len, size_t n, vq_mat_mut estimates, vq_mat_mut bounds, vq_buf *err) {
  struct ask ask = {self, queries, codes, n, 0, NULL, estimates};
  vq_rc rc = check_call(self, queries.dim, self->dim, codes_len == n * self->dim, err);
  (void)bounds; /* claims none */
  if (rc == VQ_OK) ctx->parallel_for(ctx->host, queries.rows, score_query, &ask);
  return rc;
}

/* Keeps the k best in order while it walks: a code moves up past those that it is nearer than, so
 * that of equal ones the lower row stays before the other. */
static void search_query(void *shared, size_t q) {
  const struct ask *ask = shared;
  const float *query = ask->queries.data + q * ask->queries.row_stride;
  const size_t k = ask->k;
  uint64_t *ids = ask->ids + q * k;
  float *best = ask->out.data + q * k;
  const int least_first = ask->self->metric == VQ_METRIC_L2;
  for (size_t i = 0; i < k; i++) ids[i] = VQ_SEARCH_NONE, best[i] = NAN;
  for (size_t i = 0; i < ask->n; i++) {
    float now = estimate(ask->self, query, ask->codes + i * ask->self->dim);
    size_t place = i < k ? i : k; /* k: beyond the last */
    for (; place > 0 && (least_first ? now < best[place - 1] : now > best[place - 1]); place--)
      if (place < k) best[place] = best[place - 1], ids[place] = ids[place - 1];
    if (place < k) best[place] = now, ids[place] = i;
  }
}

static vq_rc search(const vq_instance *self, const vq_ctx *ctx, vq_mat queries, const uint8_t *packed,
                    size_t packed_len, size_t n, size_t k, uint64_t *ids, float *estimates, vq_buf *err) {
  struct ask ask = {self, queries, packed, n, k, ids, {estimates, queries.rows, k, k}};
  vq_rc rc = check_call(self, queries.dim, self->dim, packed_len == n * self->dim, err);
  if (rc == VQ_OK) ctx->parallel_for(ctx->host, queries.rows, search_query, &ask);
  return rc;
}

static const vq_scorer_v1 scorer = {.struct_size = sizeof(vq_scorer_v1), .score = score};
static const vq_search_v1 searcher = {
    .struct_size = sizeof(vq_search_v1), .flags = VQ_SEARCH_RANKS_ESTIMATES, .search = search,
};

static const void *get_extension(vq_str id) {
  if (id.len == sizeof VQ_SCORER_V1 - 1 && memcmp(id.ptr, VQ_SCORER_V1, id.len) == 0) return &scorer;
  if (id.len == sizeof VQ_SEARCH_V1 - 1 && memcmp(id.ptr, VQ_SEARCH_V1, id.len) == 0) return &searcher;
  return NULL;
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
    .get_extension = get_extension,
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
