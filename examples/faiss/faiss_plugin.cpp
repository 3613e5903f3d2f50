/* libvq_faiss - the quantizers of FAISS as vq-host methods, so that a sweep measures them beside ours.
 *
 *   faiss_pq   x̂ = one centroid in each of m sub-spaces         faiss::ProductQuantizer
 *   faiss_opq  the same after a learned rotation                 faiss::OPQMatrix + ProductQuantizer
 *   faiss_sq   each coordinate on its own scale                  faiss::ScalarQuantizer
 *   faiss_rq   sum of one centroid per layer, beam search        faiss::ResidualQuantizer
 *   faiss_lsq  sum of one centroid per codebook, local search    faiss::LocalSearchQuantizer
 *
 * From top to bottom: errors, what FAISS keeps in process-wide state, one Coder per method, the C functions,
 * the descriptors. Training is FAISS's own, untouched. Codes are made in blocks of rows on the host's threads,
 * FAISS single-threaded within a block, because the contract wants a row's code to depend on that row alone:
 *
 *   - BLAS rounds by the shape of the matrix, so methods that use it get blocks of one fixed shape;
 *   - FAISS's LSQ draws its perturbations in the order of the rows, so here each row has its own stream. */
#include <faiss/Index.h>
#include <faiss/VectorTransform.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/LocalSearchQuantizer.h>
#include <faiss/impl/ProductQuantizer.h>
#include <faiss/impl/ResidualQuantizer.h>
#include <faiss/impl/ScalarQuantizer.h>
#include <faiss/utils/distances.h>
#include <omp.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "vq_plugin.h"

extern "C" void openblas_set_num_threads(int) __attribute__((weak)); /* absent from other BLAS libraries */

