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
           {Pointer{translation}, translation_stride},
           {Pointer{cutout}, cutout_stride}},
        place{device, number} {}
};

// Images: dtype, layout, address.
template <class Images>
Images images(int dtype, int layout, Address data) {
  return {static_cast<Dtype>(dtype), static_cast<Layout>(layout), Pointer{data}};
}

void forward(const Batch& b, Address pixels, int64_t count, Address rows, Address mirror,
             double low, double high, int fake_dtype, int fake_layout, Address fake,
             int noise_layout, Address noise, Address noise_std, int dtype, int layout,
             Address out) {
  const StoredImages stored{Pointer{pixels}, count, Pointer{rows}, Pointer{mirror}, low, high};
  const Noise noises{static_cast<Layout>(noise_layout), Pointer{noise}, Pointer{noise_std}};
  run<cpu::augmented_batch, cuda::augmented_batch>(b.place, {}, b.op, stored,
                                                   images<ImagesIn>(fake_dtype, fake_layout, fake),
                                                   noises, images<ImagesOut>(dtype, layout, out));
}

void linear(const Batch& b, int tangent_dtype, int tangent_layout, Address tangent, int dtype,
            int layout, Address out) {
  run<cpu::augmented_batch_linear, cuda::augmented_batch_linear>(
      b.place, {}, b.op, images<ImagesIn>(tangent_dtype, tangent_layout, tangent),
      images<ImagesOut>(dtype, layout, out));
}

void backward(const Batch& b, int gradient_dtype, int gradient_layout, Address gradient, int dtype,
              int layout, Address out) {
  run<cpu::augmented_batch_backward, cuda::augmented_batch_backward>(
      b.place, {}, b.op, images<ImagesIn>(gradient_dtype, gradient_layout, gradient),
      images<ImagesOut>(dtype, layout, out));
}

}  // namespace

void define_augmented_batch(py::module_& m) {
  py::class_<Batch>(m, "AugmentedBatch")
      .def(py::init<int64_t, int64_t, int64_t, int64_t, int64_t, Address, int64_t, Address, int64_t,
                    int, int64_t>())
      .def("forward", &forward)
      .def("linear", &linear)
      .def("backward", &backward);
}

}  // namespace cxrgan
