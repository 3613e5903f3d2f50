/* {{id}} - a vq-host plugin in C++17: a step per dimension, one byte per coordinate.
 *   fit     m, s = mean, step * standard deviation of the dimension's training values
 *   code    round((x - m) / s), within -128..127; NaN becomes 127
 *   decode  m + s * code
 *   score   the space's metric between a raw query and a code, which is not decoded into a row
 * {{type}} is the method and may throw; `guarded`, in the C table below it, lets nothing out. */
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "vq_plugin.h"

namespace {

std::string_view view(vq_str text) { return {text.len ? text.ptr : "", text.len}; }
constexpr vq_str str(std::string_view text) { return {text.data(), text.size()}; }
constexpr vq_value number(double f) { return {VQ_KIND_FLOAT, 0, 0, f, {}, nullptr, 0}; }

/* An error with a return code of its own; any other exception is VQ_ERROR. */
struct Refusal : std::runtime_error {
  Refusal(vq_rc rc, const std::string &why) : std::runtime_error(why), rc(rc) {}
  vq_rc rc;
};

class {{type}} {
public:
  {{type}}(const vq_config &config, const vq_space &space) : metric_(space.metric), scales_(space.dim) {
    for (const vq_entry *entry = config.entries; entry != config.entries + config.n_entries; ++entry) {
      if (view(entry->name) != "step")
        throw Refusal(VQ_BAD_CONFIG, std::string(view(entry->name)) + ": unknown parameter; known are: step");
      if (entry->value.kind != VQ_KIND_FLOAT) throw Refusal(VQ_BAD_CONFIG, "step: expected a float");
      step_ = entry->value.f;
      if (!(step_ >= 1e-6 && step_ <= 1e6)) // NaN fails too
        throw Refusal(VQ_BAD_CONFIG, "step: " + std::to_string(step_) + " is not within 1e-6 and 1e6");
    }
  }

  std::size_t code_bytes() const noexcept { return scales_.size(); }
  std::uint64_t model_bytes() const noexcept { return scales_.size() * sizeof(Scale); }

  void fit(const vq_ctx &ctx, const vq_mat &train) {
    const std::size_t d = scales_.size();
    if (train.dim != d || train.rows == 0) throw std::invalid_argument("no rows, or of another width");
    for (std::size_t j = 0; j < d; ++j) {
      if (ctx.progress(ctx.host, float(j) / float(d), str("steps"))) throw Refusal(VQ_CANCELLED, "cancelled");
      const auto x = [&](std::size_t i) { return double(train.data[i * train.row_stride + j]); };
      double sum = 0, squares = 0;
      for (std::size_t i = 0; i < train.rows; ++i) sum += x(i);
      const double mean = sum / double(train.rows);
      for (std::size_t i = 0; i < train.rows; ++i) squares += (x(i) - mean) * (x(i) - mean);
      const double s = step_ * std::sqrt(squares / double(train.rows));
      if (!std::isfinite(s)) throw std::domain_error("dimension " + std::to_string(j) + " is not finite");
      scales_[j] = {float(std::clamp(mean, -1e38, 1e38)), float(std::clamp(s, 1e-12, 1e30))};
    }
    ready_ = true;
  }

  void compress(const vq_ctx &ctx, const vq_mat &x, const vq_codes_mut &codes) const {
    check(x.dim, codes.code_bytes);
    in_parallel(ctx, x.rows, [&](std::size_t i, std::size_t j) noexcept {
      const double code = std::round((double(x.data[i * x.row_stride + j]) - scales_[j].m) / scales_[j].s);
      codes.data[i * codes.row_stride + j] = std::uint8_t(std::int8_t(std::fmax(-128, std::fmin(code, 127))));
    });
  }

  void decompress(const vq_ctx &ctx, const vq_codes &codes, const vq_mat_mut &x) const {
    check(x.dim, codes.code_bytes);
    in_parallel(ctx, x.rows, [&](std::size_t i, std::size_t j) noexcept {
      const std::uint8_t code = codes.data[i * codes.row_stride + j];
      x.data[i * x.row_stride + j] = scales_[j].m + scales_[j].s * float(std::int8_t(code));
    });
  }

  /* Estimates of all pairs; the headline recall is of these. Packs nothing and claims no bounds. */
  void score(const vq_ctx &ctx, const vq_mat &queries, const std::uint8_t *codes, std::size_t codes_len,
             std::size_t n, const vq_mat_mut &estimates) const {
    const std::size_t d = scales_.size();
    check(queries.dim, codes_len == n * d ? d : 0);
    auto one = [&](std::size_t q) noexcept {
      for (std::size_t i = 0; i < n; ++i) {
        double sum = 0;
        for (std::size_t j = 0; j < d; ++j) {
          const double query = queries.data[q * queries.row_stride + j];
          const double x = scales_[j].m + double(scales_[j].s) * std::int8_t(codes[i * d + j]);
          sum += metric_ == VQ_METRIC_L2 ? (query - x) * (query - x) : query * x;
        }
        estimates.data[q * estimates.row_stride + i] = float(sum);
      }
    };
    const auto task = [](void *shared, std::size_t q) { (*static_cast<decltype(&one)>(shared))(q); };
    ctx.parallel_for(ctx.host, queries.rows, task, &one);
  }

  /* All that decoding needs: a sweep decodes in another process, which has these bytes alone. */
  void save(vq_buf &model) const {
    if (!ready_) throw std::logic_error("called before fit or load");
    model.len = model_bytes();
    if (model.cap < model.len) throw Refusal(VQ_SHORT_BUFFER, "a larger buffer, please");
    std::memcpy(model.ptr, scales_.data(), model.len);
  }

