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
  cuda::NormPath path;

  Problem(int dtype, int layout, int64_t samples, int64_t channels, int64_t pixels,
          float negative_slope, int64_t classes, Address labels, Address weight, Address bias,
          int device, int64_t number, int path_)
      : op{{static_cast<Dtype>(dtype), static_cast<Layout>(layout), samples, channels, pixels},
           negative_slope,
           classes,
           pointer<const int64_t>(labels),
           pointer<const float>(weight),
           pointer<const float>(bias)},
        place{device, number},
        path(static_cast<cuda::NormPath>(path_)) {}
};

bool is_aligned(Address image) { return image % 16 == 0; }

int64_t forward_workspace(const Problem& p, Address x) {
  if (p.place.on_cpu()) return 0;
  return cuda::forward_workspace(p.op.shape, is_aligned(x), p.path, p.place.device);
}

int64_t backward_workspace(const Problem& p, Address dy, Address x) {
  if (p.place.on_cpu()) return 0;
  const bool aligned = is_aligned(dy) && is_aligned(x);
  return cuda::backward_workspace(p.op.shape, aligned, p.path, p.place.device);
}

void statistics(const Problem& p, float eps, Address x, Address mean, Address var, Address rstd,
                Memory workspace) {
  if (p.place.on_cpu()) {
    cpu::conditional_batch_norm_statistics(p.op.shape, eps, pointer(x), pointer<float>(mean),
                                           pointer<float>(var), pointer<float>(rstd), p.place.threads());
  } else {
    cuda::conditional_batch_norm_statistics(p.op.shape, eps, pointer(x), pointer<float>(mean),
                                            pointer<float>(var), pointer<float>(rstd),
                                            p.place.launch(workspace));
  }
}

void apply(const Problem& p, Address x, Address mean, Address rstd, Address y) {
  if (p.place.on_cpu()) {
    cpu::conditional_batch_norm_apply(p.op, pointer(x), pointer<float>(mean), pointer<float>(rstd),
                                      pointer(y), p.place.threads());
  } else {
    cuda::conditional_batch_norm_apply(p.op, pointer(x), pointer<float>(mean),
                                       pointer<float>(rstd), pointer(y), p.place.launch());
  }
}

void forward(const Problem& p, float eps, Address x, Address y, Address mean, Address var,
             Address rstd, Address running_mean, Address running_var, double momentum,
             Memory workspace) {
  const RunningStatistics running{pointer<float>(running_mean), pointer<float>(running_var),
                                  momentum};
  if (p.place.on_cpu()) {
    cpu::conditional_batch_norm_forward(p.op, eps, pointer(x), pointer(y), pointer<float>(mean),
                                        pointer<float>(var), pointer<float>(rstd), running,
                                        p.place.threads());
  } else {
    cuda::conditional_batch_norm_forward(p.op, eps, pointer(x), pointer(y), pointer<float>(mean),
                                         pointer<float>(var), pointer<float>(rstd), running, p.path,
                                         p.place.launch(workspace));
  }
}

void backward_reduce(const Problem& p, Address dy, Address x, Address mean, Address rstd,
                     Address dweight, Address dbias, Memory workspace) {
  if (p.place.on_cpu()) {
    cpu::conditional_batch_norm_backward_reduce(
        p.op, pointer(dy), pointer(x), pointer<float>(mean), pointer<float>(rstd),
        pointer<float>(dweight), pointer<float>(dbias), p.place.threads());
  } else {
    cuda::conditional_batch_norm_backward_reduce(
        p.op, pointer(dy), pointer(x), pointer<float>(mean), pointer<float>(rstd),
        pointer<float>(dweight), pointer<float>(dbias), p.place.launch(workspace));
  }
}

void backward_apply(const Problem& p, Address dy, Address x, Address mean, Address rstd,
                    Address dweight, Address dbias, int64_t count, Address dx, Memory workspace) {
  if (p.place.on_cpu()) {
    cpu::conditional_batch_norm_backward_apply(
        p.op, pointer(dy), pointer(x), pointer<float>(mean), pointer<float>(rstd),
        pointer<float>(dweight), pointer<float>(dbias), count, pointer(dx), p.place.threads());
  } else {
    cuda::conditional_batch_norm_backward_apply(
        p.op, pointer(dy), pointer(x), pointer<float>(mean), pointer<float>(rstd),
        pointer<float>(dweight), pointer<float>(dbias), count, pointer(dx),
        p.place.launch(workspace));
  }
}

