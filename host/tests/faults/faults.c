/* faults.c - one honest quantizer with a scorer, and a method for each single thing that can be wrong with it.
 *
 *   fit     lo, hi = the range of all training values
 *   code    round(255 (x - lo) / (hi - lo)) of each dimension
 *   decode  lo + (hi - lo) code / 255
 *   score   the metric between the raw query and the decoded row, with a bound that holds inside the range
 *
 * METHODS is the list: identifier, place and kind of the fault, the functions that the method has, what it does.
 * A fault in an output (CODES to PACKED) or in what is lent (TRAIN to MODEL) needs no code of its own. main.rs says
 * what a run must answer to each. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <fenv.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vq_plugin.h"

#define TEXT(literal) {literal, sizeof(literal) - 1}
#define LARGE_CALL 1000 /* rows: more than a check sends in one call */

/* Which functions a method has: with SAVED save and load, with SCORED a scorer, with PACKED one that packs. */
enum functions { BARE = 0, SAVED = 1, SCORED = 2, PACKS = 4, RANDOM = 8 };

#define METHODS(X)                                                                                              \
  X(honest, NOWHERE, HONEST, SAVED | SCORED | PACKS, "is honest, with a scorer that packs")                    \
  X(honest_unpacked, NOWHERE, HONEST, SAVED | SCORED, "is honest, with a scorer that reads codes")             \
  X(honest_unscored, NOWHERE, HONEST, SAVED, "is honest, without a scorer")                                    \
  X(honest_unsaved, NOWHERE, HONEST, SCORED, "is honest and deterministic, without save and load")             \
  X(honest_random, NOWHERE, HONEST, RANDOM, "is honest, promises no determinism, has no save and load")        \
  X(codes_unwritten, CODES, UNWRITTEN, SAVED, "writes no code")                                                \
  X(codes_half, CODES, HALF, SAVED, "writes the first half of each code")                                      \
  X(codes_last, CODES, LAST, SAVED, "leaves the last code of a call unwritten")                                \
  X(codes_large, CODES, LARGE, SAVED, "leaves bytes of codes unwritten in calls of more than 1,000 rows")      \
  X(codes_odd, CODES, ODD, SAVED, "leaves the first code of every second call unwritten")                      \
  X(codes_past, CODES, PAST, SAVED, "writes a byte past the end of the codes")                                 \
  X(codes_far, CODES, FAR, SAVED, "writes 64 KiB past the end of the codes")                                   \
  X(codes_before, CODES, BEFORE, SAVED, "writes a byte before the codes")                                      \
  X(rows_unwritten, ROWS, UNWRITTEN, SAVED, "decompresses to nothing")                                         \
  X(rows_half, ROWS, HALF, SAVED, "decompresses the first half of each row")                                   \
  X(rows_last, ROWS, LAST, SAVED, "leaves the last row of a call unwritten")                                   \
  X(rows_large, ROWS, LARGE, SAVED, "leaves values of rows unwritten in calls of more than 1,000 codes")       \
  X(rows_odd, ROWS, ODD, SAVED, "leaves the first row of every second call unwritten")                         \
  X(rows_past, ROWS, PAST, SAVED, "writes a byte past the end of the rows")                                    \
  X(rows_far, ROWS, FAR, SAVED, "writes 64 KiB past the end of the rows")                                      \
  X(rows_before, ROWS, BEFORE, SAVED, "writes a byte before the rows")                                         \
  X(rows_nan, ROWS, NOT_A_NUMBER, SAVED, "decompresses a value to NaN")                                        \
  X(rows_infinite, ROWS, INFINITE, SAVED, "decompresses a value to infinity")                                  \
  X(estimates_unwritten, ESTIMATES, UNWRITTEN, SAVED | SCORED, "writes no estimate")                           \
  X(estimates_half, ESTIMATES, HALF, SAVED | SCORED, "writes estimates for the first half of the codes")       \
  X(estimates_last, ESTIMATES, LAST, SAVED | SCORED, "writes no estimate for the last query")                  \
  X(estimates_large, ESTIMATES, LARGE, SAVED | SCORED, "leaves estimates unwritten above 1,000 codes")         \
  X(estimates_odd, ESTIMATES, ODD, SAVED | SCORED, "writes none for the first query in every second call")     \
  X(estimates_past, ESTIMATES, PAST, SAVED | SCORED, "writes a byte past the end of the estimates")            \
  X(estimates_far, ESTIMATES, FAR, SAVED | SCORED, "writes 64 KiB past the end of the estimates")              \
  X(estimates_before, ESTIMATES, BEFORE, SAVED | SCORED, "writes a byte before the estimates")                 \
  X(estimates_nan, ESTIMATES, NOT_A_NUMBER, SAVED | SCORED, "estimates NaN")                                   \
  X(estimates_infinite, ESTIMATES, INFINITE, SAVED | SCORED, "estimates infinity")                             \
  X(bounds_unwritten, BOUNDS, UNWRITTEN, SAVED | SCORED, "claims bounds and writes none")                      \
  X(bounds_half, BOUNDS, HALF, SAVED | SCORED, "writes bounds for the first half of the codes")                \
  X(bounds_large, BOUNDS, LARGE, SAVED | SCORED, "leaves bounds unwritten above 1,000 codes")                  \
  X(bounds_past, BOUNDS, PAST, SAVED | SCORED, "writes a byte past the end of the bounds")                     \
  X(bounds_far, BOUNDS, FAR, SAVED | SCORED, "writes 64 KiB past the end of the bounds")                       \
  X(bounds_before, BOUNDS, BEFORE, SAVED | SCORED, "writes a byte before the bounds")                          \
  X(bounds_nan, BOUNDS, NOT_A_NUMBER, SAVED | SCORED, "claims bounds of NaN")                                  \
  X(bounds_infinite, BOUNDS, INFINITE, SAVED | SCORED, "claims bounds of infinity")                            \
  X(bounds_negative, BOUNDS, NEGATIVE, SAVED | SCORED, "claims bounds below zero")                             \
  X(packed_unwritten, PACKED, UNWRITTEN, SAVED | SCORED | PACKS, "packs nothing")                              \
  X(packed_half, PACKED, HALF, SAVED | SCORED | PACKS, "packs half of the codes")                              \
  X(packed_large, PACKED, LARGE, SAVED | SCORED | PACKS, "leaves packed bytes unwritten above 1,000 codes")    \
  X(packed_past, PACKED, PAST, SAVED | SCORED | PACKS, "writes a byte past the end of the packed codes")       \
  X(packed_far, PACKED, FAR, SAVED | SCORED | PACKS, "writes 64 KiB past the end of the packed codes")         \
  X(packed_before, PACKED, BEFORE, SAVED | SCORED | PACKS, "writes a byte before the packed codes")            \
  X(train_changed, TRAIN, CHANGED, SAVED, "writes into the training rows")                                     \
  X(x_changed, X_ROWS, CHANGED, SAVED, "writes into the rows that it compresses")                              \
  X(x_unprotected, X_ROWS, UNPROTECTED, SAVED, "makes the rows that it compresses writable, and writes")       \
  X(codes_changed, LENT_CODES, CHANGED, SAVED, "writes into the codes that it decompresses")                   \
  X(queries_changed, QUERIES, CHANGED, SAVED | SCORED, "writes into the queries")                              \
  X(scored_changed, SCORED_CODES, CHANGED, SAVED | SCORED, "writes into the codes that it scores")             \
  X(packed_changed, SCORED_CODES, CHANGED, SAVED | SCORED | PACKS, "writes into the packed codes")             \
  X(model_changed, MODEL, CHANGED, SAVED, "writes into the model that it loads")                               \
  X(codes_of_neighbours, NOWHERE, NEIGHBOURS, SAVED, "a code has a byte of the code before it")                \
  X(codes_of_large_calls, NOWHERE, LARGE_NEIGHBOURS, SAVED, "the same in calls of more than 1,000 rows")       \
  X(codes_of_batches, NOWHERE, BATCHES, SAVED, "other codes in calls of more than 1,000 rows")                 \
  X(codes_of_calls, NOWHERE, CALLS, SAVED, "other codes in each call")                                         \
  X(codes_of_threads, NOWHERE, THREADS, SAVED, "other codes on each thread")                                   \
  X(codes_of_clock, NOWHERE, CLOCK, SAVED, "codes depend on the time of day")                                  \
  X(rows_of_neighbours, NOWHERE, ROW_NEIGHBOURS, SAVED, "a decompressed row depends on the code before it")    \
  X(rows_of_calls, NOWHERE, ROW_CALLS, SAVED, "decompresses to other rows in each call")                       \
  X(estimates_of_calls, NOWHERE, SCORE_CALLS, SAVED | SCORED, "other estimates in each call")                  \
  X(estimates_of_queries, NOWHERE, SCORE_QUERIES, SAVED | SCORED, "estimates depend on how many queries come") \
  X(estimates_of_codes, NOWHERE, SCORE_CODES, SAVED | SCORED, "estimates depend on how many codes come")       \
  X(estimates_constant, NOWHERE, SCORE_ZERO, SAVED | SCORED, "every estimate is zero")                         \
  X(estimates_lost, NOWHERE, SCORE_LOST, SAVED | SCORED, "scores otherwise after load")                        \
  X(estimates_refused, NOWHERE, SCORE_REFUSED, SAVED | SCORED, "refuses to score after load")                  \
  X(fit_of_clock, NOWHERE, FIT_CLOCK, SAVED, "the range depends on the time of day, determinism is promised")  \
  X(fit_of_clock_unsaved, NOWHERE, FIT_CLOCK, BARE, "the same without save and load")                          \
  X(side_table, NOWHERE, SIDE, SAVED, "a code is a hash, the rows stay in the process")                        \
  X(side_file, NOWHERE, SIDE_FILE, SAVED, "a code is a hash, the rows lie in a file")                          \
  X(memorises, NOWHERE, MEMORISE, SAVED, "a code is the number of the nearest training row")                   \
  X(memorises_unsaved, NOWHERE, MEMORISE, BARE, "the same with a model of unknown size")                       \
  X(model_grows, NOWHERE, MODEL_GROWS, SAVED, "saves also the rows that it has compressed")                    \
  X(model_of_clock, NOWHERE, MODEL_CLOCK, SAVED, "saves the time of day with the model")                       \
  X(model_lost, NOWHERE, MODEL_LOST, SAVED, "forgets in load where the range ends")                            \
  X(model_on_a_thread, NOWHERE, MODEL_THREAD, SAVED, "keeps the range in a variable of the fitting process")   \
  X(model_short, NOWHERE, MODEL_SHORT, SAVED, "saves half of the model and says that all is well")             \
  X(model_beyond, NOWHERE, MODEL_BEYOND, SAVED, "says that it saved more than there was room for")             \
  X(model_refused, NOWHERE, MODEL_REFUSED, SAVED, "refuses in load what it saved")                             \
  X(model_unsaved, NOWHERE, MODEL_UNSAVED, SAVED, "fails in save")                                             \
  X(model_bytes_low, NOWHERE, MODEL_LOW, SAVED, "saves 4 KiB and says that the model has 8 bytes")             \
  X(model_bytes_high, NOWHERE, MODEL_HIGH, SAVED, "says that the model has 2^63 bytes")                        \
  X(code_bytes_grow, NOWHERE, CODE_GROWS, SAVED, "says longer codes after fit than before")                    \
  X(code_bytes_later, NOWHERE, CODE_LATER, SAVED, "says longer codes once it has compressed")                  \
  X(code_bytes_none, NOWHERE, CODE_NONE, SAVED, "says codes of no bytes")                                      \
  X(codes_huge, NOWHERE, CODE_HUGE, SAVED, "has codes of more than 100 times their rows")                      \
  X(model_huge, NOWHERE, MODEL_HUGE, SAVED, "saves a model that is larger than all rows")                      \
  X(ratio_double, NOWHERE, RATIO_DOUBLE, SAVED, "claims twice its ratio")                                      \
  X(ratio_nan, NOWHERE, RATIO_NAN, SAVED, "claims a ratio of NaN")                                             \
  X(packed_bytes_change, NOWHERE, PACKED_CHANGES, SAVED | SCORED | PACKS, "says another packed size each time")\
  X(rc_unknown, NOWHERE, RC_UNKNOWN, SAVED, "compress returns 77")                                             \
  X(rc_cancelled, NOWHERE, RC_CANCELLED, SAVED, "compress says that it was cancelled, unasked")                \
  X(error_huge, NOWHERE, ERROR_HUGE, SAVED, "fails with as much error text as fits, full of escapes")          \
  X(error_beyond, NOWHERE, ERROR_BEYOND, SAVED, "fails with a longer error text than there was room for")      \
  X(empty_refused, NOWHERE, EMPTY_REFUSED, SAVED, "refuses to compress no rows")                               \
  X(floods, NOWHERE, FLOODS, SAVED, "tells its progress and logs ten thousand times in a call")          \
  X(rounding_changed, NOWHERE, ROUNDING, SAVED, "leaves another rounding behind in compress")                  \
  X(compress_exits, NOWHERE, COMPRESS_EXITS, SAVED, "ends the process with exit code 0 in compress")           \
  X(decompress_exits, NOWHERE, DECOMPRESS_EXITS, SAVED, "ends the process with exit code 0 in decompress")     \
  X(save_exits, NOWHERE, SAVE_EXITS, SAVED, "ends the process with exit code 0 in save")                       \
  X(load_exits, NOWHERE, LOAD_EXITS, SAVED, "ends the process with exit code 0 in load")                       \
  X(score_exits, NOWHERE, SCORE_EXITS, SAVED | SCORED, "ends the process with exit code 0 in score")           \
  X(compress_forks, NOWHERE, COMPRESS_FORKS, SAVED, "forks in compress; both processes go on")                 \
  X(closes, NOWHERE, CLOSES, SAVED, "closes every descriptor in compress")                                     \
  X(speaks, NOWHERE, SPEAKS, SAVED, "writes to every descriptor in compress")                                  \
  X(load_hangs, NOWHERE, LOAD_HANGS, SAVED, "never returns from load")                                         \
  X(decompress_stops, NOWHERE, DECOMPRESS_STOPS, SAVED, "stops its process in decompress")

