/* golden.c - a plugin of ABI 1 that uses every part of vq_plugin.h. Frozen with the header beside
 * it: it must build and run unchanged for as long as hosts speak ABI 1.
 *
 * golden_c    x^ = lo + step code, a uniform scale per dimension, 4 or 8 bits a value
 *   fit       lo, hi = centre -+ clip factor half-width of the dimension's range (or of all
 *             ranges), step = (hi - lo) / (2^bits - 1); with dither, lo moves by less than a step,
 *             drawn from the seed
 *   scorer    over codes turned to (code_bytes, n), with the bound that |x - x^| <= step / 2 gives
 * golden_c_raw  the rows themselves; every optional function is NULL */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vq_plugin.h"

#define TEXT(literal) {literal, sizeof(literal) - 1}
#define MAX_FACTORS 8

struct vq_instance {
  size_t dim;
  uint32_t metric;
  unsigned bits;
  int dither, global, ready;
  double clip, factors[MAX_FACTORS];
  size_t n_factors;
  float scale[]; /* lo of each dimension, then step of each */
};

static int is(vq_str text, const char *literal) {
  return text.len == strlen(literal) && memcmp(text.ptr, literal, text.len) == 0;
}

static vq_rc fail(vq_buf *err, vq_rc rc, const char *format, ...) {
  char text[256];
  va_list args;
  va_start(args, format);
  int len = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  size_t n = len < 0 ? 0 : (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;
  err->len = n < err->cap ? n : err->cap;
  if (err->len) memcpy(err->ptr, text, err->len);
  return rc;
}

/* -- configuration ---------------------------------------------------------------------- */

static int number(vq_value value, double *to) {
  if (value.kind != VQ_KIND_FLOAT && value.kind != VQ_KIND_INT) return 0;
  *to = value.kind == VQ_KIND_INT ? (double)value.i : value.f;
  return 1;
}

static vq_rc configure(vq_instance *self, const vq_config *config, const vq_space *space, vq_buf *err) {
  self->dim = space->dim, self->metric = space->metric;
  self->bits = 8, self->clip = 1.0, self->factors[0] = 1.0, self->n_factors = 1;
  for (size_t i = 0; i < config->n_entries; i++) {
    vq_str name = config->entries[i].name;
    vq_value value = config->entries[i].value;
    if (is(name, "bits")) {
      if (value.kind != VQ_KIND_INT) return fail(err, VQ_BAD_CONFIG, "bits: expected an integer");
      if (value.i != 4 && value.i != 8) return fail(err, VQ_BAD_CONFIG, "bits: %lld is not 4 or 8", (long long)value.i);
      self->bits = (unsigned)value.i;
    } else if (is(name, "clip")) {
      if (!number(value, &self->clip)) return fail(err, VQ_BAD_CONFIG, "clip: expected a number");
      if (!(self->clip >= 0.5 && self->clip <= 1.0))
        return fail(err, VQ_BAD_CONFIG, "clip: %g is not within 0.5 and 1", self->clip);
    } else if (is(name, "dither")) {
      if (value.kind != VQ_KIND_BOOL) return fail(err, VQ_BAD_CONFIG, "dither: expected true or false");
      self->dither = value.i != 0;
    } else if (is(name, "range")) {
      if (value.kind != VQ_KIND_STRING) return fail(err, VQ_BAD_CONFIG, "range: expected a text");
      if (!is(value.s, "dimension") && !is(value.s, "global"))
        return fail(err, VQ_BAD_CONFIG, "range: expected dimension or global");
      self->global = is(value.s, "global");
    } else if (is(name, "factors")) {
      if (value.kind != VQ_KIND_LIST) return fail(err, VQ_BAD_CONFIG, "factors: expected a list");
      if (value.n_items < 1 || value.n_items > MAX_FACTORS)
        return fail(err, VQ_BAD_CONFIG, "factors: %zu are not 1 to %d", value.n_items, MAX_FACTORS);
      self->n_factors = value.n_items;
      for (size_t j = 0; j < value.n_items; j++) {
        if (!number(value.items[j], &self->factors[j]))
          return fail(err, VQ_BAD_CONFIG, "factors: expected numbers");
        if (!(self->factors[j] >= 0.5 && self->factors[j] <= 2.0))
          return fail(err, VQ_BAD_CONFIG, "factors: %g is not within 0.5 and 2", self->factors[j]);
      }
    } else {
      return fail(err, VQ_BAD_CONFIG, "%.*s: unknown parameter", (int)(name.len < 128 ? name.len : 128),
                  name.len ? name.ptr : "");
    }
  }
  if (self->bits == 4 && self->dim % 2)
    return fail(err, VQ_BAD_CONFIG, "bits: 4 need an even d, not %zu", self->dim);
  return VQ_OK;
}

static vq_rc create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  vq_instance *self = calloc(1, sizeof *self + 2 * space->dim * sizeof(float));
  if (!self) return fail(err, VQ_ERROR, "out of memory");
  vq_rc rc = configure(self, config, space, err);
  if (rc == VQ_OK)
    *out = self;
  else
    free(self);
  return rc;
}

