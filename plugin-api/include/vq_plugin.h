/* vq_plugin.h - the vq-host plugin contract, version 1.
 *
 * A plugin is a shared library that exports one symbol, `vq_plugin_entry_v1`,
 * and answers it with a table of quantization methods. C99 and C++11.
 *
 * Rules that hold everywhere
 *   Frozen      No v1 struct ever grows. `struct_size` must equal sizeof(the struct).
 *               New capability arrives through get_extension("vq.something/1").
 *   Ownership   Nothing but the opaque vq_instance is ever owned across the boundary.
 *               The caller allocates every output; the plugin fills it. Pointers in
 *               arguments are borrowed for the duration of the call. Pointers reachable
 *               from a vq_plugin live until the process ends: libraries are never unloaded.
 *   Strings     UTF-8, pointer and length, not NUL-terminated. {NULL, 0} is the empty string.
 *   Errors      A non-zero vq_rc, with a sentence written into the caller's vq_buf `err`.
 *               For VQ_BAD_CONFIG begin with the parameter's name and a colon: "m: 24 does
 *               not divide d = 100".
 *   Unwinding   No exception, panic or longjmp may leave a plugin function.
 *   Threads     create, fit, load and destroy have the instance to themselves. All other
 *               functions take it const; if the method sets VQ_THREAD_SAFE they may be called
 *               from several threads at once. vq_ctx callbacks may be called from any thread
 *               until the call that received the vq_ctx returns.
 *   Order       create -> fit or load -> everything else -> destroy. code_bytes may also be
 *               asked right after create.
 *   Numbers     Input is finite unless the caller breaks the contract; on NaN or infinity a
 *               plugin may return an error or any code, but must not crash or hang.
 *   Stdout      Belongs to nobody: use vq_ctx.log.
 */
#ifndef VQ_PLUGIN_H
#define VQ_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VQ_ABI_MAJOR 1u
#define VQ_ABI_MINOR 1u

typedef int32_t vq_rc;
#define VQ_OK 0
#define VQ_ERROR 1        /* the method failed; err says why */
#define VQ_PANIC 2        /* a bug stopped inside the plugin (the Rust SDK's panic guard) */
#define VQ_CANCELLED 3    /* progress() asked to stop, and the plugin did */
#define VQ_SHORT_BUFFER 4 /* the caller's buffer is too small; len says what is needed */
#define VQ_UNSUPPORTED 5  /* this method does not offer that function */
#define VQ_BAD_CONFIG 6   /* a configuration that cannot be; err starts "parameter: " */

/* Borrowed UTF-8. */
typedef struct vq_str {
  const char *ptr;
  size_t len;
} vq_str;

/* The caller's buffer: write at most cap bytes, set len to the bytes written, or with
 * VQ_SHORT_BUFFER to the bytes needed. For error text, truncate instead. */
typedef struct vq_buf {
  uint8_t *ptr;
  size_t cap;
  size_t len;
} vq_buf;

#define VQ_KIND_NULL 0u
#define VQ_KIND_BOOL 1u /* i is 0 or 1 */
#define VQ_KIND_INT 2u
#define VQ_KIND_FLOAT 3u
#define VQ_KIND_STRING 4u
#define VQ_KIND_LIST 5u

typedef struct vq_value {
  uint32_t kind;
  uint32_t reserved; /* 0 */
  int64_t i;
  double f;
  vq_str s;
  const struct vq_value *items;
  size_t n_items;
} vq_value;

/* One named value of a configuration. */
typedef struct vq_entry {
  vq_str name;
  vq_value value;
} vq_entry;

/* A configuration: the parameters that differ from their defaults, or all of them. */
typedef struct vq_config {
  const vq_entry *entries;
  size_t n_entries;
} vq_config;

/* One parameter of a method. */
typedef struct vq_param {
  uint32_t struct_size;
  uint32_t kind;      /* VQ_KIND_BOOL .. VQ_KIND_LIST */
  uint32_t item_kind; /* of a list's items; else VQ_KIND_NULL */
  uint32_t reserved;  /* 0 */
  vq_str name;        /* [a-z][a-z0-9_]* */
  vq_str help;        /* one sentence, with its unit */
  vq_value default_value; /* NULL kind: none, what holds without it is the method's own affair */
  vq_value min;     /* inclusive, for int and float (items of a list); NULL kind: none */
  vq_value max;     /* inclusive; NULL kind: none */
  vq_value choices; /* LIST of the allowed values, or NULL kind: any */
  vq_value grid;    /* LIST to sweep when the user names no axis, or NULL kind: the default */
} vq_param;