enum place { NOWHERE, CODES, ROWS, ESTIMATES, BOUNDS, PACKED, TRAIN, X_ROWS, LENT_CODES, QUERIES, SCORED_CODES, MODEL };

enum kind {
  HONEST,
  /* outputs */
  UNWRITTEN, HALF, LAST, LARGE, ODD, PAST, FAR, BEFORE, NOT_A_NUMBER, INFINITE, NEGATIVE,
  /* what is lent */
  CHANGED, UNPROTECTED,
  /* the rest */
  NEIGHBOURS, LARGE_NEIGHBOURS, BATCHES, CALLS, THREADS, CLOCK, ROW_NEIGHBOURS, ROW_CALLS, SCORE_CALLS, SCORE_QUERIES,
  SCORE_CODES, SCORE_ZERO, SCORE_LOST, SCORE_REFUSED, FIT_CLOCK, SIDE, SIDE_FILE, MEMORISE, MODEL_GROWS, MODEL_CLOCK,
  MODEL_LOST, MODEL_THREAD, MODEL_SHORT, MODEL_BEYOND, MODEL_REFUSED, MODEL_UNSAVED, MODEL_LOW, MODEL_HIGH, CODE_GROWS,
  CODE_LATER, CODE_NONE, CODE_HUGE, MODEL_HUGE, RATIO_DOUBLE, RATIO_NAN, PACKED_CHANGES, RC_UNKNOWN, RC_CANCELLED, ERROR_HUGE, ERROR_BEYOND,
  EMPTY_REFUSED, FLOODS, ROUNDING, COMPRESS_EXITS, DECOMPRESS_EXITS, SAVE_EXITS, LOAD_EXITS, SCORE_EXITS,
  COMPRESS_FORKS, CLOSES, SPEAKS, LOAD_HANGS, DECOMPRESS_STOPS
};

