/* Calls FAISS as its documentation shows, without vq-host, and prints the relative error of a round trip:
 *
 *   direct FILE SEED METHOD [NAME=VALUE ...]        FILE is .fbin or .f16bin
 *
 * trains on all rows, encodes and decodes all rows, and prints Σ‖x − x̂‖² / Σ‖x − mean‖². METHOD `factory` takes
 * name=STRING for index_factory, and prints the bytes of a code before. The index classes are used here and the
 * quantizer classes in the plugin, so that the two agree only if both are right. */
#include <faiss/IndexAdditiveQuantizer.h>
#include <faiss/IndexPQ.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/IndexScalarQuantizer.h>
#include <faiss/VectorTransform.h>
#include <faiss/index_factory.h>
#include <faiss/utils/fp16.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct Rows {
  size_t n, d;
  std::vector<float> x;
};

static Rows read_rows(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  uint32_t head[2];
  if (!file.read((char *)head, sizeof head)) throw std::runtime_error(path + ": cannot be read");
  Rows rows{head[0], head[1], std::vector<float>((size_t)head[0] * head[1])};
  if (path.find(".f16bin") != std::string::npos) {
    std::vector<uint16_t> half(rows.x.size());
    file.read((char *)half.data(), (std::streamsize)(half.size() * sizeof half[0]));
    for (size_t i = 0; i < half.size(); i++) rows.x[i] = faiss::decode_fp16(half[i]);
  } else {
    file.read((char *)rows.x.data(), (std::streamsize)(rows.x.size() * sizeof rows.x[0]));
  }
  if (!file) throw std::runtime_error(path + ": is shorter than its header says");
  return rows;
}

static double relative_error(const Rows &rows, const std::vector<float> &decoded) {
  std::vector<double> mean(rows.d);
  for (size_t i = 0; i < rows.x.size(); i++) mean[i % rows.d] += rows.x[i] / (double)rows.n;
  double error = 0, variance = 0;
  for (size_t i = 0; i < rows.x.size(); i++) {
    double e = (double)rows.x[i] - decoded[i], v = rows.x[i] - mean[i % rows.d];
    error += e * e, variance += v * v;
  }
  return error / variance;
}

int main(int argc, char **argv) try {
  if (argc < 4) throw std::runtime_error("usage: direct FILE SEED METHOD [NAME=VALUE ...]");
  const Rows rows = read_rows(argv[1]);
  const int seed = std::stoi(argv[2]), d = (int)rows.d;
  const std::string method = argv[3];
  std::map<std::string, std::string> given;
  for (int i = 4; i < argc; i++) {
    const std::string pair = argv[i];
    given[pair.substr(0, pair.find('='))] = pair.substr(pair.find('=') + 1);
  }
  auto number = [&](const char *name) { return (size_t)std::stoul(given.at(name)); };

  /* Only what is not FAISS's default is set: the seed, and no polysemous training, which codes do not need. */
  std::unique_ptr<faiss::Index> index;
  std::unique_ptr<faiss::IndexPQ> pq;
  std::unique_ptr<faiss::OPQMatrix> opq;
  if (method == "faiss_pq" || method == "faiss_opq") {
    pq.reset(new faiss::IndexPQ(d, number("m"), number("bits")));
    pq->do_polysemous_training = false;
    pq->pq.cp.seed = seed;
  }
  faiss::Index *use = pq.get();
  std::unique_ptr<faiss::ProductQuantizer> inner;
  if (method == "faiss_opq") {
    opq.reset(new faiss::OPQMatrix(d, (int)number("m")));
    inner.reset(new faiss::ProductQuantizer(rows.d, number("m"), number("bits")));
    inner->cp.seed = seed;
    opq->pq = inner.get();
    index.reset(new faiss::IndexPreTransform(opq.get(), pq.get()));
    use = index.get();
  } else if (method == "faiss_sq") {
    const std::map<std::string, faiss::ScalarQuantizer::QuantizerType> types = {
        {"8bit", faiss::ScalarQuantizer::QT_8bit},
        {"6bit", faiss::ScalarQuantizer::QT_6bit},
        {"4bit", faiss::ScalarQuantizer::QT_4bit},
        {"8bit_uniform", faiss::ScalarQuantizer::QT_8bit_uniform},
        {"4bit_uniform", faiss::ScalarQuantizer::QT_4bit_uniform},
        {"fp16", faiss::ScalarQuantizer::QT_fp16}};
    index.reset(new faiss::IndexScalarQuantizer(d, types.at(given.at("type"))));
    use = index.get();
  } else if (method == "faiss_rq") {
    auto *rq = new faiss::IndexResidualQuantizer(d, number("layers"), number("bits"));
    index.reset(rq);
    rq->rq.max_beam_size = (int)number("beam");
    rq->rq.cp.seed = seed;
    use = index.get();
  } else if (method == "faiss_lsq") {
    auto *lsq = new faiss::IndexLocalSearchQuantizer(d, number("m"), number("bits"));
    index.reset(lsq);
    lsq->lsq.random_seed = seed;
    use = index.get();
  } else if (method == "factory") {
    index.reset(faiss::index_factory(d, given.at("name").c_str()));
    use = index.get();
  } else if (!use) {
    throw std::runtime_error("no such method: " + method);
  }

  const auto n = (int64_t)rows.n;
  use->train(n, rows.x.data());
  std::vector<uint8_t> codes(rows.n * use->sa_code_size());
  use->sa_encode(n, rows.x.data(), codes.data());
  std::vector<float> decoded(rows.x.size());
  use->sa_decode(n, codes.data(), decoded.data());
  if (method == "factory") std::printf("%zu ", use->sa_code_size());
  std::printf("%.9g\n", relative_error(rows, decoded));
} catch (const std::exception &error) {
  std::fprintf(stderr, "direct: %s\n", error.what());
  return 1;
}