static void destroy(vq_instance *self) { free(self); }

#define FLOAT(number) {.kind = VQ_KIND_FLOAT, .f = number}
#define INT(number) {.kind = VQ_KIND_INT, .i = number}
#define BOOL(truth) {.kind = VQ_KIND_BOOL, .i = truth}
#define STRING(literal) {.kind = VQ_KIND_STRING, .s = TEXT(literal)}
#define LIST(...)                                                                   \
  {.kind = VQ_KIND_LIST, .items = (const vq_value[]){__VA_ARGS__},                  \
   .n_items = sizeof((const vq_value[]){__VA_ARGS__}) / sizeof(vq_value)}
static const vq_param params[] = {
    {.struct_size = sizeof(vq_param), .kind = VQ_KIND_INT, .name = TEXT("bits"),
     .help = TEXT("Bits of each value."), .default_value = INT(8), .min = INT(1), .max = INT(8),
     .choices = LIST(INT(4), INT(8)), .grid = LIST(INT(4), INT(8))},
    {.struct_size = sizeof(vq_param), .kind = VQ_KIND_FLOAT, .name = TEXT("clip"),
     .help = TEXT("Part of the training range that the levels span."), .default_value = FLOAT(1.0),
     .min = FLOAT(0.5), .max = FLOAT(1.0)},
    {.struct_size = sizeof(vq_param), .kind = VQ_KIND_BOOL, .name = TEXT("dither"),
     .help = TEXT("Whether each dimension's levels are moved at random."), .default_value = BOOL(0),
     .grid = LIST(BOOL(0), BOOL(1))},
    {.struct_size = sizeof(vq_param), .kind = VQ_KIND_STRING, .name = TEXT("range"),
     .help = TEXT("What one range is learned for."), .default_value = STRING("dimension"),
     .choices = LIST(STRING("dimension"), STRING("global"))},
    {.struct_size = sizeof(vq_param), .kind = VQ_KIND_LIST, .item_kind = VQ_KIND_FLOAT, .name = TEXT("factors"),
     .help = TEXT("Factors of the ranges, for the dimensions in turn."), .default_value = LIST(FLOAT(1.0)),
     .min = FLOAT(0.5), .max = FLOAT(2.0), .grid = LIST(LIST(FLOAT(1.0)), LIST(FLOAT(1.0), FLOAT(1.25)))},
};
#define N_PARAMS (sizeof params / sizeof *params)