struct fault { enum place place; enum kind kind; enum functions functions; };

struct vq_instance {
  struct fault fault;
  size_t dim;
  uint32_t metric;
  float lo, hi;
  int ready, loaded;
  size_t compressed;  /* rows so far */
  float *kept;        /* (n_kept, dim), MEMORISE */
  size_t n_kept;
};

/* Calls of this process: faults that depend on them are meant to. */
static unsigned compress_calls, decompress_calls, score_calls, pack_calls, size_calls, forks, threads;

static unsigned next(unsigned *calls) { return __atomic_fetch_add(calls, 1, __ATOMIC_RELAXED); }

static vq_rc fail(vq_buf *err, vq_rc rc, const char *why) {
  err->len = strlen(why) < err->cap ? strlen(why) : err->cap;
  memcpy(err->ptr, why, err->len);
  return rc;
}

static unsigned nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (unsigned)now.tv_nsec;
}

/* ---- faults in outputs and in what is lent -------------------------------------------------------------- */

/* Whether a value of an output (rows, cols) is written in this call. */
static int written(const vq_instance *self, enum place place, unsigned call, size_t i, size_t rows, size_t j, size_t cols) {
  if (self->fault.place != place) return 1;
  switch (self->fault.kind) {
  case UNWRITTEN: return 0;
  case HALF: return j < cols / 2;
  case LAST: return i + 1 < rows;
  case LARGE: return rows > LARGE_CALL ? i % 100 != 99 || j + 1 < cols : cols <= LARGE_CALL || j % 100 != 99;
  case ODD: return call % 2 == 0 || i > 0;
  default: return 1;
  }
}