void backward(const Problem& p, Address dy, Address x, Address mean, Address rstd, bool training,
              Address dx, Address dweight, Address dbias, Memory workspace) {
  if (p.place.on_cpu()) {
    cpu::conditional_batch_norm_backward(p.op, pointer(dy), pointer(x), pointer<float>(mean),
                                         pointer<float>(rstd), training, pointer(dx),
                                         pointer<float>(dweight), pointer<float>(dbias),
                                         p.place.threads());
  } else {
    cuda::conditional_batch_norm_backward(p.op, pointer(dy), pointer(x), pointer<float>(mean),
                                          pointer<float>(rstd), training, pointer(dx),
                                          pointer<float>(dweight), pointer<float>(dbias), p.path,
                                          p.place.launch(workspace));
  }
}

void given_statistics(int64_t channels, float eps, Address given_mean, Address given_var,
                      Address statistics, int device, int64_t number) {
  float* const mean = pointer<float>(statistics);  // (3, C): mean, variance, r
  float* const var = mean + channels;
  float* const rstd = var + channels;
  const Place place{device, number};
  if (place.on_cpu()) {
    cpu::given_statistics(channels, eps, pointer<const float>(given_mean),
                          pointer<const float>(given_var), mean, var, rstd);
  } else {
    const py::gil_scoped_release released;  // a full queue makes a launch wait
    cuda::given_statistics(channels, eps, pointer<const float>(given_mean),
                           pointer<const float>(given_var), mean, var, rstd, place.launch());
  }
}

void update_running_statistics(int64_t channels, int64_t count, double momentum, Address statistics,
                               Address running_mean, Address running_var, int device,
                               int64_t number) {
  const float* const mean = pointer<const float>(statistics);  // (3, C): mean, variance, r
  const Place place{device, number};
  if (place.on_cpu()) {
    cpu::update_running_statistics(channels, count, momentum, mean, mean + channels,
                                   pointer<float>(running_mean), pointer<float>(running_var));
  } else {
    const py::gil_scoped_release released;  // a full queue makes a launch wait
    cuda::update_running_statistics(channels, count, momentum, mean, mean + channels,
                                    pointer<float>(running_mean), pointer<float>(running_var),
                                    place.launch());
  }
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
  return cuda::bias_leaky_relu_workspace(
      bias_leaky_relu_of(dtype, layout, samples, channels, pixels, 0, 1).shape, device);
}

void bias_leaky_relu(int dtype, int layout, int64_t samples, int64_t channels, int64_t pixels,
                     float negative_slope, float gain, Address x, Address bias, Address y, int device,
                     int64_t number) {
  const auto op = bias_leaky_relu_of(dtype, layout, samples, channels, pixels, negative_slope, gain);
  const Place place{device, number};
  if (place.on_cpu()) {
    cpu::bias_leaky_relu(op, pointer(x), pointer<const float>(bias), pointer(y), place.threads());
  } else {
    cuda::bias_leaky_relu(op, pointer(x), pointer<const float>(bias), pointer(y), place.launch());
  }
}

void bias_leaky_relu_gate(int dtype, int layout, int64_t samples, int64_t channels, int64_t pixels,
                          float negative_slope, float gain, Address g, Address bias, Address y, Address out,
                          int device, int64_t number) {
  const auto op = bias_leaky_relu_of(dtype, layout, samples, channels, pixels, negative_slope, gain);
  const Place place{device, number};
  if (place.on_cpu()) {
    cpu::bias_leaky_relu_gate(op, pointer(g), pointer<const float>(bias), pointer(y), pointer(out),
                              place.threads());
  } else {
    cuda::bias_leaky_relu_gate(op, pointer(g), pointer<const float>(bias), pointer(y), pointer(out),
                               place.launch());
  }
}