/* The values of each parameter, the last in the innermost loop. */
static vq_rc expand_grid(const vq_grid_request *request, const vq_grid_sink *sink, vq_buf *err) {
  if (request->struct_size != sizeof *request || sink->struct_size != sizeof *sink)
    return fail(err, VQ_ERROR, "a request of another size");
  const vq_value *values[N_PARAMS];
  size_t n_values[N_PARAMS], at[N_PARAMS] = {0};
  for (size_t p = 0; p < N_PARAMS; p++) {
    const vq_value *grid = &params[p].grid;
    values[p] = &params[p].default_value, n_values[p] = 1;
    if (!request->n_axes && grid->kind == VQ_KIND_LIST) values[p] = grid->items, n_values[p] = grid->n_items;
    for (size_t a = 0; a < request->n_axes; a++)
      if (request->axes[a].name.len == params[p].name.len &&
          !memcmp(request->axes[a].name.ptr, params[p].name.ptr, params[p].name.len))
        values[p] = request->axes[a].value.items, n_values[p] = request->axes[a].value.n_items;
    if (!n_values[p]) return VQ_OK;
  }
  for (;;) {
    vq_entry entries[N_PARAMS];
    for (size_t p = 0; p < N_PARAMS; p++) entries[p].name = params[p].name, entries[p].value = values[p][at[p]];
    vq_config config = {entries, N_PARAMS};
    vq_instance made;
    char why[256];
    vq_buf reason = {(uint8_t *)why, sizeof why, 0};
    memset(&made, 0, sizeof made);
    if (configure(&made, &config, &request->space, &reason) != VQ_OK) {
      vq_str text = {why, reason.len};
      sink->skip(sink->host, &config, text);
    } else if (request->bits_per_dim > 0 && fabs(request->bits_per_dim - made.bits) * made.dim >= 8) {
      vq_str text = TEXT("another rate was asked");
      sink->skip(sink->host, &config, text);
    } else {
      char label[128];
      int len = snprintf(label, sizeof label, "bits=%u clip=%g dither=%d global=%d factors=%zu", made.bits,
                         made.clip, made.dither, made.global, made.n_factors);
      for (size_t j = 0; j < made.n_factors && len > 0 && (size_t)len < sizeof label - 16; j++)
        len += snprintf(label + len, sizeof label - (size_t)len, ",%g", made.factors[j]);
      vq_str text = {label, len < 0 ? 0 : (size_t)len};
      if (sink->emit(sink->host, &config, text)) return VQ_OK;
    }
    size_t p = N_PARAMS;
    while (p > 0 && ++at[p - 1] == n_values[p - 1]) at[--p] = 0;
    if (p == 0) return VQ_OK;
  }
}

/* -- training --------------------------------------------------------------------------- */

struct fit_call {
  vq_instance *self;
  vq_mat train;
};

/* The range of one dimension: lo and hi. */
static void fit_dimension(void *shared, size_t j) {
  const struct fit_call *call = shared;
  float lo = INFINITY, hi = -INFINITY;
  for (size_t i = 0; i < call->train.rows; i++) {
    float x = call->train.data[i * call->train.row_stride + j];
    if (!(x >= lo)) lo = x; /* NaN stays */
    if (!(x <= hi)) hi = x;
  }
  call->self->scale[j] = lo, call->self->scale[call->self->dim + j] = hi;
}