/* Writes outside the output that lies in `begin`, if that is the fault. */
static void trespass(const vq_instance *self, enum place place, void *begin, size_t bytes) {
  uint8_t *at = begin;
  if (self->fault.place != place || bytes == 0) return;
  if (self->fault.kind == PAST) at[bytes] ^= 0x5A;
  if (self->fault.kind == BEFORE) *(at - 1) ^= 0x5A;
  if (self->fault.kind == FAR) memset(at + bytes, 0xBD, 1 << 16);
}

/* An output's value; in one place of it what the fault says. */
static float spoiled(const vq_instance *self, enum place place, size_t i, size_t j, float value) {
  if (self->fault.place != place || i != 0 || j != 1) return value;
  switch (self->fault.kind) {
  case NOT_A_NUMBER: return NAN;
  case INFINITE: return INFINITY;
  case NEGATIVE: return -1;
  default: return value;
  }
}

/* Writes into what is lent, if that is the fault. */
static void meddle(const vq_instance *self, enum place place, const void *lent, size_t bytes) {
  uint8_t *at = (uint8_t *)(uintptr_t)lent + bytes / 2;
  if (self->fault.place != place || bytes == 0) return;
  if (self->fault.kind == UNPROTECTED) {
    uintptr_t page = (uintptr_t)at & ~(uintptr_t)4095;
    if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE) != 0) return; /* the system said no */
  }
  *at ^= 1;
}

/* ---- rows that a process or a file keeps, by the hash that is their code ---------------------------------- */

#define SLOTS (1u << 14)
static struct { uint32_t hash; float *row; } side[SLOTS];
static const char *const side_files[] = {"/dev/shm/vq-faults-side", "/tmp/vq-faults-side", "side"};

static uint32_t hash_of(const float *row, size_t dim) {
  uint32_t hash = 2166136261u;
  for (size_t j = 0; j < dim * sizeof(float); j++) hash = (hash ^ ((const uint8_t *)row)[j]) * 16777619u;
  return hash;
}

static float **side_row(uint32_t hash) {
  size_t at = hash % SLOTS;
  while (side[at].row && side[at].hash != hash) at = (at + 1) % SLOTS;
  side[at].hash = hash;
  return &side[at].row;
}

static void side_keep(const vq_instance *self, const float *row) {
  float **kept = side_row(hash_of(row, self->dim));
  if (*kept) return;
  *kept = malloc(self->dim * sizeof(float));
  memcpy(*kept, row, self->dim * sizeof(float));
  for (size_t i = 0; self->fault.kind == SIDE_FILE && i < sizeof side_files / sizeof *side_files; i++) {
    FILE *file = fopen(side_files[i], "ab");
    if (!file) continue;
    fwrite(row, sizeof(float), self->dim, file);
    fclose(file);
  }
}

static void side_find(const vq_instance *self, uint32_t hash, float *row) {
  float **kept = side_row(hash), *read = malloc(self->dim * sizeof(float));
  for (size_t i = 0; self->fault.kind == SIDE_FILE && !*kept && i < sizeof side_files / sizeof *side_files; i++) {
    FILE *file = fopen(side_files[i], "rb");
    while (file && fread(read, sizeof(float), self->dim, file) == self->dim) {
      float **slot = side_row(hash_of(read, self->dim));
      if (!*slot) *slot = memcpy(malloc(self->dim * sizeof(float)), read, self->dim * sizeof(float));
    }
    if (file) fclose(file);
    kept = side_row(hash);
  }
  for (size_t j = 0; j < self->dim; j++) row[j] = *kept ? (*kept)[j] : 0;
  free(read);
}

