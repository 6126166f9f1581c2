// cxrgan_fast._C, with what bindings.h names. Tensors come as addresses; the Python side has checked
// shapes, dtypes, layouts and lifetimes. The signatures that Python sees are in _C.pyi.
#include "bindings.h"

#include <pybind11/stl.h>

#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "cxrgan/adversarial_loss.h"
#include "cxrgan/bias_leaky_relu.h"
#include "cxrgan/conditional_batch_norm.h"
#include "cxrgan/device.h"

namespace cxrgan {
namespace {

// What a launcher needs beside the tensors, made by Python once a call.
struct Problem {
  ConditionalBatchNorm op;
  Place place;

  Problem(int dtype, int layout, int64_t samples, int64_t channels, int64_t pixels, float eps,
          float negative_slope, int64_t classes, Address labels, Address weight, Address bias,
          int device, int64_t number, int path)
      : op{{static_cast<Dtype>(dtype), static_cast<Layout>(layout), samples, channels, pixels},
           eps,
           negative_slope,
           classes,
           Pointer{labels},
           Pointer{weight},
           Pointer{bias},
           static_cast<cuda::NormPath>(path)},
        place{device, number} {}
};

bool is_aligned(Address image) { return image % 16 == 0; }

int64_t forward_workspace(const Problem& p, Address x) {
  if (p.place.on_cpu()) return 0;
  return on_gpu<cuda::forward_workspace>(p.op.shape, is_aligned(x), p.op.path, p.place.device);
}

int64_t backward_workspace(const Problem& p, Address dy, Address x) {
  if (p.place.on_cpu()) return 0;
  const bool aligned = is_aligned(dy) && is_aligned(x);
  return on_gpu<cuda::backward_workspace>(p.op.shape, aligned, p.op.path, p.place.device);
}

void statistics(const Problem& p, Address x, Address mean, Address var, Address rstd,
                Memory workspace) {
  run<cpu::conditional_batch_norm_statistics, cuda::conditional_batch_norm_statistics>(
      p.place, workspace, p.op, Pointer{x}, Pointer{mean}, Pointer{var}, Pointer{rstd});
}

void apply(const Problem& p, Address x, Address mean, Address rstd, Address y) {
  run<cpu::conditional_batch_norm_apply, cuda::conditional_batch_norm_apply>(
      p.place, {}, p.op, Pointer{x}, Pointer{mean}, Pointer{rstd}, Pointer{y});
}

void forward(const Problem& p, Address x, Address y, Address mean, Address var, Address rstd,
             Address running_mean, Address running_var, double momentum, Memory workspace) {
  const RunningStatistics running{Pointer{running_mean}, Pointer{running_var}, momentum};
  run<cpu::conditional_batch_norm_forward, cuda::conditional_batch_norm_forward>(
      p.place, workspace, p.op, Pointer{x}, Pointer{y}, Pointer{mean}, Pointer{var}, Pointer{rstd},
      running);
}

void backward_reduce(const Problem& p, Address dy, Address x, Address mean, Address rstd,
                     Address dweight, Address dbias, Memory workspace) {
  run<cpu::conditional_batch_norm_backward_reduce, cuda::conditional_batch_norm_backward_reduce>(
      p.place, workspace, p.op, Pointer{dy}, Pointer{x}, Pointer{mean}, Pointer{rstd},
      Pointer{dweight}, Pointer{dbias});
}

void backward_apply(const Problem& p, Address dy, Address x, Address mean, Address rstd,
                    Address dweight, Address dbias, int64_t count, Address dx, Memory workspace) {
  run<cpu::conditional_batch_norm_backward_apply, cuda::conditional_batch_norm_backward_apply>(
      p.place, workspace, p.op, Pointer{dy}, Pointer{x}, Pointer{mean}, Pointer{rstd},
      Pointer{dweight}, Pointer{dbias}, count, Pointer{dx});
}

void backward(const Problem& p, Address dy, Address x, Address mean, Address rstd, bool training,
              Address dx, Address dweight, Address dbias, Memory workspace) {
  run<cpu::conditional_batch_norm_backward, cuda::conditional_batch_norm_backward>(
      p.place, workspace, p.op, Pointer{dy}, Pointer{x}, Pointer{mean}, Pointer{rstd}, training,
      Pointer{dx}, Pointer{dweight}, Pointer{dbias});
}

// statistics: (3, C), a row each of means, variances and r.
void given_statistics(int64_t channels, float eps, Address given_mean, Address given_var,
                      Address statistics, int device, int64_t number) {
  float* const mean = Pointer{statistics};
  run<cpu::given_statistics, cuda::given_statistics>(Place{device, number}, {}, channels, eps,
                                                     Pointer{given_mean}, Pointer{given_var}, mean,
                                                     mean + channels, mean + 2 * channels);
}

void update_running_statistics(int64_t channels, int64_t count, double momentum, Address statistics,
                               Address running_mean, Address running_var, int device,
                               int64_t number) {
  const float* const mean = Pointer{statistics};
  run<cpu::update_running_statistics, cuda::update_running_statistics>(
      Place{device, number}, {}, channels, count, momentum, mean, mean + channels,
      Pointer{running_mean}, Pointer{running_var});
}

// Dtype, layout, N, C, H·W, slope, gain, then tensors, then the place: one call, no object in between,
// because these kernels are the shortest.
BiasLeakyRelu bias_leaky_relu_of(int dtype, int layout, int64_t samples, int64_t channels,
                                 int64_t pixels, float negative_slope, float gain) {
  return {{static_cast<Dtype>(dtype), static_cast<Layout>(layout), samples, channels, pixels},
          negative_slope,
          gain};
}

int64_t bias_leaky_relu_workspace(int dtype, int layout, int64_t samples, int64_t channels,
                                  int64_t pixels, int device) {
  if (device == Place::kCpu) return 0;
  return on_gpu<cuda::bias_leaky_relu_workspace>(
      bias_leaky_relu_of(dtype, layout, samples, channels, pixels, 0, 1).shape, device);
}

void bias_leaky_relu(int dtype, int layout, int64_t samples, int64_t channels, int64_t pixels,
                     float negative_slope, float gain, Address x, Address bias, Address y, int device,
                     int64_t number) {
  run<cpu::bias_leaky_relu, cuda::bias_leaky_relu>(
      Place{device, number}, {},
      bias_leaky_relu_of(dtype, layout, samples, channels, pixels, negative_slope, gain),
      Pointer{x}, Pointer{bias}, Pointer{y});
}

void bias_leaky_relu_gate(int dtype, int layout, int64_t samples, int64_t channels, int64_t pixels,
                          float negative_slope, float gain, Address g, Address bias, Address y,
                          Address out, int device, int64_t number) {
  run<cpu::bias_leaky_relu_gate, cuda::bias_leaky_relu_gate>(
      Place{device, number}, {},
      bias_leaky_relu_of(dtype, layout, samples, channels, pixels, negative_slope, gain),
      Pointer{g}, Pointer{bias}, Pointer{y}, Pointer{out});
}

void bias_leaky_relu_backward(int dtype, int layout, int64_t samples, int64_t channels,
                              int64_t pixels, float negative_slope, float gain, Address dy,
                              Address y, Address dx, Address dbias, Memory workspace, int device,
                              int64_t number) {
  run<cpu::bias_leaky_relu_backward, cuda::bias_leaky_relu_backward>(
      Place{device, number}, workspace,
      bias_leaky_relu_of(dtype, layout, samples, channels, pixels, negative_slope, gain),
      Pointer{dy}, Pointer{y}, Pointer{dx}, Pointer{dbias});
}

// Logits: dtype, count, values, gradient.
Logits logits_of(int dtype, int64_t count, Address values, Address gradient) {
  return {static_cast<Dtype>(dtype), count, Pointer{values}, Pointer{gradient}};
}

int64_t adversarial_loss_workspace(int64_t count, int device) {
  return device == Place::kCpu ? 0 : on_gpu<cuda::adversarial_loss_workspace>(count);
}

void discriminator_loss(int kind, double label_smoothing, int real_dtype, int64_t real_count,
                        Address real, Address real_gradient, int fake_dtype, int64_t fake_count,
                        Address fake, Address fake_gradient, Address loss, Memory workspace,
                        int device, int64_t number) {
  run<cpu::discriminator_loss, cuda::discriminator_loss>(
      Place{device, number}, workspace,
      DiscriminatorLoss{static_cast<LossKind>(kind), label_smoothing},
      logits_of(real_dtype, real_count, real, real_gradient),
      logits_of(fake_dtype, fake_count, fake, fake_gradient), Pointer{loss});
}

void generator_loss(int kind, int dtype, int64_t count, Address fake, Address gradient,
                    Address loss, Memory workspace, int device, int64_t number) {
  run<cpu::generator_loss, cuda::generator_loss>(
      Place{device, number}, workspace, static_cast<LossKind>(kind),
      logits_of(dtype, count, fake, gradient), Pointer{loss});
}

py::dict loss_kinds() {
  py::dict kinds;
  kinds["minimax"] = static_cast<int>(LossKind::kMinimax);
  kinds["non_saturating"] = static_cast<int>(LossKind::kNonSaturating);
  kinds["hinge"] = static_cast<int>(LossKind::kHinge);
  kinds["least_squares"] = static_cast<int>(LossKind::kLeastSquares);
  kinds["wasserstein"] = static_cast<int>(LossKind::kWasserstein);
  return kinds;
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = CXRGAN_COMPILER;
  info["simd_levels"] = cpu::built_simd_levels();
  info["cuda_compiler"] = CXRGAN_CUDA_COMPILER;
  info["cuda_architectures"] = CXRGAN_CUDA_ARCHITECTURES;
  return info;
}

py::list cuda_devices() {
  py::list devices;
  for (const cuda::Device& device : on_gpu<cuda::devices>()) {
    py::dict entry;
    entry["name"] = device.name;
    entry["compute_capability"] = py::make_tuple(device.major, device.minor);
    entry["multiprocessors"] = device.multiprocessors;
    entry["l2_bytes"] = device.l2_bytes;
    entry["shared_bytes_per_block"] = device.shared_bytes_per_block;
    entry["driver_version"] = device.driver_version;
    entry["runtime_version"] = device.runtime_version;
    entry["runs_our_code"] = device.probe_error.empty();
    entry["probe_error"] = device.probe_error;
    devices.append(entry);
  }
  return devices;
}

std::string cuda_probe_error(int device) {
  return kHasCuda ? on_gpu<cuda::probe_error>(device) : kNoCuda;
}

const char* path_name(cuda::NormPath path) {
  switch (path) {
    case cuda::NormPath::kAuto:
      return "auto";
    case cuda::NormPath::kTwoPass:
      return "two_pass";
    case cuda::NormPath::kSlab:
      return "slab";
    case cuda::NormPath::kCluster:
      return "cluster";
    case cuda::NormPath::kPersistent:
      return "persistent";
  }
  return "";
}

py::dict norm_paths() {
  py::dict paths;
  for (const auto path : {cuda::NormPath::kAuto, cuda::NormPath::kTwoPass, cuda::NormPath::kSlab,
                          cuda::NormPath::kCluster, cuda::NormPath::kPersistent})
    paths[path_name(path)] = static_cast<int>(path);
  return paths;
}

// The paths that forward and backward take, where images begin at that address or a like one.
py::tuple paths(const Problem& p, Address image) {
  const bool aligned = is_aligned(image);
  return py::make_tuple(
      path_name(on_gpu<cuda::forward_path>(p.op.shape, aligned, p.op.path, p.place.device)),
      path_name(on_gpu<cuda::backward_path>(p.op.shape, aligned, p.op.path, p.place.device)));
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "The compiled core of cxrgan_fast; it never includes torch.";

  m.attr("FLOAT32") = static_cast<int>(Dtype::kFloat32);
  m.attr("BFLOAT16") = static_cast<int>(Dtype::kBFloat16);
  m.attr("FLOAT16") = static_cast<int>(Dtype::kFloat16);
  m.attr("CONTIGUOUS") = static_cast<int>(Layout::kContiguous);
  m.attr("CHANNELS_LAST") = static_cast<int>(Layout::kChannelsLast);

  m.attr("CPU") = static_cast<int>(Place::kCpu);
  m.attr("LOSS_KINDS") = loss_kinds();
  m.attr("NORM_PATHS") = norm_paths();

  m.def("build_info", &build_info);
  m.def("simd_level", &cpu::simd_level_name);
  m.def("borrow_openmp_of", &cpu::borrow_openmp_of);
  m.def("openmp_runtime", &cpu::openmp_runtime);
  m.def("cuda_devices", &cuda_devices);
  m.def("cuda_probe_error", &cuda_probe_error);

  py::class_<Problem>(m, "ConditionalBatchNorm")
      .def(py::init<int, int, int64_t, int64_t, int64_t, float, float, int64_t, Address, Address,
                    Address, int, int64_t, int>())
      .def("forward_workspace", &forward_workspace)
      .def("backward_workspace", &backward_workspace)
      .def("paths", &paths)
      .def("statistics", &statistics)
      .def("apply", &apply)
      .def("forward", &forward)
      .def("backward_reduce", &backward_reduce)
      .def("backward_apply", &backward_apply)
      .def("backward", &backward);
  m.def("given_statistics", &given_statistics);
  m.def("update_running_statistics", &update_running_statistics);
  m.def("bias_leaky_relu_workspace", &bias_leaky_relu_workspace);
  m.def("bias_leaky_relu", &bias_leaky_relu);
  m.def("bias_leaky_relu_gate", &bias_leaky_relu_gate);
  m.def("bias_leaky_relu_backward", &bias_leaky_relu_backward);
  m.def("adversarial_loss_workspace", &adversarial_loss_workspace);
  m.def("discriminator_loss", &discriminator_loss);
  m.def("generator_loss", &generator_loss);
  define_augmented_batch(m);
}

}  // namespace cxrgan
