// The backward launchers of cxrgan/conditional_batch_norm.h.
#include "conditional_batch_norm_plan.h"

namespace cxrgan::cuda {
namespace {

constexpr char kBackward[] = "conditional_batch_norm_backward";

// What the steps hand on: corrections (C,), unit sums (units, C) and, where a sample has several
// units, those of samples (N, C).
struct Workspace {
  Correction* corrections;
  Sums* units;
  Sums* samples;

  Workspace(const Launcher& launch, const Tiling& t)
      : corrections(static_cast<Correction*>(launch.workspace(bytes(t)))),
        units(reinterpret_cast<Sums*>(corrections + t.channels)),
        samples(units + static_cast<int64_t>(t.units) * t.channels) {}

  static int64_t bytes(const Tiling& t) {
    const int64_t sums = t.units + (t.pieces > 1 ? t.samples : 0);
    return t.channels * static_cast<int64_t>(sizeof(Correction) + sums * sizeof(Sums));
  }
};

Norm norm_of(const ConditionalBatchNorm& op, const Tiling& tiling) {
  return {tiling, op.classes, op.labels, op.weight, op.bias, op.negative_slope};
}

__global__ void zero_kernel(int64_t count, float* a, float* b) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) a[i] = b[i] = 0;
}

void no_gradients(const Launcher& launch, const ConditionalBatchNorm& op, float* dweight,
                  float* dbias) {
  const int64_t count = op.classes * op.shape.channels;
  if (count > 0) launch(zero_kernel, {divide_up(count, 256), 256}, count, dweight, dbias);
}

// Two launches: the sums of units, then dγ, dβ and the corrections.
void reduce(const Launcher& launch, const Shape& shape, const Norm& norm, const void* dy,
            const void* x, const float* mean, const float* rstd, int64_t count, float* dweight,
            float* dbias, const Workspace& workspace) {
  const Tiling& t = norm.tiling;
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(reduce_kernel<V>, {t.tiles * t.chunks, kPassThreads}, norm, static_cast<const T*>(dy),
           static_cast<const T*>(x), mean, rstd, workspace.units);
  });
  const int64_t channels = channels_a_block<Sums>(shape);
  launch(shape.rows ? combine_gradients_kernel<true> : combine_gradients_kernel<false>,
         {divide_up(t.channels, channels), kSingleThreads}, norm, channels, workspace.units,
         workspace.samples, rstd, count, dweight, dbias, workspace.corrections);
}

void propagate(const Launcher& launch, const Shape& shape, const Norm& norm, const void* dy,
               const void* x, const float* mean, const float* rstd, void* dx,
               const Workspace& workspace) {
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(propagate_kernel<V>, {norm.tiling.tiles * norm.tiling.chunks, kPassThreads}, norm,
           static_cast<const T*>(dy), static_cast<const T*>(x), mean, rstd, workspace.corrections,
           static_cast<T*>(dx));
  });
}

}  // namespace

NormPath backward_path(const ImageShape& shape, bool aligned, NormPath path, int device) {
  if (shape.elements() == 0) return NormPath::kTwoPass;
  return path_of(slab_plan(Shape(shape, aligned), 2, path, limits_of(device)));
}

int64_t backward_workspace(const ImageShape& images, bool aligned, NormPath path, int device) {
  if (images.elements() == 0) return 0;
  const Shape shape(images, aligned);
  const Limits& limits = limits_of(device);
  const int64_t passes = Workspace::bytes(pass_plan(shape, limits).streaming);
  const SlabPlan slab = slab_plan(shape, 2, path, limits);
  return slab.cluster == 0 ? passes : larger(passes, Workspace::bytes(slab.tiling));
}

void conditional_batch_norm_backward_reduce(const ConditionalBatchNorm& op, const void* dy,
                                            const void* x, const float* mean, const float* rstd,
                                            float* dweight, float* dbias, const Launch& where) {
  const Launcher launch({kBackward, op.shape}, where);
  if (op.shape.elements() == 0) return no_gradients(launch, op, dweight, dbias);
  const Shape shape(op.shape, all_aligned(dy, x));
  const Norm norm = norm_of(op, pass_plan(shape, limits_of(where.device)).streaming);
  reduce(launch, shape, norm, dy, x, mean, rstd, 0, dweight, dbias,
         Workspace(launch, norm.tiling));
}

void conditional_batch_norm_backward_apply(const ConditionalBatchNorm& op, const void* dy,
                                           const void* x, const float* mean, const float* rstd,
                                           const float* dweight, const float* dbias, int64_t count,
                                           void* dx, const Launch& where) {
  if (op.shape.elements() == 0) return;
  const Launcher launch({kBackward, op.shape}, where);
  const Shape shape(op.shape, all_aligned(dy, x, dx));
  const Norm norm = norm_of(op, pass_plan(shape, limits_of(where.device)).streaming);
  const Workspace workspace(launch, norm.tiling);
  const int64_t channels = channels_a_block<Sums>(shape);
  launch(shape.rows ? correct_kernel<true> : correct_kernel<false>,
         {divide_up(op.shape.channels, channels), kWarp}, norm, channels, rstd, dweight, dbias, count,
         workspace.corrections);
  propagate(launch, shape, norm, dy, x, mean, rstd, dx, workspace);
}

void conditional_batch_norm_backward(const ConditionalBatchNorm& op, const void* dy, const void* x,
                                     const float* mean, const float* rstd, bool training, void* dx,
                                     float* dweight, float* dbias, NormPath path,
                                     const Launch& where) {
  const Launcher launch({kBackward, op.shape}, where);
  if (op.shape.elements() == 0) return no_gradients(launch, op, dweight, dbias);
  const int64_t count = training ? op.shape.values_per_channel() : 0;
  const Shape shape(op.shape, all_aligned(dy, x, dx));
  const Limits& limits = limits_of(where.device);
  const SlabPlan slab = slab_plan(shape, 2, path, limits);
  if (slab.cluster == 0) {
    const Norm norm = norm_of(op, pass_plan(shape, limits).streaming);
    const Workspace workspace(launch, norm.tiling);
    reduce(launch, shape, norm, dy, x, mean, rstd, count, dweight, dbias, workspace);
    propagate(launch, shape, norm, dy, x, mean, rstd, dx, workspace);
    return;
  }
  const Workspace workspace(launch, slab.tiling);
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(slab_backward_kernel<V>,
           {slab.tiling.tiles * slab.cluster, slab.threads, slab.shared_bytes, slab.cluster},
           norm_of(op, slab.tiling), static_cast<int>(slab.slab_bytes), static_cast<const T*>(dy),
           static_cast<const T*>(x), mean, rstd, count, workspace.units, workspace.samples,
           workspace.corrections, static_cast<T*>(dx), dweight, dbias);
  });
}

}  // namespace cxrgan::cuda