/* ---- the quantizer ---------------------------------------------------------------------------------------- */

static int is_indexed(const vq_instance *self) {
  return self->fault.kind == SIDE || self->fault.kind == SIDE_FILE || self->fault.kind == MEMORISE;
}

static size_t code_bytes(const vq_instance *self) {
  switch (self->fault.kind) {
  case SIDE: case SIDE_FILE: case MEMORISE: return 4;
  case CODE_GROWS: return self->dim + (size_t)self->ready;
  case CODE_LATER: return self->dim + (self->compressed > 0);
  case CODE_NONE: return 0;
  case CODE_HUGE: return 64 * self->dim + 4096;
  default: return self->dim;
  }
}

static size_t model_len(const vq_instance *self) {
  switch (self->fault.kind) {
  case MEMORISE: return 8 + self->n_kept * self->dim * sizeof(float);
  case MODEL_GROWS: return 8 + self->compressed;
  case MODEL_CLOCK: return 12;
  case MODEL_LOW: return 4096;
  case MODEL_HUGE: return 8 << 20;
  default: return 8;
  }
}

static uint64_t model_bytes(const vq_instance *self) {
  if (self->fault.kind == MODEL_LOW) return 8;
  if (self->fault.kind == MODEL_HIGH) return (uint64_t)1 << 63;
  return self->fault.functions & SAVED ? model_len(self) : VQ_MODEL_BYTES_UNKNOWN;
}

static double ratio(const vq_instance *self) {
  double honest = 4.0 * (double)self->dim / (double)code_bytes(self);
  return self->fault.kind == RATIO_NAN ? NAN : self->fault.kind == RATIO_DOUBLE ? 2 * honest : honest;
}

static vq_rc make(struct fault fault, const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  if (config->n_entries) {
    char why[160];
    vq_str name = config->entries[0].name;
    snprintf(why, sizeof why, "%.*s: unknown parameter", (int)(name.len < 99 ? name.len : 99), name.len ? name.ptr : "");
    return fail(err, VQ_BAD_CONFIG, why);
  }
  *out = calloc(1, sizeof **out);
  (*out)->fault = fault;
  (*out)->dim = space->dim;
  (*out)->metric = space->metric;
  return VQ_OK;
}

static void destroy(vq_instance *self) {
  if (self) free(self->kept);
  free(self);
}

/* The range, for a method that keeps it outside of its instance. */
static float process_lo, process_hi;

static vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  const vq_str stage = TEXT("range");
  if (train.dim != self->dim || train.rows == 0) return fail(err, VQ_ERROR, "rows of another shape, or none");
  self->lo = INFINITY, self->hi = -INFINITY;
  for (size_t i = 0; i < train.rows; i++) {
    if (i % 1024 == 0 && ctx->progress(ctx->host, (float)i / (float)train.rows, stage))
      return fail(err, VQ_CANCELLED, "cancelled");
    for (size_t j = 0; j < self->dim; j++) {
      float x = train.data[i * train.row_stride + j];
      if (!isfinite(x)) return fail(err, VQ_ERROR, "a training value is not finite");
      self->lo = fminf(self->lo, x), self->hi = fmaxf(self->hi, x);
    }
  }
  if (self->fault.kind == FIT_CLOCK) self->hi += (self->hi - self->lo) * (float)(nanoseconds() % 1000) / 1000;
  if (self->fault.kind == MEMORISE) {
    self->n_kept = train.rows;
    self->kept = malloc(train.rows * self->dim * sizeof(float));
    for (size_t i = 0; i < train.rows; i++)
      memcpy(self->kept + i * self->dim, train.data + i * train.row_stride, self->dim * sizeof(float));
  }
  process_lo = self->lo, process_hi = self->hi;
  meddle(self, TRAIN, train.data, train.rows * train.dim * sizeof(float));
  self->ready = 1;
  return VQ_OK;
}

static uint8_t encoded(const vq_instance *self, float x) {
  double width = (double)self->hi - self->lo;
  double level = width > 0 ? 255 * ((double)x - self->lo) / width + 0.5 : 0;
  return level >= 255 ? 255 : level > 0 ? (uint8_t)level : 0; /* NaN becomes 0 */
}

static double decoded(const vq_instance *self, uint8_t code) {
  float lo = self->fault.kind == MODEL_THREAD ? process_lo : self->lo;
  float hi = self->fault.kind == MODEL_THREAD ? process_hi : self->hi;
  return lo + ((double)hi - lo) * code / 255;
}

static uint32_t nearest_kept(const vq_instance *self, const float *row) {
  uint32_t best = 0;
  double least = INFINITY;
  for (uint32_t k = 0; k < self->n_kept; k++) {
    double sum = 0;
    for (size_t j = 0; j < self->dim; j++) {
      double off = (double)row[j] - self->kept[k * self->dim + j];
      sum += off * off;
    }
    if (sum < least) least = sum, best = k;
  }
  return best;
}

/* Whether a call that needs a fitted model may go on. */
static int fits(const vq_instance *self, size_t dim, size_t width, size_t rows, size_t codes) {
  return self->ready && dim == self->dim && width == code_bytes(self) && rows == codes;
}

