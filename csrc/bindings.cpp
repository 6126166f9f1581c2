// cxrgan_fast._C: the one file that knows Python. Tensors come as addresses; the Python side has
// checked shapes, dtypes, layouts and lifetimes. The signatures that Python sees are in _C.pyi.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "cxrgan/adversarial_loss.h"
#include "cxrgan/bias_leaky_relu.h"
#include "cxrgan/conditional_batch_norm.h"
#include "cxrgan/device.h"

namespace py = pybind11;

namespace cxrgan {
namespace {

using Address = uintptr_t;

template <class T = void>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

// What a launcher needs beside the tensors, made by Python once a call.
struct Problem {
  ConditionalBatchNorm op;
  int threads;

  Problem(int dtype, int layout, int64_t samples, int64_t channels, int64_t pixels,
          float negative_slope, int64_t classes, Address labels, Address weight, Address bias,
          int threads_)
      : op{{static_cast<Dtype>(dtype), static_cast<Layout>(layout), samples, channels, pixels},
           negative_slope,
           classes,
           pointer<const int64_t>(labels),
           pointer<const float>(weight),
           pointer<const float>(bias)},
        threads(threads_) {}
};

void statistics(const Problem& p, float eps, Address x, Address mean, Address var, Address rstd) {
  cpu::batch_norm_statistics(p.op.shape, eps, pointer(x), pointer<float>(mean), pointer<float>(var),
                             pointer<float>(rstd), p.threads);
}

void apply(const Problem& p, Address x, Address mean, Address rstd, Address y) {
  cpu::conditional_batch_norm_apply(p.op, pointer(x), pointer<float>(mean), pointer<float>(rstd),
                                    pointer(y), p.threads);
}

void forward(const Problem& p, float eps, Address x, Address y, Address mean, Address var,
             Address rstd) {
  cpu::conditional_batch_norm_forward(p.op, eps, pointer(x), pointer(y), pointer<float>(mean),
                                      pointer<float>(var), pointer<float>(rstd), p.threads);
}

void backward_reduce(const Problem& p, Address dy, Address x, Address mean, Address rstd,
                     Address dweight, Address dbias) {
  cpu::conditional_batch_norm_backward_reduce(p.op, pointer(dy), pointer(x), pointer<float>(mean),
                                              pointer<float>(rstd), pointer<float>(dweight),
                                              pointer<float>(dbias), p.threads);
}

void backward_apply(const Problem& p, Address dy, Address x, Address mean, Address rstd,
                    Address dweight, Address dbias, int64_t count, Address dx) {
  cpu::conditional_batch_norm_backward_apply(
      p.op, pointer(dy), pointer(x), pointer<float>(mean), pointer<float>(rstd),
      pointer<float>(dweight), pointer<float>(dbias), count, pointer(dx), p.threads);
}

void backward(const Problem& p, Address dy, Address x, Address mean, Address rstd, bool training,
              Address dx, Address dweight, Address dbias) {
  cpu::conditional_batch_norm_backward(p.op, pointer(dy), pointer(x), pointer<float>(mean),
                                       pointer<float>(rstd), training, pointer(dx),
                                       pointer<float>(dweight), pointer<float>(dbias), p.threads);
}

void update_running_statistics(int64_t channels, int64_t count, double momentum, Address statistics,
                               Address running_mean, Address running_var) {
  const float* const mean = pointer<const float>(statistics);  // (3, C): mean, variance, r
  cpu::update_running_statistics(channels, count, momentum, mean, mean + channels,
                                 pointer<float>(running_mean), pointer<float>(running_var));
}

// Dtype, layout, N, C, H·W, slope, then tensors, then threads: one call, no object in between,
// because these kernels are the shortest.
BiasLeakyRelu bias_leaky_relu_of(int dtype, int layout, int64_t samples, int64_t channels,
                                 int64_t pixels, float negative_slope) {
  return {{static_cast<Dtype>(dtype), static_cast<Layout>(layout), samples, channels, pixels},
          negative_slope};
}

void bias_leaky_relu(int dtype, int layout, int64_t samples, int64_t channels, int64_t pixels,
                     float negative_slope, Address x, Address bias, Address y, int threads) {
  cpu::bias_leaky_relu(
      bias_leaky_relu_of(dtype, layout, samples, channels, pixels, negative_slope), pointer(x),
      pointer<const float>(bias), pointer(y), threads);
}

void bias_leaky_relu_gate(int dtype, int layout, int64_t samples, int64_t channels, int64_t pixels,
                          float negative_slope, Address g, Address bias, Address y, Address out,
                          int threads) {
  cpu::bias_leaky_relu_gate(
      bias_leaky_relu_of(dtype, layout, samples, channels, pixels, negative_slope), pointer(g),
      pointer<const float>(bias), pointer(y), pointer(out), threads);
}

void bias_leaky_relu_backward(int dtype, int layout, int64_t samples, int64_t channels,
                              int64_t pixels, float negative_slope, Address dy, Address y,
                              Address dx, Address dbias, int threads) {
  cpu::bias_leaky_relu_backward(
      bias_leaky_relu_of(dtype, layout, samples, channels, pixels, negative_slope), pointer(dy),
      pointer(y), pointer(dx), pointer<float>(dbias), threads);
}

// Logits: dtype, count, values, gradient.
Logits logits_of(int dtype, int64_t count, Address values, Address gradient) {
  return {static_cast<Dtype>(dtype), count, pointer(values), pointer<float>(gradient)};
}

void discriminator_loss(int kind, double label_smoothing, int real_dtype, int64_t real_count,
                        Address real, Address real_gradient, int fake_dtype, int64_t fake_count,
                        Address fake, Address fake_gradient, Address loss, int threads) {
  cpu::discriminator_loss(static_cast<LossKind>(kind), label_smoothing,
                          logits_of(real_dtype, real_count, real, real_gradient),
                          logits_of(fake_dtype, fake_count, fake, fake_gradient),
                          pointer<float>(loss), threads);
}

void generator_loss(int kind, int dtype, int64_t count, Address fake, Address gradient,
                    Address loss, int threads) {
  cpu::generator_loss(static_cast<LossKind>(kind), logits_of(dtype, count, fake, gradient),
                      pointer<float>(loss), threads);
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
  for (const cuda::Device& device : cuda::devices()) {
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

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "The compiled core of cxrgan_fast; it never includes torch.";

  m.attr("FLOAT32") = static_cast<int>(Dtype::kFloat32);
  m.attr("BFLOAT16") = static_cast<int>(Dtype::kBFloat16);
  m.attr("FLOAT16") = static_cast<int>(Dtype::kFloat16);
  m.attr("CONTIGUOUS") = static_cast<int>(Layout::kContiguous);
  m.attr("CHANNELS_LAST") = static_cast<int>(Layout::kChannelsLast);

  m.attr("LOSS_KINDS") = loss_kinds();

  m.def("build_info", &build_info);
  m.def("simd_level", &cpu::simd_level_name);
  m.def("borrow_openmp_of", &cpu::borrow_openmp_of);
  m.def("openmp_runtime", &cpu::openmp_runtime);
  m.def("cuda_devices", &cuda_devices);

  using Released = py::call_guard<py::gil_scoped_release>;
  py::class_<Problem>(m, "ConditionalBatchNorm")
      .def(py::init<int, int, int64_t, int64_t, int64_t, float, int64_t, Address, Address, Address,
                    int>())
      .def("statistics", &statistics, Released())
      .def("apply", &apply, Released())
      .def("forward", &forward, Released())
      .def("backward_reduce", &backward_reduce, Released())
      .def("backward_apply", &backward_apply, Released())
      .def("backward", &backward, Released());
  m.def("update_running_statistics", &update_running_statistics);
  m.def("bias_leaky_relu", &bias_leaky_relu, Released());
  m.def("bias_leaky_relu_gate", &bias_leaky_relu_gate, Released());
  m.def("bias_leaky_relu_backward", &bias_leaky_relu_backward, Released());
  m.def("discriminator_loss", &discriminator_loss, Released());
  m.def("generator_loss", &generator_loss, Released());
}

}  // namespace cxrgan