namespace {

// ---- errors: thrown inside, a vq_rc and a sentence outside -------------------------------------------

struct Failure : std::runtime_error {
  vq_rc rc;
  Failure(vq_rc rc, const std::string &text) : std::runtime_error(text), rc(rc) {}
};

[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(vq_rc rc, const char *format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  throw Failure(rc, text);
}

vq_rc answer(vq_buf *err, vq_rc rc, const char *text) {
  err->len = std::min(err->cap, std::strlen(text));
  if (err->len > 0) std::memcpy(err->ptr, text, err->len);
  return rc;
}

/** Runs `body`; no exception leaves. */
template <class Body>
vq_rc guarded(vq_buf *err, Body body) noexcept {
  try {
    body();
    return VQ_OK;
  } catch (const Failure &failure) {
    return answer(err, failure.rc, failure.what());
  } catch (const std::bad_alloc &) {
    return answer(err, VQ_ERROR, "out of memory");
  } catch (const std::exception &error) { /* FaissException too */
    return answer(err, VQ_ERROR, error.what());
  } catch (...) {
    return answer(err, VQ_ERROR, "FAISS threw something that is no exception");
  }
}

// ---- FAISS's process-wide state ----------------------------------------------------------------------

/** One training at a time: FAISS's interrupt hook and its LSQ timers, and the threads of BLAS, are global. */
std::mutex training;

void set_blas_threads(unsigned threads) {
  if (openblas_set_num_threads) openblas_set_num_threads((int)threads);
}

/** OpenMP's threads for this thread's calls, put back at the end of the scope. */
class OmpThreads {
  int before = omp_get_max_threads();

 public:
  explicit OmpThreads(unsigned threads) { omp_set_num_threads((int)threads); }
  ~OmpThreads() { omp_set_num_threads(before); }
};

/** BLAS on `threads` while a training runs; one everywhere else, where the host's threads do the work. */
class BlasThreads {
 public:
  explicit BlasThreads(unsigned threads) { set_blas_threads(threads); }
  ~BlasThreads() { set_blas_threads(1); }
};

/** A training as the host sees it. `tick` is called where FAISS asks whether to stop. */
class Job {
  const vq_ctx *ctx;
  double ticks = 0;

 public:
  double expected = 1; /* ticks in all, an estimate */
  bool cancelled = false;
  explicit Job(const vq_ctx *ctx) : ctx(ctx) {}

  /** FAISS's seeds are ints: a larger one is folded. */
  int seed() const {
    return ctx->seed <= INT_MAX ? (int)ctx->seed : (int)((ctx->seed ^ (ctx->seed >> 32)) & INT_MAX);
  }
  bool tick() {
    static constexpr vq_str stage = {"train", 5};
    float fraction = (float)std::min(0.99, ticks++ / expected);
    cancelled = cancelled || ctx->progress(ctx->host, fraction, stage) != 0;
    return cancelled;
  }
};

thread_local Job *current_job = nullptr; /* of the training on this thread */

struct Interrupt : faiss::InterruptCallback {
  bool want_interrupt() override { return current_job && current_job->tick(); }
};

/** Directs FAISS's questions on this thread to `job`. */
class Listening {
 public:
  explicit Listening(Job &job) {
    if (!faiss::InterruptCallback::instance) faiss::InterruptCallback::instance.reset(new Interrupt);
    current_job = &job;
  }
  ~Listening() { current_job = nullptr; }
};

/** Ticks of one k-means: FAISS asks once for every 4096 rows and twice an iteration. */
double kmeans_ticks(size_t rows, size_t iterations) { return (double)iterations * ((double)rows / 4096 + 3); }

// ---- settings ----------------------------------------------------------------------------------------

std::string string_of(vq_str s) { return s.len ? std::string(s.ptr, s.len) : std::string(); }
bool same(vq_str a, vq_str b) { return string_of(a) == string_of(b); }

/** A configuration that its parameters allow, with the defaults filled in. */
class Settings {
  const vq_config *config;
  const vq_param *params;
  size_t n_params;

  static void check(const vq_param &param, const vq_value &value) {
    const std::string name = string_of(param.name);
    if (value.kind != param.kind)
      fail(VQ_BAD_CONFIG, "%s: expected %s", name.c_str(), param.kind == VQ_KIND_INT ? "an integer" : "a string");
    if (param.min.kind != VQ_KIND_NULL && value.i < param.min.i)
      fail(VQ_BAD_CONFIG, "%s: %lld is below %lld", name.c_str(), (long long)value.i, (long long)param.min.i);
    if (param.max.kind != VQ_KIND_NULL && value.i > param.max.i)
      fail(VQ_BAD_CONFIG, "%s: %lld is above %lld", name.c_str(), (long long)value.i, (long long)param.max.i);
    if (param.choices.kind == VQ_KIND_NULL) return;
    std::string known;
    for (size_t i = 0; i < param.choices.n_items; i++) {
      if (same(param.choices.items[i].s, value.s)) return;
      known += (i ? ", " : "") + string_of(param.choices.items[i].s);
    }
    fail(VQ_BAD_CONFIG, "%s: %.64s is none of %s", name.c_str(), string_of(value.s).c_str(), known.c_str());
  }

  const vq_value &value(const char *name) const {
    for (size_t i = 0; i < config->n_entries; i++)
      if (string_of(config->entries[i].name) == name) return config->entries[i].value;
    for (size_t i = 0; i < n_params; i++)
      if (string_of(params[i].name) == name) return params[i].default_value;
    fail(VQ_ERROR, "%s is no parameter of this method", name);
  }

 public:
  Settings(const vq_config *config, const vq_param *params, size_t n_params)
      : config(config), params(params), n_params(n_params) {
    for (size_t i = 0; i < config->n_entries; i++) {
      const vq_entry &entry = config->entries[i];
      const vq_param *param =
          std::find_if(params, params + n_params, [&](const vq_param &p) { return same(p.name, entry.name); });
      if (param == params + n_params)
        fail(VQ_BAD_CONFIG, "%.128s: unknown parameter", string_of(entry.name).c_str());
      check(*param, entry.value);
    }
  }

  size_t integer(const char *name) const { return (size_t)value(name).i; }
  std::string string(const char *name) const { return string_of(value(name).s); }

  /** Sub-spaces: m, which must divide d. */
  size_t subspaces(size_t d) const {
    size_t m = integer("m");
    if (d % m != 0) fail(VQ_BAD_CONFIG, "m: %zu does not divide d = %zu", m, d);
    return m;
  }
};

// ---- one coder per method ----------------------------------------------------------------------------

constexpr size_t BLOCK = 256; /* rows of a task: large enough for BLAS, small enough for the cache */

class Coder {
 public:
  virtual ~Coder() = default;
  virtual size_t code_bytes() const = 0;
  /** Fewest rows that train accepts. */
  virtual size_t least_rows() const { return 1; }
  /** Largest |x| whose squares FAISS can sum in float32. */
  virtual float limit() const { return 1e15f; }
  /** Whether encoding rounds as BLAS does and needs blocks of one shape. No decoding does. */
  virtual bool encodes_with_blas() const { return false; }

  /** x (n, d), contiguous. */
  virtual void train(size_t n, const float *x, Job &job) = 0;
  virtual void encode(size_t n, const float *x, uint8_t *codes) const = 0;
  virtual void decode(size_t n, const uint8_t *codes, float *x) const = 0;

  /** What decoding needs: its size, its numbers, and back. */
  virtual size_t model_floats() const = 0;
  virtual std::vector<float> model() const = 0;
  virtual void restore(const float *model) = 0;
  /** Called once there is a model, trained or restored. */
  virtual void ready() {}
};

void set_kmeans(faiss::ClusteringParameters &cp, const Settings &settings) {
  cp.niter = (int)settings.integer("iterations");
  cp.max_points_per_centroid = (int)settings.integer("points_per_centroid");
  cp.min_points_per_centroid = 1; /* no warning on stderr */
}

class Pq : public Coder {
  faiss::ProductQuantizer pq;

 public:
  Pq(const Settings &settings, size_t d) : pq(d, settings.subspaces(d), settings.integer("bits")) {
    set_kmeans(pq.cp, settings);
  }
  size_t code_bytes() const override { return pq.code_size; }
  size_t least_rows() const override { return pq.ksub; }
  bool encodes_with_blas() const override { return pq.dsub >= 16; } /* as compute_codes decides */
  void train(size_t n, const float *x, Job &job) override {
    pq.cp.seed = job.seed();
    job.expected = (double)pq.M * kmeans_ticks(std::min(n, pq.ksub * pq.cp.max_points_per_centroid), pq.cp.niter);
    pq.train(n, x);
  }
  void encode(size_t n, const float *x, uint8_t *codes) const override { pq.compute_codes(x, codes, n); }
  void decode(size_t n, const uint8_t *codes, float *x) const override { pq.decode(codes, x, n); }
  size_t model_floats() const override { return pq.centroids.size(); }
  std::vector<float> model() const override { return pq.centroids; }
  void restore(const float *model) override { std::copy_n(model, pq.centroids.size(), pq.centroids.begin()); }
};

class Opq : public Coder {
  const size_t outer_iterations;
  std::vector<float> rotation, transposed; /* (d, d), orthonormal */
  faiss::ProductQuantizer pq;

  /** out (n, d) = in (n, d) · matrix (d, d), row by row: BLAS would round a row by its place in the block. */
  void multiply(size_t n, const float *in, const std::vector<float> &matrix, float *out) const {
    const size_t d = pq.d;
    std::fill_n(out, n * d, 0.0f);
    for (size_t i = 0; i < n; i++)
      for (size_t j = 0; j < d; j++) {
        const float factor = in[i * d + j], *row = &matrix[j * d];
#pragma omp simd
        for (size_t c = 0; c < d; c++) out[i * d + c] += factor * row[c];
      }
  }

 public:
  Opq(const Settings &settings, size_t d)
      : outer_iterations(settings.integer("iterations")), pq(d, settings.subspaces(d), settings.integer("bits")) {
    pq.cp.max_points_per_centroid = (int)settings.integer("points_per_centroid");
    pq.cp.min_points_per_centroid = 1;
  }
  size_t code_bytes() const override { return pq.code_size; }
  size_t least_rows() const override { return pq.ksub; }
  bool encodes_with_blas() const override { return pq.dsub >= 16; }
  void train(size_t n, const float *x, Job &job) override {
    pq.cp.seed = job.seed();
    faiss::ProductQuantizer inner(pq.d, pq.M, pq.nbits); /* OPQMatrix's own would have 8 bits and no seed */
    inner.cp = pq.cp;
    faiss::OPQMatrix opq((int)pq.d, (int)pq.M);
    opq.pq = &inner;
    opq.niter = (int)outer_iterations;
    const size_t rows = std::min(n, std::min(opq.max_train_points, pq.ksub * 1000));
    job.expected = (double)pq.M * (kmeans_ticks(rows, opq.niter_pq_0) +
                                   kmeans_ticks(rows, opq.niter_pq * (outer_iterations - 1)) +
                                   kmeans_ticks(std::min(n, pq.ksub * pq.cp.max_points_per_centroid), pq.cp.niter));
    opq.train((int64_t)n, x);
    rotation = opq.A;
    std::vector<float> turned(n * pq.d);
    opq.apply_noalloc((int64_t)n, x, turned.data());
    pq.train(n, turned.data());
  }
  void encode(size_t n, const float *x, uint8_t *codes) const override {
    std::vector<float> turned(n * pq.d);
    multiply(n, x, transposed, turned.data());
    pq.compute_codes(turned.data(), codes, n);
  }
  void decode(size_t n, const uint8_t *codes, float *x) const override {
    std::vector<float> turned(n * pq.d);
    pq.decode(codes, turned.data(), n);
    multiply(n, turned.data(), rotation, x);
  }
  size_t model_floats() const override { return pq.d * pq.d + pq.centroids.size(); }
  std::vector<float> model() const override {
    std::vector<float> model = rotation;
    model.insert(model.end(), pq.centroids.begin(), pq.centroids.end());
    return model;
  }
  void restore(const float *model) override {
    rotation.assign(model, model + pq.d * pq.d);
    std::copy_n(model + pq.d * pq.d, pq.centroids.size(), pq.centroids.begin());
  }
  void ready() override {
    transposed.resize(rotation.size());
    for (size_t i = 0; i < pq.d; i++)
      for (size_t j = 0; j < pq.d; j++) transposed[j * pq.d + i] = rotation[i * pq.d + j];
  }
};

class Sq : public Coder {
  faiss::ScalarQuantizer sq;

  static faiss::ScalarQuantizer::QuantizerType type_of(const std::string &name) {
    using Q = faiss::ScalarQuantizer;
    if (name == "8bit") return Q::QT_8bit;
    if (name == "6bit") return Q::QT_6bit;
    if (name == "4bit") return Q::QT_4bit;
    if (name == "8bit_uniform") return Q::QT_8bit_uniform;
    if (name == "4bit_uniform") return Q::QT_4bit_uniform;
    return Q::QT_fp16;
  }

 public:
  Sq(const Settings &settings, size_t d) : sq(d, type_of(settings.string("type"))) {}
  size_t code_bytes() const override { return sq.code_size; }
  float limit() const override { return sq.qtype == faiss::ScalarQuantizer::QT_fp16 ? 65504.0f : 1e15f; }
  void train(size_t n, const float *x, Job &) override { sq.train(n, x); }
  void encode(size_t n, const float *x, uint8_t *codes) const override { sq.compute_codes(x, codes, n); }
  void decode(size_t n, const uint8_t *codes, float *x) const override { sq.decode(codes, x, n); }
  size_t model_floats() const override {
    using Q = faiss::ScalarQuantizer;
    const bool uniform = sq.qtype == Q::QT_8bit_uniform || sq.qtype == Q::QT_4bit_uniform;
    return sq.qtype == Q::QT_fp16 ? 0 : uniform ? 2 : 2 * sq.d;
  }
  std::vector<float> model() const override { return sq.trained; }
  void restore(const float *model) override { sq.trained.assign(model, model + model_floats()); }
};

class Rq : public Coder {
  faiss::ResidualQuantizer rq;

 public:
  Rq(const Settings &settings, size_t d) : rq(d, settings.integer("layers"), settings.integer("bits")) {
    set_kmeans(rq.cp, settings);
    rq.max_beam_size = (int)settings.integer("beam");
    rq.train_type |= faiss::ResidualQuantizer::Skip_codebook_tables; /* only look-up-table search needs them */
    /* FAISS packs the wrong codes when there are fewer sums than the beam is wide. */
    const double sums = std::pow(2.0, (double)rq.tot_bits);
    if (sums < rq.max_beam_size)
      fail(VQ_BAD_CONFIG, "beam: %d is more than the %g codes there are", rq.max_beam_size, sums);
  }
  size_t code_bytes() const override { return rq.code_size; }
  size_t least_rows() const override { return (size_t)1 << rq.nbits[0]; }
  bool encodes_with_blas() const override { return true; }
  void train(size_t n, const float *x, Job &job) override {
    rq.cp.seed = job.seed();
    job.expected = 0;
    const size_t k = (size_t)1 << rq.nbits[0];
    for (size_t layer = 0, beam = 1; layer < rq.M; layer++, beam = std::min(beam * k, (size_t)rq.max_beam_size)) {
      const size_t rows = std::min(n * beam, k * rq.cp.max_points_per_centroid);
      job.expected += rq.cp.progressive_dim_steps * kmeans_ticks(rows, rq.cp.niter) + (double)(n * beam) / 4096 + 1;
    }
    rq.train(n, x);
  }
  void encode(size_t n, const float *x, uint8_t *codes) const override { rq.compute_codes(x, codes, n); }
  void decode(size_t n, const uint8_t *codes, float *x) const override { rq.decode(codes, x, n); }
  size_t model_floats() const override { return rq.total_codebook_size * rq.d; }
  std::vector<float> model() const override { return rq.codebooks; }
  void restore(const float *model) override {
    rq.codebooks.assign(model, model + model_floats());
    rq.is_trained = true;
  }
};

/** FAISS asks for an encoder in each training iteration and never whether to stop: so that is asked here. */
struct AskingFactory : faiss::lsq::IcmEncoderFactory {
  faiss::lsq::IcmEncoder *get(const faiss::LocalSearchQuantizer *lsq) override {
    if (current_job && current_job->tick()) fail(VQ_CANCELLED, "cancelled");
    return new faiss::lsq::IcmEncoder(lsq);
  }
};

class Lsq : public Coder {
  faiss::LocalSearchQuantizer lsq;
  std::vector<float> norms;    /* (M, K) squared norms of the centroids */
  std::vector<float> binaries; /* (M, M, K, K) twice their inner products */

 public:
  Lsq(const Settings &settings, size_t d) : lsq(d, settings.integer("m"), settings.integer("bits")) {
    lsq.train_iters = settings.integer("iterations");
    lsq.encode_ils_iters = settings.integer("encode_iterations");
    lsq.nperts = std::min(lsq.nperts, lsq.M);
    lsq.icm_encoder_factory = new AskingFactory; /* owned by lsq */
  }
  size_t code_bytes() const override { return lsq.code_size; }
  size_t least_rows() const override { return lsq.K; }
  void train(size_t n, const float *x, Job &job) override {
    lsq.random_seed = job.seed();
    job.expected = (double)lsq.train_iters;
    lsq.train(n, x);
  }

  /** Iterated local search of LocalSearchQuantizer::icm_encode_impl on FAISS's own steps, except that each row
   *  draws its start and its perturbations from a stream of its own, seeded by its values. */
  void encode(size_t n, const float *x, uint8_t *packed) const override {
    const size_t M = lsq.M, K = lsq.K, d = lsq.d;
    std::vector<float> unaries(M * n * K); /* (M, n, K): ‖c‖² − 2⟨x, c⟩ */
    for (size_t m = 0; m < M; m++)
      for (size_t i = 0; i < n; i++) {
        float *u = &unaries[(m * n + i) * K];
        faiss::fvec_inner_products_ny(u, x + i * d, &lsq.codebooks[m * K * d], d, K);
        for (size_t k = 0; k < K; k++) u[k] = norms[m * K + k] - 2 * u[k];
      }

    std::uniform_int_distribution<size_t> any_book(0, M - 1);
    std::uniform_int_distribution<int32_t> any_code(0, (int32_t)K - 1);
    std::vector<std::minstd_rand> random;
    std::vector<int32_t> codes(n * M);
    for (size_t i = 0; i < n; i++) {
      random.emplace_back(seed_of(x + i * d));
      for (size_t m = 0; m < M; m++) codes[i * M + m] = any_code(random[i]);
    }
    std::vector<int32_t> best = codes;
    std::vector<float> decoded(n * d), best_error(n, HUGE_VALF);
    auto keep_better = [&] {
      lsq.decode_unpacked(codes.data(), decoded.data(), n);
      for (size_t i = 0; i < n; i++) {
        float error = faiss::fvec_L2sqr(x + i * d, &decoded[i * d], d);
        if (error >= best_error[i]) continue;
        best_error[i] = error;
        std::copy_n(&codes[i * M], M, &best[i * M]);
      }
    };
    keep_better();
    for (size_t round = 0; round < lsq.encode_ils_iters; round++) {
      codes = best;
      for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < lsq.nperts; j++) {
          size_t m = any_book(random[i]);
          codes[i * M + m] = any_code(random[i]);
        }
      lsq.icm_encode_step(codes.data(), unaries.data(), binaries.data(), n, lsq.icm_iters);
      keep_better();
    }
    lsq.pack_codes(n, best.data(), packed);
  }

  void decode(size_t n, const uint8_t *codes, float *x) const override { lsq.decode(codes, x, n); }
  size_t model_floats() const override { return lsq.total_codebook_size * lsq.d; }
  std::vector<float> model() const override { return lsq.codebooks; }
  void restore(const float *model) override {
    lsq.codebooks.assign(model, model + model_floats());
    lsq.is_trained = true;
  }
  void ready() override {
    norms.resize(lsq.M * lsq.K);
    faiss::fvec_norms_L2sqr(norms.data(), lsq.codebooks.data(), lsq.d, norms.size());
    binaries.resize(norms.size() * norms.size());
    lsq.compute_binary_terms(binaries.data());
  }

 private:
  /** FNV-1a of the row's bytes. */
  uint32_t seed_of(const float *row) const {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t j = 0; j < lsq.d; j++) {
      uint32_t bits;
      std::memcpy(&bits, row + j, sizeof bits);
      hash = (hash ^ bits) * 0x100000001b3u;
    }
    return (uint32_t)(hash ^ (hash >> 32));
  }
};

}  // namespace