#define VQ_METRIC_L2 0u     /* squared Euclidean distance, smaller is nearer */
#define VQ_METRIC_IP 1u     /* inner product, larger is nearer */
#define VQ_METRIC_COSINE 2u /* inner product of rows that the host made unit length */

typedef struct vq_space {
  size_t dim; /* d, at least 1 */
  uint32_t metric;
  uint32_t reserved; /* 0 */
} vq_space;

/* (rows, dim) float32, row-major; consecutive rows lie row_stride elements apart. */
typedef struct vq_mat {
  const float *data;
  size_t rows, dim, row_stride;
} vq_mat;

typedef struct vq_mat_mut {
  float *data;
  size_t rows, dim, row_stride;
} vq_mat_mut;

/* (rows, code_bytes) bytes; consecutive rows lie row_stride bytes apart. */
typedef struct vq_codes {
  const uint8_t *data;
  size_t rows, code_bytes, row_stride;
} vq_codes;

typedef struct vq_codes_mut {
  uint8_t *data;
  size_t rows, code_bytes, row_stride;
} vq_codes_mut;

#define VQ_LOG_DEBUG 0u
#define VQ_LOG_INFO 1u
#define VQ_LOG_WARN 2u

/* What the host lends to a call. No function pointer is NULL. */
typedef struct vq_ctx {
  uint32_t struct_size;
  uint32_t threads; /* the call's budget, at least 1 */
  uint64_t seed;    /* all randomness must derive from it */
  void *host;       /* first argument of every callback */
  void (*log)(void *host, uint32_t level, vq_str text);
  /* fraction in 0..1, not decreasing within a call; stage may be empty.
   * Non-zero: stop soon and return VQ_CANCELLED. */
  int32_t (*progress)(void *host, float fraction, vq_str stage);
  /* Runs task(task_ctx, i) for i in 0..n on the call's threads; returns when all are done.
   * The task must not unwind. */
  void (*parallel_for)(void *host, size_t n, void (*task)(void *task_ctx, size_t i), void *task_ctx);
  const void *(*get_host_extension)(void *host, vq_str id); /* NULL: unknown */
} vq_ctx;

/* What the user asked of the configuration-grid generator. */
typedef struct vq_grid_request {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  vq_space space;
  double bits_per_dim;  /* the wanted true rate, 8 * code_bytes / d; 0: none wanted */
  const vq_entry *axes; /* name -> LIST of values; none: the default grid */
  size_t n_axes;
} vq_grid_request;

/* Where the generator answers. emit returns non-zero when the caller wants no more. */
typedef struct vq_grid_sink {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  void *host;
  int32_t (*emit)(void *host, const vq_config *config, vq_str label);
  void (*skip)(void *host, const vq_config *config, vq_str reason);
} vq_grid_sink;

typedef struct vq_instance vq_instance; /* the plugin's own */

#define VQ_NEEDS_TRAINING 1u /* fit learns from the data */
#define VQ_DETERMINISTIC 2u  /* equal seed and data give equal codes on any thread count */
#define VQ_THREAD_SAFE 4u    /* const functions may run concurrently on one instance */

#define VQ_MODEL_BYTES_UNKNOWN UINT64_MAX

