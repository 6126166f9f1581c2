// cxrgan/augmented_batch.h for Python.
#include "bindings.h"
#include "cxrgan/augmented_batch.h"

namespace cxrgan {
namespace {

struct Batch {
  AugmentedBatch op;
  Place place;

  Batch(int64_t stored_samples, int64_t fake_samples, int64_t channels, int64_t height,
        int64_t width, Address translation, int64_t translation_stride, Address cutout,
        int64_t cutout_stride, int device, int64_t number)
      : op{stored_samples,
           fake_samples,
           channels,
           height,
           width,
           {pointer<const float>(translation), translation_stride},
           {pointer<const float>(cutout), cutout_stride}},
        place{device, number} {}
};

ImagesIn images_in(int dtype, int layout, Address data) {
  return {static_cast<Dtype>(dtype), static_cast<Layout>(layout), pointer<const void>(data)};
}

ImagesOut images_out(int dtype, int layout, Address data) {
  return {static_cast<Dtype>(dtype), static_cast<Layout>(layout), pointer(data)};
}

void forward(const Batch& b, Address pixels, int64_t count, Address rows, Address mirror,
             double low, double high, int fake_dtype, int fake_layout, Address fake,
             int noise_layout, Address noise, Address noise_std, int dtype, int layout,
             Address out) {
  const StoredImages stored{pointer<const uint8_t>(pixels), count, pointer<const int64_t>(rows),
                            pointer<const bool>(mirror), low, high};
  const ImagesIn fakes = images_in(fake_dtype, fake_layout, fake);
  const Noise noises{static_cast<Layout>(noise_layout), pointer<const float>(noise),
                     pointer<const float>(noise_std)};
  const ImagesOut outs = images_out(dtype, layout, out);
  if (b.place.on_cpu()) {
    cpu::augmented_batch(b.op, stored, fakes, noises, outs, b.place.threads());
  } else {
    cuda::augmented_batch(b.op, stored, fakes, noises, outs, b.place.launch());
  }
}

void linear(const Batch& b, int tangent_dtype, int tangent_layout, Address tangent, int dtype,
            int layout, Address out) {
  const ImagesIn tangents = images_in(tangent_dtype, tangent_layout, tangent);
  const ImagesOut outs = images_out(dtype, layout, out);
  if (b.place.on_cpu()) {
    cpu::augmented_batch_linear(b.op, tangents, outs, b.place.threads());
  } else {
    cuda::augmented_batch_linear(b.op, tangents, outs, b.place.launch());
  }
}

void backward(const Batch& b, int gradient_dtype, int gradient_layout, Address gradient, int dtype,
              int layout, Address out) {
  const ImagesIn gradients = images_in(gradient_dtype, gradient_layout, gradient);
  const ImagesOut outs = images_out(dtype, layout, out);
  if (b.place.on_cpu()) {
    cpu::augmented_batch_backward(b.op, gradients, outs, b.place.threads());
  } else {
    cuda::augmented_batch_backward(b.op, gradients, outs, b.place.launch());
  }
}

}  // namespace

void define_augmented_batch(py::module_& m) {
  using Released = py::call_guard<py::gil_scoped_release>;
  py::class_<Batch>(m, "AugmentedBatch")
      .def(py::init<int64_t, int64_t, int64_t, int64_t, int64_t, Address, int64_t, Address, int64_t,
                    int, int64_t>())
      .def("augmented_batch", &forward, Released())
      .def("augmented_batch_linear", &linear, Released())
      .def("augmented_batch_backward", &backward, Released());
}

}  // namespace cxrgan