// ---- the C functions ---------------------------------------------------------------------------------

struct vq_instance {
  size_t dim;
  std::unique_ptr<Coder> coder;
  bool fitted = false;
};

namespace {

/** FAISS would crash on NaN, and on numbers whose squares overflow. */
void check_values(const float *x, size_t n, size_t stride, size_t d, float limit, size_t first_row) {
  for (size_t i = 0; i < n; i++) {
    bool good = true;
    for (size_t j = 0; j < d; j++) good &= std::fabs(x[i * stride + j]) <= limit;
    if (!good)
      fail(VQ_ERROR, "row %zu has a value that is not finite or beyond %g, too large for FAISS's arithmetic",
           first_row + i, limit);
  }
}

void check_call(const vq_instance *self, size_t dim, size_t code_bytes, size_t rows, size_t codes) {
  if (!self->fitted) fail(VQ_ERROR, "called before fit or load");
  if (dim != self->dim) fail(VQ_ERROR, "rows have %zu dimensions, expected %zu", dim, self->dim);
  if (code_bytes != self->coder->code_bytes())
    fail(VQ_ERROR, "codes have %zu bytes, expected %zu", code_bytes, self->coder->code_bytes());
  if (rows != codes) fail(VQ_ERROR, "%zu rows and %zu codes", rows, codes);
}

/** Runs body(first row, rows) for blocks of rows on the host's threads; throws what a block threw. */
template <class Body>
void for_blocks(const vq_ctx *ctx, size_t rows, const Body &body) {
  struct Call {
    const Body &body;
    size_t rows;
    std::mutex lock;
    std::exception_ptr thrown;
  } call{body, rows, {}, nullptr};
  auto task = [](void *shared, size_t index) {
    Call &call = *static_cast<Call *>(shared);
    try {
      OmpThreads one(1);
      call.body(index * BLOCK, std::min(BLOCK, call.rows - index * BLOCK));
    } catch (...) {
      std::lock_guard<std::mutex> guard(call.lock);
      if (!call.thrown) call.thrown = std::current_exception();
    }
  };
  ctx->parallel_for(ctx->host, (rows + BLOCK - 1) / BLOCK, task, &call);
  if (call.thrown) std::rethrow_exception(call.thrown);
}

/** Copies n rows of `width` between strides. */
template <class T>
void copy_rows(const T *from, size_t from_stride, T *to, size_t to_stride, size_t n, size_t width) {
  for (size_t i = 0; i < n; i++) std::copy_n(from + i * from_stride, width, to + i * to_stride);
}

/** Calls body(n', in', out') with contiguous matrices: the caller's own where they are so, else copies.
 *  `fixed` widens the block to BLOCK rows, the last ones zero. */
template <class In, class Out, class Body>
void contiguous(size_t n, bool fixed, const In *in, size_t in_stride, size_t in_width, Out *out, size_t out_stride,
                size_t out_width, const Body &body) {
  const size_t rows = fixed ? BLOCK : n;
  std::vector<In> in_copy;
  std::vector<Out> out_copy;
  const bool copy_in = in_stride != in_width || rows != n, copy_out = out_stride != out_width || rows != n;
  if (copy_in) {
    in_copy.resize(rows * in_width);
    copy_rows(in, in_stride, in_copy.data(), in_width, n, in_width);
  }
  if (copy_out) out_copy.resize(rows * out_width);
  body(rows, copy_in ? in_copy.data() : in, copy_out ? out_copy.data() : out);
  if (copy_out) copy_rows(out_copy.data(), out_width, out, out_stride, n, out_width);
}

void destroy(vq_instance *self) { delete self; }
size_t code_bytes(const vq_instance *self) { return self->coder->code_bytes(); }
uint64_t model_bytes(const vq_instance *self) { return self->coder->model_floats() * sizeof(float); }
double ratio(const vq_instance *self) { return 4.0 * (double)self->dim / (double)code_bytes(self); }

/* Numbers to train on below which threads spend more on waiting for each other than they save. */
constexpr size_t SMALL = 1 << 17;

vq_rc fit(vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
  return guarded(err, [&] {
    Coder &coder = *self->coder;
    const size_t n = train.rows, d = self->dim;
    if (train.dim != d) fail(VQ_ERROR, "rows have %zu dimensions, expected %zu", train.dim, d);
    if (n < coder.least_rows())
      fail(VQ_ERROR, "training needs at least %zu rows, got %zu", coder.least_rows(), n);
    check_values(train.data, n, train.row_stride, d, coder.limit(), 0);
    std::vector<float> copy;
    if (train.row_stride != d) {
      copy.resize(n * d);
      copy_rows(train.data, train.row_stride, copy.data(), d, n, d);
    }

    Job job(ctx);
    std::lock_guard<std::mutex> one_at_a_time(training);
    const unsigned threads = n * d < SMALL ? 1 : ctx->threads;
    OmpThreads omp(threads);
    BlasThreads blas(threads);
    Listening listening(job);
    try {
      coder.train(n, copy.empty() ? train.data : copy.data(), job);
    } catch (...) { /* FAISS reports an interruption as one more FaissException */
      if (job.cancelled) fail(VQ_CANCELLED, "cancelled");
      throw;
    }
    if (job.cancelled) fail(VQ_CANCELLED, "cancelled");
    for (float value : coder.model())
      if (!std::isfinite(value)) fail(VQ_ERROR, "FAISS's training ended with numbers that are not finite");
    coder.ready();
    self->fitted = true;
  });
}

vq_rc compress(const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
  return guarded(err, [&] {
    check_call(self, x.dim, codes.code_bytes, x.rows, codes.rows);
    const Coder &coder = *self->coder;
    for_blocks(ctx, x.rows, [&](size_t first, size_t n) {
      const float *rows = x.data + first * x.row_stride;
      check_values(rows, n, x.row_stride, x.dim, coder.limit(), first);
      contiguous(n, coder.encodes_with_blas(), rows, x.row_stride, x.dim, codes.data + first * codes.row_stride,
                 codes.row_stride, codes.code_bytes,
                 [&](size_t n, const float *in, uint8_t *out) { coder.encode(n, in, out); });
    });
  });
}

vq_rc decompress(const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
  return guarded(err, [&] {
    check_call(self, x.dim, codes.code_bytes, x.rows, codes.rows);
    const Coder &coder = *self->coder;
    for_blocks(ctx, x.rows, [&](size_t first, size_t n) {
      contiguous(n, false, codes.data + first * codes.row_stride, codes.row_stride,
                 codes.code_bytes, x.data + first * x.row_stride, x.row_stride, x.dim,
                 [&](size_t n, const uint8_t *in, float *out) { coder.decode(n, in, out); });
    });
  });
}

/** The model's floats in this machine's byte order: the configuration says the rest. FAISS's own format is not
 *  used because its reader trusts the sizes it reads. */
vq_rc save(const vq_instance *self, vq_buf *model, vq_buf *err) {
  return guarded(err, [&] {
    if (!self->fitted) fail(VQ_ERROR, "save was called before fit or load");
    const std::vector<float> floats = self->coder->model();
    model->len = floats.size() * sizeof(float);
    if (model->cap < model->len) fail(VQ_SHORT_BUFFER, "the model has %zu bytes", model->len);
    if (model->len > 0) std::memcpy(model->ptr, floats.data(), model->len);
  });
}

vq_rc load(vq_instance *self, vq_str model, vq_buf *err) {
  return guarded(err, [&] {
    if (model.len != model_bytes(self))
      fail(VQ_ERROR, "a model has %llu bytes, not %zu", (unsigned long long)model_bytes(self), model.len);
    std::vector<float> floats(model.len / sizeof(float));
    if (model.len > 0) std::memcpy(floats.data(), model.ptr, model.len);
    for (size_t i = 0; i < floats.size(); i++)
      if (!(std::fabs(floats[i]) <= 1e18f)) fail(VQ_ERROR, "number %zu of the model is out of range", i);
    std::lock_guard<std::mutex> one_at_a_time(training);
    self->coder->restore(floats.data());
    self->coder->ready();
    self->fitted = true;
  });
}

// ---- descriptors -------------------------------------------------------------------------------------

template <size_t N>
constexpr vq_str text(const char (&literal)[N]) {
  return {literal, N - 1};
}
constexpr vq_value none() { return {}; }
constexpr vq_value integer(int64_t i) { return {VQ_KIND_INT, 0, i, 0, {}, nullptr, 0}; }
template <size_t N>
constexpr vq_value word(const char (&literal)[N]) {
  return {VQ_KIND_STRING, 0, 0, 0, text(literal), nullptr, 0};
}
template <size_t N>
constexpr vq_value list(const vq_value (&items)[N]) {
  return {VQ_KIND_LIST, 0, 0, 0, {}, items, N};
}
template <size_t N, size_t H>
constexpr vq_param integer_param(const char (&name)[N], int64_t standard, int64_t min, vq_value max, vq_value grid,
                                 const char (&help)[H]) {
  return {sizeof(vq_param), VQ_KIND_INT, VQ_KIND_NULL, 0,      text(name), text(help),
          integer(standard), integer(min), max,        none(), grid};
}

constexpr vq_value small_lists[] = {integer(2), integer(4), integer(8)};
constexpr vq_value large_lists[] = {integer(8), integer(16), integer(32)};
constexpr vq_value four_and_eight[] = {integer(4), integer(8)};
constexpr vq_value one_and_five[] = {integer(1), integer(5)};
constexpr vq_value sq_types[] = {word("8bit"), word("6bit"), word("4bit"), word("8bit_uniform"), word("4bit_uniform"),
                                 word("fp16")};
constexpr vq_value sq_grid[] = {word("4bit"), word("6bit"), word("8bit"), word("fp16")};

constexpr vq_param m_divides = integer_param("m", 8, 1, none(), list(large_lists),
                                             "Sub-vectors; must divide the dimension.");
constexpr vq_param points = integer_param("points_per_centroid", 256, 1, integer(1000000), none(),
                                          "Training rows used per centroid, a random sample where there are more.");

constexpr vq_param pq_params[] = {
    m_divides,
    integer_param("bits", 8, 1, integer(12), list(four_and_eight), "Bits per sub-vector: 2^bits centroids each."),
    integer_param("iterations", 25, 1, integer(10000), none(), "Rounds of k-means."),
    points,
};
constexpr vq_param opq_params[] = {
    m_divides,
    integer_param("bits", 8, 1, integer(12), none(), "Bits per sub-vector: 2^bits centroids each."),
    integer_param("iterations", 50, 1, integer(10000), none(), "Rounds of learning codebooks and rotation in turn."),
    points,
};
constexpr vq_param sq_params[] = {
    {sizeof(vq_param), VQ_KIND_STRING, VQ_KIND_NULL, 0, text("type"),
     text("Number of bits per dimension, on a scale per dimension or, uniform, on one for all; or half precision."),
     word("8bit"), none(), none(), list(sq_types), list(sq_grid)},
};
constexpr vq_param rq_params[] = {
    integer_param("layers", 8, 1, integer(256), list(small_lists), "Layers: centroids that are added up."),
    integer_param("bits", 8, 1, integer(12), none(), "Bits per layer: each has 2^bits centroids."),
    integer_param("beam", 5, 1, integer(256), list(one_and_five),
                  "Partial codes kept per row, in training and encoding; 1 is greedy."),
    integer_param("iterations", 10, 1, integer(10000), none(),
                  "Rounds of k-means in each of FAISS's ten steps of growing dimension."),
    points,
};
constexpr vq_param lsq_params[] = {
    integer_param("m", 4, 1, integer(32), list(four_and_eight), "Codebooks: centroids that are added up."),
    integer_param("bits", 8, 1, integer(8), none(), "Bits per codebook: each has 2^bits centroids."),
    integer_param("iterations", 25, 1, integer(10000), none(), "Rounds of learning codes and codebooks in turn."),
    integer_param("encode_iterations", 16, 1, integer(1000), none(), "Rounds of perturbed local search in encoding."),
};

template <class Method, const auto &params>
vq_rc create(const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
  return guarded(err, [&] {
    if (space->dim > INT_MAX) fail(VQ_ERROR, "FAISS counts dimensions in 31 bits, and d = %zu", space->dim);
    const Settings settings(config, params, std::size(params));
    std::unique_ptr<vq_instance> made(new vq_instance{space->dim, nullptr});
    made->coder.reset(new Method(settings, space->dim));
    *out = made.release();
  });
}

#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define FAISS_IN_USE STRING(FAISS_VERSION_MAJOR) "." STRING(FAISS_VERSION_MINOR) "." STRING(FAISS_VERSION_PATCH)

struct About {
  vq_str id, name, description, paper, tags;
};

template <class Method, const auto &params>
constexpr vq_method method(uint32_t flags, const About &about) {
  return {sizeof(vq_method),
          VQ_NEEDS_TRAINING | VQ_THREAD_SAFE | flags,
          about.id,
          about.name,
          text("0.1.0+faiss." FAISS_IN_USE),
          about.description,
          about.paper,
          text("FAISS authors; plugin: vq-host authors"),
          text("MIT"),
          text("https://github.com/facebookresearch/faiss"),
          about.tags,
          params,
          std::size(params),
          nullptr,
          create<Method, params>,
          destroy,
          fit,
          code_bytes,
          model_bytes,
          ratio,
          compress,
          decompress,
          save,
          load,
          nullptr};
}

/* Only faiss_sq is free of BLAS in training, so only it promises equal codes on any number of threads. */
constexpr vq_method pq_method = method<Pq, pq_params>(
    0, {text("faiss_pq"), text("FAISS PQ"), text("FAISS's product quantizer, without polysemous training"),
        text("Jégou, Douze, Schmid, Product Quantization for Nearest Neighbor Search, 2011"),
        text("faiss,product,codebook,k-means")});
constexpr vq_method opq_method = method<Opq, opq_params>(
    0, {text("faiss_opq"), text("FAISS OPQ"), text("FAISS's product quantizer after its learned rotation"),
        text("Ge, He, Ke, Sun, Optimized Product Quantization, 2013"),
        text("faiss,product,rotation,codebook,k-means")});
constexpr vq_method sq_method = method<Sq, sq_params>(
    VQ_DETERMINISTIC, {text("faiss_sq"), text("FAISS SQ"), text("FAISS's scalar quantizer over the training range"),
                       {}, text("faiss,scalar")});
constexpr vq_method rq_method = method<Rq, rq_params>(
    0, {text("faiss_rq"), text("FAISS RQ"), text("FAISS's residual quantizer with beam search"),
        text("Liu, Lu, Xu, Improved Residual Vector Quantization, 2015"),
        text("faiss,additive,residual,codebook,k-means,beam-search")});
constexpr vq_method lsq_method = method<Lsq, lsq_params>(
    0, {text("faiss_lsq"), text("FAISS LSQ"), text("FAISS's local search quantizer (LSQ++)"),
        text("Martinez, Zakhmi, Hoos, Little, LSQ++, 2018"), text("faiss,additive,codebook,local-search")});

constexpr const vq_method *methods[] = {&pq_method, &opq_method, &sq_method, &rq_method, &lsq_method};
constexpr vq_plugin plugin = {VQ_MAGIC,           VQ_ABI_MAJOR, VQ_ABI_MINOR,      sizeof(vq_plugin), 0,
                              text("c++, FAISS " FAISS_IN_USE), methods, std::size(methods)};

}  // namespace

const vq_plugin *vq_plugin_entry_v1(uint32_t host_major, uint32_t) {
  if (host_major != VQ_ABI_MAJOR) return nullptr;
  set_blas_threads(1); /* until a training asks for more */
  return &plugin;
}
