// The backward launchers of cxrgan/conditional_batch_norm.h.
#include "conditional_batch_norm_plan.h"

namespace cxrgan::cuda {
namespace {

constexpr char kBackward[] = "conditional_batch_norm_backward";

// What the steps hand on: of a grid that waits for its blocks, their sums (chunks, C) or (C, chunks);
// else corrections (C,); then the slots of samples.
struct Workspace {
  Weighted* table;
  Correction* corrections;
  Sums* slots;

  Workspace(const Launcher& launch, const Tiling& t, bool grid)
      : table(static_cast<Weighted*>(launch.workspace(bytes(t, grid)))),
        corrections(reinterpret_cast<Correction*>(table)),
        slots(reinterpret_cast<Sums*>(reinterpret_cast<unsigned char*>(table) + before(t, grid))) {}

  static int64_t before(const Tiling& t, bool grid) {
    return t.channels * (grid ? t.chunks * static_cast<int64_t>(sizeof(Weighted))
                              : static_cast<int64_t>(sizeof(Correction)));
  }

  static int64_t bytes(const Tiling& t, bool grid) {
    return before(t, grid) + t.slots() * t.channels * static_cast<int64_t>(sizeof(Sums));
  }
};

__global__ void zero_kernel(int64_t count, float* a, float* b) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) a[i] = b[i] = 0;
}

void no_gradients(const Launcher& launch, const ConditionalBatchNorm& op, float* dweight,
                  float* dbias) {
  const int64_t count = op.classes * op.shape.channels;
  if (count > 0) launch(zero_kernel, {divide_up(count, 256), 256}, count, dweight, dbias);
}

// dγ, dβ and the corrections, in one launch where its blocks may wait for each other, else in two.
void backward_reduce(const Launcher& launch, const Shape& shape, const Norm& norm,
                     const Limits& limits, const void* dy, const void* x, const float* mean,
                     const Gradients& to, Sums* slots) {
  const Tiling& t = norm.tiling;
  const bool cooperative = runs_at_once(t, 2, limits);
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(backward_reduce_kernel<V>,
           {t.tiles * t.chunks, kPassThreads, reduce_bytes(t, columns_of(shape, t)), 1, cooperative},
           norm, cooperative, static_cast<const T*>(dy), static_cast<const T*>(x), mean, slots, to);
  });
  if (cooperative) return;
  launch(shape.channels_last ? combine_gradients_kernel<true> : combine_gradients_kernel<false>,
         {divide_up(t.channels, channels_a_block<Sums>(shape)), kCombineThreads,
          kCombineThreads * static_cast<int64_t>(sizeof(Weighted))},
         norm, slots, to);
}

void backward_apply(const Launcher& launch, const Shape& shape, const Norm& norm, const void* dy,
                    const void* x, const float* mean, const float* rstd,
                    const Correction* corrections, void* dx) {
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(backward_apply_kernel<V>, {norm.tiling.tiles * norm.tiling.chunks, kPassThreads}, norm,
           static_cast<const T*>(dy), static_cast<const T*>(x), mean, rstd, corrections,
           static_cast<T*>(dx));
  });
}

}  // namespace

NormPath backward_path(const ImageShape& shape, bool aligned, NormPath path, int device) {
  if (shape.elements() == 0) return NormPath::kTwoPass;
  return single_plan(Shape(shape, aligned), 2, path, device).path;
}

int64_t backward_workspace(const ImageShape& images, bool aligned, NormPath path, int device) {
  if (images.elements() == 0) return 0;
  const Shape shape(images, aligned);
  const int64_t passes = Workspace::bytes(pass_plan(shape, limits_of(device)).first, false);
  const SinglePlan plan = single_plan(shape, 2, path, device);
  return plan.path == NormPath::kTwoPass
             ? passes
             : larger(passes, Workspace::bytes(plan.tiling, plan.grid()));
}

void conditional_batch_norm_backward_reduce(const ConditionalBatchNorm& op, const void* dy,
                                            const void* x, const float* mean, const float* rstd,
                                            float* dweight, float* dbias, const Launch& where) {
  const Launcher launch({kBackward, op.shape}, where);
  if (op.shape.elements() == 0) return no_gradients(launch, op, dweight, dbias);
  const Shape shape(op.shape, all_aligned(dy, x));
  const Limits& limits = limits_of(where.device);
  const Norm norm = norm_of(op, pass_plan(shape, limits).first, mean, rstd);
  const Workspace workspace(launch, norm.tiling, false);
  backward_reduce(launch, shape, norm, limits, dy, x, mean,
                  {rstd, 0, dweight, dbias, workspace.corrections}, workspace.slots);
}

void conditional_batch_norm_backward_apply(const ConditionalBatchNorm& op, const void* dy,
                                           const void* x, const float* mean, const float* rstd,
                                           const float* dweight, const float* dbias, int64_t count,
                                           void* dx, const Launch& where) {
  if (op.shape.elements() == 0) return;
  const Launcher launch({kBackward, op.shape}, where);
  const Shape shape(op.shape, all_aligned(dy, x, dx));
  const PassPlan plan = pass_plan(shape, limits_of(where.device));
  const Norm norm = norm_of(op, plan.second, mean, rstd);
  const Workspace workspace(launch, plan.first, false);
  launch(shape.channels_last ? correct_kernel<true> : correct_kernel<false>,
         {divide_up(op.shape.channels, channels_a_block<Sums>(shape)), kWarp}, norm,
         Gradients{rstd, count, const_cast<float*>(dweight), const_cast<float*>(dbias),
                   workspace.corrections});
  backward_apply(launch, shape, norm, dy, x, mean, rstd, workspace.corrections, dx);
}

void conditional_batch_norm_backward(const ConditionalBatchNorm& op, const void* dy, const void* x,
                                     const float* mean, const float* rstd, bool training, void* dx,
                                     float* dweight, float* dbias, const Launch& where) {
  const Launcher launch({kBackward, op.shape}, where);
  if (op.shape.elements() == 0) return no_gradients(launch, op, dweight, dbias);
  const int64_t count = training ? op.shape.values_per_channel() : 0;
  const Shape shape(op.shape, all_aligned(dy, x, dx));
  const SinglePlan plan = single_plan(shape, 2, op.path, where.device);
  if (plan.path == NormPath::kTwoPass) {
    const Limits& limits = limits_of(where.device);
    const PassPlan passes = pass_plan(shape, limits);
    const Workspace workspace(launch, passes.first, false);
    backward_reduce(launch, shape, norm_of(op, passes.first, mean, rstd), limits, dy, x, mean,
                    {rstd, count, dweight, dbias, workspace.corrections}, workspace.slots);
    backward_apply(launch, shape, norm_of(op, passes.second, mean, rstd), dy, x, mean, rstd,
                   workspace.corrections, dx);
    return;
  }
  const Workspace workspace(launch, plan.tiling, plan.grid());
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(single_backward_kernel<V>,
           {plan.blocks(), plan.threads, plan.shared_bytes, plan.cluster(), plan.grid()},
           norm_of(op, plan.tiling, mean, rstd), Keeping{plan.packets, plan.grid()},
           static_cast<const T*>(dy), static_cast<const T*>(x), mean, rstd, count, workspace.slots,
           workspace.table, static_cast<T*>(dx), dweight, dbias);
  });
}

}  // namespace cxrgan::cuda