static void spoil_thread(void *shared, size_t block) {
  vq_codes_mut *codes = shared;
  static __thread uint8_t mark; /* 0 until this thread has its number */
  if (!mark) mark = (uint8_t)(next(&threads) % 3 + 1);
  for (size_t i = block * 64; i < (block + 1) * 64 && i < codes->rows; i++) codes->data[i * codes->row_stride] ^= mark;
  for (volatile int spin = 0; spin < 200000; spin++) continue; /* so that each thread gets its share */
}

/* What is wrong with codes that depend on more than their rows. */
static void spoil_codes(const vq_instance *self, const vq_ctx *ctx, vq_codes_mut codes, unsigned call) {
  enum kind kind = self->fault.kind;
  int large = codes.rows > LARGE_CALL;
  if (kind == NEIGHBOURS || (kind == LARGE_NEIGHBOURS && large))
    for (size_t i = codes.rows; i-- > 1;) codes.data[i * codes.row_stride] = codes.data[(i - 1) * codes.row_stride];
  if (kind == THREADS) ctx->parallel_for(ctx->host, (codes.rows + 63) / 64, spoil_thread, &codes);
  uint8_t mark = kind == CALLS ? call & 3 : kind == CLOCK ? nanoseconds() & 7 : kind == BATCHES && large ? 1 : 0;
  for (size_t i = 0; mark && i < codes.rows; i++) codes.data[i * codes.row_stride] ^= mark;
}

/* Faults of compress that do not leave it to write codes; VQ_OK to go on. */
static vq_rc before_compress(const vq_instance *self, const vq_ctx *ctx, size_t rows, vq_buf *err) {
  const vq_str stage = TEXT("\033[31mflood\033[0m");
  switch (self->fault.kind) {
  case RC_UNKNOWN: return fail(err, 77, "what is 77?");
  case RC_CANCELLED: return fail(err, VQ_CANCELLED, "nobody asked");
  case EMPTY_REFUSED: return rows ? VQ_OK : fail(err, VQ_ERROR, "no rows");
  case ERROR_HUGE:
    for (err->len = 0; err->len < err->cap; err->len++) err->ptr[err->len] = "\033[31mred\n\a"[err->len % 10];
    return VQ_ERROR;
  case ERROR_BEYOND:
    fail(err, VQ_ERROR, "longer than it is");
    err->len = SIZE_MAX / 2;
    return VQ_ERROR;
  case FLOODS:
    for (int i = 0; i < 10000; i++) ctx->progress(ctx->host, (float)(i % 7) / 3, stage), ctx->log(ctx->host, 1, stage);
    return VQ_OK;
  case ROUNDING: fesetround(FE_UPWARD); return VQ_OK;
  case COMPRESS_EXITS: exit(0);
  case COMPRESS_FORKS: /* once: the child goes on as the parent does, and would fork too */
    if (next(&forks) == 0 && fork() == -1) return fail(err, VQ_ERROR, "the system allows no fork");
    return VQ_OK;
  case CLOSES:
    for (int fd = 0; fd < 1024; fd++) close(fd);
    return VQ_OK;
  case SPEAKS:
    for (int fd = 0; fd < 1024; fd++) {
      const char said[] = "{\"answer\":{\"ok\":true},\"ok\":null,\"done\":1}\n";
      fcntl(fd, F_SETFL, O_NONBLOCK);
      if (write(fd, said, sizeof said - 1) < 0) continue;
    }
    return VQ_OK;
  default: return VQ_OK;
  }
}

static vq_rc compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  if (!fits(self, x.dim, codes.code_bytes, x.rows, codes.rows)) return fail(err, VQ_ERROR, "not fitted, or another shape");
  const unsigned call = next(&compress_calls);
  vq_rc rc = before_compress(self, ctx, x.rows, err);
  if (rc != VQ_OK) return rc;
  ((vq_instance *)(uintptr_t)self)->compressed += x.rows;
  for (size_t i = 0; i < x.rows; i++) {
    const float *row = x.data + i * x.row_stride;
    uint8_t *code = codes.data + i * codes.row_stride;
    if (is_indexed(self)) {
      uint32_t index = self->fault.kind == MEMORISE ? nearest_kept(self, row) : hash_of(row, self->dim);
      if (self->fault.kind != MEMORISE) side_keep(self, row);
      memcpy(code, &index, sizeof index);
      continue;
    }
    if (self->fault.kind == CODE_HUGE) memset(code, 0, codes.code_bytes);
    for (size_t j = 0; j < self->dim; j++)
      if (written(self, CODES, call, i, x.rows, j, self->dim)) code[j] = encoded(self, row[j]);
  }
  spoil_codes(self, ctx, codes, call);
  trespass(self, CODES, codes.data, x.rows ? (x.rows - 1) * codes.row_stride + codes.code_bytes : 0);
  meddle(self, X_ROWS, x.data, x.rows * x.dim * sizeof(float));
  return VQ_OK;
}

static vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
  (void)ctx;
  if (!fits(self, x.dim, codes.code_bytes, x.rows, codes.rows)) return fail(err, VQ_ERROR, "not fitted, or another shape");
  const unsigned call = next(&decompress_calls);
  if (self->fault.kind == DECOMPRESS_EXITS) exit(0);
  if (self->fault.kind == DECOMPRESS_STOPS) raise(SIGSTOP);
  for (size_t i = 0; i < x.rows; i++) {
    const uint8_t *code = codes.data + i * codes.row_stride;
    float *row = x.data + i * x.row_stride;
    if (is_indexed(self)) {
      uint32_t index;
      memcpy(&index, code, sizeof index);
      if (self->fault.kind != MEMORISE) side_find(self, index, row);
      else if (index >= self->n_kept) return fail(err, VQ_ERROR, "a code that no row has");
      else memcpy(row, self->kept + index * self->dim, self->dim * sizeof(float));
      continue;
    }
    for (size_t j = 0; j < self->dim; j++) {
      double value = decoded(self, code[j]);
      if (self->fault.kind == ROW_CALLS) value += 1e-3 * call;
      if (self->fault.kind == ROW_NEIGHBOURS && i > 0) value += 1e-3 * codes.data[(i - 1) * codes.row_stride];
      if (written(self, ROWS, call, i, x.rows, j, self->dim)) row[j] = spoiled(self, ROWS, i, j, (float)value);
    }
  }
  trespass(self, ROWS, x.data, x.rows ? ((x.rows - 1) * x.row_stride + x.dim) * sizeof(float) : 0);
  meddle(self, LENT_CODES, codes.data, codes.rows * codes.code_bytes);
  return VQ_OK;
}

static vq_rc save(const vq_instance *self, vq_buf *model, vq_buf *err) {
  if (!self->ready) return fail(err, VQ_ERROR, "not fitted");
  if (self->fault.kind == MODEL_UNSAVED) return fail(err, VQ_ERROR, "there is no saving this one");
  if (self->fault.kind == SAVE_EXITS) exit(0);
  model->len = model_len(self);
  if (model->cap < model->len) return fail(err, VQ_SHORT_BUFFER, "a larger buffer, please");
  memset(model->ptr, 0, model->len);
  memcpy(model->ptr, &self->lo, 4), memcpy(model->ptr + 4, &self->hi, 4);
  if (self->kept) memcpy(model->ptr + 8, self->kept, model->len - 8);
  unsigned now = nanoseconds();
  if (self->fault.kind == MODEL_CLOCK) memcpy(model->ptr + 8, &now, 4);
  if (self->fault.kind == MODEL_SHORT) model->len = 4;
  if (self->fault.kind == MODEL_BEYOND) model->len = model->cap + 100;
  return VQ_OK;
}

static vq_rc load(vq_instance *self, vq_str model, vq_buf *err) {
  if (self->fault.kind == LOAD_EXITS) exit(0);
  while (self->fault.kind == LOAD_HANGS) sleep(1000);
  if (self->fault.kind == MODEL_REFUSED) return fail(err, VQ_ERROR, "this is no model of mine");
  size_t rows = self->fault.kind == MEMORISE && model.len > 8 ? (model.len - 8) / (self->dim * sizeof(float)) : 0;
  self->n_kept = rows;
  if (self->fault.kind != MODEL_GROWS && model.len != model_len(self)) return fail(err, VQ_ERROR, "no such model");
  if (model.len < 8) return fail(err, VQ_ERROR, "no such model");
  memcpy(&self->lo, model.ptr, 4), memcpy(&self->hi, model.ptr + 4, 4);
  if (!isfinite(self->lo) || !isfinite(self->hi)) return fail(err, VQ_ERROR, "the model is not finite");
  free(self->kept);
  self->kept = NULL;
  if (rows) {
    self->kept = malloc(model.len - 8);
    memcpy(self->kept, model.ptr + 8, model.len - 8);
    for (size_t i = 0; i < rows * self->dim; i++)
      if (!isfinite(self->kept[i])) return fail(err, VQ_ERROR, "the model is not finite");
  }
  if (self->fault.kind == MODEL_LOST) self->hi = self->lo + 1;
  meddle(self, MODEL, model.ptr, model.len);
  self->ready = self->loaded = 1;
  return VQ_OK;
}

/* ---- the scorer ------------------------------------------------------------------------------------------- */

static size_t packed_bytes(const vq_instance *self, size_t n) {
  return n * self->dim + (self->fault.kind == PACKED_CHANGES ? next(&size_calls) % 7 : 0);
}

/* Dimension by dimension instead of code by code. */
static vq_rc pack(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, uint8_t *packed, size_t len, vq_buf *err) {
  (void)ctx;
  const unsigned call = next(&pack_calls);
  if (!self->ready || codes.code_bytes != self->dim || len < codes.rows * self->dim) return fail(err, VQ_ERROR, "another shape");
  for (size_t i = 0; i < codes.rows; i++)
    for (size_t j = 0; j < self->dim; j++)
      if (written(self, PACKED, call, i, codes.rows, j, self->dim))
        packed[j * codes.rows + i] = codes.data[i * codes.row_stride + j];
  trespass(self, PACKED, packed, len);
  return VQ_OK;
}

static double estimate(const vq_instance *self, const float *query, const uint8_t *code, size_t stride) {
  double sum = 0;
  for (size_t j = 0; j < self->dim; j++) {
    double x = decoded(self, code[j * stride]), off = x - query[j];
    sum += self->metric == VQ_METRIC_L2 ? off * off : x * query[j];
  }
  return sum;
}

/* ‖x - x̂‖ is at most r = half a step in each dimension: |‖q - x‖² - e| <= 2 √e r + r², |<q, x> - e| <= ‖q‖ r. */
static double bound(const vq_instance *self, const float *query, double estimate) {
  double norm = 0, r = sqrt((double)self->dim) * ((double)self->hi - self->lo) / 255 / 2;
  for (size_t j = 0; j < self->dim; j++) norm += (double)query[j] * query[j];
  return 1.001 * (self->metric == VQ_METRIC_L2 ? 2 * sqrt(fmax(estimate, 0)) * r + r * r : sqrt(norm) * r) + 1e-6;
}