/* Uniform in [0, 1): splitmix64 of seed and i. */
static double uniform(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  const vq_str ranges = TEXT("ranges"), none = {NULL, 0}, unknown = TEXT("vq.golden/1");
  const size_t d = self->dim;
  float *lo = self->scale, *hi = lo + d;
  if (ctx->struct_size != sizeof *ctx || ctx->threads < 1) return fail(err, VQ_ERROR, "no vq_ctx of ABI 1");
  if (train.dim != d) return fail(err, VQ_ERROR, "rows have %zu dimensions, expected %zu", train.dim, d);
  if (train.rows == 0) return fail(err, VQ_ERROR, "no rows to learn from");
  if (ctx->get_host_extension(ctx->host, unknown)) ctx->log(ctx->host, VQ_LOG_WARN, unknown);
  ctx->log(ctx->host, VQ_LOG_DEBUG, ranges);
  if (ctx->progress(ctx->host, 0.0f, ranges)) return fail(err, VQ_CANCELLED, "cancelled");
  struct fit_call call = {self, train};
  ctx->parallel_for(ctx->host, d, fit_dimension, &call);
  if (ctx->progress(ctx->host, 0.5f, none)) return fail(err, VQ_CANCELLED, "cancelled");
  for (size_t j = 0; j < d; j++)
    if (!isfinite(lo[j]) || !isfinite(hi[j])) return fail(err, VQ_ERROR, "dimension %zu has no range", j);
  if (self->global) {
    float least = lo[0], most = hi[0];
    for (size_t j = 1; j < d; j++) least = fminf(least, lo[j]), most = fmaxf(most, hi[j]);
    for (size_t j = 0; j < d; j++) lo[j] = least, hi[j] = most;
  }
  for (size_t j = 0; j < d; j++) {
    double factor = self->clip * self->factors[j % self->n_factors];
    double centre = ((double)lo[j] + hi[j]) / 2, half = factor * ((double)hi[j] - lo[j]) / 2;
    double step = 2 * half / ((1u << self->bits) - 1);
    double from = centre - half - (self->dither ? step * uniform(ctx->seed, j) : 0.0);
    lo[j] = (float)from, hi[j] = (float)step;
    if (!isfinite(lo[j]) || !isfinite(hi[j])) return fail(err, VQ_ERROR, "dimension %zu is too wide", j);
  }
  ctx->log(ctx->host, VQ_LOG_INFO, ranges);
  ctx->progress(ctx->host, 1.0f, ranges); /* nothing is left to stop */
  self->ready = 1;
  return VQ_OK;
}

/* -- codes ------------------------------------------------------------------------------ */

static size_t code_bytes(const vq_instance *self) { return self->dim * self->bits / 8; }
static uint64_t model_bytes(const vq_instance *self) { return 2 * self->dim * sizeof(float); }
static double ratio(const vq_instance *self) { return 4.0 * (double)self->dim / (double)code_bytes(self); }

static unsigned level(const vq_instance *self, const uint8_t *code, size_t stride, size_t j) {
  if (self->bits == 8) return code[j * stride];
  return code[j / 2 * stride] >> (j % 2 * 4) & 15;
}

static double decoded(const vq_instance *self, unsigned level, size_t j) {
  return self->scale[j] + (double)self->scale[self->dim + j] * level;
}

/* A row of finite x^ even where lo + step level leaves the range of float. */
static float narrow(double value) {
  const double most = 3.4028234663852886e38;
  return (float)(value > most ? most : value < -most ? -most : value);
}

/* Whether a call that needs a fitted model may go on. */
static vq_rc check_call(const vq_instance *self, size_t dim, size_t width, int same_rows, vq_buf *err) {
  if (!self->ready) return fail(err, VQ_ERROR, "called before fit or load");
  if (dim == self->dim && width == code_bytes(self) && same_rows) return VQ_OK;
  return fail(err, VQ_ERROR, "rows or codes of another shape");
}

struct compress_call {
  const vq_instance *self;
  vq_mat x;
  vq_codes_mut codes;
};

static void compress_row(void *shared, size_t i) {
  const struct compress_call *call = shared;
  const vq_instance *self = call->self;
  const float *x = call->x.data + i * call->x.row_stride;
  uint8_t *code = call->codes.data + i * call->codes.row_stride;
  const double top = (1u << self->bits) - 1;
  memset(code, 0, call->codes.code_bytes);
  for (size_t j = 0; j < self->dim; j++) {
    double at = ((double)x[j] - self->scale[j]) / self->scale[self->dim + j] + 0.5;
    unsigned level = at >= top ? (unsigned)top : at > 0.0 ? (unsigned)at : 0; /* NaN becomes 0 */
    if (self->bits == 8)
      code[j] = (uint8_t)level;
    else
      code[j / 2] |= (uint8_t)(level << (j % 2 * 4));
  }
}

static vq_rc compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  struct compress_call call = {self, x, codes};
  vq_rc rc = check_call(self, x.dim, codes.code_bytes, x.rows == codes.rows, err);
  if (rc == VQ_OK) ctx->parallel_for(ctx->host, x.rows, compress_row, &call);
  return rc;
}