void bias_leaky_relu_backward(int dtype, int layout, int64_t samples, int64_t channels,
                              int64_t pixels, float negative_slope, float gain, Address dy,
                              Address y, Address dx, Address dbias, Memory workspace, int device,
                              int64_t number) {
  const auto op = bias_leaky_relu_of(dtype, layout, samples, channels, pixels, negative_slope, gain);
  const Place place{device, number};
  if (place.on_cpu()) {
    cpu::bias_leaky_relu_backward(op, pointer(dy), pointer(y), pointer(dx), pointer<float>(dbias),
                                  place.threads());
  } else {
    cuda::bias_leaky_relu_backward(op, pointer(dy), pointer(y), pointer(dx), pointer<float>(dbias),
                                   place.launch(workspace));
  }
}

// Logits: dtype, count, values, gradient.
Logits logits_of(int dtype, int64_t count, Address values, Address gradient) {
  return {static_cast<Dtype>(dtype), count, pointer(values), pointer<float>(gradient)};
}

int64_t adversarial_loss_workspace(int64_t count, int device) {
  return device == Place::kCpu ? 0 : cuda::adversarial_loss_workspace(count);
}

void discriminator_loss(int kind, double label_smoothing, int real_dtype, int64_t real_count,
                        Address real, Address real_gradient, int fake_dtype, int64_t fake_count,
                        Address fake, Address fake_gradient, Address loss, Memory workspace,
                        int device, int64_t number) {
  const Logits reals = logits_of(real_dtype, real_count, real, real_gradient);
  const Logits fakes = logits_of(fake_dtype, fake_count, fake, fake_gradient);
  const Place place{device, number};
  if (place.on_cpu()) {
    cpu::discriminator_loss(static_cast<LossKind>(kind), label_smoothing, reals, fakes,
                            pointer<float>(loss), place.threads());
  } else {
    cuda::discriminator_loss(static_cast<LossKind>(kind), label_smoothing, reals, fakes,
                             pointer<float>(loss), place.launch(workspace));
  }
}

void generator_loss(int kind, int dtype, int64_t count, Address fake, Address gradient,
                    Address loss, Memory workspace, int device, int64_t number) {
  const Logits fakes = logits_of(dtype, count, fake, gradient);
  const Place place{device, number};
  if (place.on_cpu()) {
    cpu::generator_loss(static_cast<LossKind>(kind), fakes, pointer<float>(loss), place.threads());
  } else {
    cuda::generator_loss(static_cast<LossKind>(kind), fakes, pointer<float>(loss),
                         place.launch(workspace));
  }
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
      path_name(cuda::forward_path(p.op.shape, aligned, p.path, p.place.device)),
      path_name(cuda::backward_path(p.op.shape, aligned, p.path, p.place.device)));
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
  m.def("cuda_probe_error", &cuda::probe_error);

  using Released = py::call_guard<py::gil_scoped_release>;
  py::class_<Problem>(m, "ConditionalBatchNorm")
      .def(py::init<int, int, int64_t, int64_t, int64_t, float, int64_t, Address, Address, Address,
                    int, int64_t, int>())
      .def("forward_workspace", &forward_workspace)
      .def("backward_workspace", &backward_workspace)
      .def("paths", &paths)
      .def("statistics", &statistics, Released())
      .def("apply", &apply, Released())
      .def("forward", &forward, Released())
      .def("backward_reduce", &backward_reduce, Released())
      .def("backward_apply", &backward_apply, Released())
      .def("backward", &backward, Released());
  m.def("given_statistics", &given_statistics);
  m.def("update_running_statistics", &update_running_statistics);
  m.def("bias_leaky_relu_workspace", &bias_leaky_relu_workspace);
  m.def("bias_leaky_relu", &bias_leaky_relu, Released());
  m.def("bias_leaky_relu_gate", &bias_leaky_relu_gate, Released());
  m.def("bias_leaky_relu_backward", &bias_leaky_relu_backward, Released());
  m.def("adversarial_loss_workspace", &adversarial_loss_workspace);
  m.def("discriminator_loss", &discriminator_loss, Released());
  m.def("generator_loss", &generator_loss, Released());
  define_augmented_batch(m);
}

}  // namespace cxrgan
