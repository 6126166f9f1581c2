// Which kernels conditional batch norm launches on a GPU that is not here: the product's own launchers,
// csrc/cuda/conditional_batch_norm*.cu, linked with predict_runtime.cpp. bench/predict_plans.py runs it.
//
//   device MULTIPROCESSORS SHARED_BYTES THREADS BLOCKS ARCHITECTURE
//   kernel SYMBOL REGISTERS SHARED_BYTES          what ptxas says of each
//   case DTYPE LAYOUT N C PIXELS PATH             such as bfloat16 channels_last 64 512 16 auto
//
// Each case is answered by a line of JSON. This file alone knows the launchers' signatures and the
// plan's numbers: when those change, so does it.
#include <cstdio>
#include <initializer_list>
#include <iostream>
#include <sstream>
#include <stdexcept>

#include "cuda/conditional_batch_norm_plan.h"
#include "predict_runtime.h"

namespace {

using namespace cxrgan;
using namespace cxrgan::cuda;

constexpr int kClasses = 2;  // of bench/cases.py
constexpr int kDevice = 0;

const char* name_of(NormPath path) {
  switch (path) {
    case NormPath::kAuto:
      return "auto";
    case NormPath::kTwoPass:
      return "two_pass";
    case NormPath::kSlab:
      return "slab";
    case NormPath::kCluster:
      return "cluster";
    case NormPath::kPersistent:
      return "persistent";
  }
  throw std::runtime_error("bench/predict_plans.cu: a path without a name");
}

const char* name_of(Dtype dtype) {
  constexpr const char* kNames[] = {"float32", "bfloat16", "float16"};
  return kNames[static_cast<int>(dtype)];
}

const char* name_of(Layout layout) {
  return layout == Layout::kContiguous ? "contiguous" : "channels_last";
}

// The one of `all` that is called so.
template <class T>
T called(const std::string& name, std::initializer_list<T> all) {
  for (const T each : all)
    if (name == name_of(each)) return each;
  throw std::runtime_error("bench/predict_plans.cu: unknown name " + name);
}

// A launcher reads no tensor, so that any aligned address will do.
template <class T = void>
T* tensor() {
  return reinterpret_cast<T*>(uintptr_t{1} << 20);
}

// Packets of a tensor that a trip takes: of x alone forward, of dy and x backward.
void packets_in_flight(const Shape& shape, int& forward, int& backward) {
  with_view(shape, [&](auto view) {
    forward = decltype(view)::kFlight;
    backward = decltype(view)::kBatch;
  });
}

bool whole_packets(const Shape& shape) {
  return shape.width > 1 && (shape.channels_last || shape.images.pixels % shape.width == 0);
}

void print(const char* direction, const Shape& shape, const std::vector<predict::Launch>& launches) {
  for (const predict::Launch& each : launches) {
    static_assert(offsetof(Norm, tiling) == 0);
    const Tiling* const tiling = each.parameter<Tiling>({"Norm", "Tiling"});
    const Keeping* const keeping = each.parameter<Keeping>({"Keeping"});
    std::printf(
        "{\"direction\": \"%s\", \"symbol\": \"%s\", \"kernel\": \"%s\", \"blocks\": %ld, "
        "\"threads\": %d, \"shared_bytes\": %ld, \"cluster\": %d, \"cooperative\": %s, "
        "\"overlapping\": %s, \"resident\": %d, \"kept\": %d, \"tiling\": ",
        direction, each.symbol.c_str(), each.name.c_str(), static_cast<long>(each.blocks),
        each.threads, static_cast<long>(each.shared_bytes), each.cluster,
        each.cooperative ? "true" : "false", each.overlapping ? "true" : "false", each.resident,
        keeping == nullptr ? 0 : keeping->packets);
    if (tiling == nullptr) {
      std::printf("null}");
    } else {
      const Tiling& t = *tiling;
      std::printf(
          "{\"samples\": %ld, \"channels\": %ld, \"tiles\": %ld, \"piece\": %ld, \"pieces\": %d, "
          "\"units\": %d, \"group\": %d, \"across\": %d, \"chunks\": %d, \"round\": %d, "
          "\"slots\": %ld, \"packets_a_thread\": %ld}}",
          static_cast<long>(t.samples), static_cast<long>(t.channels), static_cast<long>(t.tiles),
          static_cast<long>(t.piece), t.pieces, t.units, t.group, t.across, t.chunks, t.round,
          static_cast<long>(t.slots()), static_cast<long>(packets_a_thread(shape, t)));
    }
    std::printf("%s", &each == &launches.back() ? "" : ", ");
  }
}

void answer(const ImageShape& images, NormPath path) {
  const Shape shape(images, true);
  const ConditionalBatchNorm op{images, 1e-5f, 0.2f, kClasses, tensor<const int64_t>(),
                                tensor<const float>(), tensor<const float>(), path};
  const auto where = [&](int64_t workspace_bytes) {
    return Launch{kDevice, nullptr, tensor(), workspace_bytes};
  };
  const int64_t forward_bytes = forward_workspace(images, true, path, kDevice);
  const int64_t backward_bytes = backward_workspace(images, true, path, kDevice);
  int forward_packets = 0, backward_packets = 0;
  packets_in_flight(shape, forward_packets, backward_packets);
  std::printf(
      "{\"paths\": [\"%s\", \"%s\"], \"workspace_bytes\": [%ld, %ld], \"channels_last\": %s, "
      "\"width\": %d, \"whole_packets\": %s, \"packets_in_flight\": [%d, %d], \"classes\": %d, "
      "\"launches\": [",
      name_of(forward_path(images, true, path, kDevice)),
      name_of(backward_path(images, true, path, kDevice)), static_cast<long>(forward_bytes),
      static_cast<long>(backward_bytes), shape.channels_last ? "true" : "false", shape.width,
      whole_packets(shape) ? "true" : "false", forward_packets, backward_packets, kClasses);

  float* const numbers = tensor<float>();
  conditional_batch_norm_forward(op, tensor(), tensor(), numbers, numbers, numbers,
                                 {numbers, numbers, 0.1}, where(forward_bytes));
  print("forward", shape, predict::taken());
  std::printf(", ");
  conditional_batch_norm_backward(op, tensor(), tensor(), numbers, numbers, true, tensor(),
                                  numbers, numbers, where(backward_bytes));
  print("backward", shape, predict::taken());
  std::printf("]}\n");
}

void obey(const std::string& line) {
  std::istringstream words(line);
  std::string what;
  words >> what;
  if (what == "device") {
    predict::Device& on = predict::device();
    words >> on.multiprocessors >> on.shared_bytes >> on.threads >> on.blocks >> on.architecture;
  } else if (what == "kernel") {
    std::string symbol;
    predict::Usage usage;
    words >> symbol >> usage.registers >> usage.shared_bytes;
    predict::set_usage(symbol, usage);
  } else if (what == "case") {
    std::string dtype, layout, path;
    ImageShape images{};
    words >> dtype >> layout >> images.samples >> images.channels >> images.pixels >> path;
    images.dtype = called(dtype, {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat16});
    images.layout = called(layout, {Layout::kContiguous, Layout::kChannelsLast});
    answer(images, called(path, {NormPath::kAuto, NormPath::kTwoPass, NormPath::kSlab,
                                 NormPath::kCluster, NormPath::kPersistent}));
  }
  if (!words) throw std::runtime_error("not understood: " + line);
}

}  // namespace

int main() {
  predict::keep("Norm", sizeof(Norm));
  predict::keep("Tiling", sizeof(Tiling));
  predict::keep("Keeping", sizeof(Keeping));
  try {
    for (std::string line; std::getline(std::cin, line);) obey(line);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