  void load(const vq_str &model) {
    if (model.len != model_bytes()) throw std::invalid_argument("a model of another length");
    std::vector<Scale> read(scales_.size());
    std::memcpy(read.data(), model.ptr, model.len);
    for (const Scale &scale : read)
      if (!std::isfinite(scale.m) || !std::isfinite(scale.s)) throw std::domain_error("a model that is not finite");
    scales_ = read;
    ready_ = true;
  }

private:
  struct Scale { float m, s; };

  void check(std::size_t dim, std::size_t bytes) const {
    if (!ready_) throw std::logic_error("called before fit or load");
    if (dim != scales_.size() || bytes != code_bytes()) throw std::invalid_argument("rows of another width");
  }

  /* coordinate(i, j) for each of n rows on the host's threads, many rows to a task. */
  template <class Coordinate>
  void in_parallel(const vq_ctx &ctx, std::size_t n, const Coordinate &coordinate) const {
    constexpr std::size_t per_task = 256;
    auto rows = [&](std::size_t task) noexcept {
      for (std::size_t i = task * per_task; i < std::min(n, (task + 1) * per_task); ++i)
        for (std::size_t j = 0; j < scales_.size(); ++j) coordinate(i, j);
    };
    const auto task = [](void *shared, std::size_t i) { (*static_cast<decltype(&rows)>(shared))(i); };
    ctx.parallel_for(ctx.host, (n + per_task - 1) / per_task, task, &rows);
  }

  std::uint32_t metric_;
  double step_ = 0.05;
  bool ready_ = false;
  std::vector<Scale> scales_; // one per dimension
};

/* Runs `body`; an exception becomes a return code and a text, cut to the caller's buffer. */
template <class Body> vq_rc guarded(vq_buf *err, Body body) noexcept {
  const auto fail = [err](vq_rc rc, std::string_view why) {
    err->len = why.copy(reinterpret_cast<char *>(err->ptr), err->cap);
    return rc;
  };
  try { body(); return VQ_OK; }
  catch (const Refusal &refusal) { return fail(refusal.rc, refusal.what()); }
  catch (const std::exception &error) { return fail(VQ_ERROR, error.what()); }
  catch (...) { return fail(VQ_ERROR, "an exception of unknown type"); }
}

} // namespace

struct vq_instance { {{type}} method; };

extern "C" const vq_plugin *vq_plugin_entry_v1(uint32_t host_major, uint32_t) {
  static constexpr vq_value grid[] = {number(0.025), number(0.05), number(0.1)};
  static constexpr vq_param step = {
      sizeof(vq_param), VQ_KIND_FLOAT, VQ_KIND_NULL, 0, str("step"),
      str("Standard deviations of a dimension that one step spans."),
      number(0.05), number(1e-6), number(1e6), {}, {VQ_KIND_LIST, 0, 0, 0, {}, grid, 3}};
  static const vq_scorer_v1 scorer = [] {
    vq_scorer_v1 s{};
    s.struct_size = sizeof s;
    s.score = [](const vq_instance *self, const vq_ctx *ctx, vq_mat queries, const std::uint8_t *codes,
                 std::size_t codes_len, std::size_t n, vq_mat_mut estimates, vq_mat_mut, vq_buf *err) {
      return guarded(err, [&] { self->method.score(*ctx, queries, codes, codes_len, n, estimates); });
    };
    return s;
  }();
  static const vq_method method = [] {
    vq_method m{};
    m.struct_size = sizeof m; m.flags = VQ_NEEDS_TRAINING | VQ_DETERMINISTIC | VQ_THREAD_SAFE;
    m.id = str("{{id}}"); m.name = str("{{title}}"); m.version = str("0.1.0");
    m.description = str("{{title}}: a vq-host plugin in C++"); m.license = str("MIT OR Apache-2.0");
    m.params = &step; m.n_params = 1;
    m.create = [](const vq_config *config, const vq_space *space, vq_instance **out, vq_buf *err) {
      return guarded(err, [&] { *out = new vq_instance{ {{type}}(*config, *space)}; });
    };
    m.destroy = [](vq_instance *self) { delete self; };
    m.fit = [](vq_instance *self, const vq_ctx *ctx, vq_mat train, vq_buf *err) {
      return guarded(err, [&] { self->method.fit(*ctx, train); });
    };
    m.code_bytes = [](const vq_instance *self) { return self->method.code_bytes(); };
    m.model_bytes = [](const vq_instance *self) { return self->method.model_bytes(); };
    m.compress = [](const vq_instance *self, const vq_ctx *ctx, vq_mat x, vq_codes_mut codes, vq_buf *err) {
      return guarded(err, [&] { self->method.compress(*ctx, x, codes); });
    };
    m.decompress = [](const vq_instance *self, const vq_ctx *ctx, vq_codes codes, vq_mat_mut x, vq_buf *err) {
      return guarded(err, [&] { self->method.decompress(*ctx, codes, x); });
    };
    m.save = [](const vq_instance *self, vq_buf *model, vq_buf *err) {
      return guarded(err, [&] { self->method.save(*model); });
    };
    m.load = [](vq_instance *self, vq_str model, vq_buf *err) {
      return guarded(err, [&] { self->method.load(model); });
    };
    m.get_extension = [](vq_str id) -> const void * { return view(id) == VQ_SCORER_V1 ? &scorer : nullptr; };
    return m;
  }();
  static const vq_method *const methods[] = {&method};
  static const vq_plugin plugin = {VQ_MAGIC, VQ_ABI_MAJOR, VQ_ABI_MINOR, sizeof(vq_plugin), 0, str("c++"), methods, 1};
  return host_major == VQ_ABI_MAJOR ? &plugin : nullptr;
}