/* One method. Functions marked (optional) may be NULL. */
typedef struct vq_method {
  uint32_t struct_size;
  uint32_t flags;
  vq_str id;          /* [a-z][a-z0-9_-]*, how sweeps name it */
  vq_str name;        /* for people */
  vq_str version;
  vq_str description; /* one line */
  vq_str paper;       /* authors, title, year; may be empty */
  vq_str authors;
  vq_str license;     /* SPDX */
  vq_str homepage;
  vq_str tags;        /* comma-separated */
  const vq_param *params;
  size_t n_params;

  /* (optional) Calls sink->emit or sink->skip for each combination, never keeping a pointer.
   * NULL: the host emits the cartesian product of the axes. */
  vq_rc (*expand_grid)(const vq_grid_request *request, const vq_grid_sink *sink, vq_buf *err);

  /* Constructor. Parameters that config omits take their default; an unknown or impossible
   * one is VQ_BAD_CONFIG. Cheap: no training, no large allocation. */
  vq_rc (*create)(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err);
  void (*destroy)(vq_instance *self); /* NULL is allowed and does nothing */

  /* Learns from train (n, d). Called once. */
  vq_rc (*fit)(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err);

  /* Stored bytes per vector, everything included. The same from create to destroy. */
  size_t (*code_bytes)(const vq_instance *self);
  /* (optional) Bytes of state that decoding needs: codebooks, rotation, ranges. */
  uint64_t (*model_bytes)(const vq_instance *self);
  /* (optional) The method's own claim: original bytes / compressed bytes. */
  double (*ratio)(const vq_instance *self);

  /* x (n, d) -> codes (n, code_bytes). A row's code does not depend on the other rows of the
   * call. n may be 0. */
  vq_rc (*compress)(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err);
  /* codes (n, code_bytes) -> x (n, d), finite. */
  vq_rc (*decompress)(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err);

  /* (optional, both or neither) The fitted model as bytes: the same bytes whenever save is called
   * after fit. load is called on an instance made with the same configuration and space, instead
   * of fit; afterwards decompress is bit-identical to the saved instance's.
   * A host decodes a cell's codes in another process, which has the saved model alone. Without
   * the pair a method's results are marked unproven, unless it is VQ_DETERMINISTIC and can be
   * fitted again there. After load, score should answer as before: where it refuses or answers
   * otherwise, the metrics made of its estimates are marked unproven. */
  vq_rc (*save)(const vq_instance *self, vq_buf *model, vq_buf *err);
  vq_rc (*load)(vq_instance *self, vq_str model, vq_buf *err);

  /* (optional) A static table for a known id, else NULL. */
  const void *(*get_extension)(vq_str id);
} vq_method;

typedef struct vq_plugin {
  uint8_t magic[8]; /* VQ_MAGIC */
  uint32_t abi_major, abi_minor;
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  vq_str sdk;        /* what built it: "c", "vq-plugin-api 0.1.0", ... */
  const vq_method *const *methods;
  size_t n_methods;
} vq_plugin;

#define VQ_MAGIC {'V', 'Q', 'P', 'L', 'U', 'G', 0, 1}

/* -- extension "vq.scorer/1": asymmetric estimates ------------------------------------ */

#define VQ_SCORER_V1 "vq.scorer/1"
#define VQ_SCORER_BOUNDS 1u /* score fills `bounds` */

typedef struct vq_scorer_v1 {
  uint32_t struct_size;
  uint32_t flags;
  /* (optional, both or neither) A layout that score reads faster: bytes for n codes, and the
   * conversion. NULL: score reads codes as compress wrote them, n * code_bytes bytes. */
  size_t (*packed_bytes)(const vq_instance *self, size_t n);
  vq_rc (*pack)(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, uint8_t *packed,
                size_t packed_len, vq_buf *err);
  /* Estimates, for raw queries (q, d) and n codes, the space's metric into estimates (q, n):
   * squared distance for L2, inner product for IP and COSINE. With VQ_SCORER_BOUNDS and
   * bounds.data not NULL, also the claimed half-width of each estimate's error. */
  vq_rc (*score)(const vq_instance *self, const vq_ctx *ctx, vq_mat queries, const uint8_t *codes,
                 size_t codes_len, size_t n, vq_mat_mut estimates, vq_mat_mut bounds, vq_buf *err);
} vq_scorer_v1;

/* -- extension "vq.search/1" (minor 1): the nearest codes of a block ------------------------ */

#define VQ_SEARCH_V1 "vq.search/1"
#define VQ_SEARCH_RANKS_ESTIMATES 1u /* the answer is what sorting the method's own vq.scorer/1 gives */
#define VQ_SEARCH_NONE UINT64_MAX    /* the id of a place without a code */

/* For methods whose fast scan never writes all estimates. The caller cuts the codes into blocks,
 * searches each, and merges. */