struct decompress_call {
  const vq_instance *self;
  vq_codes codes;
  vq_mat_mut x;
};

static void decompress_row(void *shared, size_t i) {
  const struct decompress_call *call = shared;
  const uint8_t *code = call->codes.data + i * call->codes.row_stride;
  float *x = call->x.data + i * call->x.row_stride;
  for (size_t j = 0; j < call->self->dim; j++) x[j] = narrow(decoded(call->self, level(call->self, code, 1, j), j));
}

static vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
  struct decompress_call call = {self, codes, x};
  vq_rc rc = check_call(self, x.dim, codes.code_bytes, x.rows == codes.rows, err);
  if (rc == VQ_OK) ctx->parallel_for(ctx->host, x.rows, decompress_row, &call);
  return rc;
}

/* -- models ----------------------------------------------------------------------------- */

static vq_rc save(const vq_instance *self, vq_buf *model, vq_buf *err) {
  if (!self->ready) return fail(err, VQ_ERROR, "save was called before fit or load");
  model->len = (size_t)model_bytes(self);
  if (model->cap < model->len) return fail(err, VQ_SHORT_BUFFER, "the model has %zu bytes", model->len);
  memcpy(model->ptr, self->scale, model->len);
  return VQ_OK;
}

static vq_rc load(vq_instance *self, vq_str model, vq_buf *err) {
  if (model.len != model_bytes(self)) return fail(err, VQ_ERROR, "%zu bytes are no such model", model.len);
  memcpy(self->scale, model.ptr, model.len);
  for (size_t j = 0; j < 2 * self->dim; j++)
    if (!isfinite(self->scale[j])) return fail(err, VQ_ERROR, "number %zu of the model is not finite", j);
  self->ready = 1;
  return VQ_OK;
}

/* -- vq.scorer/1 ------------------------------------------------------------------------ */

static size_t packed_bytes(const vq_instance *self, size_t n) { return n * code_bytes(self); }

/* (n, code_bytes) -> (code_bytes, n) */
static vq_rc pack(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, uint8_t *packed, size_t packed_len,
                  vq_buf *err) {
  (void)ctx;
  if (codes.code_bytes != code_bytes(self) || packed_len != packed_bytes(self, codes.rows))
    return fail(err, VQ_ERROR, "codes of another shape");
  for (size_t i = 0; i < codes.rows; i++)
    for (size_t b = 0; b < codes.code_bytes; b++)
      packed[b * codes.rows + i] = codes.data[i * codes.row_stride + b];
  return VQ_OK;
}

static vq_rc score(const vq_instance *self, const vq_ctx *ctx, vq_mat queries, const uint8_t *codes, size_t codes_len,
                   size_t n, vq_mat_mut estimates, vq_mat_mut bounds, vq_buf *err) {
  (void)ctx;
  if (!self->ready) return fail(err, VQ_ERROR, "called before fit or load");
  if (queries.dim != self->dim || codes_len != packed_bytes(self, n) || estimates.rows != queries.rows ||
      estimates.dim != n)
    return fail(err, VQ_ERROR, "queries, codes or estimates of another shape");
  for (size_t q = 0; q < queries.rows; q++)
    for (size_t i = 0; i < n; i++) {
      double sum = 0, bound = 0;
      for (size_t j = 0; j < self->dim; j++) {
        double x = decoded(self, level(self, codes + i, n, j), j), y = queries.data[q * queries.row_stride + j];
        double off = self->scale[self->dim + j] / 2;
        if (self->metric == VQ_METRIC_L2)
          sum += (y - x) * (y - x), bound += 2 * fabs(y - x) * off + off * off;
        else /* VQ_METRIC_IP, VQ_METRIC_COSINE */
          sum += y * x, bound += fabs(y) * off;
      }
      estimates.data[q * estimates.row_stride + i] = (float)sum;
      if (bounds.data) bounds.data[q * bounds.row_stride + i] = (float)bound;
    }
  return VQ_OK;
}

