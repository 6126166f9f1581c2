// The forward launchers of cxrgan/conditional_batch_norm.h, and what both directions share.
#include "conditional_batch_norm_plan.h"

namespace cxrgan::cuda {
namespace {

constexpr char kStatistics[] = "batch_norm_statistics";
constexpr char kForward[] = "conditional_batch_norm_act";

__global__ void no_statistics_kernel(int64_t channels, float eps, float* mean, float* var,
                                     float* rstd) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  mean[c] = var[c] = 0;
  rstd[c] = 1 / sqrtf(eps);
}

void no_statistics(const Launcher& launch, int64_t channels, float eps, float* mean, float* var,
                   float* rstd) {
  if (channels == 0) return;
  launch(no_statistics_kernel, {divide_up(channels, 256), 256}, channels, eps, mean, var, rstd);
}

__global__ void given_statistics_kernel(int64_t channels, float eps, const float* given_mean,
                                        const float* given_var, float* mean, float* var,
                                        float* rstd) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  mean[c] = given_mean[c];
  var[c] = given_var[c];
  rstd[c] = static_cast<float>(1.0 / sqrt(static_cast<double>(given_var[c]) + eps));
}

__global__ void update_running_statistics_kernel(int64_t channels, float unbiased, float momentum,
                                                 const float* mean, const float* var,
                                                 float* running_mean, float* running_var) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  running_mean[c] += momentum * (mean[c] - running_mean[c]);
  running_var[c] += momentum * (var[c] * unbiased - running_var[c]);
}

int64_t moments_bytes(const Tiling& t, int parts) {
  return parts * t.channels * static_cast<int64_t>(sizeof(Moments));
}

// The two launches that measure x; the workspace holds Moments (chunks, C).
void measure(const Launcher& launch, const Shape& shape, const Tiling& t, float eps, const void* x,
             float* mean, float* var, float* rstd) {
  Moments* const table = static_cast<Moments*>(launch.workspace(moments_bytes(t, t.chunks)));
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    launch(moments_kernel<V>,
           {t.tiles * t.chunks, kPassThreads, merge_bytes(shape, t, kPassThreads)}, t,
           static_cast<const typename V::Scalar*>(x), table);
  });
  const int64_t channels = channels_a_block<Moments>(shape);
  launch(shape.rows ? combine_moments_kernel<true> : combine_moments_kernel<false>,
         {divide_up(t.channels, channels), kWarp}, t, channels, table, eps, mean, var, rstd);
}

void apply(const Launcher& launch, const Shape& shape, const Tiling& t,
           const ConditionalBatchNorm& op, const void* x, const float* mean, const float* rstd,
           void* y) {
  const Norm norm{t, op.classes, op.labels, op.weight, op.bias, op.negative_slope};
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(apply_kernel<V>, {t.tiles * t.chunks, kPassThreads}, norm, static_cast<const T*>(x),
           mean, rstd, static_cast<T*>(y));
  });
}

}  // namespace

NormPath forward_path(const ImageShape& shape, bool aligned, NormPath path, int device) {
  if (shape.elements() == 0) return NormPath::kTwoPass;
  return path_of(slab_plan(Shape(shape, aligned), 1, path, limits_of(device)));
}

int64_t forward_workspace(const ImageShape& images, bool aligned, NormPath path, int device) {
  if (images.elements() == 0) return 0;
  const Shape shape(images, aligned);
  const Limits& limits = limits_of(device);
  const Tiling t = pass_plan(shape, limits).summing;
  const int cluster = slab_plan(shape, 1, path, limits).cluster;
  return moments_bytes(t, cluster > t.chunks ? cluster : t.chunks);
}

void batch_norm_statistics(const ImageShape& images, float eps, const void* x, float* mean,
                           float* var, float* rstd, const Launch& where) {
  const Launcher launch({kStatistics, images}, where);
  if (images.elements() == 0) return no_statistics(launch, images.channels, eps, mean, var, rstd);
  const Shape shape(images, all_aligned(x));
  measure(launch, shape, pass_plan(shape, limits_of(where.device)).summing, eps, x, mean, var,
          rstd);
}

void given_statistics(int64_t channels, float eps, const float* given_mean, const float* given_var,
                      float* mean, float* var, float* rstd, const Launch& where) {
  if (channels == 0) return;
  const Launcher launch({"given_statistics", {}, channels}, where);
  launch(given_statistics_kernel, {divide_up(channels, 256), 256}, channels, eps, given_mean,
         given_var, mean, var, rstd);
}

void update_running_statistics(int64_t channels, int64_t count, double momentum, const float* mean,
                               const float* var, float* running_mean, float* running_var,
                               const Launch& where) {
  if (count == 0 || channels == 0) return;
  const Launcher launch({"update_running_statistics", {}, channels}, where);
  const double unbiased =
      static_cast<double>(count) / static_cast<double>(count > 1 ? count - 1 : 1);
  launch(update_running_statistics_kernel, {divide_up(channels, 256), 256}, channels,
         static_cast<float>(unbiased), static_cast<float>(momentum), mean, var, running_mean,
         running_var);
}

void conditional_batch_norm_apply(const ConditionalBatchNorm& op, const void* x, const float* mean,
                                  const float* rstd, void* y, const Launch& where) {
  if (op.shape.elements() == 0) return;
  const Launcher launch({kForward, op.shape}, where);
  const Shape shape(op.shape, all_aligned(x, y));
  apply(launch, shape, pass_plan(shape, limits_of(where.device)).streaming, op, x, mean, rstd, y);
}

void conditional_batch_norm_forward(const ConditionalBatchNorm& op, float eps, const void* x,
                                    void* y, float* mean, float* var, float* rstd, NormPath path,
                                    const Launch& where) {
  const Launcher launch({kForward, op.shape}, where);
  if (op.shape.elements() == 0)
    return no_statistics(launch, op.shape.channels, eps, mean, var, rstd);
  const Shape shape(op.shape, all_aligned(x, y));
  const Limits& limits = limits_of(where.device);
  const SlabPlan slab = slab_plan(shape, 1, path, limits);
  if (slab.cluster == 0) {
    const PassPlan plan = pass_plan(shape, limits);
    measure(launch, shape, plan.summing, eps, x, mean, var, rstd);
    apply(launch, shape, plan.streaming, op, x, mean, rstd, y);
    return;
  }
  const Norm norm{slab.tiling, op.classes, op.labels, op.weight, op.bias, op.negative_slope};
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(slab_forward_kernel<V>,
           {slab.tiling.tiles * slab.cluster, slab.threads, slab.shared_bytes, slab.cluster}, norm,
           static_cast<int>(slab.slab_bytes), eps, static_cast<const T*>(x),
           static_cast<Moments*>(launch.workspace(moments_bytes(slab.tiling, slab.cluster))),
           static_cast<T*>(y), mean, var, rstd);
  });
}

}  // namespace cxrgan::cuda