typedef struct vq_search_v1 {
  uint32_t struct_size;
  uint32_t flags;
  /* (optional, both or neither) The layout that search reads: bytes for n codes, and the
   * conversion. NULL: search reads codes as compress wrote them, n * code_bytes bytes. */
  size_t (*packed_bytes)(const vq_instance *self, size_t n);
  vq_rc (*pack)(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, uint8_t *packed,
                size_t packed_len, vq_buf *err);
  /* For each of the raw queries (q, d) the k nearest of a block of n codes, k at least 1: into
   * ids (q, k) their rows in the block, 0 to n - 1, none twice; into estimates (q, k) the space's
   * metric as vq.scorer/1 has it, finite. The best comes first: the smallest for L2, the largest
   * for IP and COSINE; of equal estimates the lower row, which also wins the last place.
   * Where n is less than k, the places from n on have the id VQ_SEARCH_NONE and the estimate NaN.
   * With VQ_SEARCH_RANKS_ESTIMATES ids and estimates equal those of sorting all that score
   * answers for the same codes. Without it the best of the method's estimates may be missed. */
  vq_rc (*search)(const vq_instance *self, const vq_ctx *ctx, vq_mat queries, const uint8_t *packed,
                  size_t packed_len, size_t n, size_t k, uint64_t *ids, float *estimates,
                  vq_buf *err);
  uint64_t reserved; /* 0; its size tells this table from vq_scorer_v1 */
} vq_search_v1;

/* -- the one exported symbol ---------------------------------------------------------- */

#if defined(_WIN32)
#define VQ_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define VQ_EXPORT __attribute__((visibility("default")))
#else
#define VQ_EXPORT
#endif

/* Returns NULL when the plugin cannot serve a host of that major version. */
VQ_EXPORT const vq_plugin *vq_plugin_entry_v1(uint32_t host_major, uint32_t host_minor);

/* -- layout: the same figures stand in plugin-api/src/abi.rs ---------------------------- */

#if UINTPTR_MAX == 0xffffffffffffffffu
#ifdef __cplusplus
#define VQ_LAYOUT(cond) static_assert(cond, "vq_plugin.h layout")
#else
#define VQ_LAYOUT(cond) _Static_assert(cond, "vq_plugin.h layout")
#endif
VQ_LAYOUT(sizeof(vq_str) == 16 && sizeof(vq_buf) == 24);
VQ_LAYOUT(sizeof(vq_value) == 56 && offsetof(vq_value, s) == 24 && offsetof(vq_value, items) == 40);
VQ_LAYOUT(sizeof(vq_entry) == 72 && sizeof(vq_config) == 16 && sizeof(vq_space) == 16);
VQ_LAYOUT(sizeof(vq_param) == 328 && offsetof(vq_param, default_value) == 48 && offsetof(vq_param, grid) == 272);
VQ_LAYOUT(sizeof(vq_mat) == 32 && sizeof(vq_mat_mut) == 32 && sizeof(vq_codes) == 32 && sizeof(vq_codes_mut) == 32);
VQ_LAYOUT(sizeof(vq_ctx) == 56 && offsetof(vq_ctx, seed) == 8 && offsetof(vq_ctx, progress) == 32);
VQ_LAYOUT(sizeof(vq_grid_request) == 48 && offsetof(vq_grid_request, axes) == 32);
VQ_LAYOUT(sizeof(vq_grid_sink) == 32 && offsetof(vq_grid_sink, emit) == 16);
VQ_LAYOUT(sizeof(vq_method) == 264 && offsetof(vq_method, params) == 152 && offsetof(vq_method, get_extension) == 256);
VQ_LAYOUT(sizeof(vq_plugin) == 56 && offsetof(vq_plugin, sdk) == 24 && offsetof(vq_plugin, n_methods) == 48);
VQ_LAYOUT(sizeof(vq_scorer_v1) == 32 && offsetof(vq_scorer_v1, score) == 24);
VQ_LAYOUT(sizeof(vq_search_v1) == 40 && offsetof(vq_search_v1, search) == 24);
#undef VQ_LAYOUT
#endif

#ifdef __cplusplus
}
#endif
#endif