static const vq_scorer_v1 scorer = {
    .struct_size = sizeof(vq_scorer_v1), .flags = VQ_SCORER_BOUNDS,
    .packed_bytes = packed_bytes, .pack = pack, .score = score,
};

static const void *get_extension(vq_str id) { return is(id, VQ_SCORER_V1) ? &scorer : NULL; }

/* -- golden_c_raw ----------------------------------------------------------------------- */

static vq_rc raw_create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  if (config->n_entries)
    return fail(err, VQ_BAD_CONFIG, "%.*s: unknown parameter", (int)config->entries[0].name.len,
                config->entries[0].name.ptr);
  *out = calloc(1, sizeof **out);
  if (!*out) return fail(err, VQ_ERROR, "out of memory");
  (*out)->dim = space->dim;
  return VQ_OK;
}

static vq_rc raw_fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  (void)ctx;
  return train.dim == self->dim ? VQ_OK : fail(err, VQ_ERROR, "rows of another dimension");
}

static size_t raw_code_bytes(const vq_instance *self) { return self->dim * sizeof(float); }

static vq_rc raw_compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  (void)ctx;
  if (x.dim != self->dim || codes.code_bytes != raw_code_bytes(self) || x.rows != codes.rows)
    return fail(err, VQ_ERROR, "rows or codes of another shape");
  for (size_t i = 0; i < x.rows; i++)
    memcpy(codes.data + i * codes.row_stride, x.data + i * x.row_stride, codes.code_bytes);
  return VQ_OK;
}

static vq_rc raw_decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
  (void)ctx;
  if (x.dim != self->dim || codes.code_bytes != raw_code_bytes(self) || x.rows != codes.rows)
    return fail(err, VQ_ERROR, "rows or codes of another shape");
  for (size_t i = 0; i < x.rows; i++)
    memcpy(x.data + i * x.row_stride, codes.data + i * codes.row_stride, codes.code_bytes);
  return VQ_OK;
}

/* -- tables ----------------------------------------------------------------------------- */

static const vq_method golden_c = {
    .struct_size = sizeof(vq_method), .flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC | VQ_THREAD_SAFE,
    .id = TEXT("golden_c"), .name = TEXT("Golden C"), .version = TEXT("1.0.0"),
    .description = TEXT("Every part of ABI 1 in C: an \xc3\xa9talon"), /* UTF-8 */
    .paper = TEXT("None, none, 2026"), .authors = TEXT("vq-host"), .license = TEXT("MIT OR Apache-2.0"),
    .homepage = TEXT("https://example.org"), .tags = TEXT("golden, scalar"),
    .params = params, .n_params = N_PARAMS, .expand_grid = expand_grid, .create = create, .destroy = destroy,
    .fit = fit, .code_bytes = code_bytes, .model_bytes = model_bytes, .ratio = ratio, .compress = compress,
    .decompress = decompress, .save = save, .load = load, .get_extension = get_extension,
};
static const vq_method golden_c_raw = {
    .struct_size = sizeof(vq_method), .flags = VQ_DETERMINISTIC,
    .id = TEXT("golden_c_raw"), .name = TEXT("Golden C, raw"), .version = TEXT("1.0.0"),
    .description = TEXT("Only what ABI 1 requires of a method"), .license = TEXT("MIT OR Apache-2.0"),
    .create = raw_create, .destroy = destroy, .fit = raw_fit, .code_bytes = raw_code_bytes,
    .compress = raw_compress, .decompress = raw_decompress,
};
static const vq_plugin plugin = {
    .magic = VQ_MAGIC, .abi_major = VQ_ABI_MAJOR, .abi_minor = VQ_ABI_MINOR, .struct_size = sizeof(vq_plugin),
    .sdk = TEXT("c"), .methods = (const vq_method *const[]){&golden_c, &golden_c_raw}, .n_methods = 2,
};

const vq_plugin *vq_plugin_entry_v1(uint32_t host_major, uint32_t host_minor) {
  (void)host_minor; /* of any minor version */
  return host_major == VQ_ABI_MAJOR ? &plugin : NULL;
}