static vq_rc score(const vq_instance *self, const vq_ctx *ctx, vq_mat queries, const uint8_t *codes, size_t len, size_t n,
                   vq_mat_mut estimates, vq_mat_mut bounds, vq_buf *err) {
  (void)ctx;
  const unsigned call = next(&score_calls);
  const int packs = self->fault.functions & PACKS;
  if (!self->ready || queries.dim != self->dim || len < n * self->dim) return fail(err, VQ_ERROR, "another shape");
  if (self->fault.kind == SCORE_REFUSED && self->loaded) return fail(err, VQ_ERROR, "a loaded model cannot score");
  if (self->fault.kind == SCORE_EXITS) exit(0);
  for (size_t a = 0; a < queries.rows; a++)
    for (size_t i = 0; i < n; i++) {
      const float *query = queries.data + a * queries.row_stride;
      double value = estimate(self, query, codes + i * (packs ? 1 : self->dim), packs ? n : 1);
      double width = bound(self, query, value);
      if (self->fault.kind == SCORE_CALLS) value += 1e-2 * call;
      if (self->fault.kind == SCORE_QUERIES) value += 1e-2 * (double)queries.rows;
      if (self->fault.kind == SCORE_CODES) value += 1e-4 * (double)n;
      if (self->fault.kind == SCORE_ZERO) value = 0;
      if (self->fault.kind == SCORE_LOST && self->loaded) value *= 1.01;
      if (written(self, ESTIMATES, call, a, queries.rows, i, n))
        estimates.data[a * estimates.row_stride + i] = spoiled(self, ESTIMATES, a, i, (float)value);
      if (bounds.data && written(self, BOUNDS, call, a, queries.rows, i, n))
        bounds.data[a * bounds.row_stride + i] = spoiled(self, BOUNDS, a, i, (float)width);
    }
  if (queries.rows && n) {
    trespass(self, ESTIMATES, estimates.data, ((queries.rows - 1) * estimates.row_stride + n) * sizeof(float));
    if (bounds.data) trespass(self, BOUNDS, bounds.data, ((queries.rows - 1) * bounds.row_stride + n) * sizeof(float));
    meddle(self, QUERIES, queries.data, queries.rows * queries.dim * sizeof(float));
    meddle(self, SCORED_CODES, codes, len);
  }
  return VQ_OK;
}

/* ---- the tables ------------------------------------------------------------------------------------------- */

static const vq_scorer_v1 plain_scorer = {.struct_size = sizeof(vq_scorer_v1), .flags = VQ_SCORER_BOUNDS, .score = score};
static const vq_scorer_v1 packing_scorer = {
    .struct_size = sizeof(vq_scorer_v1), .flags = VQ_SCORER_BOUNDS,
    .packed_bytes = packed_bytes, .pack = pack, .score = score};

static int is_scorer(vq_str id) { return id.len == strlen(VQ_SCORER_V1) && !memcmp(id.ptr, VQ_SCORER_V1, id.len); }
static const void *plain_extension(vq_str id) { return is_scorer(id) ? &plain_scorer : NULL; }
static const void *packing_extension(vq_str id) { return is_scorer(id) ? &packing_scorer : NULL; }

#define CREATE(id_, place_, kind_, functions_, does_)                                                          \
  static vq_rc create_##id_(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {   \
    return make((struct fault){place_, kind_, functions_}, config, space, out, err);                            \
  }
METHODS(CREATE)

#define TABLE(id_, place_, kind_, functions_, does_)                                                           \
  static const vq_method method_##id_ = {                                                                       \
      .struct_size = sizeof(vq_method),                                                                         \
      .flags = VQ_NEEDS_TRAINING | VQ_THREAD_SAFE | ((functions_) & RANDOM ? 0 : VQ_DETERMINISTIC),             \
      .id = TEXT(#id_), .name = TEXT(#id_), .version = TEXT("0.1.0"), .description = TEXT(does_),               \
      .license = TEXT("MIT OR Apache-2.0"), .create = create_##id_, .destroy = destroy, .fit = fit,             \
      .code_bytes = code_bytes, .model_bytes = model_bytes, .ratio = ratio, .compress = compress,               \
      .decompress = decompress, .save = (functions_) & SAVED ? save : NULL,                                     \
      .load = (functions_) & SAVED ? load : NULL,                                                               \
      .get_extension = (functions_) & PACKS ? packing_extension : (functions_) & SCORED ? plain_extension : NULL};
METHODS(TABLE)

#define ENTRY(id_, place_, kind_, functions_, does_) &method_##id_,
static const vq_method *const methods[] = {METHODS(ENTRY)};

static const vq_plugin plugin = {
    .magic = VQ_MAGIC, .abi_major = VQ_ABI_MAJOR, .abi_minor = VQ_ABI_MINOR, .struct_size = sizeof(vq_plugin),
    .sdk = TEXT("c"), .methods = methods, .n_methods = sizeof methods / sizeof *methods};

const vq_plugin *vq_plugin_entry_v1(uint32_t host_major, uint32_t host_minor) {
  (void)host_minor;
  return host_major == VQ_ABI_MAJOR ? &plugin : NULL;
}
