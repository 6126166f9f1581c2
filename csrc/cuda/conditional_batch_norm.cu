// The forward launchers of cxrgan/conditional_batch_norm.h, and what both directions share.
#include "conditional_batch_norm_plan.h"

namespace cxrgan::cuda {
namespace {

constexpr char kStatistics[] = "conditional_batch_norm_statistics";
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

__global__ void update_running_statistics_kernel(int64_t channels, Statistics to) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c < channels) update_running(to, c, to.mean[c], to.var[c]);
}

// Where the statistics over `count` values go.
Statistics statistics_of(float eps, float* mean, float* var, float* rstd,
                         const RunningStatistics& running, int64_t count) {
  // A single value has only its biased variance.
  const double unbiased =
      static_cast<double>(count) / static_cast<double>(count > 1 ? count - 1 : 1);
  return {eps, mean, var, rstd, running.mean, running.var, static_cast<float>(running.momentum),
          static_cast<float>(unbiased)};
}

int64_t moments_bytes(const Tiling& t, int64_t parts) {
  return parts * t.channels * static_cast<int64_t>(sizeof(Moments));
}

// Measures x, in one launch where its blocks may wait for each other, else in two. The workspace holds
// Moments (chunks, C).
void statistics(const Launcher& launch, const Shape& shape, const Tiling& t, const Limits& limits,
                const void* x, const Statistics& to) {
  Moments* const table = static_cast<Moments*>(launch.workspace(moments_bytes(t, t.chunks)));
  const bool cooperative = runs_at_once(t, 2, limits);
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    launch(statistics_kernel<V>,
           {t.tiles * t.chunks, kPassThreads, merge_bytes(shape, t, kPassThreads), 1, cooperative},
           t, cooperative, static_cast<const typename V::Scalar*>(x), table, to);
  });
  if (cooperative) return;
  launch(shape.channels_last ? combine_statistics_kernel<true> : combine_statistics_kernel<false>,
         {divide_up(t.channels, channels_a_block<Moments>(shape)), kWarp}, t, table, to);
}

void apply(const Launcher& launch, const Shape& shape, const Tiling& t,
           const ConditionalBatchNorm& op, const void* x, const float* mean, const float* rstd,
           void* y) {
  const Norm norm = norm_of(op, t, mean, rstd);
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
  return single_plan(Shape(shape, aligned), 1, path, device).path;
}

int64_t forward_workspace(const ImageShape& images, bool aligned, NormPath path, int device) {
  if (images.elements() == 0) return 0;
  const Shape shape(images, aligned);
  const Tiling t = pass_plan(shape, limits_of(device)).first;
  const SinglePlan single = single_plan(shape, 1, path, device);
  return moments_bytes(t, larger(t.chunks, single.grid() ? single.tiling.chunks : 0));
}

void conditional_batch_norm_statistics(const ConditionalBatchNorm& op, const void* x, float* mean,
                                       float* var, float* rstd, const Launch& where) {
  const Launcher launch({kStatistics, op.shape}, where);
  if (op.shape.elements() == 0)
    return no_statistics(launch, op.shape.channels, op.eps, mean, var, rstd);
  const Shape shape(op.shape, all_aligned(x));
  const Limits& limits = limits_of(where.device);
  statistics(launch, shape, pass_plan(shape, limits).first, limits, x,
             statistics_of(op.eps, mean, var, rstd, {}, op.shape.values_per_channel()));
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
  launch(update_running_statistics_kernel, {divide_up(channels, 256), 256}, channels,
         statistics_of(0, const_cast<float*>(mean), const_cast<float*>(var), nullptr,
                       {running_mean, running_var, momentum}, count));
}

void conditional_batch_norm_apply(const ConditionalBatchNorm& op, const void* x, const float* mean,
                                  const float* rstd, void* y, const Launch& where) {
  if (op.shape.elements() == 0) return;
  const Launcher launch({kForward, op.shape}, where);
  const Shape shape(op.shape, all_aligned(x, y));
  apply(launch, shape, pass_plan(shape, limits_of(where.device)).second, op, x, mean, rstd, y);
}

void conditional_batch_norm_forward(const ConditionalBatchNorm& op, const void* x, void* y,
                                    float* mean, float* var, float* rstd,
                                    const RunningStatistics& running, const Launch& where) {
  const Launcher launch({kForward, op.shape}, where);
  if (op.shape.elements() == 0)
    return no_statistics(launch, op.shape.channels, op.eps, mean, var, rstd);
  const Shape shape(op.shape, all_aligned(x, y));
  const Statistics to =
      statistics_of(op.eps, mean, var, rstd, running, op.shape.values_per_channel());
  const SinglePlan plan = single_plan(shape, 1, op.path, where.device);
  if (plan.path == NormPath::kTwoPass) {
    const Limits& limits = limits_of(where.device);
    const PassPlan passes = pass_plan(shape, limits);
    statistics(launch, shape, passes.first, limits, x, to);
    apply(launch, shape, passes.second, op, x, mean, rstd, y);
    return;
  }
  const int64_t table_bytes = plan.grid() ? moments_bytes(plan.tiling, plan.tiling.chunks) : 0;
  with_view(shape, [&](auto view) {
    using V = decltype(view);
    using T = typename V::Scalar;
    launch(single_forward_kernel<V>,
           {plan.blocks(), plan.threads, plan.shared_bytes, plan.cluster(), plan.grid()},
           norm_of(op, plan.tiling, mean, rstd), Keeping{plan.packets, plan.grid()},
           static_cast<const T*>(x), static_cast<Moments*>(launch.workspace(table_bytes)),
           static_cast<T*>(y), to);
  });
}

}  // namespace cxrgan::cuda
